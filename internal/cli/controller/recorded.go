package controller

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
)

// recorded tells bindings what the rollouts of this cluster have recorded of their traffic, so that the settle
// time of a weight is counted once, by the side that watches it.
type recorded struct{ rollouts client.Reader }

// Since implements binding.Traffic.
func (r recorded) Since(ctx context.Context, namespace, service string) (binding.TrafficRecord, bool) {
	var list rollouts.RolloutList
	if err := r.rollouts.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return binding.TrafficRecord{}, false
	}
	for _, rollout := range list.Items {
		canary := rollout.Spec.Strategy.Canary
		if canary == nil || (canary.CanaryService != service && canary.StableService != service) {
			continue
		}
		return record(rollout, service)
	}
	return binding.TrafficRecord{}, false
}

// record is the youngest of the rollout's records of a Service: with several Ingresses the weight counts
// from when the last of them had it.
func record(rollout rollouts.Rollout, service string) (binding.TrafficRecord, bool) {
	var found binding.TrafficRecord
	for i, t := range rollout.Status.Traffic {
		weight, named := t.Weights[service]
		if !named || t.Since == nil || (i > 0 && weight != found.Weight) {
			return binding.TrafficRecord{}, false
		}
		found.Weight = weight
		if t.Since.After(found.Since) {
			found.Since = t.Since.Time
		}
	}
	if settle, err := time.ParseDuration(rollout.Annotations[rollouts.SettleTimeAnnotation]); err == nil && settle >= 0 {
		found.Settle = settle
	}
	return found, len(rollout.Status.Traffic) > 0
}

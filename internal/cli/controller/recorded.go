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
		return record(rollout, service), true
	}
	return binding.TrafficRecord{}, false
}

// record is the youngest of the rollout's records of a Service: with several Ingresses the weight counts
// from when the last of them had it. Without a weight that all of them show, it has no time. The settle time is
// the rollout's own if it names one, 0 included, as the rollout itself reads it.
func record(rollout rollouts.Rollout, service string) binding.TrafficRecord {
	var found binding.TrafficRecord
	if settle, err := time.ParseDuration(rollout.Annotations[rollouts.SettleTimeAnnotation]); err == nil && settle >= 0 {
		found.Settle = &settle
	}
	for i, t := range rollout.Status.Traffic {
		weight, named := t.Weights[service]
		if !named || t.Since == nil || (i > 0 && weight != found.Weight) {
			found.Since = time.Time{}
			return found
		}
		found.Weight = weight
		if t.Since.After(found.Since) {
			found.Since = t.Since.Time
		}
	}
	return found
}

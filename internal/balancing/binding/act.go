package binding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// act carries a decision out: first in, then out, then the gates. What fails does not stop the rest, since
// each part is safe without the others; a later round repeats it.
func (c *Controller) act(ctx context.Context, r *round, d plan.Decision) error {
	return errors.Join(c.register(ctx, r, d.Register), c.deregister(ctx, r, d.Deregister), c.answer(ctx, r, d.Gates))
}

func (c *Controller) register(ctx context.Context, r *round, registrations []plan.Registration) error {
	if len(registrations) == 0 {
		return nil
	}
	vpc := c.Cloud.VPC().CIDRs
	var targets []model.Target
	for _, g := range registrations {
		g.Target.Zone = zone(g.ID, vpc)
		targets = append(targets, g.Target)
	}
	if err := c.Cloud.RegisterTargets(ctx, r.arn(), targets); err != nil {
		return fmt.Errorf("cannot register %s in target group %s: %w", some(targets), r.arn(), err)
	}
	for _, g := range registrations {
		r.memory.podAt[plan.Address(g.ID, g.Port)] = g.PodUID
	}
	c.event(r, corev1.EventTypeNormal, "TargetsRegistered", "Register", "registered "+some(targets))
	return nil
}

func (c *Controller) deregister(ctx context.Context, r *round, deregistrations []plan.Deregistration) error {
	deregistrations, unseen := c.stillUnserved(ctx, r, deregistrations)
	if len(deregistrations) == 0 {
		return unseen
	}
	var targets []model.Target
	for _, g := range deregistrations {
		targets = append(targets, g.Target)
	}
	if err := c.Cloud.DeregisterTargets(ctx, r.arn(), targets); err != nil {
		return errors.Join(unseen, fmt.Errorf("cannot deregister %s from target group %s: %w", some(targets), r.arn(), err))
	}
	c.event(r, corev1.EventTypeNormal, "TargetsDeregistered", "Deregister",
		fmt.Sprintf("deregistered %s: %s", some(targets), deregistrations[0].Reason))
	return unseen
}

// stillUnserved leaves out live targets whose group had no share when the plan was made, and may have one now (law 3):
// the other half of this process may have carried out somebody's weights since. What it has written is read anew; else
// this costs no call.
func (c *Controller) stillUnserved(ctx context.Context, r *round, deregistrations []plan.Deregistration) ([]plan.Deregistration, error) {
	if !slices.ContainsFunc(deregistrations, func(d plan.Deregistration) bool { return d.Unserved }) {
		return deregistrations, nil
	}
	share, _, err := c.share(ctx, r, time.Time{})
	if err == nil && share.Known && share.Weight == 0 {
		return deregistrations, nil
	}
	return slices.DeleteFunc(slices.Clone(deregistrations), func(d plan.Deregistration) bool { return d.Unserved }), err
}

// zone of an address: none inside the VPC, "all" outside of it (ELBv2 API, TargetDescription.AvailabilityZone).
func zone(ip string, vpc []string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	for _, cidr := range vpc {
		if prefix, err := netip.ParsePrefix(cidr); err == nil && prefix.Contains(a) {
			return ""
		}
	}
	if len(vpc) == 0 {
		return ""
	}
	return "all"
}

// some names targets for a person: the first few, and how many there are.
func some(targets []model.Target) string {
	const named = 3
	var names []string
	for _, t := range targets[:min(named, len(targets))] {
		names = append(names, plan.Address(t.ID, t.Port))
	}
	if more := len(targets) - named; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// answer writes the readiness gates. A pod that is gone, or another pod of the same name, is left alone.
func (c *Controller) answer(ctx context.Context, r *round, changes []plan.GateChange) error {
	var problems []error
	for _, change := range changes {
		condition := map[string]any{
			"type": elbv2.ReadinessGate(r.binding.Name), "status": change.Status,
			"reason": change.Reason, "message": change.Message, "lastTransitionTime": metav1.NewTime(c.Now()),
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": change.UID},
			"status":   map[string]any{"conditions": []any{condition}},
		})
		if err != nil {
			return fmt.Errorf("cannot write the readiness gate of pod %s/%s: %w", change.Namespace, change.Pod, err)
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: change.Namespace, Name: change.Pod}}
		err = c.Client.Status().Patch(ctx, pod, client.RawPatch(types.StrategicMergePatchType, patch))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			problems = append(problems, fmt.Errorf("cannot write the readiness gate of pod %s/%s: %w", change.Namespace, change.Pod, err))
		}
	}
	return errors.Join(problems...)
}

// event tells the user; it is never needed for anything else.
func (c *Controller) event(r *round, kind, reason, action, message string) {
	c.Logger.Info(message, "binding", r.key.String(), "reason", reason)
	if c.Events != nil {
		c.Events.Eventf(r.binding, nil, kind, reason, action, "%s", strings.ToValidUTF8(message[:min(len(message), maxMessage)], ""))
	}
}

// maxMessage is the longest note that the events API takes.
const maxMessage = 1024

package binding

import (
	"context"
	"fmt"
	"time"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// The labels by which a binding names the stack that it was made for.
const (
	labelStack          = "ingress.k8s.aws/stack"
	labelStackNamespace = "ingress.k8s.aws/stack-namespace"
	labelStackName      = "ingress.k8s.aws/stack-name"
)

// stackOf is the id of the stack that a binding was made for, empty when it was made by a person.
func stackOf(b *elbv2.TargetGroupBinding) string {
	if stack := b.Labels[labelStack]; stack != "" {
		return stack
	}
	if namespace, name := b.Labels[labelStackNamespace], b.Labels[labelStackName]; namespace != "" && name != "" {
		return namespace + "/" + name
	}
	return ""
}

// share is what the target group gets of its load balancer's traffic and since when, and the settle time
// that counts for it. A group whose stack is not known, or not fully seen, is taken for one that serves.
func (c *Controller) share(ctx context.Context, r *round, notBefore time.Time) (plan.Share, time.Duration, error) {
	settle := c.Settings.Settle
	stack := stackOf(r.binding)
	if stack == "" || r.binding.DeletionTimestamp != nil {
		return plan.Share{}, settle, nil
	}
	if !notBefore.IsZero() && c.Evidence != nil {
		// The answer is in the mirror afterwards; its time says whether it could be had.
		if _, err := c.Evidence.Observe(ctx, c.query(r.binding), notBefore); err != nil {
			return plan.Share{}, settle, fmt.Errorf("cannot see the weights of target group %s afresh: %w", r.arn(), err)
		}
	}
	observed, err := c.Cloud.Stack(ctx, stack)
	if err != nil {
		return plan.Share{}, settle, fmt.Errorf("cannot see the load balancer of stack %s: %w", stack, err)
	}
	share := shareOf(observed, r.arn())
	if !share.Known || share.Weight != 0 {
		r.memory.zeroSince = time.Time{}
		return share, settle, nil
	}
	if r.memory.zeroSince.IsZero() {
		r.memory.zeroSince = share.SeenAt
	}
	share.Since = r.memory.zeroSince
	if c.Traffic != nil {
		if record, ok := c.Traffic.Since(ctx, r.key.Namespace, r.binding.Spec.ServiceRef.Name); ok {
			if record.Settle > 0 {
				settle = record.Settle
			}
			if record.Weight == 0 && !record.Since.IsZero() && record.Since.Before(share.Since) {
				share.Since = record.Since
			}
		}
	}
	return share, settle, nil
}

// query names the split that the binding's Service has a part in.
func (c *Controller) query(b *elbv2.TargetGroupBinding) evidence.Query {
	return evidence.Query{
		Namespace: b.Labels[labelStackNamespace], Ingress: b.Labels[labelStackName],
		Services: []evidence.ServicePort{{Service: b.Spec.ServiceRef.Name, Port: b.Spec.ServiceRef.Port.String()}},
	}
}

// shareOf reads a group's highest weight from everything that forwards in a stack.
func shareOf(observed model.Observed, arn string) plan.Share {
	share := plan.Share{Known: observed.Complete && len(observed.LoadBalancers) > 0}
	see := func(at time.Time) {
		if share.SeenAt.IsZero() || at.Before(share.SeenAt) {
			share.SeenAt = at
		}
	}
	count := func(actions []model.Action) {
		for _, a := range actions {
			if a.Forward == nil {
				continue
			}
			for _, g := range a.Forward.TargetGroups {
				if g.ARN == arn {
					share.Weight = max(share.Weight, g.Weight)
					share.Stickiness = max(share.Stickiness, a.Forward.Stickiness)
				}
			}
		}
	}
	for _, lb := range observed.LoadBalancers {
		if len(lb.Listeners) == 0 {
			see(lb.SeenAt)
		}
		for _, l := range lb.Listeners {
			see(l.SeenAt)
			count(l.DefaultActions)
			for _, rule := range l.Rules {
				count(rule.Actions)
			}
		}
	}
	return share
}

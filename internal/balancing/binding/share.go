package binding

import (
	"context"
	"fmt"
	"strings"
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
// that counts for it. It is only asked for when a target could leave. A group whose rules cannot be seen is
// taken for one that serves.
func (c *Controller) share(ctx context.Context, r *round, notBefore time.Time) (plan.Share, time.Duration, error) {
	settle := c.Settings.Settle
	if c.Evidence == nil || stackOf(r.binding) == "" {
		return plan.Share{}, settle, nil
	}
	group, err := c.Cloud.TargetGroup(ctx, r.arn())
	if err != nil {
		return plan.Share{}, settle, fmt.Errorf("cannot see target group %s: %w", r.arn(), err)
	}
	query, ok := queryOf(r.binding, group.Tags[model.TagResource])
	if !ok {
		return plan.Share{}, settle, nil
	}
	seen, err := c.Evidence.Observe(ctx, query, notBefore)
	if err != nil {
		return plan.Share{}, settle, fmt.Errorf("cannot see the weights of target group %s: %w", r.arn(), err)
	}
	share := shareOf(seen, r.binding.Spec.ServiceRef.Name, r.arn())
	if !share.Known || share.Weight != 0 {
		r.memory.zeroSince, r.memory.servedAt = time.Time{}, share.SeenAt
		return share, settle, nil
	}
	if r.memory.zeroSince.IsZero() {
		r.memory.zeroSince = share.SeenAt
	}
	share.Since = r.memory.zeroSince
	if c.Traffic != nil {
		if record, ok := c.Traffic.Since(ctx, r.key.Namespace, r.binding.Spec.ServiceRef.Name); ok {
			if record.Settle != nil {
				settle = *record.Settle
			}
			// The owner looks more often: it may have seen the group serve in between, or, after our restart,
			// have seen it at 0 for longer.
			if record.Weight == 0 && !record.Since.IsZero() && !record.Since.Before(r.memory.servedAt) {
				share.Since = record.Since
			}
		}
	}
	return share, settle, nil
}

// queryOf names the split that a target group has a part in, by its resource tag
// "<namespace>/<ingress>-<service>:<port>", or by the binding's labels when the tag is not known.
func queryOf(b *elbv2.TargetGroupBinding, resource string) (evidence.Query, bool) {
	if ingress := b.Labels[labelStackName]; resource == "" && ingress != "" {
		resource = fmt.Sprintf("%s/%s-%s:%s", b.Labels[labelStackNamespace], ingress, b.Spec.ServiceRef.Name, b.Spec.ServiceRef.Port.String())
	}
	namespace, rest, ok := strings.Cut(resource, "/")
	at := strings.LastIndex(rest, "-"+b.Spec.ServiceRef.Name+":")
	if !ok || at < 0 {
		return evidence.Query{}, false
	}
	port := rest[at+len(b.Spec.ServiceRef.Name)+2:]
	return evidence.Query{Namespace: namespace, Ingress: rest[:at], Services: []evidence.ServicePort{{Service: b.Spec.ServiceRef.Name, Port: port}}}, true
}

// shareOf is a group's highest weight among everything that forwards to it, as AWS showed it.
func shareOf(seen evidence.Snapshot, service, arn string) plan.Share {
	group, ok := seen.Group(service)
	if !ok || group.ARN != arn || seen.LoadBalancer.ARN == "" {
		return plan.Share{}
	}
	share := plan.Share{Known: true, Stickiness: group.Stickiness, SeenAt: seen.SeenAt}
	for _, p := range seen.Placements {
		share.Weight = max(share.Weight, p.Weights[service])
	}
	return share
}

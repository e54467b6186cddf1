package cloud_test

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// What somebody else changes is found by the audit, and told.
func TestTheAuditFindsDrift(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	other := a.connect(t, cloud.Settings{})
	w := create(t, other)
	c := a.connect(t, cloud.Settings{AuditInterval: 100 * time.Millisecond})
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = c.Start(t.Context()) }()
	t.Cleanup(func() { <-stopped })
	find := func() (rule model.ObservedRule, group model.ObservedTargetGroup, observed model.Observed) {
		observed = must(c.Stack(t.Context(), stackID))(t)
		for _, r := range observed.LoadBalancers[0].Listeners[0].Rules {
			if r.ARN == w.rule {
				rule = r
			}
		}
		for _, g := range observed.TargetGroups {
			if g.ARN == w.canary {
				group = g
			}
		}
		return rule, group, observed
	}
	find()
	told := make(chan cloud.ChangeKind, 1000)
	defer c.Subscribe(func(change cloud.Change) {
		if change.StackID == stackID {
			told <- change.Kind
		}
	})()
	check(t, other.ModifyRule(t.Context(), w.rule, w.split(1, 9), nil))
	check(t, other.ModifyTargetGroupAttributes(t.Context(), w.canary, map[string]string{"deregistration_delay.timeout_seconds": "77"}))
	check(t, other.AddTags(t.Context(), w.lb, map[string]string{"by": "hand"}))
	eventually(t, "the drift is found", func() bool {
		rule, group, observed := find()
		return rule.Actions[0].Forward.TargetGroups[0].Weight == 9 && group.Attributes["deregistration_delay.timeout_seconds"] == "77" &&
			observed.LoadBalancers[0].Tags["by"] == "hand"
	})
	kinds := map[cloud.ChangeKind]bool{}
	eventually(t, "subscribers are told", func() bool {
		for len(told) > 0 {
			kinds[<-told] = true
		}
		return kinds[cloud.ChangeTraffic] && kinds[cloud.ChangeConfiguration]
	})
	check(t, other.DeleteLoadBalancer(t.Context(), w.lb))
	eventually(t, "the load balancer is seen gone", func() bool {
		observed := must(c.Stack(t.Context(), stackID))(t)
		return observed.Complete && len(observed.LoadBalancers) == 0
	})
}

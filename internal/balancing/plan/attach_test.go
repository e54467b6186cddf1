package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// A load balancer gets new security groups before it loses the old ones: what lets its traffic in, on its own side
// and on that of the pods, must be effective first.
func TestSecurityGroupsOfALoadBalancerOverlap(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	const arn = "arn:lb"
	ref := func(ids ...string) (refs []model.SecurityGroupRef) {
		for _, id := range ids {
			refs = append(refs, model.SecurityGroupRef{GroupID: id})
		}
		return refs
	}
	for _, c := range []struct {
		name    string
		wanted  []string
		have    []string
		since   time.Duration // of the overlap; negative: not known
		pending bool
		want    []string // nil: no change
	}{
		{name: "new ones come beside old ones", wanted: []string{"sg-c", "sg-d"}, have: []string{"sg-a", "sg-b"}, since: -1, want: []string{"sg-c", "sg-d", "sg-a", "sg-b"}},
		{name: "which stay at first", wanted: []string{"sg-c"}, have: []string{"sg-c", "sg-a"}, since: -1},
		{name: "and for the settle time", wanted: []string{"sg-c"}, have: []string{"sg-c", "sg-a"}, since: 29 * time.Second},
		{name: "and until pods let traffic in", wanted: []string{"sg-c"}, have: []string{"sg-c", "sg-a"}, since: time.Hour, pending: true},
		{name: "then they go", wanted: []string{"sg-c"}, have: []string{"sg-c", "sg-a"}, since: 30 * time.Second, want: []string{"sg-c"}},
		{name: "nothing old", wanted: []string{"sg-c", "sg-a"}, have: []string{"sg-a"}, since: -1, want: []string{"sg-c", "sg-a"}},
		{name: "no room for both", wanted: []string{"sg-1", "sg-2", "sg-3"}, have: []string{"sg-4", "sg-5", "sg-6"}, since: -1, want: []string{"sg-1", "sg-2", "sg-3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			desired := model.Stack{ID: "shop/web", LoadBalancer: &model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web", SecurityGroups: ref(c.wanted...)}}
			observed := model.Observed{Complete: true, LoadBalancers: []model.ObservedLoadBalancer{{
				LoadBalancer: model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web"}, ARN: arn, State: "active", SecurityGroupIDs: c.have,
			}}}
			state := plan.State{Now: now, Cluster: "test", FirewallSettle: 30 * time.Second, OverlapSince: map[string]time.Time{}}
			if c.since >= 0 {
				state.OverlapSince[arn] = now.Add(-c.since)
			}
			state.Bindings = []plan.ObservedBinding{{Pending: c.pending, Deleting: true}}
			p := plan.Make(desired, observed, state)
			var got []string
			for _, op := range p.Operations {
				if set, ok := op.(plan.SetSecurityGroups); ok {
					for _, g := range set.Groups {
						got = append(got, g.GroupID)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("set to %v, want %v", got, c.want)
			}
			if overlaps := slices.Contains(p.Overlaps, arn); overlaps != (c.want == nil) {
				t.Errorf("overlaps: %v", p.Overlaps)
			}
		})
	}
}

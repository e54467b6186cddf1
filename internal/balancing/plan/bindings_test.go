package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// A binding's name follows from its target group's, so that a target group made anew, because somebody deleted the
// first, wants a binding of the same name for another ARN. And a target group that is only missing in a list of
// AWS, which lags, must not cost the binding that serves it.
func TestABindingOfTheSameNameForAnotherTargetGroup(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tags := model.TrackingTags("test", "shop/web", "shop/web-stable:80")
	group := model.TargetGroup{ResourceID: "shop/web-stable:80", Name: "k8s-stable", TargetType: model.TargetIP, Protocol: "HTTP", ProtocolVersion: "HTTP1", Tags: tags}
	binding := model.Binding{Namespace: "shop", Name: "k8s-stable", TargetGroup: group.ResourceID, Service: "stable", ServicePort: "80"}
	desired := model.Stack{ID: "shop/web", LoadBalancer: &model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web"}, TargetGroups: []model.TargetGroup{group}, Bindings: []model.Binding{binding}}
	observed := func(arns ...string) model.Observed {
		o := model.Observed{Complete: true}
		for _, arn := range arns {
			o.TargetGroups = append(o.TargetGroups, model.ObservedTargetGroup{TargetGroup: group, ARN: arn})
		}
		return o
	}
	for _, c := range []struct {
		name     string
		observed model.Observed
		bound    string
		deleting bool
		want     []string // operations on bindings
		waits    bool
	}{
		{name: "nothing is known of its target group", observed: observed(), bound: "arn:old", waits: true},
		{name: "the target group was made anew", observed: observed("arn:new"), bound: "arn:old", want: []string{"delete binding shop/k8s-stable"}, waits: true},
		{name: "and the old binding is on its way out", observed: observed("arn:new"), bound: "arn:old", deleting: true, waits: true},
		{name: "the target group is the binding's", observed: observed("arn:old"), bound: "arn:old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan.Make(desired, c.observed, plan.State{Now: now, Cluster: "test", Bindings: []plan.ObservedBinding{{Binding: binding, TargetGroupARN: c.bound, Deleting: c.deleting}}})
			var got []string
			for _, op := range p.Operations {
				if strings.Contains(op.String(), "binding") {
					got = append(got, op.String())
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("operations %q, want %q", got, c.want)
			}
			if waits := slices.ContainsFunc(p.Waits, func(w plan.Wait) bool { return strings.Contains(w.Reason, "binding shop/k8s-stable") }); waits != c.waits {
				t.Errorf("waits for the binding: %t in %v", waits, p.Waits)
			}
		})
	}
}

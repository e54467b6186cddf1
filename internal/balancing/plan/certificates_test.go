package plan_test

import (
	"slices"
	"testing"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// A second certificate reaches a listener that has one; while not all has been read, none is changed.
func TestCertificatesOfAListener(t *testing.T) {
	answer := []model.Action{{Type: model.ActionFixedResponse, FixedResponse: &model.FixedResponse{StatusCode: "404"}}}
	listener := func(certificates ...string) model.Listener {
		return model.Listener{ResourceID: "443", Port: 443, Protocol: "HTTPS", SSLPolicy: "policy", Certificates: certificates, DefaultActions: answer}
	}
	for name, row := range map[string]struct {
		wanted, have []string
		complete     bool
		want         []string
	}{
		"one more":          {[]string{"a", "b"}, []string{"a"}, true, []string{"a", "b"}},
		"one less":          {[]string{"a"}, []string{"a", "b"}, true, []string{"a"}},
		"another first":     {[]string{"b", "a"}, []string{"a", "b"}, true, []string{"b", "a"}},
		"in another order":  {[]string{"a", "b", "c"}, []string{"a", "c", "b"}, true, nil},
		"the first is read": {[]string{"a", "b"}, []string{"a"}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			desired := model.Stack{ID: "shop/web", LoadBalancer: &model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web"}, Listeners: []model.Listener{listener(row.wanted...)}}
			observed := model.Observed{Complete: row.complete, LoadBalancers: []model.ObservedLoadBalancer{{
				LoadBalancer: model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web"}, ARN: "arn:lb", State: "active",
				Listeners: []model.ObservedListener{{Listener: listener(row.have...), ARN: "arn:listener"}},
			}}}
			var got []string
			for _, op := range plan.Make(desired, observed, plan.State{Cluster: "test"}).Operations {
				if m, ok := op.(plan.ModifyListener); ok {
					got = m.Listener.Certificates
				}
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("set to %v, want %v", got, row.want)
			}
		})
	}
}

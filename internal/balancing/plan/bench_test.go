package plan_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply/applytest"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// BenchmarkQuiet is what every pass over an Ingress costs: translate and plan, nothing to do.
//
//	go test ./internal/balancing/plan -run XXX -bench Quiet
func BenchmarkQuiet(b *testing.B) {
	for _, routes := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			told := &story{world: &applytest.World{Now: time.Unix(0, 0), RuleLimit: routes}}
			told.objects = objectsOf(b, []byte(adopted))
			http := &networkingv1.HTTPIngressRuleValue{}
			for n := range routes {
				http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{Path: fmt.Sprintf("/%d", n), PathType: new(networkingv1.PathTypePrefix),
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "stable", Port: networkingv1.ServiceBackendPort{Number: 80}}}})
			}
			told.objects.Ingress.Spec.Rules = []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: http}}}
			pass := func() plan.Plan {
				stack, _, err := ingress.Translate(ingress.Settings{Cluster: "test"}, told.objects, resolved())
				if err != nil {
					b.Fatal(err)
				}
				return plan.Make(stack, told.world.Observed(stack.ID), plan.State{Cluster: "test", Bindings: told.world.Bindings(), BackendGroupID: told.world.BackendGroupID()})
			}
			apply.Round{Cloud: told.world, Objects: told.world, BackendGroupID: told.world.BackendGroupID()}.Do(context.Background(), pass().Operations)
			if p := pass(); len(p.Operations) > 0 {
				b.Fatalf("not quiet:\n%s", p)
			}
			b.ReportAllocs()
			for b.Loop() {
				pass()
			}
		})
	}
}

package plan_test

import (
	"fmt"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// A canary is to get 10 % before it has a healthy target: the plan holds it back and says why.
func ExampleMake() {
	forward := func(stable, canary int32) []model.Action {
		return []model.Action{{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: []model.WeightedTargetGroup{
			{ResourceID: "stable", ARN: "arn:stable", Weight: stable}, {ResourceID: "canary", ARN: "arn:canary", Weight: canary},
		}}}}
	}
	listener := model.Listener{ResourceID: "80", Port: 80, Protocol: "HTTP", DefaultActions: forward(90, 10)}
	desired := model.Stack{ID: "shop/web", LoadBalancer: &model.LoadBalancer{ResourceID: "LoadBalancer"}, Listeners: []model.Listener{listener}}

	listener.DefaultActions = forward(100, 0)
	balancer := model.ObservedLoadBalancer{ARN: "arn:balancer", LoadBalancer: *desired.LoadBalancer, Listeners: []model.ObservedListener{{Listener: listener, ARN: "arn:listener"}}}
	observed := model.Observed{Complete: true, LoadBalancers: []model.ObservedLoadBalancer{balancer}}
	now := time.Now()
	health := map[string]plan.Health{"arn:stable": {Healthy: 3, Total: 3, SeenAt: now}, "arn:canary": {Healthy: 0, Total: 1, SeenAt: now}}

	fmt.Print(plan.Make(desired, observed, plan.State{Now: now, Health: health}))
	health["arn:canary"] = plan.Health{Healthy: 1, Total: 1, SeenAt: now}
	fmt.Print(plan.Make(desired, observed, plan.State{Now: now, Health: health}))
	// Output:
	// wait    default action of listener 80: not raised before targets are healthy: canary from 0 % to 10 % (0 of 1 targets healthy)
	// do      modify listener 80 HTTP -> forward stable=90 canary=10
}

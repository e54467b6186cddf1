package simulation

import (
	"time"

	bindings "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
)

// Brain is everything that the controllers decide with. Tests replace a part to show that a broken law is
// noticed.
type Brain struct {
	// Rollout decides what a rollout does next.
	Rollout func(canary.Snapshot) canary.Decision
	// Balancer plans what is done about the load balancer.
	Balancer func(model.Stack, model.Observed, plan.State) plan.Plan
	// Targets decides which pods are targets.
	Targets func(bindings.Snapshot) bindings.Decision
	// Lane is the lane of a call, by its AWS operation.
	Lane func(operation string) budget.Lane
	// Mine says by its tags whether a resource is this cluster's.
	Mine func(tags map[string]string) bool
	// Restarted is told when a new process begins with the Brain after a crash; nil in production, which
	// keeps nothing that could get lost.
	Restarted func(b *Brain, now time.Time)
}

// Production is the Brain that users run.
func Production() Brain {
	return Brain{Rollout: canary.Decide, Balancer: plan.Make, Targets: bindings.Plan, Lane: laneOf, Mine: mine}
}

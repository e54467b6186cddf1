package simulation

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
)

// account is the AWS account and region, which is shared with others: its rates, and what others have in it.
type account struct {
	w *world
	// own is the controller's budget, the real one in virtual time; a new process has a new one.
	own *budget.Budget
	// limits are those of AWS, by kind of call (ELB API throttling page).
	mutating, registration bucket
	// throttledAt is when AWS last refused a call; the controller slows down then by itself.
	throttledAt time.Time
	// crowdedUntil is the end of a time of much other work: tags and settings of other stacks of the same controller.
	crowdedUntil time.Time
	// strangers are what others have, as they left it, and twin is a load balancer that carries our tags too.
	strangers model.Observed
	twin      string
}

func newAccount(w *world) *account {
	a := &account{w: w, mutating: bucket{size: 20, rate: 3}, registration: bucket{size: 20, rate: 4}}
	a.restarted()
	return a
}

func (a *account) restarted() { a.own = budget.New(budget.Settings{Now: a.w.now}) }

// laneOf is the lane on which production makes a call.
func laneOf(operation string) budget.Lane {
	switch operation {
	case "ModifyRule", "ModifyListener", "SetRulePriorities", "DescribeRules":
		return budget.Traffic
	case "RegisterTargets", "DeregisterTargets", "DescribeTargetHealth", "DescribeLoadBalancers":
		return budget.Targets
	case "CreateSecurityGroup", "DeleteSecurityGroup", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress":
		return budget.Firewall
	}
	return budget.Configuration
}

func serviceOf(operation string) string {
	if strings.Contains(operation, "SecurityGroup") && operation != "SetSecurityGroups" {
		return budget.EC2
	}
	return budget.ELBv2
}

// urgent are the calls that law 5 is about.
func urgent(operation string) bool {
	return operation == "ModifyRule" || operation == "RegisterTargets"
}

// call spends what a call costs, first of the controller's budget, then of AWS's; without it the call is not made.
func (a *account) call(operation string) error {
	if a.w.aws.founding {
		return nil
	}
	service, now := serviceOf(operation), a.w.now()
	if err := a.own.Take(a.w.brain.Lane(operation), service, operation); err != nil {
		a.refused(operation)
		return busy(err)
	}
	if urgent(operation) && now.Before(a.crowdedUntil) {
		a.w.reach("urgent call in a crowd")
	}
	limit := &a.mutating
	switch {
	case operation == "RegisterTargets" || operation == "DeregisterTargets":
		limit = &a.registration
	case budget.ReadOnly(operation) || service == budget.EC2:
		limit = nil // more than we ever ask for
	}
	wait := time.Duration(0)
	if limit != nil {
		wait = limit.take(now)
	}
	share := 0.9
	if budget.ReadOnly(operation) {
		share = 0.8
	}
	if wait == 0 && !(now.Before(a.w.aws.busyUntil) && a.w.chance(share)) {
		return nil
	}
	a.w.reach("throttled")
	a.throttledAt = now
	a.own.Throttled(service, operation)
	return &cloud.BusyError{Operation: operation, Until: now.Add(max(wait, a.w.between(time.Second, 5*time.Second)))}
}

func busy(err error) error {
	if e, ok := errors.AsType[*budget.BusyError](err); ok {
		return &cloud.BusyError{Operation: e.Operation, Until: e.Until}
	}
	return err
}

// refused: law 5, an urgent call finds no token though AWS would take it: less urgent ones were let go before it.
func (a *account) refused(operation string) {
	// After AWS itself has refused something, the controller makes fewer calls than it might for a while.
	const recovery = time.Minute
	const there = 6 // of 20: more than the controller's margin and what other processes of it have spent
	limit := a.mutating
	if operation == "RegisterTargets" {
		limit = a.registration
	}
	now := a.w.now()
	limit.refill(now)
	if urgent(operation) && limit.tokens >= there && (a.throttledAt.IsZero() || now.Sub(a.throttledAt) > recovery) {
		a.w.violate(5, "%s waits for a token of the budget while AWS would take %.0f such calls", operation, limit.tokens)
	}
}

// ordered: law 5, in the controller's queue no weight change waits for a call of a lower lane that it does not need.
func (a *account) ordered(operations []plan.Operation) {
	if !a.w.laws.judging { // the first forward needs groups with their settings
		return
	}
	lower := plan.Operation(nil)
	for _, op := range operations {
		switch op := op.(type) {
		case plan.AddTags, plan.RemoveTags, plan.SetTargetGroupAttributes, plan.ModifyTargetGroup:
			lower = op
		case plan.ModifyRule:
			if lower != nil && op.Actions != nil {
				a.w.violate(5, "%s waits for %s", op, lower)
			}
		}
	}
}

// crowd lets other stacks of the controller set tags and attributes for a while, as fast as they may.
func (a *account) crowd() {
	a.crowdedUntil = a.w.now().Add(a.w.between(time.Minute, 5*time.Minute))
	a.w.note("FAULT: other stacks are configured until %s", a.crowdedUntil.Format(time.TimeOnly))
	a.w.reach("crowd")
	// A setting of ours is among what has to be put right, so that our own queue holds something less urgent too.
	group := a.w.aws.groups[a.w.intn(len(a.w.aws.groups))].arn
	a.others(func(ctx context.Context) error {
		return a.w.aws.World.ModifyTargetGroupAttributes(ctx, group, map[string]string{"deregistration_delay.timeout_seconds": "7"})
	})
	a.w.mirror.listed()
	a.another()
}

func (a *account) another() {
	if a.w.now().After(a.crowdedUntil) {
		return
	}
	next := a.w.between(10*time.Millisecond, 400*time.Millisecond)
	operation := []string{"AddTags", "ModifyTargetGroupAttributes", "CreateRule"}[a.w.intn(3)]
	if !a.w.down {
		err := a.own.Take(a.w.brain.Lane(operation), budget.ELBv2, operation)
		if wait, ok := errors.AsType[*budget.BusyError](err); ok {
			next = max(next, wait.Until.Sub(a.w.now()))
		} else if a.mutating.take(a.w.now()) > 0 {
			a.throttledAt = a.w.now()
			a.own.Throttled(budget.ELBv2, operation)
		}
	}
	a.w.after(next, a.another)
}

// neighbour makes what another cluster has in the account, under the same names as ours.
func (a *account) neighbour() {
	a.w.note("FAULT: another cluster makes a target group of our names")
	a.w.reach("another cluster")
	have := a.w.aws.World.Observed(stackID).TargetGroups
	group := have[a.w.intn(len(have))].TargetGroup
	group.Name = "neighbour"
	group.Tags = map[string]string{model.TagCluster: "neighbour", model.TagStack: stackID, model.TagResource: group.ResourceID}
	a.others(func(ctx context.Context) error {
		_, err := a.w.aws.World.CreateTargetGroup(ctx, group)
		return err
	})
	a.w.mirror.listed()
}

// duplicate makes a load balancer that carries our tags, as a script that copies everything does, and takes it away
// some minutes later.
func (a *account) duplicate() {
	if a.twin != "" {
		return
	}
	a.w.note("FAULT: somebody makes a second load balancer with our tags")
	lb := a.w.aws.World.Observed(stackID).LoadBalancers[0]
	a.others(func(ctx context.Context) error {
		twin := lb.LoadBalancer
		twin.Name = "copy"
		made, err := a.w.aws.World.CreateLoadBalancer(ctx, twin, lb.SecurityGroupIDs)
		a.twin = made.ARN
		return err
	})
	a.w.mirror.listed()
	a.w.after(a.w.between(30*time.Second, 5*time.Minute), func() {
		a.w.note("the second load balancer is deleted by its maker")
		a.others(func(ctx context.Context) error { return a.w.aws.World.DeleteLoadBalancer(ctx, a.twin) })
		a.twin = ""
		a.w.mirror.listed()
	})
}

// others makes a change that is not ours, and notes what others have then.
func (a *account) others(change func(context.Context) error) {
	a.w.aws.founding = true
	if err := change(context.Background()); err != nil {
		a.w.violate(0, "the world cannot be changed: %v", err)
	}
	a.w.aws.founding = false
	a.strangers = a.notOurs()
}

func (a *account) notOurs() model.Observed {
	var out model.Observed
	all := a.w.aws.World.Observed(stackID)
	for _, lb := range all.LoadBalancers {
		if lb.ARN == a.twin || lb.Tags[model.TagCluster] != cluster {
			out.LoadBalancers = append(out.LoadBalancers, lb)
		}
	}
	for _, g := range all.TargetGroups {
		if g.Tags[model.TagCluster] != cluster {
			out.TargetGroups = append(out.TargetGroups, g)
		}
	}
	return out
}

// untouched: law 7, what others have is as they left it.
func (a *account) untouched(op plan.Operation) {
	if now := a.notOurs(); !reflect.DeepEqual(now, a.strangers) {
		a.w.violate(7, "%s changes what is not ours: %v was %v", op, now, a.strangers)
	}
}

// told: law 7, two owners of one resource are told of, and nothing is done about either.
func (a *account) told(observed model.Observed, p plan.Plan) {
	if len(observed.LoadBalancers) < 2 {
		return
	}
	a.w.reach("two owners")
	if len(p.Blocked) == 0 || len(p.Operations) > 0 {
		a.w.violate(7, "two load balancers carry our tags; told is %v, done is %v", p.Blocked, p.Operations)
	}
}

// mine says by its tags whether a resource is this cluster's, as production asks AWS for them.
func mine(tags map[string]string) bool { return tags[model.TagCluster] == cluster }

// ours is what AWS has of our stack.
func (a *account) ours() model.Observed {
	out := a.w.aws.World.Observed(stackID)
	if len(a.strangers.LoadBalancers)+len(a.strangers.TargetGroups) == 0 {
		return out
	}
	lbs, groups := out.LoadBalancers, out.TargetGroups
	out.LoadBalancers, out.TargetGroups = nil, nil
	for _, lb := range lbs {
		if a.w.brain.Mine(lb.Tags) {
			out.LoadBalancers = append(out.LoadBalancers, lb)
		}
	}
	for _, g := range groups {
		if a.w.brain.Mine(g.Tags) {
			out.TargetGroups = append(out.TargetGroups, g)
		}
	}
	return out
}

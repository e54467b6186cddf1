package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// crowd is what a round knows of listeners with as many rules as AWS allows. Nothing is deleted there to make room:
// a rule that is to go is turned into a new one, in place, when all other rules that take over its requests are
// there already. So no request is ever without its rule.
type crowd struct {
	// placed are the rules that this round made, by listener and resource id.
	placed map[plan.Ref]bool
	// reused are the ARNs of obsolete rules that have become new ones.
	reused map[string]bool
	// crowded are the rules that AWS has refused so far, limit what it said.
	crowded []plan.CreateRule
	limit   error
}

// placeOf names a rule to be made, in its listener.
func placeOf(create plan.CreateRule) plan.Ref {
	return plan.Ref{ResourceID: create.Rule.ResourceID, ARN: create.Listener.ResourceID}
}

// skips says that an operation is done with, since its rule has become another one.
func (d *round) skips(op plan.Operation) bool {
	obsolete, ok := op.(plan.DeleteRule)
	return ok && d.reused[obsolete.Rule.ARN]
}

// isRoute says that an operation is one of those among which new rules are made.
func isRoute(op plan.Operation) bool {
	switch op.(type) {
	case plan.CreateRule, plan.ModifyRule, plan.ModifyListener:
		return true
	}
	return false
}

// makeRoom turns obsolete rules into those that AWS has refused, as long as that is possible: each new rule may
// set another old one free. It says whether the round is over.
func (d *round) makeRoom(ctx context.Context) (over bool) {
	for i := 0; i < len(d.crowded); i++ {
		create := d.crowded[i]
		obsolete, found := d.heirless(create)
		if !found {
			continue
		}
		d.reused[obsolete.Rule.ARN] = true
		for _, op := range become(create, obsolete) {
			if d.record(op, d.do(ctx, op)) {
				return true
			}
		}
		d.placed[placeOf(create)] = true
		d.crowded = slices.Delete(d.crowded, i, i+1)
		i = -1
	}
	return false
}

// heirless finds an obsolete rule of the listener whose requests have no other heir left to be made than the new
// rule; the one that matches last, if there are several.
func (d *round) heirless(create plan.CreateRule) (plan.DeleteRule, bool) {
	for _, op := range slices.Backward(d.operations) {
		obsolete, ok := op.(plan.DeleteRule)
		if !ok || d.reused[obsolete.Rule.ARN] || obsolete.Listener.ResourceID != create.Listener.ResourceID {
			continue
		}
		if !slices.ContainsFunc(obsolete.Heirs, func(id string) bool {
			return id != create.Rule.ResourceID && !d.placed[plan.Ref{ResourceID: id, ARN: create.Listener.ResourceID}]
		}) {
			return obsolete, true
		}
	}
	return plan.DeleteRule{}, false
}

// become turns a live rule into another. Further down in the list it goes as the old one, so that the new one
// does not take what rules between them match; further up as the new one, so that the old one does not.
func become(create plan.CreateRule, obsolete plan.DeleteRule) []plan.Operation {
	ref := plan.Ref{ResourceID: create.Rule.ResourceID, ARN: obsolete.Rule.ARN}
	steps := []plan.Operation{
		plan.ModifyRule{Rule: ref, Actions: create.Rule.Actions, Conditions: create.Rule.Conditions,
			Reason: "in place of " + obsolete.Rule.ResourceID + ", as AWS allows no more rules"},
		plan.SetRulePriorities{Listener: create.Listener, Priorities: map[string]int32{ref.ARN: create.Rule.Priority}},
	}
	if create.Rule.Priority > obsolete.Priority {
		slices.Reverse(steps)
	}
	if len(create.Rule.Tags) > 0 {
		steps = append(steps, plan.AddTags{Resource: ref, Tags: create.Rule.Tags})
	}
	return steps
}

// crowdedOut ends the round with the first of the rules for which there was no room, if there is one.
func (d *round) crowdedOut() bool {
	if len(d.crowded) == 0 {
		return false
	}
	create := d.crowded[0]
	d.crowded = nil
	err := d.limit
	if slices.ContainsFunc(d.operations, func(op plan.Operation) bool {
		obsolete, ok := op.(plan.DeleteRule)
		return ok && obsolete.Listener.ResourceID == create.Listener.ResourceID
	}) {
		err = fmt.Errorf("there is no room for it, and no rule of the listener can go first without leaving requests unserved: "+
			"raise the quota of rules per load balancer, or change the rules in two steps: %w", d.limit)
	}
	return d.record(create, err)
}

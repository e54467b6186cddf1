package plan

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// lastPriority is the largest that AWS takes; rules about to be deleted are moved there and below.
const lastPriority = 50000

// listeners compares listeners by port, and their rules.
func (s *situation) listeners() {
	balancer := Ref{ResourceID: s.desired.LoadBalancer.ResourceID}
	var have []model.ObservedListener
	if s.balancer != nil {
		balancer.ARN, have = s.balancer.ARN, s.balancer.Listeners
	}
	wantedPorts := map[int32]bool{}
	for _, wanted := range s.desired.Listeners {
		wantedPorts[wanted.Port] = true
		i := slices.IndexFunc(have, func(l model.ObservedListener) bool { return l.Port == wanted.Port })
		if i < 0 {
			s.createListener(balancer, wanted)
			continue
		}
		s.listener(wanted, have[i])
	}
	for _, l := range have {
		if !wantedPorts[l.Port] {
			s.add(stageRemoval, DeleteListener{Ref{strconv.Itoa(int(l.Port)), l.ARN}})
		}
	}
}

func (s *situation) createListener(balancer Ref, wanted model.Listener) {
	rules := wanted.Rules
	wanted.Rules, wanted.DefaultActions = nil, s.resolved(wanted.DefaultActions)
	s.add(stageListener, CreateListener{balancer, wanted})
	for _, r := range rules {
		r.Actions = s.resolved(r.Actions)
		s.add(stageRoutes, CreateRule{Ref{ResourceID: wanted.ResourceID}, r})
	}
}

func (s *situation) listener(wanted model.Listener, have model.ObservedListener) {
	ref := Ref{wanted.ResourceID, have.ARN}
	actions := have.DefaultActions
	if wanted.Hold == "" {
		actions = s.law1("default action of listener "+wanted.ResourceID, have.DefaultActions, s.resolved(wanted.DefaultActions))
	} else {
		s.wait(Wait{Reason: "default action of listener " + wanted.ResourceID + " is kept: " + wanted.Hold})
	}
	if wanted.Protocol != have.Protocol {
		s.block("listener "+wanted.ResourceID, "it speaks "+have.Protocol+" and "+wanted.Protocol+" is wanted: changing it in place would cut off its clients",
			"use another port, or take the port out of listen-ports first")
	}
	// Weights do not wait for certificates, which cost calls of their own and can be refused.
	if !sameActions(actions, have.DefaultActions) {
		s.add(routeStage(actions), ModifyListener{Target: ref, Raises: s.raised(have.DefaultActions, actions), Listener: model.Listener{
			ResourceID: wanted.ResourceID, Port: wanted.Port, Protocol: wanted.Protocol, DefaultActions: actions}})
	}
	if !sameTransport(wanted, have.Listener) {
		changed := wanted
		changed.DefaultActions, changed.Rules = nil, nil
		s.add(stageTransport, ModifyListener{Target: ref, Listener: changed})
	}
	s.rules(ref, wanted.Rules, have.Rules)
	s.tags(ref, wanted.Tags, have.Tags)
}

// sameTransport compares what HTTPS needs. Where certificates have not all been read yet, the stack is not complete and
// nothing comes of it.
func sameTransport(wanted, have model.Listener) bool {
	if wanted.Protocol != "HTTPS" || have.Protocol != "HTTPS" {
		return true
	}
	return wanted.SSLPolicy == have.SSLPolicy && len(have.Certificates) > 0 && wanted.Certificates[0] == have.Certificates[0] &&
		sameSet(wanted.Certificates, have.Certificates)
}

// pair is a wanted rule and the live one that becomes it, or nil.
type pair struct {
	wanted model.Rule
	have   *model.ObservedRule
}

// rules turns the live rules of a listener into the wanted ones without a moment in which a route is missing:
//
//  1. live rules with the wanted conditions stay, whatever their priority, preferably those with the same actions
//  2. one SetRulePriorities moves what must move, and rules that will be deleted out of the way, to the end
//  3. ModifyRule in place, then CreateRule, and DeleteRule last
//
// A live rule with other conditions is not rewritten, not even at a wanted priority: its requests would
// match nothing until the rule that serves them next is made. Where AWS allows no more rules, apply turns one that
// is to be deleted into a new one, if that leaves no request without its rule (DeleteRule.Heirs).
func (s *situation) rules(listener Ref, wanted []model.Rule, have []model.ObservedRule) {
	pairs, spare := s.pair(wanted, have)
	moves := moves(pairs, spare, have)
	if s.observed.Complete && len(moves) > 0 {
		s.add(stageTraffic, SetRulePriorities{listener, moves})
	}
	for _, p := range pairs {
		if p.have == nil {
			s.add(stageRoutes, CreateRule{listener, p.wanted})
			continue
		}
		s.rule(p)
	}
	for _, r := range spare {
		s.add(stageRemoval, DeleteRule{Listener: listener, Rule: Ref{r.ResourceID, r.ARN}, Priority: cmp.Or(moves[r.ARN], r.Priority), Heirs: heirs(*r, pairs)})
	}
}

func (s *situation) rule(p pair) {
	ref := Ref{p.wanted.ResourceID, p.have.ARN}
	actions := p.wanted.Actions
	if p.wanted.Hold != "" {
		s.wait(Wait{Reason: "rule " + p.wanted.ResourceID + " is kept: " + p.wanted.Hold})
		actions = p.have.Actions
	} else {
		actions = s.law1("rule "+p.wanted.ResourceID, p.have.Actions, actions)
	}
	if !sameActions(actions, p.have.Actions) {
		s.add(routeStage(actions), ModifyRule{Rule: ref, Actions: actions, Raises: s.raised(p.have.Actions, actions)})
	}
	s.tags(ref, p.wanted.Tags, p.have.Tags)
}

// pair resolves the wanted rules' groups and finds the live rule that becomes each; spare are those that become nothing.
func (s *situation) pair(wanted []model.Rule, have []model.ObservedRule) (pairs []pair, spare []*model.ObservedRule) {
	free := map[*model.ObservedRule]bool{}
	byConditions := map[string][]*model.ObservedRule{}
	for i := range have {
		r := &have[i]
		free[r] = true
		k := conditionsKey(r.Conditions)
		byConditions[k] = append(byConditions[k], r)
	}
	pairs = make([]pair, len(wanted))
	alike := make([][]*model.ObservedRule, len(wanted))
	for i, w := range wanted {
		w.Actions = s.resolved(w.Actions)
		pairs[i].wanted, alike[i] = w, byConditions[conditionsKey(w.Conditions)]
	}
	take := func(p *pair, r *model.ObservedRule) {
		if p.have == nil && r != nil && free[r] {
			p.have, free[r] = r, false
		}
	}
	for _, fits := range []func(w model.Rule, r *model.ObservedRule) bool{
		func(w model.Rule, r *model.ObservedRule) bool {
			return w.Priority == r.Priority && sameActions(w.Actions, r.Actions)
		},
		func(w model.Rule, r *model.ObservedRule) bool { return sameActions(w.Actions, r.Actions) },
		func(w model.Rule, r *model.ObservedRule) bool { return w.Priority == r.Priority },
		func(w model.Rule, r *model.ObservedRule) bool { return true },
	} {
		for i := range pairs {
			for _, r := range alike[i] {
				if fits(pairs[i].wanted, r) {
					take(&pairs[i], r)
				}
			}
		}
	}
	for i := range have {
		if free[&have[i]] {
			spare = append(spare, &have[i])
		}
	}
	return pairs, spare
}

// moves are the priorities to set: those of rules that stay at another place, and those of spare rules
// that stand in the way of them or of new ones.
func moves(pairs []pair, spare []*model.ObservedRule, have []model.ObservedRule) map[string]int32 {
	out, taken, wanted := map[string]int32{}, map[int32]bool{}, map[int32]bool{}
	for _, r := range have {
		taken[r.Priority] = true
	}
	for _, p := range pairs {
		wanted[p.wanted.Priority] = true
		if p.have != nil && p.have.Priority != p.wanted.Priority {
			out[p.have.ARN] = p.wanted.Priority
		}
	}
	last := int32(lastPriority)
	for _, r := range spare {
		if !wanted[r.Priority] {
			continue
		}
		for taken[last] || wanted[last] {
			last--
		}
		out[r.ARN] = last
		taken[last] = true
	}
	return out
}

package elbv2

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// report takes what a node has found out about a target. The API shows it after a while.
func (s *Service) report(n *node, h dataplane.HealthChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.targetGroups[h.Group]
	if s.closed || g == nil || g.balancer != n.balancer || !slices.Contains(n.balancer.nodes, n) {
		return // a node that leaves has no say any more
	}
	t := g.targets[h.Target]
	if t == nil || t.draining {
		return
	}
	t.reports[n.zone] = h.TargetHealth
	t.anomalies, t.mitigated = marked(t.anomalies, n.zone, h.Anomalous), marked(t.mitigated, n.zone, h.Mitigated)
	if next := s.aggregate(g, t); next.State == t.shown.State && next.Reason == t.shown.Reason {
		return
	}
	t.changes++
	event := fmt.Sprintf("%s/%s:%d#%d", g.name, t.key.ID, t.key.Port, t.changes)
	show := func() []*node {
		if g.targets[t.key] == t {
			s.show(g, t)
		}
		return nil
	}
	if t.shown.State == types.TargetHealthStateEnumInitial && t.shown.Reason == types.TargetHealthReasonEnumRegistrationInProgress && h.State == dataplane.Initial {
		show()
		return
	}
	delay := s.config.Draws.Once(profile.ALBHealthAggregate, event)
	if delay <= 0 {
		show()
		return
	}
	s.after(delay, show)
}

// marked adds a zone to a set, or takes it out.
func marked(zones map[string]bool, zone string, in bool) map[string]bool {
	switch {
	case !in:
		delete(zones, zone)
	case zones == nil:
		return map[string]bool{zone: true}
	default:
		zones[zone] = true
	}
	return zones
}

// stopped says whether a target is an instance that exists and does not run.
func (s *Service) stopped(g *targetGroup, t *target) bool {
	if g.value.Get().TargetType != types.TargetTypeEnumInstance {
		return false
	}
	machine, exists := s.config.Network.InstanceByID(t.key.ID)
	return exists && !machine.Running
}

// FollowInstance looks again at the targets that are an instance, since it has stopped, runs again, or is terminated.
func (s *Service) FollowInstance(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.targetGroups {
		for key := range g.targets {
			if key.ID == id {
				s.followInstances(g)
				break
			}
		}
	}
}

// followInstances deregisters the targets whose instances are terminated, and shows those that have stopped or run again as such.
func (s *Service) followInstances(g *targetGroup) {
	if g.value.Get().TargetType != types.TargetTypeEnumInstance {
		return
	}
	var gone []*target
	for _, t := range g.targets {
		if t.draining {
			continue
		}
		if _, exists := s.config.Network.InstanceByID(t.key.ID); !exists {
			gone = append(gone, t)
		} else if s.stopped(g, t) != (t.shown.Reason == types.TargetHealthReasonEnumInvalidState) {
			s.show(g, t)
		}
	}
	s.drain(g, gone)
}

// show brings what the API says of a target up to date. A target that becomes unhealthy drains first, if its group
// lets flows go on for an interval.
func (s *Service) show(g *targetGroup, t *target) {
	t.shown = s.aggregate(g, t)
	if t.shown.State != types.TargetHealthStateEnumUnhealthy {
		t.unhealthySince = time.Time{}
		return
	}
	interval := seconds(g.attributes["target_health_state.unhealthy.draining_interval_seconds"])
	if t.unhealthySince.IsZero() {
		t.unhealthySince = time.Now()
	}
	left := interval - time.Since(t.unhealthySince)
	if left <= 0 {
		return
	}
	t.shown.State = types.TargetHealthStateEnumUnhealthyDraining
	if t.awaited {
		return // who looks then sees how much is left: a target may fail again and again in an interval of days
	}
	t.awaited = true
	s.after(left, func() []*node {
		t.awaited = false
		if g.targets[t.key] == t {
			s.show(g, t)
		}
		return nil
	})
}

// aggregate is the health of a target as the API shows it: healthy when all nodes find it so,
// unhealthy when one of them does, initial before.
func (s *Service) aggregate(g *targetGroup, t *target) types.TargetHealth {
	switch {
	case t.draining:
		return health(types.TargetHealthStateEnumDraining, types.TargetHealthReasonEnumDeregistrationInProgress, "Target deregistration is in progress")
	case !g.inUse():
		return health(types.TargetHealthStateEnumUnused, types.TargetHealthReasonEnumNotInUse, "Target group is not configured to receive traffic from the load balancer")
	case !g.balancer.serves(t.zone):
		return health(types.TargetHealthStateEnumUnused, types.TargetHealthReasonEnumNotInUse, "Target is in an Availability Zone that is not enabled for the load balancer")
	case g.lambda():
		return functionHealth(g.value.Get())
	case s.stopped(g, t):
		return health(types.TargetHealthStateEnumUnused, types.TargetHealthReasonEnumInvalidState, "Target is in the stopped state")
	case s.config.Network.OwnedByBalancer(t.address):
		return health(types.TargetHealthStateEnumUnused, types.TargetHealthReasonEnumIpUnusable, "Target IP address is in use by a load balancer")
	}
	healthy, asked, initial := 0, 0, false
	for _, n := range g.balancer.nodes {
		found, told := t.reports[n.zone]
		if !told && n.joined {
			continue
		}
		asked++
		switch {
		case told && found.State == dataplane.Unhealthy:
			return health(types.TargetHealthStateEnumUnhealthy, types.TargetHealthReasonEnum(found.Reason), found.Description)
		case told && found.State == dataplane.Healthy:
			healthy++
		case told:
			initial = true
		}
	}
	switch {
	case asked > 0 && healthy == asked:
		return types.TargetHealth{State: types.TargetHealthStateEnumHealthy}
	case initial || healthy > 0:
		return health(types.TargetHealthStateEnumInitial, types.TargetHealthReasonEnumInitialHealthChecking, "Initial health checks in progress")
	}
	return health(types.TargetHealthStateEnumInitial, types.TargetHealthReasonEnumRegistrationInProgress, "Target registration is in progress")
}

func health(state types.TargetHealthStateEnum, reason types.TargetHealthReasonEnum, description string) types.TargetHealth {
	return types.TargetHealth{State: state, Reason: reason, Description: new(description)}
}

package elbv2

import (
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Quotas of targets: per group, and per load balancer over all groups to which it forwards.
const (
	maxTargetsPerGroup               = 1000
	maxTargetsPerBalancer            = 1000
	maxTargetsPerNetworkBalancer     = 3000
	maxTargetsPerZoneNetworkBalancer = 500
	maxRegistrationsPerTarget        = 1000 // of one id, per load balancer
)

// targetQuota says whether a group, and the load balancer that uses it, can take more targets.
func (s *Service) targetQuota(g *targetGroup, added []*target) error {
	count, registrations := len(g.targets), map[string]int{}
	for key := range g.targets {
		registrations[key.ID]++
	}
	for _, t := range added {
		if g.targets[t.key] == nil {
			count++
			registrations[t.key.ID]++
		}
	}
	if err := registrationQuota(registrations); err != nil {
		return err
	}
	if count > maxTargetsPerGroup {
		return wire.Errorf("TooManyTargets", "The maximum number of targets of a target group, %d, would be exceeded", maxTargetsPerGroup)
	}
	if g.balancer == nil {
		return nil
	}
	return s.balancerQuotas(g.balancer, nil, g, added)
}

func registrationQuota(registrations map[string]int) error {
	for id, n := range registrations {
		if n > maxRegistrationsPerTarget {
			return wire.Errorf("TooManyRegistrationsForTargetId", "Target '%s' can be registered at most %d times", id, maxRegistrationsPerTarget)
		}
	}
	return nil
}

// balancerQuotas says whether a load balancer can have more targets: those of groups that join it, and those that are added to a
// group that it uses.
func (s *Service) balancerQuotas(lb *loadBalancer, joining []*targetGroup, g *targetGroup, added []*target) error {
	t := tally{registrations: map[string]int{}, zones: map[string]int{}}
	for _, other := range s.targetGroups {
		if other.balancer == lb {
			joining = append(joining, other)
		}
	}
	for _, other := range joining {
		for _, one := range other.targets {
			t.count(lb, other, one)
		}
	}
	for _, one := range added {
		if g.targets[one.key] == nil {
			t.count(lb, g, one)
		}
	}
	if err := registrationQuota(t.registrations); err != nil {
		return err
	}
	most := maxTargetsPerBalancer
	if !lb.application() {
		most = maxTargetsPerNetworkBalancer
	}
	if t.total > most {
		return wire.Errorf("TooManyTargets", "The maximum number of targets of %s load balancer '%s', %d, would be exceeded", lb.value.Get().Type, lb.name, most)
	}
	for zone, n := range t.zones {
		if n+t.everywhere > maxTargetsPerZoneNetworkBalancer {
			return wire.Errorf("TooManyTargets", "The maximum number of targets of network load balancer '%s' in Availability Zone %s, %d, would be exceeded", lb.name, zone, maxTargetsPerZoneNetworkBalancer)
		}
	}
	return nil
}

// tally counts the targets of a load balancer.
type tally struct {
	total         int
	registrations map[string]int
	// zones are those of a Network Load Balancer; targets that all its nodes use are everywhere.
	zones      map[string]int
	everywhere int
}

func (t *tally) count(lb *loadBalancer, g *targetGroup, one *target) {
	t.total++
	t.registrations[one.key.ID]++
	if lb.application() {
		return
	}
	if !crossZone(g.attributes, lb.attributes) {
		t.zones[one.zone]++
		return
	}
	t.everywhere++
	t.zones[one.zone] += 0 // a zone to look at
}

package fault

import (
	"strings"
	"time"
)

// This file is what the data plane asks.

// look is how soon a node that hears of nothing asks again, since a fault can be ended by hand.
const look = 100 * time.Millisecond

// Holds says for how long a node of a load balancer hears of nothing before it asks again; 0: it hears at once.
func (s *Set) Holds(zone, loadBalancer string) time.Duration {
	held := s.any(func(f Fault) bool {
		return f.Kind == Stuck && (f.Zone == "" || f.Zone == zone) && strings.Contains(loadBalancer, f.Resource)
	})
	if held {
		return look
	}
	return 0
}

// Sickens says whether a target fails its health checks. The names are those that the resource of a fault may be
// contained in; they are asked for only if it matters.
func (s *Set) Sickens(zone string, names func() []string) bool {
	return s.any(func(f Fault) bool {
		if f.Kind != Unhealthy || f.Zone != "" && f.Zone != zone {
			return false
		}
		if f.Resource == "" {
			return true
		}
		for _, name := range names() {
			if strings.Contains(name, f.Resource) {
				return true
			}
		}
		return false
	})
}

// Loses says whether a zone is gone.
func (s *Set) Loses(zone string) bool {
	return zone != "" && s.any(func(f Fault) bool { return f.Kind == Zone && f.Zone == zone })
}

// Quiet says that no fault of the data plane is there, neither now nor planned.
func (s *Set) Quiet() bool { return s.placed.Load() == 0 }

// any asks without the lock held: what is asked may ask others.
func (s *Set) any(hit func(Fault) bool) bool {
	if s.Quiet() {
		return false
	}
	now := time.Now()
	for _, f := range s.List() {
		if f.in(now) && hit(f) {
			return true
		}
	}
	return false
}

// Failed lists the zones and the machines that are gone at the moment, and when that may change by itself (zero: it does
// not).
func (s *Set) Failed() (zones, nodes []string, until time.Time) {
	now := time.Now()
	for _, f := range s.List() {
		if f.Kind != Zone && f.Kind != Node {
			continue
		}
		for _, edge := range []time.Time{f.From, f.Until} {
			if edge.After(now) && (until.IsZero() || edge.Before(until)) {
				until = edge
			}
		}
		switch {
		case !f.in(now):
		case f.Kind == Zone:
			zones = append(zones, f.Zone)
		default:
			nodes = append(nodes, f.Resource)
		}
	}
	return zones, nodes, until
}

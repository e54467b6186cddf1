package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// leaving says which targets leave now, and what the others wait for.
func (g grouped) leaving(s Snapshot) ([]Deregistration, Wait) {
	leave := g.dead
	var wait Wait
	candidates, reason := g.allowed(s)
	switch {
	case len(candidates) > 0 && !s.Fresh:
		wait.Fresh = true
		wait.Reason = fmt.Sprintf("%s may leave once a fresh read agrees", targets(len(candidates)))
	case len(candidates) > 0:
		leave = append(leave, candidates...)
	}
	if left := len(g.leavers) + len(g.foreign) - len(candidates); left > 0 {
		wait.Reason = reason
		if at := s.Share.settledAt(s.Settings.Settle); at.After(s.Now) {
			wait.Again = at
		}
	}
	// A share that was 0 for long enough by the clock, though not yet by the last read, needs that read.
	if at := s.Share.settledAt(s.Settings.Settle); !at.IsZero() && !at.After(s.Now) && !s.settled() &&
		len(g.leavers)+len(g.foreign) > len(candidates) && !s.Fresh {
		wait.Fresh = true
	}
	slices.SortFunc(leave, func(a, b Deregistration) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
	})
	return leave, wait
}

// settled says that the group's share is 0, that this has been seen after the settle time, and lately.
func (s Snapshot) settled() bool {
	at := s.Share.settledAt(s.Settings.Settle)
	return !at.IsZero() && !s.Share.SeenAt.Before(at) && s.Now.Sub(s.Share.SeenAt) <= s.Settings.Freshness
}

// allowed are the leavers that enough healthy others stand in for, and why the rest must stay.
func (g grouped) allowed(s Snapshot) ([]Deregistration, string) {
	if s.settled() {
		reason := fmt.Sprintf("the group has had weight 0 since %s", s.Share.Since.UTC().Format("15:04:05"))
		leave := deregistrations(slices.Concat(g.leavers, g.foreign), reason)
		for i := range leave {
			leave[i].Unserved = true
		}
		return leave, ""
	}
	if s.Deleted {
		return deregistrations(slices.Concat(g.leavers, g.foreign), s.Removal), ""
	}
	var meant, leavers []member
	for _, m := range g.leavers {
		if s.Removal != "" || m.pod.Drain == Anyway {
			meant = append(meant, m)
		} else {
			leavers = append(leavers, m)
		}
	}

	staying := healthyCount(g.staying)
	have := staying + healthyCount(leavers)
	// spare may be negative: then not even a target that is not healthy leaves, since a load balancer
	// without healthy targets sends to all of them.
	spare := have - g.need
	stay := fmt.Sprintf("%d of %d targets of the wanted version are healthy", staying, g.need)
	var allowed []member
	if spare >= 0 {
		for _, m := range byUrgency(leavers) {
			// Without pods of the version that the Service selects there is nothing that could stand in.
			if g.need == 0 && m.pod.OtherVersion && m.pod.Drain == Stay {
				stay = "the Service selects a version that has no pods yet"
				continue
			}
			// When nobody says how many pods are wanted, those that exist may be only the first of them: then
			// all of them are to be healthy before an older one leaves.
			if s.Replicas == 0 && staying < g.need && m.pod.Drain == Stay {
				continue
			}
			if m.State == healthy {
				if spare == 0 {
					continue
				}
				spare--
			}
			allowed = append(allowed, m)
		}
	}
	for _, m := range g.foreign {
		if m.State != healthy || (staying > 0 && staying >= g.need) {
			allowed = append(allowed, m)
		}
	}
	if left := len(leavers) + len(g.foreign) - len(allowed); left > 0 {
		stay = fmt.Sprintf("%s stay: %s", targets(left), stay)
	}
	leave := deregistrations(allowed, fmt.Sprintf("%d healthy targets are enough for %d wanted", have, g.need))
	return append(leave, deregistrations(meant, cmp.Or(s.Removal, "all pods are meant to go"))...), stay
}

// byUrgency orders leavers: those that serve nobody first, then by address, so that a repeated round picks
// the same ones.
func byUrgency(leavers []member) []member {
	return slices.SortedFunc(slices.Values(leavers), func(a, b member) int {
		serves := func(m member) int {
			if m.State == healthy {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(serves(a), serves(b)), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
	})
}

// healthyCount counts the targets that can be relied on: healthy to AWS, and alive to Kubernetes.
func healthyCount(members []member) int {
	n := 0
	for _, m := range members {
		if m.State == healthy && (m.pod.Life == Ready || m.pod.Life == Waiting) {
			n++
		}
	}
	return n
}

func deregistrations(members []member, reason string) []Deregistration {
	var all []Deregistration
	for _, m := range members {
		all = append(all, Deregistration{Target: m.Target.Target, Reason: reason})
	}
	return all
}

func targets(n int) string {
	if n == 1 {
		return "1 older target"
	}
	return fmt.Sprintf("%d older targets", n)
}

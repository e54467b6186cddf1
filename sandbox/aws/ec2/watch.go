package ec2

import (
	"net/netip"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// Sources are from where new TCP connections may come to a destination.
type Sources struct {
	// Allowed are the blocks and addresses that rules of the receiver let in; a security group as source stands for the private
	// addresses of the interfaces that carry it at the moment.
	Allowed []netip.Prefix
	// Denied are addresses whose own security groups do not let them connect.
	Denied []netip.Addr
}

// watch is who wants to know the sources of a destination.
type watch struct {
	to      netip.AddrPort
	changed func(Sources)
	// groups are those that the rules name as sources.
	groups []string
}

// Watch tells the sources of a destination: before it returns, and whenever an interface takes a change of rules or groups, until end is
// called. changed must neither block nor call the service.
//
// Passes stays the judge: it may refuse a source for a while that was told here, but lets in nobody else.
func (s *Service) Watch(to netip.AddrPort, changed func(Sources)) (end func()) {
	w := &watch{to: to, changed: changed}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[w] = struct{}{}
	s.tell(w)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
	}
}

// Refresh tells all who watch what holds now. It is for changes from outside: when the pace of the network has changed.
func (s *Service) Refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellAll()
}

// The following are called with the lock.

func (s *Service) tellAll() {
	for w := range s.watches {
		s.tell(w)
	}
}

// interfaceChanged tells of what an interface has got or lost.
func (s *Service) interfaceChanged(before, after *networkInterface) {
	if before != nil {
		for _, id := range before.groups {
			if after == nil || !slices.Contains(after.groups, id) {
				s.release(id)
			}
		}
	}
	switch {
	case len(s.watches) == 0:
	case before == nil:
		s.readdressed(after)
	case after == nil:
		s.readdressed(before)
	case !slices.Equal(before.groups, after.groups):
		s.tellAll()
	case !slices.Equal(before.secondary, after.secondary):
		s.readdressed(after)
	}
}

// spread tells of a change of a group's rules: now, when the interfaces that are watched take it, and when the last interface has.
func (s *Service) spread(id, event string) {
	s.spreadTo(event, func(n *networkInterface) bool { return slices.Contains(n.groups, id) })
}

// spreadList is spread for a change of a prefix list.
func (s *Service) spreadList(id, event string) {
	s.spreadTo(event, func(n *networkInterface) bool {
		return slices.ContainsFunc(n.groups, func(group string) bool {
			g, ok := s.groups.get(group)
			return ok && slices.ContainsFunc(slices.Concat(g.ingress, g.egress), func(r rule) bool { return r.prefixList == id })
		})
	})
}

func (s *Service) spreadTo(event string, concerned func(*networkInterface) bool) {
	if len(s.watches) == 0 {
		return
	}
	s.tellAll()
	watched := map[*networkInterface]bool{}
	for w := range s.watches {
		watched[s.owner(w.to.Addr())] = true
	}
	moments := map[time.Duration]bool{}
	var last time.Duration
	for _, n := range s.interfaces.all {
		if !concerned(n) {
			continue
		}
		delay := s.reaches(n, event)
		last = max(last, delay)
		if watched[n] {
			moments[delay] = true
		}
	}
	moments[last] = true
	for delay := range moments {
		if delay > 0 {
			time.AfterFunc(delay, s.Refresh)
		}
	}
}

// reaches is how long a change of a group or list is on its way to an interface.
func (s *Service) reaches(n *networkInterface, event string) time.Duration {
	return s.config.Draws.PerNode(profile.SecurityGroupRule, event, n.id)
}

// readdressed tells of an address that an interface has got or lost, as far as rules let it in by its groups.
func (s *Service) readdressed(n *networkInterface) {
	for w := range s.watches {
		if slices.ContainsFunc(n.groups, func(id string) bool { return slices.Contains(w.groups, id) }) {
			s.tell(w)
		}
	}
}

func (s *Service) tell(w *watch) {
	var out Sources
	out.Allowed, w.groups = s.allowed(w.to)
	receiver := s.owner(w.to.Addr())
	for _, n := range s.interfaces.all {
		p := Packet{Protocol: "tcp", From: n.primary, To: w.to}
		if n == receiver || s.permits(n, true, p, w.to.Addr(), receiver) || s.willPermit(n, p, receiver) {
			continue
		}
		out.Denied = append(append(out.Denied, n.primary), n.secondary...)
	}
	w.changed(out)
}

// allowed are the blocks from which a destination's own groups let connections in, and the groups that are named among them.
func (s *Service) allowed(to netip.AddrPort) (blocks []netip.Prefix, named []string) {
	receiver := s.owner(to.Addr())
	if receiver == nil || len(receiver.groups) == 0 {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, nil
	}
	p := Packet{Protocol: "tcp", To: to}
	for _, id := range receiver.groups {
		g := s.feels(receiver, id)
		if g == nil {
			continue
		}
		for _, r := range g.rules(false) {
			switch {
			case !r.concerns(p):
			case r.group != "":
				named = append(named, r.group)
			case r.prefixList != "":
				if f := s.listsInForce[r.prefixList]; f != nil {
					blocks = append(blocks, f.at(s, receiver).blocks...)
				}
			default:
				if block, err := netip.ParsePrefix(r.cidr4 + r.cidr6); err == nil {
					blocks = append(blocks, block)
				}
			}
		}
	}
	if len(named) == 0 {
		return blocks, nil
	}
	for _, n := range s.interfaces.all {
		if !slices.ContainsFunc(n.groups, func(id string) bool { return slices.Contains(named, id) }) {
			continue
		}
		for _, a := range n.all() {
			blocks = append(blocks, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return blocks, named
}

// willPermit says whether the newest rules of an interface let a packet out, be they in force there or not.
func (s *Service) willPermit(n *networkInterface, p Packet, receiver *networkInterface) bool {
	return slices.ContainsFunc(n.groups, func(id string) bool {
		g, ok := s.groups.get(id)
		return ok && slices.ContainsFunc(g.rules(true), func(r rule) bool { return s.matches(r, n, p, p.To.Addr(), receiver) })
	})
}

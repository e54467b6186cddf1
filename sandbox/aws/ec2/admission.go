package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// felt is for how long after a change some interface may still go by what was before.
const felt = 10 * time.Minute

// inForce is a security group or prefix list as packets feel it: the versions that interfaces may go by, the oldest first. Each interface takes a
// change at its own moment, drawn from the profile; one that takes a newer change first skips the older ones.
type inForce[T any] struct {
	name     string // for the draws
	versions []version[T]
	changes  int // made in the API
}

// version is a group or list from a change on.
type version[T any] struct {
	value  T
	number int
	since  time.Time
}

func begin[T any](name string, value T) *inForce[T] {
	return &inForce[T]{name: name, versions: []version[T]{{value: value}}}
}

// event names a change for the draws.
func (f *inForce[T]) event(number int) string { return fmt.Sprintf("%s#%d", f.name, number) }

// change notes that there is a new version, which reaches the interfaces later.
func (f *inForce[T]) change(value T) {
	now := time.Now()
	f.changes++
	f.versions = append(f.versions, version[T]{value, f.changes, now})
	for len(f.versions) > 1 && now.Sub(f.versions[1].since) > felt {
		f.versions = slices.Delete(f.versions, 0, 1)
	}
}

// at is the version by which an interface goes now.
func (f *inForce[T]) at(s *Service, n *networkInterface) T {
	now := time.Now()
	for _, v := range slices.Backward(f.versions[1:]) {
		age := now.Sub(v.since)
		if age > felt || age >= s.reaches(n, f.event(v.number)) {
			return v.value
		}
	}
	return f.versions[0].value
}

// changeGroup replaces the rules of a group in the API at once, and for packets as the change reaches the interfaces.
func (s *Service) changeGroup(g *securityGroup) {
	before, _ := s.groups.get(g.id)
	for _, r := range slices.Concat(before.ingress, before.egress) {
		if r.group != "" && !slices.ContainsFunc(slices.Concat(g.ingress, g.egress), func(o rule) bool { return o.group == r.group }) {
			s.release(r.group)
		}
	}
	s.groups.put(g.id, g)
	f := s.groupsInForce[g.id]
	f.change(g)
	s.spread(g.id, f.event(f.changes))
}

// feels is a group as an interface goes by it now.
func (s *Service) feels(n *networkInterface, id string) *securityGroup {
	f := s.groupsInForce[id]
	if f == nil {
		return nil
	}
	return f.at(s, n)
}

// Packet is the first one of a connection or flow.
type Packet struct {
	// Protocol is tcp or udp.
	Protocol string
	From     netip.Addr
	To       netip.AddrPort
	// Via is the address of a Network Load Balancer's interface that passes the packet on as coming from its client,
	// From. Invalid: it comes straight from From.
	Via netip.Addr
}

// Admits says whether security groups let a new TCP connection pass from one address of the VPC to another.
func (s *Service) Admits(from netip.Addr, to netip.AddrPort) bool {
	return s.Passes(Packet{Protocol: "tcp", From: from, To: to})
}

// Passes says whether security groups let a new connection pass: out of the interface that sends it and into
// the one that owns its destination. An address that no interface owns has no groups, which restricts nothing
// on its side.
//
// What a Network Load Balancer passes on leaves through its own interface. The receiver sees the address of the
// client, and rules that name a group of the load balancer match as well.
func (s *Service) Passes(p Packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	receiver := s.owner(p.To.Addr())
	leaves := s.owner(p.From)
	if p.Via.IsValid() {
		leaves = s.owner(p.Via)
	}
	if leaves != nil && !s.permits(leaves, true, p, p.To.Addr(), receiver) {
		return false
	}
	if receiver == nil || s.permits(receiver, false, p, p.From, s.owner(p.From)) {
		return true
	}
	// No block contains the zero address, so only a rule that names a group can match here.
	return p.Via.IsValid() && leaves != nil && s.permits(receiver, false, p, netip.Addr{}, leaves)
}

// owner is the interface that owns an address: in the VPC that the service began with, or else in any other.
func (s *Service) owner(a netip.Addr) *networkInterface {
	if n, ok := s.interfaces.get(s.byAddress[place{s.vpc, a}]); ok {
		return n
	}
	if s.vpcs.count() == 1 {
		return nil
	}
	for vpc := range s.vpcs.all {
		if n, ok := s.interfaces.get(s.byAddress[place{vpc, a}]); ok {
			return n
		}
	}
	return nil
}

// permits asks the rules of an interface's groups in one direction about a peer. An NLB's interface may have no group;
// then nothing is filtered at it.
func (s *Service) permits(n *networkInterface, egress bool, p Packet, peer netip.Addr, owner *networkInterface) bool {
	for _, id := range n.groups {
		g := s.feels(n, id)
		if g != nil && slices.ContainsFunc(g.rules(egress), func(r rule) bool { return s.matches(r, n, p, peer, owner) }) {
			return true
		}
	}
	return len(n.groups) == 0
}

// concerns says whether the rule is about the protocol and the port of a packet.
func (r rule) concerns(p Packet) bool {
	return r.protocol == "-1" || r.protocol == p.Protocol && int32(p.To.Port()) >= r.from && int32(p.To.Port()) <= r.to
}

func (s *Service) matches(r rule, n *networkInterface, p Packet, peer netip.Addr, owner *networkInterface) bool {
	if !r.concerns(p) {
		return false
	}
	switch {
	case r.group != "":
		// A group as source stands for the private addresses of its interfaces, not for its rules.
		return owner != nil && slices.Contains(owner.groups, r.group)
	case r.prefixList != "":
		f := s.listsInForce[r.prefixList]
		return f != nil && f.at(s, n).contains(peer)
	}
	block, err := netip.ParsePrefix(r.cidr4 + r.cidr6)
	return err == nil && block.Contains(peer)
}

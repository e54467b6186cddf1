package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// inForce is a security group as packets feel it.
type inForce struct {
	group   *securityGroup
	changes int // made in the API
	taken   int // the newest that packets feel
}

// change replaces a group in the API at once, and for packets when the change has reached the
// interfaces: all of them at one moment, which is simpler than AWS. A newer change that arrives first
// makes an older one skipped.
func (s *Service) change(value *eventual.Value[*securityGroup], g *securityGroup) {
	value.Put(g)
	felt := s.inForce[g.id]
	felt.changes++
	number := felt.changes
	take := func() {
		if felt.taken < number {
			felt.group, felt.taken = g, number
		}
	}
	delay := s.config.Draws.Once(profile.SecurityGroupRule, fmt.Sprintf("%s#%d", g.name, number))
	if delay <= 0 {
		take()
		return
	}
	time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		take()
	})
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
	receiver := s.byAddress[p.To.Addr()]
	leaves := s.byAddress[p.From]
	if p.Via.IsValid() {
		leaves = s.byAddress[p.Via]
	}
	if leaves != nil && !s.permits(leaves.groups, true, p, p.To.Addr(), receiver) {
		return false
	}
	if receiver == nil || s.permits(receiver.groups, false, p, p.From, s.byAddress[p.From]) {
		return true
	}
	// No block contains the zero address, so only a rule that names a group can match here.
	return p.Via.IsValid() && leaves != nil && s.permits(receiver.groups, false, p, netip.Addr{}, leaves)
}

// permits asks the rules of groups in one direction about a peer. An NLB's interface may have no group;
// then nothing is filtered at it.
func (s *Service) permits(groups []string, egress bool, p Packet, peer netip.Addr, owner *networkInterface) bool {
	for _, id := range groups {
		g := s.inForce[id]
		if g != nil && slices.ContainsFunc(g.group.rules(egress), func(r rule) bool { return r.permits(p, peer, owner) }) {
			return true
		}
	}
	return len(groups) == 0
}

func (r rule) permits(p Packet, peer netip.Addr, owner *networkInterface) bool {
	if r.protocol != "-1" && (r.protocol != p.Protocol || int32(p.To.Port()) < r.from || int32(p.To.Port()) > r.to) {
		return false
	}
	if r.group != "" {
		// A group as source stands for the private addresses of its interfaces, not for its rules.
		return owner != nil && slices.Contains(owner.groups, r.group)
	}
	block, err := netip.ParsePrefix(r.cidr4 + r.cidr6)
	return err == nil && block.Contains(peer)
}

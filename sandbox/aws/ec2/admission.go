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

// Admits says whether security groups let a new TCP connection pass from one address of the VPC to
// another: out of the interface that owns from and into the one that owns to. An address that no interface
// owns has no groups, which restricts nothing on its side.
func (s *Service) Admits(from netip.Addr, to netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sender, receiver := s.byAddress[from], s.byAddress[to.Addr()]
	if sender != nil && !s.permits(sender.groups, true, to.Port(), to.Addr(), receiver) {
		return false
	}
	return receiver == nil || s.permits(receiver.groups, false, to.Port(), from, sender)
}

// permits asks the rules of groups in one direction about a peer. An NLB's interface may have no group;
// then nothing is filtered at it.
func (s *Service) permits(groups []string, egress bool, port uint16, peer netip.Addr, owner *networkInterface) bool {
	for _, id := range groups {
		g := s.inForce[id]
		if g != nil && slices.ContainsFunc(g.group.rules(egress), func(r rule) bool { return r.permits(port, peer, owner) }) {
			return true
		}
	}
	return len(groups) == 0
}

func (r rule) permits(port uint16, peer netip.Addr, owner *networkInterface) bool {
	if r.protocol != "-1" && (r.protocol != "tcp" || int32(port) < r.from || int32(port) > r.to) {
		return false
	}
	if r.group != "" {
		// A group as source stands for the private addresses of its interfaces, not for its rules.
		return owner != nil && slices.Contains(owner.groups, r.group)
	}
	block, err := netip.ParsePrefix(r.cidr4 + r.cidr6)
	return err == nil && block.Contains(peer)
}

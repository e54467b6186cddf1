package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// felt is for how long after a change some interface may still go by what was before.
const felt = 10 * time.Minute

// inForce is a security group as packets feel it: the versions that interfaces may go by, the oldest first. Each interface takes a change at
// its own moment, drawn from the profile; one that takes a newer change first skips the older ones.
type inForce struct {
	versions []version
	changes  int // made in the API
}

// version is a group from a change on.
type version struct {
	group  *securityGroup
	number int
	since  time.Time
}

func newInForce(g *securityGroup) *inForce { return &inForce{versions: []version{{group: g}}} }

// change replaces a group in the API at once, and for packets as the change reaches the interfaces.
func (s *Service) change(value *eventual.Value[*securityGroup], g *securityGroup) {
	value.Put(g)
	f, now := s.inForce[g.id], time.Now()
	f.changes++
	f.versions = append(f.versions, version{g, f.changes, now})
	for len(f.versions) > 1 && now.Sub(f.versions[1].since) > felt {
		f.versions = slices.Delete(f.versions, 0, 1)
	}
	s.spread(g.id, f.changes)
}

// event names a change for the draws.
func (f *inForce) event(number int) string {
	return fmt.Sprintf("%s#%d", f.versions[0].group.name, number)
}

// feels is a group as an interface goes by it now.
func (s *Service) feels(n *networkInterface, id string) *securityGroup {
	f := s.inForce[id]
	if f == nil {
		return nil
	}
	now := time.Now()
	for _, v := range slices.Backward(f.versions[1:]) {
		age := now.Sub(v.since)
		if age > felt || age >= s.reaches(n, id, v.number) {
			return v.group
		}
	}
	return f.versions[0].group
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
	if leaves != nil && !s.permits(leaves, true, p, p.To.Addr(), receiver) {
		return false
	}
	if receiver == nil || s.permits(receiver, false, p, p.From, s.byAddress[p.From]) {
		return true
	}
	// No block contains the zero address, so only a rule that names a group can match here.
	return p.Via.IsValid() && leaves != nil && s.permits(receiver, false, p, netip.Addr{}, leaves)
}

// permits asks the rules of an interface's groups in one direction about a peer. An NLB's interface may have no group;
// then nothing is filtered at it.
func (s *Service) permits(n *networkInterface, egress bool, p Packet, peer netip.Addr, owner *networkInterface) bool {
	for _, id := range n.groups {
		g := s.feels(n, id)
		if g != nil && slices.ContainsFunc(g.rules(egress), func(r rule) bool { return r.permits(p, peer, owner) }) {
			return true
		}
	}
	return len(n.groups) == 0
}

// concerns says whether the rule is about the protocol and the port of a packet.
func (r rule) concerns(p Packet) bool {
	return r.protocol == "-1" || r.protocol == p.Protocol && int32(p.To.Port()) >= r.from && int32(p.To.Port()) <= r.to
}

func (r rule) permits(p Packet, peer netip.Addr, owner *networkInterface) bool {
	if !r.concerns(p) {
		return false
	}
	if r.group != "" {
		// A group as source stands for the private addresses of its interfaces, not for its rules.
		return owner != nil && slices.Contains(owner.groups, r.group)
	}
	block, err := netip.ParsePrefix(r.cidr4 + r.cidr6)
	return err == nil && block.Contains(peer)
}

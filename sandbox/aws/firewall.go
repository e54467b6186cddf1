package aws

import (
	"net/netip"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
)

// admitted asks the security groups of the network.
func (e *Emulator) admitted(p dataplane.Packet) bool {
	q := ec2.Packet{Protocol: "tcp", From: p.From, To: p.To, Via: p.Via}
	if p.Protocol == dataplane.UDP {
		q.Protocol = "udp"
	}
	return e.ec2.Passes(q)
}

// ZoneOf is the availability zone of an address of the VPC, nothing for any other.
func (e *Emulator) ZoneOf(a netip.Addr) string { return e.zoneOf(a) }

// Announce implements dataplane.Announcer. Zones that a fault has taken away are not announced: who comes from there, or goes there, can
// connect, and hears nothing.
func (f firewall) Announce(to netip.AddrPort, sources func(sockopt.Filter)) (end func()) {
	if f.config.OpenSecurityGroups {
		sources(sockopt.Everybody)
		return func() {}
	}
	return f.ec2.Watch(to, func(s ec2.Sources) { sources(f.filter(s)) })
}

// filter says of real addresses what s says of those of the VPC. Clients behind a Network Load Balancer that keeps their addresses are let in
// as they come: only Passes knows that it is between.
func (e *Emulator) filter(s ec2.Sources) sockopt.Filter {
	f := sockopt.Filter{Relays: true}
	for _, block := range s.Allowed {
		f.Sources = append(f.Sources, e.space.Served(block)...)
	}
	for _, a := range s.Denied {
		if real := e.space.RealAddr(a); real.IsValid() {
			f.Denied = append(f.Denied, real)
		}
	}
	return f
}

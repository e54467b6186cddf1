package dataplane

import (
	"net/netip"
)

// Firewall is the security groups of the VPC, as packets feel them at this moment. It is asked once for each new
// connection or flow and each hop of it; what was let in stays in, as connection tracking has it.
type Firewall interface {
	// Passes says whether the first packet of a connection may reach its destination. What may not is dropped,
	// never refused: nobody answers, and the sender's attempt times out.
	Passes(Packet) bool
}

// Packet is the first one of a connection or flow, in addresses of the VPC.
type Packet struct {
	// Protocol is TCP or UDP.
	Protocol Protocol
	From     netip.Addr
	To       netip.AddrPort
	// Via is the node of a Network Load Balancer that passes the packet on under the address of its client, which From
	// then is. Invalid: the packet comes straight from From.
	Via netip.Addr
}

// Open is the Firewall that lets everything pass.
var Open Firewall = open{}

type open struct{}

func (open) Passes(Packet) bool { return true }

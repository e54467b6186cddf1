package aws

import (
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
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

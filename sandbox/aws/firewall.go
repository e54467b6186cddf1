package aws

import (
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
)

// firewall lets load balancer nodes ask the security groups of the network.
type firewall struct{ network *ec2.Service }

// Passes says whether the first packet of a connection may pass.
func (f firewall) Passes(p dataplane.Packet) bool {
	q := ec2.Packet{Protocol: "tcp", From: p.From, To: p.To, Via: p.Via}
	if p.Protocol == dataplane.UDP {
		q.Protocol = "udp"
	}
	return f.network.Passes(q)
}

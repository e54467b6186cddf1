package aws

import (
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/nlb"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// newNetworkNode begins to carry traffic for a Network Load Balancer in one zone.
func (e *Emulator) newNetworkNode(spec elbv2.NodeSpec) elbv2.Node {
	draw := func(key profile.Key) func(string) time.Duration {
		return func(event string) time.Duration { return spec.Draw(key, event) }
	}
	c := nlb.Config{
		LoadBalancer: spec.LoadBalancer, Zone: spec.Zone, Address: spec.Address, Health: spec.Health,
		Endpoint: e.real, Peer: e.peer, Relays: &e.relays, Firewall: firewall{e}, Probes: e.newProbes(),
		Seed: e.config.Seed ^ nodeSeed(spec), ScaleNow: e.draws.Scale,
		Quiet: []uint16{80, 443}, // where clients look first
		Delays: nlb.Delays{
			UnhealthyStop: draw(profile.NLBUnhealthyStop), WeightZeroClose: draw(profile.NLBWeightZeroClose), ListenerGap: draw(profile.NLBListenerGap),
		},
		Journal: func(event dataplane.Event) { e.record(string(event.Kind), event.At, event) },
		Log:     e.config.Log,
	}
	if e.config.SharedProbes {
		c.Probes = e.probes
	}
	return nlb.NewNode(c)
}

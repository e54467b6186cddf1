package nlb

import (
	"cmp"
	"log/slog"
	"net/netip"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// Config is what a Node is born with and keeps for life.
type Config struct {
	// LoadBalancer and Zone name the node in journal and health reports.
	LoadBalancer, Zone string
	// Address is the node's address in its subnet: listeners are bound to it, and targets see it unless they see the client's.
	Address netip.Addr
	// Endpoint maps an address and port of the VPC to the real one. Nil: they are the same.
	Endpoint func(netip.AddrPort) netip.AddrPort
	// Peer maps the real peer of a client connection to its address in the VPC. Nil: they are the same.
	Peer func(netip.AddrPort) netip.AddrPort
	// Firewall is asked about each new flow from a client to the node and from the node to a target. Nil: dataplane.Open.
	Firewall dataplane.Firewall
	// Relays is told of connections to other load balancers under the addresses of clients. May be nil.
	Relays *dataplane.Relays

	// Quiet are ports that drop attempts to connect before they have a listener, as all ports of a real load balancer do.
	Quiet []uint16

	// Seed makes the draws of the node repeatable. Give each node its own.
	Seed uint64
	// Probes carries out the health checks. Nil: the node has its own.
	Probes *dataplane.Probes
	// FirstFailureUnhealthy makes one failed check enough for a target in state initial to become unhealthy.
	FirstFailureUnhealthy bool
	// Scale multiplies the idle time-outs, that of UDP (120 s) and those of listeners. Zero: 1.
	Scale float64
	// ScaleNow is asked instead of Scale for each new flow, if it is not nil.
	ScaleNow func() float64
	// Delays are what a real node takes its time for.
	Delays Delays

	// Health gets the health changes as this node sees them, and Journal the events of the data plane, never one per flow.
	// They must not block and must not call the node. Both may be nil.
	Health  func(dataplane.HealthChange)
	Journal func(dataplane.Event)
	// Log is for surprises only. Nil: slog.Default().
	Log *slog.Logger
}

// Delays say how long a node takes for what it decides by itself. Each function is given a name of the event, for draws that
// can be repeated; nil stands for no time at all.
type Delays struct {
	// UnhealthyStop is from the failed check to the last new flow to the target, and to the end of its flows.
	UnhealthyStop func(event string) time.Duration
	// WeightZeroClose is from the application of weight 0 to the end of the flows to the group.
	WeightZeroClose func(event string) time.Duration
	// ListenerGap is for how long a listener whose target groups have changed answers RST.
	ListenerGap func(event string) time.Duration
}

const (
	streamIdle   = 350 * time.Second
	datagramIdle = 120 * time.Second
	// handshakeTimeout bounds a TLS handshake with either side.
	handshakeTimeout = 10 * time.Second
)

func (c Config) withDefaults() Config {
	same := func(a netip.AddrPort) netip.AddrPort { return a }
	none := func(string) time.Duration { return 0 }
	if c.Endpoint == nil {
		c.Endpoint = same
	}
	if c.Peer == nil {
		c.Peer = same
	}
	if c.Firewall == nil {
		c.Firewall = dataplane.Open
	}
	if c.Probes == nil {
		c.Probes = dataplane.NewProbes(c.Endpoint)
	}
	for _, delay := range []*func(string) time.Duration{&c.Delays.UnhealthyStop, &c.Delays.WeightZeroClose, &c.Delays.ListenerGap} {
		if *delay == nil {
			*delay = none
		}
	}
	c.Scale = cmp.Or(c.Scale, 1)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// idle is the real length of an idle time-out.
func (c Config) idle(d time.Duration) time.Duration {
	scale := c.Scale
	if c.ScaleNow != nil {
		scale = cmp.Or(c.ScaleNow(), 1) // 0 ends delays, and must not end flows
	}
	return time.Duration(float64(d) * scale)
}

package nlb

import (
	"maps"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// flow is what the node knows of one TCP or UDP flow that has a target.
type flow struct {
	port     uint16
	protocol dataplane.Protocol // TCP, TLS or UDP
	target   *target
	// cut ends the flow. It is called once at most, by who has taken the flow, and without the lock.
	cut func()
	// moved is how many bytes and packets it has carried so far; nil: it carries none.
	moved func() (bytes, packets uint64)
}

// begin enters a flow. Called with Node.mu held.
func (n *Node) begin(f *flow) {
	n.flows[f], f.target.flows[f] = struct{}{}, struct{}{}
	n.counts.flows[f.protocol]++
	now := time.Now()
	u := &f.target.usage
	u.Requests++
	u.LastRequest = now
	if u.FirstRequest.IsZero() {
		u.FirstRequest = now
		n.journal(dataplane.Event{At: now, Kind: dataplane.TargetFirstRequest, Group: f.target.group.arn, Target: f.target.key})
	}
}

// forget takes a flow out and says whether it was still there. Called with Node.mu held.
func (n *Node) forget(f *flow) bool {
	if _, there := n.flows[f]; !there {
		return false
	}
	delete(n.flows, f)
	delete(f.target.flows, f)
	if f.moved != nil { // here, so that the sums of Stats never become less
		bytes, packets := f.moved()
		n.counts.bytes[f.protocol] += bytes
		n.counts.packets += packets
	}
	f.target.usage.LastDone = time.Now()
	return true
}

// end is forget for those who do not hold the lock.
func (n *Node) end(f *flow) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(f)
}

// counts are what NetworkStats shows. Guarded by Node.mu.
type counts struct {
	flows, bytes                          map[dataplane.Protocol]uint64
	blockedInbound, blockedOutbound       map[dataplane.Protocol]uint64
	clientResets, targetResets, elbResets uint64
	clientTLS, targetTLS                  uint64
	portAllocation, unhealthyRouting      uint64
	packets                               uint64
}

func newCounts() counts {
	none := func() map[dataplane.Protocol]uint64 { return map[dataplane.Protocol]uint64{} }
	return counts{flows: none(), bytes: none(), blockedInbound: none(), blockedOutbound: none()}
}

func (n *Node) count(f func(*counts)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.counts)
}

func (n *Node) blocked(in map[dataplane.Protocol]uint64, transport dataplane.Protocol) {
	n.count(func(*counts) { in[transport]++ })
}

func (t *target) snapshot() dataplane.TargetUsage {
	u := t.usage
	u.InFlight = uint64(len(t.flows))
	return u
}

// Stats returns what the node has done so far.
func (n *Node) Stats() dataplane.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.counts
	network := &dataplane.NetworkStats{
		ActiveFlows: map[dataplane.Protocol]uint64{}, NewFlows: maps.Clone(c.flows), ProcessedBytes: maps.Clone(c.bytes),
		ClientResets: c.clientResets, TargetResets: c.targetResets, ELBResets: c.elbResets,
		ClientTLSErrors: c.clientTLS, TargetTLSErrors: c.targetTLS,
		Packets: c.packets, PortAllocationErrors: c.portAllocation, UnhealthyRoutingFlows: c.unhealthyRouting,
		BlockedInbound: maps.Clone(c.blockedInbound), BlockedOutbound: maps.Clone(c.blockedOutbound),
	}
	for _, d := range n.doors {
		if kept := d.Blocked(); kept > 0 {
			network.BlockedInbound[dataplane.TCP] += kept
		}
	}
	s := dataplane.Stats{
		LoadBalancer: n.config.LoadBalancer, Zone: n.config.Zone, ConfigVersion: n.version,
		Generated: map[int]uint64{}, Groups: map[string]dataplane.GroupStats{}, Targets: slices.Clone(n.gone), Network: network,
	}
	for _, begun := range c.flows {
		s.Requests += begun
	}
	for f := range n.flows {
		network.ActiveFlows[f.protocol]++
		bytes, packets := f.moved()
		network.ProcessedBytes[f.protocol] += bytes
		network.Packets += packets
	}
	for _, g := range n.sorted() {
		s.Groups[g.arn] = dataplane.GroupStats{Requests: g.requests, Generated: map[int]uint64{}}
		for _, t := range g.order {
			if !t.over {
				s.Targets = append(s.Targets, dataplane.TargetStats{Group: g.arn, Target: t.key, Health: t.health, Usage: t.snapshot()})
			}
		}
	}
	return s
}

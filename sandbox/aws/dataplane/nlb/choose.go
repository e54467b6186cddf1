package nlb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// stickyKept bounds the clients that a listener remembers.
const stickyKept = 10_000

// listener is a listener of the configuration in force, with what it remembers of its clients. Guarded by Node.mu.
type listener struct {
	dataplane.Listener
	tls    *tls.Config // nil unless TLS
	groups []dataplane.WeightedGroup

	sticky map[netip.Addr]stuck
	order  []netip.Addr // of sticky, the oldest first
	// gap is until when the listener answers RST, since its groups have changed.
	gap     time.Time
	changes int
	// emptied is the change by which a group got its weight of 0.
	emptied map[string]int
}

// stuck is the group that a client address has been given.
type stuck struct {
	group string
	until time.Time // zero: no end
}

// compile checks a listener. One that no flow could use is refused.
func compile(l dataplane.Listener) (*listener, error) {
	if l.Default.Forward == nil || len(l.Default.Forward.Groups) == 0 {
		return nil, errors.New("its action is not forward")
	}
	c := &listener{Listener: l, groups: l.Default.Forward.Groups, sticky: map[netip.Addr]stuck{}, emptied: map[string]int{}}
	switch l.Protocol {
	case dataplane.TCP, dataplane.UDP, dataplane.TCPUDP, dataplane.QUIC, dataplane.TCPQUIC:
	case dataplane.TLS:
		if len(l.Certificates) == 0 {
			return nil, errors.New("protocol TLS without a certificate")
		}
		c.tls = &tls.Config{Certificates: l.Certificates, NextProtos: l.ALPN, MinVersion: tls.VersionTLS10}
	default:
		return nil, fmt.Errorf("protocol %s is not one of TCP, TLS, UDP, TCP_UDP, QUIC and TCP_QUIC", l.Protocol)
	}
	return c, nil
}

// carries says whether a listener of a protocol takes flows of a transport, TCP or UDP.
func carries(listener, transport dataplane.Protocol) bool {
	switch listener {
	case dataplane.TCPUDP, dataplane.TCPQUIC:
		return true
	case dataplane.UDP, dataplane.QUIC:
		return transport == dataplane.UDP
	}
	return transport == dataplane.TCP
}

func (l *listener) arns() []string {
	var all []string
	for _, g := range l.groups {
		all = append(all, g.ARN)
	}
	slices.Sort(all)
	return all
}

// weight is the weight of a group, if the listener forwards to it.
func (l *listener) weight(arn string) (int, bool) {
	i := slices.IndexFunc(l.groups, func(g dataplane.WeightedGroup) bool { return g.ARN == arn })
	if i < 0 {
		return 0, false
	}
	return l.groups[i].Weight, true
}

// verdict says what becomes of a new flow.
type verdict int

const (
	forward verdict = iota
	drop            // nobody answers
	refuse          // RST
)

// way is where a flow goes, by the settings of that moment.
type way struct {
	listener *listener
	settings dataplane.Group
	to       netip.AddrPort // VPC
	relay    bool           // the target is a load balancer
}

// choose gives a new flow its target and enters it among the flows, so that whatever happens to the target from now on happens
// to the flow. client is its address in the VPC, transport is TCP or UDP.
func (n *Node) choose(f *flow, client netip.AddrPort, transport dataplane.Protocol) (way, verdict) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[f.port]
	if l == nil || n.closed || !carries(l.Protocol, transport) {
		return way{}, drop
	}
	if time.Now().Before(l.gap) {
		return way{}, refuse
	}
	arn := n.chooseGroup(l, client.Addr())
	g := n.groups[arn]
	if g == nil || g.settings == nil {
		return way{}, refuse
	}
	g.requests++
	sticky := g.settings.Network.StickySource && (l.Protocol != dataplane.TLS || g.settings.Protocol != dataplane.TLS)
	t := g.choose(n.hash(sticky, client, f.port, transport))
	if t == nil {
		return way{}, refuse
	}
	if g.failsOpen {
		n.counts.unhealthyRouting++
	}
	f.target = t
	n.begin(f)
	return way{listener: l, settings: *g.settings, to: t.at, relay: strings.HasPrefix(t.ID, "arn:")}, forward
}

// chooseGroup draws a group by weight, or finds the one to which the client sticks. Empty: no group has a weight.
func (n *Node) chooseGroup(l *listener, client netip.Addr) string {
	if len(l.groups) == 1 {
		return l.groups[0].ARN
	}
	now := time.Now()
	if s, ok := l.sticky[client]; ok && l.Default.Forward.StickySource && (s.until.IsZero() || now.Before(s.until)) {
		if weight, known := l.weight(s.group); known && weight > 0 {
			return s.group
		}
	}
	total := 0
	for _, g := range l.groups {
		total += g.Weight
	}
	if total == 0 {
		return ""
	}
	left := int(n.draw() % uint64(total))
	chosen := ""
	for _, g := range l.groups {
		if left -= g.Weight; left < 0 {
			chosen = g.ARN
			break
		}
	}
	if l.Default.Forward.StickySource {
		l.stick(client, chosen, now)
	}
	return chosen
}

func (l *listener) stick(client netip.Addr, group string, now time.Time) {
	s := stuck{group: group}
	if d := l.Default.Forward.Stickiness; d > 0 {
		s.until = now.Add(d)
	}
	if _, known := l.sticky[client]; !known {
		l.order = append(l.order, client)
	}
	l.sticky[client] = s
	if len(l.order) > stickyKept {
		delete(l.sticky, l.order[0])
		l.order = slices.Delete(l.order, 0, 1)
	}
}

// hash decides on the target: by the client's address for a sticky group, unless TLS is spoken on both sides; by both ends for UDP; for TCP
// the sequence number takes part as well, which is as good as a draw.
func (n *Node) hash(sticky bool, client netip.AddrPort, port uint16, transport dataplane.Protocol) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(client.Addr().AsSlice())
	if !sticky {
		_, _ = h.Write([]byte{byte(client.Port() >> 8), byte(client.Port()), byte(port >> 8), byte(port)})
		if transport == dataplane.TCP {
			return mix(h.Sum64() ^ n.draw())
		}
	}
	return mix(h.Sum64())
}

// choose picks the target with the highest score for a hash: of the flows of a target that leaves each goes to another one, and all others
// stay where they are.
func (g *group) choose(hash uint64) *target {
	var best *target
	var highest uint64
	for _, t := range g.eligible {
		if score := mix(hash ^ t.hash); best == nil || score > highest {
			best, highest = t, score
		}
	}
	return best
}

package nlb

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// shares is a node that chooses for flows which nobody carries. Each group has three targets.
type shares struct {
	*testing.T
	node *Node
}

func newShares(t *testing.T, forward dataplane.Forward, protocol dataplane.Protocol) *shares {
	t.Helper()
	s := &shares{t, NewNode(Config{LoadBalancer: "net/shares", Zone: "zone-a", Address: address(), Seed: 7, Firewall: closed{}})}
	t.Cleanup(s.node.Close)
	for i, g := range forward.Groups {
		s.node.ApplyGroup(unchecked(g.ARN))
		var set dataplane.TargetSet
		for j := range 3 {
			set.Targets = append(set.Targets, dataplane.Target{Address: netip.AddrFrom4([4]byte{10, 0, byte(i), byte(j)}), Port: 80, Zone: "zone-a"})
		}
		s.node.ApplyTargets(g.ARN, set)
		s.node.change(func() []*flow { // as if all checks had passed
			known := s.node.groups[g.ARN]
			for _, one := range known.order {
				one.usable = true
			}
			return known.refresh()
		})
	}
	l, err := compile(dataplane.Listener{Port: 80, Protocol: protocol, Default: dataplane.Action{Forward: &forward}})
	if err != nil {
		t.Fatal(err)
	}
	s.node.listeners[80] = l
	return s
}

// unchecked is a group whose checks do not end during a test.
func unchecked(arn string) dataplane.Group {
	g := quick(arn)
	g.HealthCheck.Interval, g.HealthCheck.Timeout = time.Hour, time.Hour
	return g
}

// closed is the firewall that lets nothing pass: no check begins to speak.
type closed struct{}

func (closed) Passes(dataplane.Packet) bool { return false }

// flow chooses for a new flow, which ends at once, and returns its group and its target.
func (s *shares) flow(from netip.AddrPort, transport dataplane.Protocol) (group string, key dataplane.TargetKey) {
	s.Helper()
	f := &flow{port: 80, protocol: transport}
	if _, verdict := s.node.choose(f, from, transport); verdict != forward {
		return "", key
	}
	s.node.end(f)
	return f.target.group.arn, f.target.key
}

func caller(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), uint16(20_000+i%40_000))
}

// wantShare checks a count of many independent draws: within four standard deviations, which one of 16,000 right ones misses.
func (s *shares) wantShare(what string, got, of int, p float64) {
	s.Helper()
	if want, off := float64(of)*p, 4*math.Sqrt(float64(of)*p*(1-p)); math.Abs(float64(got)-want) > off {
		s.Errorf("%s has %d of %d, want %.0f ± %.0f", what, got, of, want, off)
	}
}

// Table 4.4: each new flow draws its group by weight, and one of the targets of that evenly, whatever the transport.
func TestSharesOfManyFlows(t *testing.T) {
	const flows = 20_000
	for _, c := range []struct {
		protocol, transport dataplane.Protocol
	}{{dataplane.TCP, dataplane.TCP}, {dataplane.UDP, dataplane.UDP}, {dataplane.TCPUDP, dataplane.UDP}} {
		for _, weights := range [][]int{{1, 1}, {95, 5}, {999, 1}, {0, 7, 3}, {1, 2, 3, 4, 90}} {
			t.Run(fmt.Sprint(c.protocol, c.transport, weights), func(t *testing.T) {
				var f dataplane.Forward
				total := 0
				for i, weight := range weights {
					f.Groups = append(f.Groups, dataplane.WeightedGroup{ARN: fmt.Sprint("g", i), Weight: weight})
					total += weight
				}
				s := newShares(t, f, c.protocol)
				groups, targets := map[string]int{}, map[string]map[dataplane.TargetKey]int{}
				for i := range flows {
					group, key := s.flow(caller(i), c.transport)
					groups[group]++
					if targets[group] == nil {
						targets[group] = map[dataplane.TargetKey]int{}
					}
					targets[group][key]++
				}
				for i, weight := range weights {
					arn := fmt.Sprint("g", i)
					s.wantShare(arn, groups[arn], flows, float64(weight)/float64(total))
					for key, n := range targets[arn] {
						s.wantShare(fmt.Sprint(arn, " ", key), n, groups[arn], 1.0/3)
					}
				}
			})
		}
	}
}

// With stickiness of the action the shares are those of clients: each keeps its group for all its flows, also when weights change, until
// that of its group is 0. With stickiness of the groups as well each keeps its target.
func TestSharesOfStickyClients(t *testing.T) {
	const clients = 4_000
	f := dataplane.Forward{StickySource: true, Groups: []dataplane.WeightedGroup{{ARN: "g0", Weight: 80}, {ARN: "g1", Weight: 20}}}
	s := newShares(t, f, dataplane.TCP)
	for _, arn := range []string{"g0", "g1"} {
		g := unchecked(arn)
		g.Network.StickySource = true
		s.node.ApplyGroup(g)
	}
	groups := map[string]int{}
	first := map[int][2]any{}
	for i := range clients {
		group, key := s.flow(caller(i), dataplane.TCP)
		groups[group]++
		first[i] = [2]any{group, key}
	}
	s.wantShare("g1", groups["g1"], clients, 0.2)
	weigh := func(one, two int) {
		changed := f
		changed.Groups = []dataplane.WeightedGroup{{ARN: "g0", Weight: one}, {ARN: "g1", Weight: two}}
		l, err := compile(dataplane.Listener{Port: 80, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: &changed}})
		if err != nil {
			t.Fatal(err)
		}
		s.node.mu.Lock()
		defer s.node.mu.Unlock()
		s.node.succeed(s.node.listeners[80], l)
		s.node.listeners[80] = l
	}
	weigh(1, 99)
	for i := range clients {
		again := netip.AddrPortFrom(caller(i).Addr(), 9) // another port
		if group, key := s.flow(again, dataplane.TCP); first[i] != [2]any{group, key} {
			t.Fatalf("client %d comes to %s %v, and came to %v", i, group, key, first[i])
		}
	}
	weigh(0, 1)
	for i := range clients {
		if group, _ := s.flow(caller(i), dataplane.TCP); group != "g1" {
			t.Fatalf("client %d comes to %q, whose weight is 0", i, group)
		}
	}
}

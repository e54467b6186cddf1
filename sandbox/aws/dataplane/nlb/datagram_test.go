package nlb

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// datagramGroup is a group with the attributes that a new UDP group has in AWS.
func datagramGroup(g *dataplane.Group) {
	g.Protocol, g.Network.TerminateDeregistered, g.Network.TerminateUnhealthy = dataplane.UDP, true, false
}

// socket is a UDP client of the node.
func (w *world) socket() net.Conn {
	w.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: address().AsSlice()}}
	conn, err := d.DialContext(w.Context(), "udp", w.at.String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	return conn
}

// wantNoAnswer checks that nobody answers a datagram.
func (w *world) wantNoAnswer(conn net.Conn) {
	w.Helper()
	_, _ = conn.Write([]byte("hello"))
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	buffer := make([]byte, 2048)
	if n, err := conn.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
		w.Fatalf("a datagram is answered by %q, %v", buffer[:n], err)
	}
}

// exchange sends a datagram and returns who answered, and what client it saw.
func (w *world) exchange(conn net.Conn) (name, peer string) {
	w.Helper()
	_, _ = conn.Write([]byte("hello"))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	buffer := make([]byte, 2048)
	n, err := conn.Read(buffer)
	if err != nil {
		w.Fatal(err)
	}
	name, rest, _ := strings.Cut(string(buffer[:n]), " ")
	peer, _, _ = strings.Cut(rest, " ")
	return name, peer
}

// UDP: a flow by its five values stays on one target, which sees the client's address; answers come from the node.
func TestDatagrams(t *testing.T) {
	w := newWorld(t)
	w.group("g", []*app{w.serve("a"), w.serve("b")}, datagramGroup)
	w.listen(dataplane.UDP, to("g"))
	seen := map[string]int{}
	for range 16 {
		c := w.socket()
		first, peer := w.exchange(c)
		if host(peer) != host(c.LocalAddr().String()) {
			t.Fatalf("the target sees %s, want %s", peer, c.LocalAddr())
		}
		for range 3 {
			if name, _ := w.exchange(c); name != first || name == "" {
				t.Fatalf("a flow of %s is answered by %q", first, name)
			}
		}
		seen[first]++
	}
	if len(seen) != 2 {
		t.Errorf("16 flows go to %v", seen)
	}
	if s := w.node.Stats().Network; s.NewFlows[dataplane.UDP] != 16 || s.ActiveFlows[dataplane.UDP] != 16 || s.ProcessedBytes[dataplane.UDP] == 0 || s.Packets != 128 {
		t.Errorf("stats %+v", s)
	}
}

// A UDP flow ends after 120 s without a datagram.
func TestDatagramIdle(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Scale = 0.001 })
	w.group("g", []*app{w.serve("a")}, datagramGroup)
	w.listen(dataplane.UDP, to("g"))
	c := w.socket()
	if name, _ := w.exchange(c); name != "a" {
		t.Fatalf("%q answers", name)
	}
	w.eventually("the flow ends", func() bool { return w.node.Stats().Network.ActiveFlows[dataplane.UDP] == 0 })
	if name, _ := w.exchange(c); name != "a" || w.node.Stats().Network.NewFlows[dataplane.UDP] != 2 {
		t.Errorf("%q answers; flows %v", name, w.node.Stats().Network.NewFlows)
	}
}

// Table 4.2: a flow on a target that leaves goes to another one when the delay is over, with connection termination; else it stays.
func TestDatagramsOfADeregisteredTarget(t *testing.T) {
	for name, terminate := range map[string]bool{"hashed-again": true, "stays": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.serve("a"), w.serve("b")
			w.group("g", []*app{a}, datagramGroup, func(g *dataplane.Group) { g.Network.TerminateDeregistered = terminate })
			w.listen(dataplane.UDP, to("g"))
			c := w.socket()
			if name, _ := w.exchange(c); name != "a" {
				t.Fatalf("%q answers", name)
			}
			w.set("g", draining(a, time.Hour), b.Target)
			w.state("g", b.Target, dataplane.Healthy)
			if name, _ := w.exchange(c); name != "a" {
				t.Fatalf("during the delay %q answers", name)
			}
			w.set("g", b.Target)
			want := map[bool]string{true: "b", false: "a"}[terminate]
			if name, _ := w.exchange(c); name != want {
				t.Errorf("after it %q answers, want %s", name, want)
			}
		})
	}
}

// An unhealthy target keeps its UDP flows.
func TestDatagramsOfAnUnhealthyTarget(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, datagramGroup)
	w.listen(dataplane.UDP, to("g"))
	c := w.socket()
	if name, _ := w.exchange(c); name != "a" {
		t.Fatalf("%q answers", name)
	}
	b := w.serve("b")
	w.register("g", a, b)
	w.state("g", b.Target, dataplane.Healthy)
	_ = a.listener.Close()
	w.state("g", a.Target, dataplane.Unhealthy)
	if name, _ := w.exchange(c); name != "a" {
		t.Errorf("%q answers", name)
	}
	for range 4 {
		if name, _ := w.exchange(w.socket()); name != "b" {
			t.Errorf("a new flow is answered by %q", name)
		}
	}
}

// TCP_UDP: one port for both, and targets get both.
func TestBothProtocolsOnOnePort(t *testing.T) {
	w := newWorld(t)
	w.group("g", []*app{w.serve("a")}, datagramGroup)
	w.listen(dataplane.TCPUDP, to("g"))
	w.wantAnswer(w.dial(), "a")
	if name, _ := w.exchange(w.socket()); name != "a" {
		t.Errorf("%q answers a datagram", name)
	}
	w.listen(dataplane.TCP, to("g"))
	w.wantNoAnswer(w.socket())
	w.wantAnswer(w.dial(), "a")
}

// QUIC is carried as the datagrams that it is made of, with TCP beside it or without.
func TestDatagramsOfQUIC(t *testing.T) {
	w := newWorld(t)
	w.group("g", []*app{w.serve("a")}, datagramGroup, func(g *dataplane.Group) { g.Protocol = dataplane.TCPQUIC })
	w.listen(dataplane.TCPQUIC, to("g"))
	w.wantAnswer(w.dial(), "a")
	if name, _ := w.exchange(w.socket()); name != "a" {
		t.Errorf("%q answers a datagram", name)
	}
	w.listen(dataplane.QUIC, to("g"))
	w.wantTimeout(address())
	if name, _ := w.exchange(w.socket()); name != "a" {
		t.Errorf("without TCP %q answers a datagram", name)
	}
}

// Security groups drop datagrams of new flows, on both hops, and leave flows alone that are open.
func TestSecurityGroupsDropDatagrams(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, datagramGroup)
	w.listen(dataplane.UDP, to("g"))
	open := w.socket()
	if name, _ := w.exchange(open); name != "a" {
		t.Fatalf("%q answers", name)
	}
	for _, hop := range []netip.Addr{w.at.Addr(), a.Address} {
		w.firewall(func(p dataplane.Packet) bool { return p.Protocol != dataplane.UDP || p.To.Addr() != hop })
		w.wantNoAnswer(w.socket())
		if name, _ := w.exchange(open); name != "a" {
			t.Errorf("an open flow is answered by %q", name)
		}
	}
	if s := w.node.Stats().Network; s.BlockedInbound[dataplane.UDP] != 1 || s.BlockedOutbound[dataplane.UDP] != 1 || s.ActiveFlows[dataplane.UDP] != 1 {
		t.Errorf("stats %+v", s)
	}
}

// A client that is also the target gets no answer to its datagrams, since their source is always preserved.
func TestHairpinOfDatagrams(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, datagramGroup)
	w.listen(dataplane.UDP, to("g"))
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: a.Address.AsSlice()}}
	self, err := d.DialContext(t.Context(), "udp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	w.wantNoAnswer(self)
	if s := w.node.Stats().Network; s.ActiveFlows[dataplane.UDP] != 0 {
		t.Errorf("%d flows are left", s.ActiveFlows[dataplane.UDP])
	}
	if name, _ := w.exchange(w.socket()); name != "a" {
		t.Errorf("%q answers another client", name)
	}
}

package nlb

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// Section: flows. A flow stays on its target for life; new flows are spread over all targets.
func TestFlowsStayAndSpread(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.group("g", []*app{a, b})
	w.listen(dataplane.TCP, to("g"))
	seen := map[string]int{}
	for range 40 {
		c := w.dial()
		first, _, err := c.say("one")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if name, _, err := c.say(fmt.Sprint(i)); name != first || err != nil {
				t.Fatalf("a flow of %s is answered by %s, %v", first, name, err)
			}
		}
		seen[first]++
		_ = c.Close()
	}
	if seen["a"] < 8 || seen["b"] < 8 {
		t.Errorf("40 flows were spread as %v", seen)
	}
	w.eventually("flows end", func() bool { return w.node.Stats().Network.ActiveFlows[dataplane.TCP] == 0 })
	s := w.node.Stats()
	if s.Requests != 40 || s.Network.NewFlows[dataplane.TCP] != 40 || s.Network.ProcessedBytes[dataplane.TCP] == 0 || s.Network.Packets < 40 || s.Groups["g"].Requests != 40 {
		t.Errorf("stats %+v %+v", s, s.Network)
	}
}

// Each end that closes its writing side is passed on, so that protocols which half-close work.
func TestHalfCloseIsPassedOn(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	c := w.dial()
	w.wantAnswer(c, "a")
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.r.Read(make([]byte, 1)); n != 0 || err == nil || err.Error() != "EOF" {
		t.Fatalf("after the end the client reads %d bytes, %v", n, err)
	}
}

// Table 4.1: what the target sees as its peer. A change holds for new connections only.
func TestSourceAddress(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	g := w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	from := address()
	preserved := w.dialFrom(from)
	if _, peer, err := preserved.say("x"); host(peer) != from.String() || err != nil {
		t.Errorf("with preservation the target sees %s, want %s (%v)", peer, from, err)
	}
	g.Network.PreserveClient = false
	w.node.ApplyGroup(g)
	if _, peer, err := w.dialFrom(from).say("x"); host(peer) != w.at.Addr().String() || err != nil {
		t.Errorf("without preservation the target sees %s, want the node %s (%v)", peer, w.at.Addr(), err)
	}
	if _, peer, err := preserved.say("y"); host(peer) != from.String() || err != nil {
		t.Errorf("a connection made before the change sees %s (%v)", peer, err)
	}
}

// A client that is also the target gets no answer when its address is preserved, and one when not.
func TestHairpin(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	g := w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	w.wantSilence(w.dialFrom(a.Address))
	g.Network.PreserveClient = false
	w.node.ApplyGroup(g)
	w.wantAnswer(w.dialFrom(a.Address), "a")
}

// Idle: the flow is forgotten without a word, and who sends next gets an RST. Activity, of either side, keeps it.
func TestIdleFlowIsForgotten(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Scale = 0.002 }) // 350 s become 700 ms
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	c := w.dial()
	for range 6 {
		w.wantAnswer(c, "a")
		until := time.NewTimer(150 * time.Millisecond) // 6 times that is more than the time-out
		<-until.C
	}
	w.eventually("the flow is forgotten", func() bool { return w.node.Stats().Network.ActiveFlows[dataplane.TCP] == 0 })
	if resets := w.node.Stats().Network.ELBResets; resets != 0 {
		t.Errorf("%d RSTs before anybody sent anything", resets)
	}
	w.wantReset(c)
}

// Without delays flows are as patient as they are on a clock that is right.
func TestIdleTimeOutAtScaleZero(t *testing.T) {
	if got := (Config{ScaleNow: func() float64 { return 0 }}).withDefaults().idle(streamIdle); got != streamIdle {
		t.Errorf("flows are idle after %v", got)
	}
}

// A listener may have its own idle time-out.
func TestIdleTimeOutOfTheListener(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Scale = 0.004 })
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"), func(l *dataplane.Listener) { l.FlowIdle = 60 * time.Second })
	c := w.dial()
	w.wantAnswer(c, "a")
	start := time.Now()
	w.eventually("the flow is forgotten", func() bool { return w.node.Stats().Network.ActiveFlows[dataplane.TCP] == 0 })
	if after := time.Since(start); after > time.Second {
		t.Errorf("forgotten after %v, want about 240 ms and not 1400", after)
	}
	w.wantReset(c)
}

// A port whose listener is gone drops attempts to connect, and does not refuse; flows that are there go on.
func TestPortWithoutListener(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	old := w.dial()
	w.wantAnswer(old, "a")
	if err := w.node.Apply(dataplane.NodeConfig{}); err != nil {
		t.Fatal(err)
	}
	w.wantTimeout(address())
	w.wantAnswer(old, "a")
	w.listen(dataplane.UDP, to("g"))
	w.wantTimeout(address())
	if n := w.node.Stats().Network.BlockedInbound[dataplane.TCP]; n != 0 {
		t.Errorf("%d flows are said to be blocked by security groups", n)
	}
	w.listen(dataplane.TCP, to("g"))
	w.wantAnswer(w.dial(), "a")
}

// A port that is to be quiet drops before it has its first listener, and then serves.
func TestQuietPort(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Quiet = []uint16{8080} })
	w.wantTimeout(address())
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	w.wantAnswer(w.dial(), "a")
}

// A group without targets, and one whose targets are all in their first check: RST.
func TestNobodyToForwardTo(t *testing.T) {
	w := newWorld(t)
	w.listen(dataplane.TCP, to("g"))
	w.wantRefusal() // the group is not known
	w.node.ApplyGroup(quick("g"))
	w.wantRefusal() // it has no targets
	w.firewall(func(p dataplane.Packet) bool { return p.To == w.at })
	a := w.serve("a")
	g := quick("g")
	g.HealthCheck.Timeout, g.HealthCheck.Interval = time.Minute, time.Minute
	w.node.ApplyGroup(g)
	w.register("g", a)
	w.wantRefusal() // its first check is not over
}

// Deleting the load balancer resets what is there.
func TestCloseResets(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	c := w.dial()
	w.wantAnswer(c, "a")
	w.node.Close()
	w.wantReset(c)
}

// Security groups: client to node, and node to target under either address; what is open stays open.
func TestSecurityGroupsOnEveryHop(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	g := w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	from := address()
	old := w.dialFrom(from)
	w.wantAnswer(old, "a")

	w.firewall(func(p dataplane.Packet) bool { return p.To != w.at })
	w.wantSilence(w.dialFrom(from))
	if n := w.node.Stats().Network.BlockedInbound[dataplane.TCP]; n != 1 {
		t.Errorf("%d flows blocked inbound", n)
	}
	asked := make(chan dataplane.Packet, 1000)
	w.firewall(func(p dataplane.Packet) bool {
		if p.To.Addr() == a.Address && p.Via.IsValid() {
			asked <- p
			return false
		}
		return true
	})
	w.wantSilence(w.dialFrom(from))
	if p := <-asked; p.From != from || p.Via != w.at.Addr() || p.Protocol != dataplane.TCP {
		t.Errorf("the firewall of the target was asked about %+v", p)
	}
	if n := w.node.Stats().Network.BlockedOutbound[dataplane.TCP]; n != 1 {
		t.Errorf("%d flows blocked outbound", n)
	}
	g.Network.PreserveClient = false
	w.node.ApplyGroup(g)
	w.wantAnswer(w.dialFrom(from), "a") // the packet now comes from the node
	w.wantAnswer(old, "a")
}

// What a forgotten flow leaves ends with the load balancer, also when that is deleted at the moment at which the flow is forgotten.
func TestForgottenFlowEndsWithTheNode(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // the order of what happens is not ours to choose
		near, err := net.Dial("tcp", w.at.String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s := &stream{node: w.node, client: near.(*net.TCPConn), server: far.(*net.TCPConn), ctx: over}
		ended := make(chan struct{})
		go func() { defer close(ended); s.haunt(30 * time.Second) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for clients of a load balancer that is gone")
		}
	}
}

// What this machine cannot do, for lack of file handles or ports, is not the fault of the target.
func TestOwnLimitsAreNoRefusals(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.HealthCheck.Interval = time.Hour })
	fail := func(cause error) {
		w.node.mu.Lock()
		s := &stream{node: w.node, flow: &flow{port: 8080, protocol: dataplane.TCP, target: w.node.groups["g"].targets[a.Key()]}}
		w.node.begin(s.flow)
		w.node.mu.Unlock()
		s.failed(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", cause)})
	}
	for range 5 {
		fail(syscall.EMFILE)
		fail(syscall.EADDRNOTAVAIL)
	}
	if h := w.node.Health("g")[a.Key()]; h.State != dataplane.Healthy {
		t.Errorf("the target is %+v", h)
	}
	for range 2 {
		fail(syscall.ECONNREFUSED)
	}
	w.state("g", a.Target, dataplane.Unhealthy)
}

// What metrics are made of never becomes less, whatever happens to flows: who reads a smaller number takes the counter for a new one.
func TestSumsNeverShrink(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.Network.TerminateDeregistered = true })
	w.listen(dataplane.TCP, to("g"))
	ended, cut := w.dial(), w.dial()
	w.wantAnswer(ended, "a")
	w.wantAnswer(cut, "a")
	bytes, packets := uint64(0), uint64(0)
	look := func(when string, flows uint64) {
		t.Helper()
		w.eventually(when, func() bool {
			s := w.node.Stats().Network
			if s.ProcessedBytes[dataplane.TCP] < bytes || s.Packets < packets {
				t.Fatalf("%s: %d bytes and %d packets after %d and %d", when, s.ProcessedBytes[dataplane.TCP], s.Packets, bytes, packets)
			}
			bytes, packets = s.ProcessedBytes[dataplane.TCP], s.Packets
			return s.ActiveFlows[dataplane.TCP] == flows
		})
	}
	look("two flows", 2)
	_ = ended.Close()
	look("one has ended", 1)
	w.set("g", draining(a, 0))
	look("one was cut", 0)
	w.wantReset(cut)
	look("and is gone", 0)
}

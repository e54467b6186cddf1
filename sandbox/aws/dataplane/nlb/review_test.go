package nlb

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

func TestReviewHairpinUDP(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, datagramGroup, func(g *dataplane.Group) {})
	w.listen(dataplane.UDP, to("g"))
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: a.Address.AsSlice()}}
	conn, err := d.DialContext(t.Context(), "udp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.wantNoAnswer(conn)
}

func TestReviewEMFILE(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.group("g", []*app{a, b}, func(g *dataplane.Group) { g.HealthCheck.Interval = time.Hour })
	for i := 0; i < 5; i++ {
		for _, x := range []*app{a, b} {
			w.node.mu.Lock()
			tg := w.node.groups["g"].targets[x.Key()]
			s := &stream{node: w.node, flow: &flow{port: 8080, protocol: dataplane.TCP, target: tg}}
			w.node.begin(s.flow)
			w.node.mu.Unlock()
			s.failed(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)})
		}
	}
	for k, h := range w.node.Health("g") {
		if h.State != dataplane.Healthy {
			t.Errorf("%v %v", k, h)
		}
	}
}

func TestReviewHaunt(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 300 {
		c1, _ := net.Dial("tcp", w.at.String())
		c2, _ := l.Accept()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := &stream{node: w.node, client: c1.(*net.TCPConn), server: c2.(*net.TCPConn), ctx: ctx}
		done := make(chan struct{})
		go func() { s.haunt(3 * time.Second); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Second):
			t.Fatal("hangs")
		}
	}
}

func TestReviewWeightTwice(t *testing.T) {
	n := 0
	delays := []time.Duration{200 * time.Millisecond, time.Hour, time.Hour}
	w := newWorld(t, func(c *Config) {
		c.Delays.WeightZeroClose = func(string) time.Duration { n++; return delays[n-1] }
	})
	a, b := w.serve("a"), w.serve("b")
	w.group("stable", []*app{a})
	w.group("canary", []*app{b})
	split := func(stable, canary int) {
		w.listen(dataplane.TCP, dataplane.Forward{Groups: []dataplane.WeightedGroup{{ARN: "stable", Weight: stable}, {ARN: "canary", Weight: canary}}})
	}
	split(1, 0)
	c := w.dial()
	w.wantAnswer(c, "a")
	split(0, 1)
	split(1, 0)
	split(0, 1)
	<-time.After(400 * time.Millisecond)
	w.wantAnswer(c, "a")
	_ = netip.Addr{}
}

package dataplane

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Situation 19: a client that security groups do not let in gets no answer, whatever it asks; who is in stays in.
func TestSituation19ClientPacketsDropped(t *testing.T) {
	var shut atomic.Bool
	w := newWorld(t, func(c *Config) {
		c.Firewall = rules(func(p Packet) bool { return p.To.Addr() != c.Address || !shut.Load() })
	})
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	w.wantTarget("a")
	shut.Store(true)
	w.wantTarget("a") // on the connection that was let in
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatalf("the client is refused: %v", err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the client reads %d bytes, %v", n, err)
	}
	if n := w.node.dropped.Len(); n != 1 {
		t.Fatalf("%d connections are dropped", n)
	}
}

// A target may leave at the moment when a result arrives for it: one holds the lock that the other needs.
func TestChecksEndWhileAResultArrives(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	var lock sync.Mutex
	arriving := make(chan struct{}, 1)
	probes := NewProbes(nil)
	lock.Lock()
	watching := probes.watch(probeKey{target: a.Key(), to: netip.AddrPortFrom(a.Address, a.Port), check: HealthCheck{}.withDefaults()}, asking{from: a.Address, wall: Open}, func(probeResult) {
		arriving <- struct{}{}
		lock.Lock()
		defer lock.Unlock()
	})
	<-arriving
	stopped := make(chan struct{})
	go func() { watching.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Error("stop waits for a delivery that waits for who stops")
	}
	lock.Unlock()
	<-stopped
}

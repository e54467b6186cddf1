package dataplane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// announcing is a firewall that announces one client after another; what it announces passes.
type announcing struct {
	mu       sync.Mutex
	admitted sockopt.Filter
	told     map[netip.AddrPort]func(sockopt.Filter)
}

func (a *announcing) Passes(Packet) bool { return true }

func (a *announcing) Announce(to netip.AddrPort, sources func(sockopt.Filter)) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told == nil {
		a.told = map[netip.AddrPort]func(sockopt.Filter){}
	}
	a.told[to] = sources
	sources(a.admitted)
	return func() { a.mu.Lock(); defer a.mu.Unlock(); delete(a.told, to) }
}

func (a *announcing) admit(clients ...netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.admitted = sockopt.Filter{}
	for _, c := range clients {
		a.admitted.Sources = append(a.admitted.Sources, netip.PrefixFrom(c, 32))
	}
	for _, sources := range a.told {
		sources(a.admitted)
	}
}

// Situation 19 as the client sees it: the attempt to connect times out, until a rule lets it in; a connection outlives the rule.
func TestSituation19ConnectTimesOut(t *testing.T) {
	if !sockopt.Filters {
		t.Skip("the kernel of this system takes no filters")
	}
	wall := &announcing{}
	w := newWorld(t, func(c *Config) { c.Firewall = wall })
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	from := address()
	dial := func(patience time.Duration) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: patience}
		return d.Dial("tcp", w.at.String())
	}
	wantTimeout := func() {
		t.Helper()
		_, err := dial(150 * time.Millisecond)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("the attempt to connect ends by %v, want a time-out", err)
		}
	}
	wantTimeout()
	wall.admit(from)
	conn, err := dial(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wall.admit()
	wantTimeout()
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://example.com/")
	if err != nil {
		t.Fatalf("on a connection that was let in: %v", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	w.node.Close()
	wall.mu.Lock()
	defer wall.mu.Unlock()
	if len(wall.told) != 0 {
		t.Errorf("a node that is closed still listens to what is announced for %v", wall.told)
	}
}

// What security groups keep out is counted, and not what is dropped since nobody listens.
func TestDoorCountsWhatItKeepsOut(t *testing.T) {
	if !sockopt.Filters {
		t.Skip("the kernel of this system takes no filters")
	}
	t.Parallel()
	wall, at := &announcing{}, netip.AddrPortFrom(address(), 8080)
	d, err := OpenDoor(at, at, wall)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	knock := func() {
		t.Helper()
		if conn, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond); err == nil {
			_ = conn.Close()
			t.Error("the door is open")
		}
	}
	knock()
	d.Shut(true)
	knock()
	d.Shut(false)
	knock()
	if n := d.Blocked(); n != 2 {
		t.Errorf("%d attempts were blocked, want 2", n)
	}
	d.Shut(true)
	wall.admit(netip.MustParseAddr("127.0.0.1"))
	knock()
	d.Shut(false)
	conn, err := net.DialTimeout("tcp", at.String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if n := d.Blocked(); n != 2 {
		t.Errorf("%d attempts were blocked, want 2", n)
	}
}

package dataplane

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestHealthTransitions(t *testing.T) {
	hc := HealthCheck{HealthyThreshold: 3, UnhealthyThreshold: 2}
	mismatch := probeResult{ReasonResponseCodeMismatch, "[500]"}
	timeout := probeResult{ReasonTimeout, "slow"}
	results := map[rune]probeResult{'+': {}, '-': mismatch, 't': timeout}
	for _, c := range []struct {
		name, results string
		firstFailure  bool
		want          string // initial of the state after each result
	}{
		{"one-pass-is-enough-at-first", "+", false, "h"},
		{"also-after-a-failure", "-+", false, "ih"},
		{"threshold-counts-at-first", "--", false, "iu"},
		{"or-one-failure", "-", true, "u"},
		{"one-failure-does-not-matter", "+-+-+", false, "hhhhh"},
		{"two-in-a-row-do", "+--", false, "hhu"},
		{"different-failures-count-together", "+-t", false, "hhu"},
		{"three-passes-to-come-back", "+--+++", false, "hhuuuh"},
		{"in-a-row", "+--++-+++", false, "hhuuuuuuh"},
		{"first-failure-only-at-first", "+-", true, "hh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, got := initialHealth(), ""
			for _, r := range c.results {
				h = h.after(results[r], hc, c.firstFailure)
				got += string(h.State[0])
			}
			if got != c.want {
				t.Fatalf("%s gives %s, want %s", c.results, got, c.want)
			}
		})
	}
	h := initialHealth().after(mismatch, hc, true)
	if h = h.after(timeout, hc, true); h.Reason != ReasonTimeout {
		t.Fatalf("an unhealthy target keeps its old reason: %+v", h.TargetHealth)
	}
	if h = h.after(probeResult{}, hc, true).after(probeResult{}, hc, true).after(probeResult{}, hc, true); h.TargetHealth != (TargetHealth{State: Healthy}) {
		t.Fatalf("a healthy target has a reason: %+v", h.TargetHealth)
	}
}

func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		matcher string
		code    int
		want    bool
	}{
		{"200", 200, true}, {"200", 201, false}, {"200,202", 202, true}, {"200-299", 250, true}, {"200-299", 300, false},
		{"200-204, 301", 301, true}, {"", 200, false},
	} {
		if got := parseMatcher(c.matcher).matches(c.code); got != c.want {
			t.Errorf("%q matches %d: got %v", c.matcher, c.code, got)
		}
	}
}

func TestHealthCheckRequest(t *testing.T) {
	w := newWorld(t)
	seen := make(chan string, 100)
	target := w.raw(func(conn net.Conn) {
		buffer := make([]byte, 4096)
		n, _ := conn.Read(buffer)
		seen <- string(buffer[:n])
		_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
		if n, _ := conn.Read(buffer); n > 0 {
			seen <- "used again: " + string(buffer[:n])
		}
	})
	group := quick("g")
	group.HealthCheck.Path, group.HealthCheck.Matcher = "/ready?deep=1", "200-399"
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{target}})
	w.awaitState(target, Healthy)
	want := fmt.Sprintf("GET /ready?deep=1 HTTP/1.1\r\nHost: %s:8080\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n", target.Address)
	for range 3 {
		if got := <-seen; !strings.HasPrefix(got, want) {
			t.Fatalf("got %q", got)
		}
	}
}

func TestHealthReasons(t *testing.T) {
	for _, c := range []struct {
		name   string
		serve  func(net.Conn)
		reason string
	}{
		{"nonsense", func(conn net.Conn) { _, _ = io.WriteString(conn, "hello\r\n\r\n") }, ReasonFailedHealthChecks},
		{"closes", func(net.Conn) {}, ReasonFailedHealthChecks},
		{"mute", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, ReasonTimeout},
		{"other-code", func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\n\r\n") }, ReasonResponseCodeMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			target := w.raw(c.serve)
			w.group("g", target)
			if got := w.awaitState(target, Unhealthy); got.Reason != c.reason {
				t.Fatalf("got %+v", got)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t)
		nobody := Target{Address: address(), Port: 8080}
		w.group("g", nobody)
		if got := w.awaitState(nobody, Unhealthy); got.Reason != ReasonFailedHealthChecks {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestTargetComesBackAfterTheThreshold(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	a.healthy.Store(503)
	w.awaitState(a.Target, Unhealthy)
	before := a.checks.Load()
	a.healthy.Store(0)
	w.awaitState(a.Target, Healthy)
	if n := a.checks.Load() - before; n < 3 {
		t.Fatalf("healthy after %d checks, the threshold is 3", n)
	}
}

func TestNewHealthCheckSettingsStartAtOnce(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	group := quick("g")
	group.HealthCheck.Interval = time.Hour
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.awaitState(a.Target, Healthy)
	a.healthy.Store(503)
	group.HealthCheck = quick("g").HealthCheck
	w.node.ApplyGroup(group)
	w.awaitState(a.Target, Unhealthy)
}

func TestTargetsKnownBeforeTheirGroup(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.forwarding(only("g"))
	w.wantOwn(503)
	w.node.ApplyGroup(quick("g"))
	w.awaitState(a.Target, Healthy)
	w.wantTarget("a")
}

func TestCheckOnAnotherPort(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	group := quick("g")
	group.HealthCheck.Port = 9090 // nobody listens there
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.awaitState(a.Target, Unhealthy)
	if n := a.checks.Load(); n != 0 {
		t.Fatalf("%d checks on the traffic port", n)
	}
}

func TestCheckByTCP(t *testing.T) {
	w := newWorld(t)
	mute := w.raw(func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	group := quick("g")
	group.HealthCheck.Protocol = TCP
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{mute}})
	w.awaitState(mute, Healthy)
}

func TestHTTPSTarget(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	server.StartTLS()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	target := Target{Address: at.Addr(), Port: at.Port()}
	group := quick("g")
	group.Protocol, group.HealthCheck.Protocol = HTTPS, HTTPS
	group.HealthCheck.Interval, group.HealthCheck.Timeout = time.Second, time.Second/2 // a handshake takes its time under -race
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{target}})
	w.forwarding(only("g"))
	w.awaitState(target, Healthy)
	for range 3 {
		w.wantTarget("HTTP/1.1")
	}
}

// TestSharedProbesCheckOnceForAllNodes: two nodes, one row of checks, and each node has its own view.
func TestSharedProbesCheckOnceForAllNodes(t *testing.T) {
	probes := NewProbes(nil)
	one := newWorld(t, func(c *Config) { c.Probes = probes })
	two := newWorld(t, func(c *Config) { c.Probes = probes })
	a := one.serve("a")
	group := quick("g")
	group.HealthCheck.Interval = time.Hour
	for _, w := range []*world{one, two} {
		w.node.ApplyGroup(group)
		w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	}
	one.awaitState(a.Target, Healthy)
	two.awaitState(a.Target, Healthy)
	if n := a.checks.Load(); n != 1 {
		t.Fatalf("%d checks", n)
	}
	late := newWorld(t, func(c *Config) { c.Probes = probes })
	late.node.ApplyGroup(group)
	late.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	late.awaitState(a.Target, Healthy) // by the newest result, within the hour
	one.node.RemoveGroup("g")
	two.node.RemoveGroup("g")
	late.node.RemoveGroup("g")
	if n := len(probes.active); n != 0 {
		t.Fatalf("%d rows of checks, and nobody looks", n)
	}
}

func TestMinimumHealthy(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	b.healthy.Store(500)
	w.group("g", a.Target, b.Target)
	w.forwarding(only("g"))
	w.awaitState(a.Target, Healthy)
	w.awaitState(b.Target, Unhealthy)
	group := quick("g")
	group.MinimumHealthyPercent = 51
	w.node.ApplyGroup(group)
	got := map[string]bool{}
	for range 4 {
		_, _, body := w.get("/")
		got[body] = true
	}
	if !got["a"] || !got["b"] {
		t.Fatalf("half of the targets is healthy, 51%% are wanted, and it does not fail open: %v", got)
	}
}

package dataplane

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The situations of an Application Load Balancer, one by one: what the client sees, and what the node
// says about the health of the targets. The numbers are those of the table that this package is built to.
// Those of targets that leave are in draining_test.go, those of targets and clients that do not do as they should in broken_test.go.

func only(arn string) WeightedGroup { return WeightedGroup{ARN: arn, Weight: 1} }

func reset(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

func TestSituation1GroupWithoutTargets(t *testing.T) {
	w := newWorld(t)
	w.group("g")
	w.forwarding(only("g"))
	w.wantOwn(503)
}

func TestSituation2OnlyInitialTargets(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	a := w.serve("a")
	held := w.raw(func(conn net.Conn) { <-release })
	defer close(release)
	group := quick("g")
	group.HealthCheck.Interval, group.HealthCheck.Timeout = time.Minute, 30*time.Second
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{held}})
	w.forwarding(only("g"))
	if got := w.awaitState(held, Initial); got.Reason != "Elb.InitialHealthChecking" {
		t.Fatalf("reason %q", got.Reason)
	}
	w.wantOwn(503)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{held, a.Target}})
	w.awaitState(a.Target, Healthy)
	w.wantTarget("a")
}

func TestSituation3OnePassedCheckMakesHealthy(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	group := quick("g")
	group.HealthCheck.Interval, group.HealthCheck.HealthyThreshold = time.Hour, 10
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.forwarding(only("g"))
	w.awaitState(a.Target, Healthy)
	w.wantTarget("a")
	if n := a.checks.Load(); n != 1 {
		t.Fatalf("%d checks in an interval of an hour", n)
	}
}

func TestSituation4AllUnhealthyFailsOpen(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.healthy.Store(500)
	w.group("g", a.Target)
	w.forwarding(only("g"))
	w.awaitState(a.Target, Unhealthy)
	w.wantTarget("a")
}

func TestSituation5SomeUnhealthy(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	b.healthy.Store(500)
	w.group("g", a.Target, b.Target)
	w.forwarding(only("g"))
	w.awaitState(a.Target, Healthy)
	w.awaitState(b.Target, Unhealthy)
	for range 10 {
		w.wantTarget("a")
	}
}

func TestSituation6PodGone(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	group := quick("g")
	group.HealthCheck.Interval = time.Hour
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.forwarding(only("g"))
	w.awaitState(a.Target, Healthy)
	w.wantTarget("a")
	_ = a.server.Close()
	w.wantOwn(502) // refused
}

func TestSituation6And18PacketsDropped(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.ConnectTimeout = 100 * time.Millisecond
		c.Firewall = rules(func(p Packet) bool { return p.From != c.Address })
	})
	a := w.serve("a")
	w.group("g", a.Target)
	w.forwarding(only("g"))
	if got := w.awaitState(a.Target, Unhealthy); got.Reason != "Target.Timeout" {
		t.Fatalf("reason %q", got.Reason)
	}
	start := time.Now()
	w.wantOwn(504)
	if waited := time.Since(start); waited < 100*time.Millisecond {
		t.Fatalf("answered after %v, before the connect timed out", waited)
	}
}

func TestSituation7AddressReused(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	w.wantTarget("a")
	_ = a.server.Close()
	l, err := net.Listen("tcp", netip.AddrPortFrom(a.Address, a.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	stranger := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "stranger") })}
	go func() { _ = stranger.Serve(l) }()
	defer stranger.Close()
	w.wantTarget("stranger")
}

func TestSituation12HalfTheWeightOnAnEmptyGroup(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("full", a.Target)
	w.group("empty")
	w.forwarding(WeightedGroup{"full", 50}, WeightedGroup{"empty", 50})
	count := map[int]int{}
	for range 400 {
		status, _, _ := w.get("/")
		count[status]++
	}
	if count[503] < 150 || count[200] < 150 || count[200]+count[503] != 400 {
		t.Fatalf("want about one half each, got %v", count)
	}
}

func TestSituation13WeightZeroIsCheckedButGetsNothing(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.healthyGroup("all", a.Target)
	w.group("none", b.Target)
	w.forwarding(WeightedGroup{"all", 100}, WeightedGroup{"none", 0})
	w.awaitState(b.Target, Healthy)
	for range 200 {
		w.wantTarget("a")
	}
}

func TestSituation14OldRuleAndPodsKilled(t *testing.T) {
	w := newWorld(t)
	stable, canary := w.serve("stable"), w.serve("canary")
	w.healthyGroup("s", stable.Target)
	w.healthyGroup("c", canary.Target)
	w.forwarding(WeightedGroup{"s", 0}, WeightedGroup{"c", 100})
	w.wantTarget("canary")
	_ = canary.server.Close()
	w.wantOwn(502) // the node has not heard of the new weights
	w.forwarding(WeightedGroup{"s", 100}, WeightedGroup{"c", 0})
	for range 20 {
		w.wantTarget("stable")
	}
}

func TestSituation15GroupJustAttached(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.forwarding(only("g")) // the node hears of the rule before it hears of the group
	w.wantOwn(503)
	w.healthyGroup("g", a.Target)
	w.wantTarget("a")
}

func TestSituation16HealthCheckAnswers500(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.healthy.Store(500)
	w.group("g", a.Target)
	got := w.awaitState(a.Target, Unhealthy)
	if got.Reason != "Target.ResponseCodeMismatch" || got.Description != "Health checks failed with these codes: [500]" {
		t.Fatalf("got %+v", got)
	}
	if n := a.checks.Load(); n < 2 {
		t.Fatalf("unhealthy after %d checks, the threshold is 2", n)
	}
}

func TestSituations21And22CrossZone(t *testing.T) {
	w := newWorld(t)
	b := w.serve("b")
	b.Zone = "zone-b"
	w.healthyGroup("g", b.Target)
	w.forwarding(only("g"))
	w.wantTarget("b") // this node's zone has no target, it uses the other's
	group := quick("g")
	group.SameZoneOnly = true
	w.node.ApplyGroup(group)
	w.wantOwn(503)
}

func TestSituation23LoadBalancerDeleted(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	w.wantTarget("a")
	w.node.Close()
	if _, err := w.client.Get(w.url("/")); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("want connection refused, got %v", err)
	}
}

package dataplane

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The situations of an Application Load Balancer, one by one: what the client sees, and what the node
// says about the health of the targets. The numbers are those of the table that this package is built to.

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

func TestSituation8DeregisteredTargetGetsNothingNew(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.healthyGroup("g", a.Target, b.Target)
	w.forwarding(only("g"))
	leaving := a.Target
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{leaving, b.Target}})
	for range 10 {
		w.wantTarget("b")
	}
	w.awaitEvent(TargetDraining, a.Key())
}

// slow makes a target hold its requests until it is let go.
func (a *app) slow(name string) (arrived <-chan struct{}, letGo func()) {
	in, out := make(chan struct{}, 100), make(chan struct{})
	a.on(func(w http.ResponseWriter, r *http.Request) {
		in <- struct{}{}
		<-out
		_, _ = io.WriteString(w, name)
	})
	return in, func() { close(out) }
}

type answer struct {
	status int
	body   string
}

func (w *world) async(path string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		res, err := w.client.Get(w.url(path))
		if err != nil {
			c <- answer{0, err.Error()}
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		c <- answer{res.StatusCode, string(body)}
	}()
	return c
}

func TestSituation8InFlightRequestEndsWell(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	got := w.async("/")
	<-arrived
	leaving := a.Target
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{leaving}})
	letGo()
	if g := <-got; g != (answer{200, "late"}) {
		t.Fatalf("got %v", g)
	}
}

// TestDrainingBetweenChoiceAndUse: the request has chosen a target and is still connecting when the target begins to drain. It has
// not been handed over, so it goes elsewhere.
func TestDrainingBetweenChoiceAndUse(t *testing.T) {
	var slow atomic.Pointer[netip.Addr]
	connecting, goOn := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *Config) {
		c.Firewall = rules(func(p Packet) bool {
			if a := slow.Load(); a != nil && *a == p.To.Addr() {
				connecting <- struct{}{}
				<-goOn
			}
			return true
		})
	})
	a, b := w.serve("a"), w.serve("b")
	a.on(func(rw http.ResponseWriter, _ *http.Request) { t.Error("a got the request"); rw.WriteHeader(500) })
	group := quick("g")
	group.HealthCheck.Interval = time.Hour
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.awaitState(a.Target, Healthy)
	w.forwarding(only("g"))
	slow.Store(&a.Address)
	got := w.async("/")
	<-connecting
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target, b.Target}})
	w.awaitState(b.Target, Healthy)
	leaving := a.Target
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{leaving, b.Target}})
	close(goOn)
	if g := <-got; g != (answer{200, "b"}) {
		t.Fatalf("got %v", g)
	}
}

func TestSituation9RequestLongerThanTheDelay(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	defer letGo()
	got := w.async("/")
	<-arrived
	leaving := a.Target
	leaving.State, leaving.DrainUntil = Draining, time.Now().Add(50*time.Millisecond)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{leaving}})
	if g := <-got; g.status != 502 {
		t.Fatalf("got %v", g)
	}
	if e := w.awaitEvent(TargetGone, a.Key()); e.Cut != 1 || e.Usage.Requests != 1 {
		t.Fatalf("event %+v", e)
	}
}

func TestSituation10OnlyDrainingLeft(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	leaving := a.Target
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{leaving}})
	w.wantOwn(503)
}

func TestSituation11TargetClosesWhileDraining(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	defer letGo()
	got := w.async("/")
	<-arrived
	leaving := a.Target
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{leaving}})
	_ = a.server.Close()
	if g := <-got; g.status != 502 {
		t.Fatalf("got %v", g)
	}
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

func TestSituation17AcceptsButNeverAnswers(t *testing.T) {
	w := newWorld(t)
	mute := w.raw(func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	w.group("g", mute)
	w.apply(NodeConfig{
		Attributes: Attributes{IdleTimeout: 100 * time.Millisecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}},
	})
	if got := w.awaitState(mute, Unhealthy); got.Reason != "Target.Timeout" || got.Description != "Request timed out" {
		t.Fatalf("got %+v", got)
	}
	w.wantOwn(504)
}

// TestBodyThatNeverComes: the length is larger than the body, of which nothing comes.
func TestBodyThatNeverComes(t *testing.T) {
	w := newWorld(t)
	mute := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}))
	w.healthyGroup("g", mute)
	w.apply(NodeConfig{
		Attributes: Attributes{IdleTimeout: 100 * time.Millisecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}},
	})
	w.wantOwn(504)
}

func TestSituation20TargetClosesAsTheRequestArrives(t *testing.T) {
	// The race of keep-alive: the target answers once, keeps the connection, and closes it on the next request.
	w := newWorld(t)
	racy := w.raw(func(conn net.Conn) {
		passing(func(conn net.Conn, _ *http.Request) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
			_, _ = conn.Read(make([]byte, 1))
		})(conn)
	})
	w.healthyGroup("g", racy)
	w.forwarding(only("g"))
	w.wantTarget("first")
	w.wantOwn(502) // not repeated on a fresh connection, also for GET
	w.wantTarget("first")
}

func TestIdleConnectionClosedLongAgoIsNotUsed(t *testing.T) {
	w := newWorld(t)
	closed := make(chan struct{}, 10)
	polite := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_ = conn.Close()
		closed <- struct{}{}
	}))
	w.healthyGroup("g", polite)
	w.forwarding(only("g"))
	for range 5 {
		w.wantTarget("ok")
		<-closed // the FIN has been sent, and on loopback it has arrived
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

func TestBrokenTargets(t *testing.T) {
	say := func(text string) func(net.Conn, *http.Request) {
		return func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, text) }
	}
	for _, c := range []struct {
		name   string
		then   func(net.Conn, *http.Request)
		status int
	}{
		{"FIN", func(net.Conn, *http.Request) {}, 502},
		{"RST", func(conn net.Conn, _ *http.Request) { reset(conn) }, 502},
		{"length-without-body", say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), 502},
		{"nonsense", say("hello\r\n\r\n"), 502},
		{"half-a-header", say("HTTP/1.1 200 OK\r\nContent-"), 502},
		{"status-99", say("HTTP/1.1 099 Odd\r\n\r\n"), 502},
		{"upgrade-unasked", say("HTTP/1.1 101 Switching Protocols\r\n\r\n"), 502},
		{"large-header", say("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 40<<10) + "\r\nContent-Length: 0\r\n\r\n"), 502},
		{"large-enough-header", say("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 30<<10) + "\r\nContent-Length: 0\r\n\r\n"), 200},
		{"interim-answers", say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200},
		{"answer-until-close", say("HTTP/1.0 200 OK\r\n\r\nall there is"), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			target := w.raw(passing(c.then))
			w.healthyGroup("g", target)
			w.forwarding(only("g"))
			if status, _, body := w.get("/"); status != c.status {
				t.Fatalf("got %d %s", status, body)
			}
		})
	}
}

func TestResponseCutInTheMiddleClosesTheClient(t *testing.T) {
	w := newWorld(t)
	target := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	}))
	w.healthyGroup("g", target)
	w.forwarding(only("g"))
	res, err := w.client.Get(w.url("/"))
	if err == nil {
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Fatal("the client believes that the response was complete")
	}
}

func TestClientGoneIs460(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	gone := make(chan struct{})
	arrived := make(chan struct{})
	a.on(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // the node closes its connection to the target
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.url("/"), nil)
	go func() { <-arrived; cancel() }()
	if _, err := w.client.Do(r); err == nil {
		t.Fatal("the request was cancelled, and has an answer")
	}
	<-gone
	w.eventually("the request is counted as 460", func() bool { return w.node.Stats().Generated[460] == 1 })
}

func TestRefusedRequests(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.healthyGroup("grpc", a.Target)
	grpc := quick("grpc")
	grpc.ProtocolVersion = "GRPC"
	w.node.ApplyGroup(grpc)
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP,
		Rules: []Rule{
			{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/grpc"}}}, Action: Action{Forward: &Forward{Groups: []WeightedGroup{only("grpc")}}}},
			{Priority: 2, Conditions: []Condition{{Field: PathPattern, Values: []string{"/zero"}}}, Action: Action{Forward: &Forward{Groups: []WeightedGroup{{"g", 0}, {"grpc", 0}}}}},
		},
		Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}},
	}}})
	for _, c := range []struct {
		name   string
		path   string
		adjust func(*http.Request)
		status int
	}{
		{"trace", "/", func(r *http.Request) { r.Method = http.MethodTrace }, 405},
		{"long-uri", "/" + strings.Repeat("x", 17<<10), func(*http.Request) {}, 414},
		{"long-header", "/", func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 17<<10)) }, 400},
		{"many-long-headers", "/", func(r *http.Request) {
			for i := range 5 {
				r.Header.Set(fmt.Sprint("X-", i), strings.Repeat("x", 14<<10))
			}
		}, 400},
		{"thirty-addresses", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", strings.Repeat("1.2.3.4, ", 29)+"1.2.3.4") }, 200},
		{"thirty-one-addresses", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", strings.Repeat("1.2.3.4, ", 30)+"1.2.3.4") }, 463},
		{"http1-to-grpc-group", "/grpc", func(*http.Request) {}, 464},
		{"all-weights-zero", "/zero", func(*http.Request) {}, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, header, _ := w.get(c.path, c.adjust)
			if status != c.status || status != 200 && header.Get("Server") != "awselb/2.0" {
				t.Fatalf("got %d by %q", status, header.Get("Server"))
			}
		})
	}
}

func TestSlowBodyIs408(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	w.healthyGroup("g", a.Target)
	w.apply(NodeConfig{
		Attributes: Attributes{IdleTimeout: 100 * time.Millisecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}},
	})
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Fatalf("got %q", answer)
	}
}

package dataplane

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if targets := os.Getenv(othersVariable); targets != "" {
		if err := beOthers(strings.Fields(targets)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// address returns a loopback address that no other test uses.
func address() netip.Addr {
	n := addresses.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%64), byte(n >> 8), byte(n)})
}

var addresses atomic.Uint32

// world is a node with its listener on port 8080 and the records of what it reported.
type world struct {
	*testing.T
	node   *Node
	at     netip.AddrPort
	client *http.Client

	mu      sync.Mutex
	changes []HealthChange
	events  []Event
	wake    chan struct{}
}

// newWorld starts a node. adjust may change its configuration first.
func newWorld(t *testing.T, adjust ...func(*Config)) *world {
	w := &world{T: t, wake: make(chan struct{}, 1)}
	config := Config{LoadBalancer: "app/test", Zone: "zone-a", Address: address(), Seed: 1, Health: w.health, Journal: w.journal}
	for _, a := range adjust {
		a(&config)
	}
	w.node = NewNode(config)
	w.at = netip.AddrPortFrom(config.Address, 8080)
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	w.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() { transport.CloseIdleConnections(); w.node.Close() })
	return w
}

func (w *world) health(c HealthChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
	w.signal()
}

func (w *world) journal(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	w.signal()
}

func (w *world) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// await waits until the reports of the node satisfy a condition.
func (w *world) await(what string, done func() bool) {
	w.Helper()
	timeout := time.After(20 * time.Second)
	for {
		w.mu.Lock()
		ok := done()
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-w.wake:
		case <-timeout:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.Fatalf("timed out waiting: %s\nhealth: %v\nevents: %v", what, w.changes, w.events)
		}
	}
}

// eventually looks again and again until a condition holds that no report announces.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("timed out waiting: %s", what)
		}
	}
}

// awaitState waits until the newest report about a target is state.
func (w *world) awaitState(t Target, state HealthState) HealthChange {
	w.Helper()
	var last HealthChange
	w.await(fmt.Sprintf("%v is %s", t.Key(), state), func() bool {
		for _, c := range w.changes {
			if c.Target == t.Key() {
				last = c
			}
		}
		return last.State == state
	})
	return last
}

func (w *world) awaitEvent(kind EventKind, target TargetKey) Event {
	w.Helper()
	var found Event
	w.await(string(kind), func() bool {
		for _, e := range w.events {
			if e.Kind == kind && e.Target == target {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

func (w *world) apply(c NodeConfig) {
	w.Helper()
	if err := w.node.Apply(c); err != nil {
		w.Fatal(err)
	}
}

// forwarding applies one listener whose default action forwards to the given groups.
func (w *world) forwarding(groups ...WeightedGroup) {
	w.Helper()
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: groups}}}}})
}

// group gives the node a group with quick health checks and the targets.
func (w *world) group(arn string, targets ...Target) {
	w.node.ApplyGroup(quick(arn))
	w.node.ApplyTargets(arn, TargetSet{Targets: targets})
}

// healthyGroup is group, and waits until all targets are healthy.
func (w *world) healthyGroup(arn string, targets ...Target) {
	w.Helper()
	w.group(arn, targets...)
	for _, t := range targets {
		w.awaitState(t, Healthy)
	}
}

// drain has a target of group g leave it, and others stay.
func (w *world) drain(leaving Target, staying ...Target) {
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Targets: append([]Target{leaving}, staying...)})
}

// quick checks often. The timeout is far above the interval, so that a busy machine does not make targets unhealthy.
func quick(arn string) Group {
	return Group{
		ARN: arn, Protocol: HTTP, DeregistrationDelay: time.Minute,
		HealthCheck: HealthCheck{Path: "/healthz", Interval: 50 * time.Millisecond, Timeout: 500 * time.Millisecond, HealthyThreshold: 3, UnhealthyThreshold: 2},
	}
}

func (w *world) url(path string) string { return "http://" + w.at.String() + path }

// get asks through the node and returns status, Server header and body.
func (w *world) get(path string, adjust ...func(*http.Request)) (int, http.Header, string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), http.MethodGet, w.url(path), nil)
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range adjust {
		a(r)
	}
	return w.do(r)
}

func (w *world) do(r *http.Request) (int, http.Header, string) {
	w.Helper()
	res, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

// wantOwn checks that the node itself answers with a status.
func (w *world) wantOwn(status int) {
	w.Helper()
	got, header, body := w.get("/")
	if got != status || header.Get("Server") != "awselb/2.0" {
		w.Fatalf("want %d by the load balancer, got %d by %q: %s", status, got, header.Get("Server"), body)
	}
}

// wantTarget checks that a target answers 200 with the body.
func (w *world) wantTarget(want string) {
	w.Helper()
	if status, header, body := w.get("/"); status != 200 || body != want || header.Get("Server") == "awselb/2.0" {
		w.Fatalf("want 200 %q, got %d %q", want, status, body)
	}
}

// app is a target: an HTTP server with a name, whose health and behaviour can be set.
type app struct {
	Target
	server  *http.Server
	healthy atomic.Int32 // status of health checks; 0: 200
	checks  atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]
}

// serve starts a target that answers with its name.
func (w *world) serve(name string) *app {
	w.Helper()
	a := &app{Target: Target{Address: address(), Port: 8080, Zone: "zone-a"}}
	a.on(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, name) })
	l, err := net.Listen("tcp", netip.AddrPortFrom(a.Address, a.Port).String())
	if err != nil {
		w.Fatal(err)
	}
	a.server = &http.Server{Handler: a}
	go func() { _ = a.server.Serve(l) }()
	w.Cleanup(func() { _ = a.server.Close() })
	return a
}

func (a *app) on(h http.HandlerFunc) { a.handler.Store(&h) }

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		a.checks.Add(1)
		if status := a.healthy.Load(); status != 0 {
			w.WriteHeader(int(status))
		}
		return
	}
	(*a.handler.Load())(w, r)
}

// raw starts a target that is only a TCP listener; each connection is handed to serve.
func (w *world) raw(serve func(net.Conn)) Target {
	w.Helper()
	t := Target{Address: address(), Port: 8080, Zone: "zone-a"}
	l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, t.Port).String())
	if err != nil {
		w.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				defer conn.Close()
				serve(conn)
			})
		}
	})
	w.Cleanup(func() { _ = l.Close(); cancel(); all.Wait() })
	return t
}

// passing answers health checks with 200 and hands every other request to then.
func passing(then func(net.Conn, *http.Request)) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if request.URL.Path != "/healthz" {
				then(conn, request)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// rules is a firewall in one function.
type rules func(Packet) bool

func (r rules) Passes(p Packet) bool { return r(p) }

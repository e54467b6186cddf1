package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and returns its address.
func serve(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// raw starts a TCP server; each connection is handed over after its first request has been read.
func raw(t *testing.T, answer func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					answer(conn)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

func at(addresses ...netip.AddrPort) func(context.Context) ([]netip.AddrPort, error) {
	return func(context.Context) ([]netip.AddrPort, error) { return addresses, nil }
}

func run(t *testing.T, c Config) Result {
	t.Helper()
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Intended != r.Sent+r.Saturation.Unsent {
		t.Errorf("%d intended, but %d sent and %d unsent", r.Intended, r.Sent, r.Saturation.Unsent)
	}
	var seconds Second
	for _, s := range r.Seconds {
		seconds.Sent += s.Sent
		seconds.Failed += s.Failed
		seconds.Unsent += s.Unsent
	}
	if seconds.Sent != r.Sent || seconds.Failed != r.Failed || seconds.Unsent != r.Saturation.Unsent {
		t.Errorf("the seconds add up to %+v, the run to %d sent, %d failed, %d unsent", seconds, r.Sent, r.Failed, r.Saturation.Unsent)
	}
	return r
}

func TestEveryRequestIsSentAndCounted(t *testing.T) {
	var got atomic.Int64
	answer := func(version string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			got.Add(1)
			if r.Host != "shop.example.com" || r.URL.String() != "/cart?x=1" || r.Header.Get("X-Test") != "yes" {
				t.Errorf("got %s %s %v", r.Host, r.URL, r.Header)
			}
			w.Header().Set("X-App-Version", version)
			_, _ = io.WriteString(w, strings.Repeat(version, 10))
		}
	}
	one, two := serve(t, answer("v1")), serve(t, answer("v2"))
	r := run(t, Config{
		Rate: 500, Duration: 1200 * time.Millisecond, Resolve: at(one, two), Connections: 20,
		Host: "shop.example.com", Path: "/cart?x=1", Header: http.Header{"X-Test": {"yes"}},
	})
	if r.Sent != 600 || got.Load() != 600 || r.Answered != 600 || r.Failed != 0 || r.Status[200] != 600 {
		t.Fatalf("got %d, result %+v", got.Load(), r)
	}
	if a, b := r.Nodes[one].Sent, r.Nodes[two].Sent; a != 300 || b != 300 {
		t.Errorf("the nodes do not take turns: %d and %d", a, b)
	}
	v1 := r.Versions["v1"]
	if v1.Answered != 300 || r.Versions["v2"].Answered != 300 || v1.First.Before(r.Started) || !v1.First.Before(v1.Last) || v1.Last.After(r.Ended) {
		t.Errorf("versions %+v", r.Versions)
	}
	if len(r.Seconds) != 2 || r.Seconds[0].Sent != 500 || r.Seconds[1].Versions["v1"] != 50 {
		t.Errorf("seconds %+v", r.Seconds)
	}
	if s := max(r.Seconds[0].Slowest, r.Seconds[1].Slowest); s != r.Latency.Max {
		t.Errorf("the slowest request of a second took %v ms, that of the run %v ms", s, r.Latency.Max)
	}
	if r.Connections.Opened > 150 { // on a busy machine it ends some for the sake of the other node
		t.Errorf("connections are not kept: %+v", r.Connections)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestStallIsSeenByAllRequests: the server stands still for 300 ms. A client that waits for its answer before it sends the next
// request would see one slow request; here every request that fell into the pause is slow.
func TestStallIsSeenByAllRequests(t *testing.T) {
	var mu sync.RWMutex
	to := serve(t, func(http.ResponseWriter, *http.Request) {
		mu.RLock()
		//lint:ignore SA2001 waiting for whoever holds the lock is the purpose
		mu.RUnlock()
	})
	mu.Lock()
	time.AfterFunc(300*time.Millisecond, mu.Unlock)
	r := run(t, Config{Rate: 200, Duration: 400 * time.Millisecond, Resolve: at(to), Connections: 4})
	if r.Latency.P50 < 20 || r.Latency.Max < 250 {
		t.Errorf("three quarters of the requests fell into a pause of 300 ms, and the latency is %+v", r.Latency)
	}
	if r.Saturation.Delayed == 0 || r.Saturation.Unsent != 0 || r.Failed != 0 {
		t.Errorf("4 connections were enough for 60 requests in the pause: %+v", r.Saturation)
	}
}

func TestSaturationIsToldApart(t *testing.T) {
	release := make(chan struct{})
	to := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	r := run(t, Config{Rate: 100, Duration: 300 * time.Millisecond, Resolve: at(to), Connections: 2, Timeout: 200 * time.Millisecond})
	// Two connections stand still until their requests time out, then two more are sent; all others have waited too long by then.
	if r.Intended != 30 || r.Saturation.Unsent < 20 || r.Errors[Timeout] < 2 || r.Failed != r.Errors[Timeout] || r.Answered != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestFailuresByKind(t *testing.T) {
	say := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
	}
	nobody := func(t *testing.T) netip.AddrPort {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return netip.MustParseAddrPort(l.Addr().String())
	}
	for _, c := range []struct {
		name  string
		serve func(*testing.T) netip.AddrPort
		kind  Kind
	}{
		{"refused", nobody, Refused},
		{"reset", func(t *testing.T) netip.AddrPort {
			return raw(t, func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) })
		}, Reset},
		{"closed", func(t *testing.T) netip.AddrPort { return raw(t, func(net.Conn) {}) }, Closed},
		{"truncated-header", func(t *testing.T) netip.AddrPort { return raw(t, say("HTTP/1.1 200 OK\r\nCont")) }, Truncated},
		{"truncated-body", func(t *testing.T) netip.AddrPort {
			return raw(t, say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
		}, Truncated},
		{"truncated-chunks", func(t *testing.T) netip.AddrPort {
			return raw(t, say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"))
		}, Truncated},
		{"malformed", func(t *testing.T) netip.AddrPort { return raw(t, say("hello, this is not HTTP\r\n\r\n")) }, Malformed},
		{"timeout", func(t *testing.T) netip.AddrPort {
			return raw(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
		}, Timeout},
		{"status", func(t *testing.T) netip.AddrPort {
			return serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-App-Version", "bad")
				w.Header().Set("Server", "awselb/2.0")
				w.WriteHeader(502)
			})
		}, BadStatus},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := c.serve(t)
			timeout := 10 * time.Second
			if c.kind == Timeout {
				timeout = 300 * time.Millisecond
			}
			r := run(t, Config{Rate: 100, Duration: 50 * time.Millisecond, Resolve: at(to), Timeout: timeout, KeepFailures: 3})
			if r.Failed != 5 || r.Errors[c.kind] != 5 || len(r.Failures) != 3 {
				t.Fatalf("got %+v", r)
			}
			f := r.Failures[0]
			if f.Kind != c.kind || f.Node != to || f.Intended.Before(r.Started) || f.Ended.Before(f.Intended) || (f.Error == "") != (c.kind == BadStatus) {
				t.Errorf("got %+v", f)
			}
			if c.kind == BadStatus && (f.Status != 502 || f.Version != "bad" || f.Server != "awselb/2.0" || r.Versions["bad"].Failed != 5 || r.Status[502] != 5) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestWhatCountsAsFailed(t *testing.T) {
	to := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	c := Config{Rate: 100, Duration: 50 * time.Millisecond, Resolve: at(to)}
	if r := run(t, c); r.Failed != 0 || r.Status[404] != 5 {
		t.Errorf("got %+v", r)
	}
	c.Fail4xx = true
	if r := run(t, c); r.Failed != 5 || r.Errors[BadStatus] != 5 {
		t.Errorf("got %+v", r)
	}
}

func TestAnswersOfAllShapes(t *testing.T) {
	for name, text := range map[string]string{
		"length":      "HTTP/1.1 200 OK\r\nx-app-VERSION:  v1 \r\nContent-Length: 2\r\n\r\nok",
		"chunked":     "HTTP/1.1 200 OK\r\nX-App-Version: v1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
		"until-close": "HTTP/1.0 200 OK\r\nX-App-Version: v1\r\n\r\nok",
		"interim":     "HTTP/1.1 100 Continue\r\nX-App-Version: v0\r\n\r\nHTTP/1.1 200 OK\r\nX-App-Version: v1\r\nContent-Length: 0\r\n\r\n",
		"no-content":  "HTTP/1.1 204 No Content\r\nX-App-Version: v1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			to := raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, text) })
			if r := run(t, Config{Rate: 100, Duration: 30 * time.Millisecond, Resolve: at(to)}); r.Failed != 0 || r.Versions["v1"].Answered != 3 || len(r.Versions) != 1 {
				t.Fatalf("got %+v", r)
			}
		})
	}
}

// TestAddressesAreLookedUpAgain: new connections go where the last answer says, old ones are used until the server ends them.
func TestAddressesAreLookedUpAgain(t *testing.T) {
	var ending atomic.Bool
	one := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if ending.Load() {
			w.Header().Set("Connection", "close")
		}
	})
	two := serve(t, func(http.ResponseWriter, *http.Request) {})
	var calls atomic.Int64
	g, err := New(Config{Rate: 200, ResolveEvery: 30 * time.Millisecond, Resolve: func(context.Context) ([]netip.AddrPort, error) {
		switch calls.Add(1) {
		case 1:
			return []netip.AddrPort{one}, nil
		case 2:
			return nil, errors.New("the resolver is away")
		}
		return []netip.AddrPort{two}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Result)
	go func() {
		r, err := g.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	until := func(what string, holds func(Result) bool) Result {
		t.Helper()
		for {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				t.Fatalf("waited in vain: %s", what)
			}
			if r := g.Snapshot(); holds(r) {
				return r
			}
		}
	}
	kept := until("requests to the new address", func(r Result) bool { return r.Nodes[two].Sent > 0 }).Nodes[one]
	until("requests on old connections, and no new ones", func(r Result) bool {
		if n := r.Nodes[one]; n.Opened != kept.Opened { // requests that were under way count when they are answered
			kept = n
		}
		return r.Nodes[one].Sent >= kept.Sent+20
	})
	ending.Store(true)
	ended := g.Snapshot()
	most := ended.Nodes[one].Sent + 2*kept.Opened // each connection may have a request under way, and take another before it is told
	until("more to the new one", func(r Result) bool { return r.Nodes[two].Sent >= ended.Nodes[two].Sent+2*kept.Opened+40 })
	cancel()
	r := <-done
	if r.Failed != 0 || r.FailedLookups != 1 || r.Nodes[one].Opened != kept.Opened || r.Nodes[one].Sent > most || r.Ended.IsZero() {
		t.Fatalf("got %+v, the old address had %+v when it began to end connections", r, ended.Nodes[one])
	}
}

func TestEndOfContextWaitsForAnswers(t *testing.T) {
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	to := serve(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel(); close(release) }()
	r, err := Run(ctx, Config{Rate: 50, Resolve: at(to)})
	if err != nil || r.Answered == 0 || r.Failed != 0 || r.Answered != r.Intended {
		t.Fatalf("got %+v, %v", r, err)
	}
}

// TestConnectionsAreBounded: many more addresses than connections, and each is still served.
func TestConnectionsAreBounded(t *testing.T) {
	var busy, most atomic.Int64
	release := make(chan struct{})
	var addresses []netip.AddrPort
	for range 6 {
		addresses = append(addresses, serve(t, func(http.ResponseWriter, *http.Request) {
			most.Store(max(most.Load(), busy.Add(1)))
			<-release
			busy.Add(-1)
		}))
	}
	g, err := New(Config{Rate: 300, Duration: 200 * time.Millisecond, Resolve: at(addresses...), Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(release)
		for t.Context().Err() == nil && g.Snapshot().Saturation.Delayed < 20 {
			time.Sleep(time.Millisecond)
		}
	}()
	r, err := g.Run(t.Context())
	if err != nil || r.Failed != 0 || r.Saturation.Unsent != 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, a := range addresses {
		if r.Nodes[a].Sent != 10 {
			t.Errorf("%s got %d requests, its turn came 10 times", a, r.Nodes[a].Sent)
		}
	}
	if n := most.Load(); n > 2 {
		t.Errorf("%d connections at once", n)
	}
}

func TestWrongConfigurations(t *testing.T) {
	to := at(netip.MustParseAddrPort("127.0.0.1:1"))
	for name, c := range map[string]Config{
		"no-rate": {Resolve: to}, "no-resolver": {Rate: 1}, "path": {Rate: 1, Resolve: to, Path: "/a b"},
		"lookup": {Rate: 1, Resolve: func(context.Context) ([]netip.AddrPort, error) { return nil, errors.New("no such name") }},
		"none":   {Rate: 1, Resolve: at()},
	} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	random := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 50_000 {
		d := time.Duration(math.Exp(random.Float64()*16) * float64(time.Microsecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, p := range []float64{0, 0.1, 0.5, 0.9, 0.99, 0.999} {
		want, got := all[int(p*float64(len(all)))], h.percentile(p)
		if off := math.Abs(float64(got-want)) / float64(want); off > 0.04 && got-want > time.Microsecond {
			t.Errorf("percentile %v: got %v, want %v", p, got, want)
		}
	}
	if s := h.summary(); s.Max != float64(all[len(all)-1].Microseconds())/1000 {
		t.Errorf("max %v", s.Max)
	}
	for d := time.Duration(0); d < 10*time.Minute; d += d/100 + time.Microsecond {
		if m := middle(bucket(d)); math.Abs(float64(m-d)) > max(float64(d)/30, 1000) {
			t.Fatalf("%v is in the bucket of %v", d, m)
		}
	}
	var none histogram
	if none.summary() != (Latency{}) {
		t.Error("a latency of nothing")
	}
}

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-App-Version", "blue") }))
	defer server.Close()
	result, err := Run(context.Background(), Config{
		Rate: 100, Duration: 100 * time.Millisecond, Host: "shop.example.com",
		Resolve: at(netip.MustParseAddrPort(server.Listener.Addr().String())),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Sent, "sent,", result.Failed, "failed,", result.Versions["blue"].Answered, "by blue")
	// Output: 10 sent, 0 failed, 10 by blue
}

// BenchmarkThousandPerSecond tells how much CPU a load of 1,000 requests/s costs, the server included.
//
//	go test -run '^$' -bench Thousand -benchtime 1x ./sandbox/load/
func BenchmarkThousandPerSecond(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	for b.Loop() {
		before := cpu()
		r, err := Run(b.Context(), Config{Rate: 1000, Duration: 5 * time.Second, Resolve: at(netip.MustParseAddrPort(s.Listener.Addr().String()))})
		if err != nil || r.Failed > 0 {
			b.Fatal(err, r.Failures)
		}
		b.ReportMetric(float64(cpu()-before)/float64(r.Ended.Sub(r.Started))*100, "%cpu")
		b.ReportMetric(r.Latency.P50, "p50-ms")
		b.ReportMetric(r.Latency.P99, "p99-ms")
		b.ReportMetric(r.Lateness.P99, "late-p99-ms")
	}
}

package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-delivery/lockstep/sandbox/load"
)

const bodySize = 100

// fleet is one group of targets behind one node, all in this process.
type fleet struct {
	node    *Node
	at      netip.AddrPort
	targets []netip.AddrPort
}

// newFleet starts n targets that answer 200 with a body of 100 bytes, and waits until all of them are healthy.
func newFleet(b *testing.B, n int) fleet {
	b.Helper()
	healthy := make(chan struct{}, n)
	node := NewNode(Config{LoadBalancer: "app/bench", Zone: "zone-a", Address: address(), Health: func(c HealthChange) {
		if c.State == Healthy {
			healthy <- struct{}{}
		}
	}})
	b.Cleanup(node.Close)
	body := make([]byte, bodySize)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App-Version", "v1")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(body)
	})
	f := fleet{node: node, at: netip.AddrPortFrom(node.config.Address, 8080)}
	var set TargetSet
	for range n {
		t := Target{Address: address(), Port: 8080, Zone: "zone-a"}
		l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, t.Port).String())
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(l) }()
		b.Cleanup(func() { _ = server.Close() })
		set.Targets = append(set.Targets, t)
		f.targets = append(f.targets, netip.AddrPortFrom(t.Address, t.Port))
	}
	node.ApplyGroup(Group{ARN: "g", Protocol: HTTP})
	node.ApplyTargets("g", set)
	err := node.Apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{{"g", 1}}}}}}})
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		<-healthy
	}
	return f
}

// flood keeps 64 connections busy, each with one request after the other, and returns the answers per second.
func flood(b *testing.B, to ...netip.AddrPort) float64 {
	b.Helper()
	const lasts = 3 * time.Second
	var answered atomic.Int64
	var all errgroup.Group
	start := time.Now()
	for i := range 64 {
		all.Go(func() error {
			conn, err := net.Dial("tcp", to[i%len(to)].String())
			if err != nil {
				return err
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for time.Since(start) < lasts {
				if err := ask(conn, r); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	return float64(answered.Load()) / time.Since(start).Seconds()
}

var question = []byte("GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")

// ask makes one request, at the least cost for the client.
func ask(conn net.Conn, r *bufio.Reader) error {
	if _, err := conn.Write(question); err != nil {
		return err
	}
	line, err := r.ReadSlice('\n')
	if err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q: %w", line, err)
	}
	for len(line) > 2 {
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
	}
	_, err = r.Discard(bodySize)
	return err
}

// BenchmarkThroughput keeps 250 targets busy through one node, and 64 targets directly; clients, node and
// targets share the machine. One round takes 6 s:
//
//	go test -run '^$' -bench Throughput -benchtime 3x ./sandbox/aws/dataplane/
func BenchmarkThroughput(b *testing.B) {
	f := newFleet(b, 250)
	var balanced, direct float64
	rounds := 0.0
	for b.Loop() {
		balanced += flood(b, f.at)
		direct += flood(b, f.targets[:64]...) // as many connections as to the node
		rounds++
	}
	b.ReportMetric(balanced/rounds, "balanced-req/s")
	b.ReportMetric(direct/rounds, "direct-req/s")
	b.ReportMetric(balanced/direct, "ratio")
}

// BenchmarkSteady12000 puts 12,000 requests/s on for 5 s and reports the latency, and what the client could not send.
func BenchmarkSteady12000(b *testing.B) {
	f := newFleet(b, 250)
	for b.Loop() {
		r, err := load.Run(b.Context(), load.Config{
			Rate: 12_000, Duration: 5 * time.Second, Host: "bench",
			Resolve: func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{f.at}, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		if r.Failed > 0 {
			b.Fatalf("%d requests failed, first: %+v", r.Failed, r.Failures[0])
		}
		b.ReportMetric(float64(r.Answered)/r.Ended.Sub(r.Started).Seconds(), "req/s")
		b.ReportMetric(r.Latency.P50, "p50-ms")
		b.ReportMetric(r.Latency.P99, "p99-ms")
		b.ReportMetric(float64(r.Saturation.Unsent), "unsent")
	}
}

// BenchmarkRequest is one request after the other on one connection; allocations are those of node and target together.
func BenchmarkRequest(b *testing.B) {
	f := newFleet(b, 10)
	for _, way := range []struct {
		name string
		to   netip.AddrPort
	}{{"direct", f.targets[0]}, {"balanced", f.at}} {
		b.Run(way.name, func(b *testing.B) {
			conn, err := net.Dial("tcp", way.to.String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			b.ReportAllocs()
			for b.Loop() {
				if err := ask(conn, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMatch looks through 100 rules of which the last one matches.
func BenchmarkMatch(b *testing.B) {
	var rules []Rule
	for i := range 100 {
		rules = append(rules, Rule{Priority: i + 1, Action: Action{Fixed: &FixedResponse{Status: 200}}, Conditions: []Condition{
			{Field: HostHeader, Values: []string{"*.example.com"}}, {Field: PathPattern, Values: []string{fmt.Sprintf("/service-%d/*", i)}},
		}})
	}
	l, err := compileListener(Listener{Port: 80, Protocol: HTTP, Rules: rules, Default: Action{Fixed: &FixedResponse{Status: 404}}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodGet, "http://shop.example.com/service-99/cart?x=1", nil)
	b.ReportAllocs()
	for b.Loop() {
		s := newSubject(r, netip.Addr{})
		if l.match(&s).fixed.Status != 200 {
			b.Fatal("no match")
		}
	}
}

package dataplane

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
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
	body := make([]byte, bodySize)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App-Version", "v1")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(body)
	})
	var f fleet
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
	f.node, f.at = newBenchNode(b, set)
	return f
}

// newBenchNode starts a node in front of targets that are there, and waits until all of them are healthy.
func newBenchNode(b *testing.B, set TargetSet) (*Node, netip.AddrPort) {
	b.Helper()
	healthy := make(chan struct{}, len(set.Targets))
	node := NewNode(Config{LoadBalancer: "app/bench", Zone: "zone-a", Address: address(), Health: func(c HealthChange) {
		if c.State == Healthy {
			healthy <- struct{}{}
		}
	}})
	b.Cleanup(node.Close)
	node.ApplyGroup(Group{ARN: "g", Protocol: HTTP})
	node.ApplyTargets("g", set)
	err := node.Apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{{"g", 1}}}}}}})
	if err != nil {
		b.Fatal(err)
	}
	for range set.Targets {
		<-healthy
	}
	return node, netip.AddrPortFrom(node.config.Address, 8080)
}

// rate is how many requests were answered, in how much time and with how much CPU of this process.
type rate struct {
	answered  int64
	time, cpu time.Duration
}

func (r *rate) add(o rate) { r.answered += o.answered; r.time += o.time; r.cpu += o.cpu }

func (r rate) perSecond() float64    { return float64(r.answered) / r.time.Seconds() }
func (r rate) perCPUSecond() float64 { return float64(r.answered) / r.cpu.Seconds() }

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // impossible: both arguments are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// flood keeps 64 connections busy, each with one request after the other.
func flood(b *testing.B, to ...netip.AddrPort) rate {
	b.Helper()
	const lasts = 3 * time.Second
	var answered atomic.Int64
	var all errgroup.Group
	start, before := time.Now(), cpu()
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
	return rate{answered.Load(), time.Since(start), cpu() - before}
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
// targets share the machine. The client costs next to nothing, so that the ratio is the lowest that any client sees. What bounds it is
// shown by a relay in the node's place that looks at nothing and copies bytes: no proxy in user space can do better than its
// ratio. One round takes 9 s:
//
//	go test -run '^$' -bench Throughput -benchtime 3x ./sandbox/aws/dataplane/
func BenchmarkThroughput(b *testing.B) {
	f := newFleet(b, 250)
	relay := newRelay(b, f.targets)
	var balanced, direct, relayed rate
	for b.Loop() {
		balanced.add(flood(b, f.at))
		direct.add(flood(b, f.targets[:64]...)) // as many connections as to the node
		relayed.add(flood(b, relay))
	}
	b.ReportMetric(balanced.perSecond(), "balanced-req/s")
	b.ReportMetric(direct.perSecond(), "direct-req/s")
	b.ReportMetric(balanced.perSecond()/direct.perSecond(), "ratio")
	// What a machine that does nothing else could do is CPUs times this; it does not depend on the neighbours.
	b.ReportMetric(balanced.perCPUSecond(), "balanced-req/cpu-s")
	b.ReportMetric(direct.perCPUSecond(), "direct-req/cpu-s")
	b.ReportMetric(balanced.perCPUSecond()/direct.perCPUSecond(), "ratio-by-cpu")
	b.ReportMetric(relayed.perCPUSecond()/direct.perCPUSecond(), "relay-ratio-by-cpu")
}

// newRelay starts a relay that sends what it reads at once to the targets in turn, over connections that it keeps, and the answer back.
func newRelay(b *testing.B, targets []netip.AddrPort) netip.AddrPort {
	b.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address(), 8080).String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	var turn atomic.Int64
	idle := make([]chan net.Conn, len(targets))
	for i := range idle {
		idle[i] = make(chan net.Conn, idlePerTarget)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 4096)
				for err == nil {
					i := int(turn.Add(1)) % len(targets)
					err = exchangeBytes(conn, idle[i], targets[i], buffer)
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// exchangeBytes relays one question and its answer, each as large as one read.
func exchangeBytes(client net.Conn, idle chan net.Conn, target netip.AddrPort, buffer []byte) error {
	n, err := client.Read(buffer)
	if err != nil {
		return err
	}
	var upstream net.Conn
	select {
	case upstream = <-idle:
	default:
		if upstream, err = net.Dial("tcp", target.String()); err != nil {
			return err
		}
	}
	if _, err := upstream.Write(buffer[:n]); err != nil {
		return err
	}
	if n, err = upstream.Read(buffer); err != nil {
		return err
	}
	select {
	case idle <- upstream:
	default:
		_ = upstream.Close()
	}
	_, err = client.Write(buffer[:n])
	return err
}

// BenchmarkCapacity offers more requests than can be carried, by the load generator that the sandbox's users have, for 5 s through the
// node and for 5 s straight to the targets, and compares what was answered.
//
//	go test -run '^$' -bench Capacity -benchtime 3x ./sandbox/aws/dataplane/
func BenchmarkCapacity(b *testing.B) {
	f := newFleet(b, 250)
	carried := func(to ...netip.AddrPort) rate {
		before := cpu()
		r, err := load.Run(b.Context(), load.Config{
			Rate: 60_000, Duration: 5 * time.Second, Host: "bench", Connections: 64,
			Resolve: func(context.Context) ([]netip.AddrPort, error) { return to, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		if r.Failed > 0 {
			b.Fatalf("%d requests failed, first: %+v", r.Failed, r.Failures[0])
		}
		return rate{int64(r.Answered), r.Ended.Sub(r.Started), cpu() - before}
	}
	var balanced, direct rate
	for b.Loop() {
		balanced.add(carried(f.at))
		direct.add(carried(f.targets[:64]...))
	}
	b.ReportMetric(balanced.perSecond(), "balanced-req/s")
	b.ReportMetric(direct.perSecond(), "direct-req/s")
	b.ReportMetric(balanced.perSecond()/direct.perSecond(), "ratio")
	b.ReportMetric(balanced.perCPUSecond()/direct.perCPUSecond(), "ratio-by-cpu")
}

// BenchmarkSteady12000 puts 12,000 requests/s on for 5 s and reports the latency, and what the client could not send.
func BenchmarkSteady12000(b *testing.B) {
	f := newFleet(b, 250)
	for b.Loop() {
		before := cpu()
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
		b.ReportMetric(float64(cpu()-before)/float64(r.Ended.Sub(r.Started)), "cpus")
		b.ReportMetric(r.Latency.P50, "p50-ms")
		b.ReportMetric(r.Latency.P99, "p99-ms")
		b.ReportMetric(float64(r.Saturation.Unsent), "unsent")
	}
}

// BenchmarkAddedLatency puts 5,000 requests/s on, for 3 s through the node and for 3 s straight to the targets, and reports what the node adds.
//
//	go test -run '^$' -bench AddedLatency -benchtime 3x ./sandbox/aws/dataplane/
func BenchmarkAddedLatency(b *testing.B) {
	f := newFleet(b, 250)
	steady := func(to ...netip.AddrPort) load.Latency {
		r, err := load.Run(b.Context(), load.Config{
			Rate: 5_000, Duration: 3 * time.Second, Host: "bench",
			Resolve: func(context.Context) ([]netip.AddrPort, error) { return to, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		if r.Failed > 0 {
			b.Fatalf("%d requests failed, first: %+v", r.Failed, r.Failures[0])
		}
		return r.Latency
	}
	var p50, p99 []float64
	for b.Loop() {
		balanced, direct := steady(f.at), steady(f.targets...)
		p50, p99 = append(p50, balanced.P50-direct.P50), append(p99, balanced.P99-direct.P99)
	}
	slices.Sort(p50)
	slices.Sort(p99)
	b.ReportMetric(p50[len(p50)/2], "added-p50-ms")
	b.ReportMetric(p99[len(p99)/2], "added-p99-ms")
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
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			b.ReportAllocs()
			for n := 1; b.Loop(); n++ {
				if n%(requestsPerConnection-1) == 0 { // before the node closes the connection
					_ = conn.Close()
					if conn, err = net.Dial("tcp", way.to.String()); err != nil {
						b.Fatal(err)
					}
					r.Reset(conn)
				}
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
	l, err := compileListener(Listener{Port: 80, Protocol: HTTP, Rules: rules, Default: Action{Fixed: &FixedResponse{Status: 404}}}, true, nil)
	if err != nil {
		b.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodGet, "http://shop.example.com/service-99/cart?x=1", nil)
	b.ReportAllocs()
	for b.Loop() {
		s := newSubject(r, netip.Addr{})
		if a, _ := l.match(&s); a.fixed.Status != 200 {
			b.Fatal("no match")
		}
	}
}

// BenchmarkTenThousandTargets registers 10,000 targets with three nodes that share their probes, waits until each node sees
// each target healthy, and keeps the checks running for one interval.
//
//	go test -run '^$' -bench TenThousand -benchtime 1x ./sandbox/aws/dataplane/
func BenchmarkTenThousandTargets(b *testing.B) {
	const n, nodes = 10_000, 3
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	b.Cleanup(func() { _ = server.Close() })
	var set TargetSet
	for range n {
		t := Target{Address: address(), Port: 8080, Zone: "all"}
		l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, t.Port).String())
		if err != nil {
			b.Skipf("cannot open %d listeners here: %v", n, err)
		}
		go func() { _ = server.Serve(l) }()
		set.Targets = append(set.Targets, t)
	}
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse+m.StackInuse) / (1 << 20)
	}
	for b.Loop() {
		before, start := heap(), time.Now()
		probes := NewProbes(nil)
		var healthy sync.WaitGroup
		healthy.Add(n * nodes)
		for range nodes {
			node := NewNode(Config{LoadBalancer: "app/bench", Address: address(), Probes: probes, Health: func(c HealthChange) {
				if c.State == Healthy {
					healthy.Done()
				}
			}})
			defer node.Close()
			node.ApplyGroup(Group{ARN: "g", Protocol: HTTP, HealthCheck: HealthCheck{Interval: 10 * time.Second}})
			node.ApplyTargets("g", set)
		}
		applied := time.Since(start)
		healthy.Wait()
		b.ReportMetric(applied.Seconds(), "s-to-apply")
		b.ReportMetric(time.Since(start).Seconds(), "s-to-healthy")
		b.ReportMetric(heap()-before, "MB")
		used := cpu()
		time.Sleep(10 * time.Second) // not to let anything settle: this is the interval that is measured
		b.ReportMetric(float64(cpu()-used)/float64(10*time.Second), "cpus-while-checking")
	}
}

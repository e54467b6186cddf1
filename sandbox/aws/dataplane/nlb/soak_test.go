package nlb

import (
	"bufio"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
)

// footprint is what a process holds on to.
type footprint struct {
	goroutines, handles int
	heap                float64 // MB
}

// measure waits until the flows of the node have ended, and then looks.
func measure(node *Node) footprint {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		node.mu.Lock()
		flows := len(node.flows)
		node.mu.Unlock()
		if flows == 0 {
			break
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := footprint{goroutines: runtime.NumGoroutine(), heap: float64(m.HeapInuse) / (1 << 20)}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		f.handles = len(list)
	}
	return f
}

// soak is 16 clients, good and bad, while weights and targets change all the time.
func soak(b *testing.B, node *Node, lasts time.Duration, change func(round int)) (flows int64) {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	to := node.config.Address.String() + ":8080"
	for i := range 16 {
		all.Go(func() {
			for time.Since(start) < lasts {
				network := "tcp"
				if i%4 == 0 {
					network = "udp"
				}
				conn, err := net.Dial(network, to)
				if err != nil {
					continue // the node has sent an RST before the client knew that it was connected
				}
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = io.WriteString(conn, "hello\n")
				if i%4 != 1 { // those do not wait for the answer
					_, _ = bufio.NewReader(conn).ReadString('\n')
				}
				blackhole.Reset(conn)
				done.Add(1)
			}
		})
	}
	for round := 0; time.Since(start) < lasts; round++ {
		change(round)
		time.Sleep(20 * time.Millisecond) // the pace of the changes
	}
	all.Wait()
	return done.Load()
}

// BenchmarkSoak reports by how much the process has grown after many flows, from a first part of the same length on:
//
//	go test -run '^$' -bench Soak -benchtime 1x -timeout 30m ./sandbox/aws/dataplane/nlb/
//
// LOCKSTEP_SOAK sets the length of each part, 10 s without it.
func BenchmarkSoak(b *testing.B) {
	lasts := 10 * time.Second
	if text := os.Getenv("LOCKSTEP_SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	node := NewNode(Config{LoadBalancer: "net/soak", Zone: "zone-a", Address: address(), Scale: 0.002})
	b.Cleanup(node.Close)
	w := &world{T: &testing.T{}, node: node}
	one, two := newApp(b, "one"), newApp(b, "two")
	for _, arn := range []string{"g", "h"} {
		g := quick(arn)
		g.Network.TerminateDeregistered = true
		node.ApplyGroup(g)
	}
	change := func(round int) {
		weights := [][2]int{{1, 0}, {1, 1}, {0, 1}, {1, 1}}[round%4]
		_ = node.Apply(dataplane.NodeConfig{Listeners: []dataplane.Listener{{Port: 8080, Protocol: dataplane.TCPUDP, Default: dataplane.Action{Forward: &dataplane.Forward{
			Groups: []dataplane.WeightedGroup{{ARN: "g", Weight: weights[0]}, {ARN: "h", Weight: weights[1]}},
		}}}}})
		w.set("g", one.Target, two.Target)
		if round%50 == 0 {
			w.set("h", draining(one, 10*time.Millisecond), two.Target)
		} else {
			w.set("h", one.Target, two.Target)
		}
	}
	for b.Loop() {
		flows := soak(b, node, lasts, change)
		before := measure(node)
		flows += soak(b, node, lasts, change)
		after := measure(node)
		b.ReportMetric(float64(flows), "flows")
		b.ReportMetric(float64(after.goroutines-before.goroutines), "more-goroutines")
		b.ReportMetric(float64(after.handles-before.handles), "more-handles")
		b.ReportMetric(after.heap-before.heap, "more-MB")
		b.ReportMetric(after.heap, "MB")
	}
}

// newApp is a target for benchmarks.
func newApp(b *testing.B, name string) *app {
	b.Helper()
	a := &app{name: name, Target: dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}}
	at := a.Address.String() + ":9000"
	l, err := net.Listen("tcp", at)
	if err != nil {
		b.Fatal(err)
	}
	p, err := net.ListenPacket("udp", at)
	if err != nil {
		b.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { a.accept(l) })
	work.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := p.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte(a.answer(from, string(buffer[:n]))), from)
		}
	})
	b.Cleanup(func() { _, _ = l.Close(), p.Close(); work.Wait() })
	return a
}

package nlb

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// sink is a target that throws away what it gets and then says how much that was, by closing.
func sink(b *testing.B) dataplane.Target {
	b.Helper()
	t := dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}
	l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, t.Port).String())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 256<<10)
				for {
					if _, err := conn.Read(buffer); err != nil {
						return
					}
				}
			}()
		}
	}()
	b.Cleanup(func() { _ = l.Close() })
	return t
}

// carried is how many bytes went to a target, in how much time and with how much CPU of this process.
type carried struct {
	bytes     int64
	time, cpu time.Duration
}

func (c *carried) add(o carried) { c.bytes += o.bytes; c.time += o.time; c.cpu += o.cpu }

func (c carried) perSecond() float64    { return float64(c.bytes) / 1e6 / c.time.Seconds() }
func (c carried) perCPUSecond() float64 { return float64(c.bytes) / 1e6 / c.cpu.Seconds() }

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // impossible: both arguments are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// push sends on some connections for two seconds, until the last byte has arrived.
func push(b *testing.B, to netip.AddrPort, connections int) carried {
	b.Helper()
	const lasts = 2 * time.Second
	var all sync.WaitGroup
	var mu sync.Mutex
	var sum int64
	start, before := time.Now(), cpu()
	for range connections {
		all.Go(func() {
			conn, err := net.Dial("tcp", to.String())
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			chunk, sent := make([]byte, 256<<10), int64(0)
			for time.Since(start) < lasts {
				n, err := conn.Write(chunk)
				if err != nil {
					b.Error(err)
					return
				}
				sent += int64(n)
			}
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn) // ends when the target has read all
			mu.Lock()
			sum += sent
			mu.Unlock()
		})
	}
	all.Wait()
	return carried{sum, time.Since(start), cpu() - before}
}

// BenchmarkBytes pushes bytes through a node and directly, on 8 connections at a time; client, node and target share the machine. One round
// takes 4 s:
//
//	go test -run '^$' -bench Bytes -benchtime 3x ./sandbox/aws/dataplane/nlb/
func BenchmarkBytes(b *testing.B) {
	node := NewNode(Config{LoadBalancer: "net/bench", Zone: "zone-a", Address: address()})
	b.Cleanup(node.Close)
	t := sink(b)
	node.ApplyGroup(quick("g"))
	node.ApplyTargets("g", dataplane.TargetSet{Targets: []dataplane.Target{t}})
	if err := node.Apply(dataplane.NodeConfig{Listeners: []dataplane.Listener{{Port: 8080, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: new(to("g"))}}}}); err != nil {
		b.Fatal(err)
	}
	for node.Health("g")[t.Key()].State != dataplane.Healthy {
		time.Sleep(time.Millisecond)
	}
	var balanced, direct carried
	for b.Loop() {
		balanced.add(push(b, netip.AddrPortFrom(node.config.Address, 8080), 8))
		direct.add(push(b, netip.AddrPortFrom(t.Address, t.Port), 8))
	}
	b.ReportMetric(balanced.perSecond(), "balanced-MB/s")
	b.ReportMetric(direct.perSecond(), "direct-MB/s")
	b.ReportMetric(balanced.perSecond()/direct.perSecond(), "ratio")
	// What a machine that does nothing else could do is CPUs times this; it does not depend on the neighbours.
	b.ReportMetric(balanced.perCPUSecond(), "balanced-MB/cpu-s")
	b.ReportMetric(direct.perCPUSecond(), "direct-MB/cpu-s")
	b.ReportMetric(balanced.perCPUSecond()/direct.perCPUSecond(), "ratio-by-cpu")
}

// BenchmarkFlows opens a flow, sends a line, reads the answer and closes it, one after the other, through a node and directly.
func BenchmarkFlows(b *testing.B) {
	node := NewNode(Config{LoadBalancer: "net/bench", Zone: "zone-a", Address: address()})
	b.Cleanup(node.Close)
	t := &app{name: "a", Target: dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}}
	l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, t.Port).String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go t.accept(l)
	node.ApplyGroup(quick("g"))
	node.ApplyTargets("g", dataplane.TargetSet{Targets: []dataplane.Target{t.Target}})
	if err := node.Apply(dataplane.NodeConfig{Listeners: []dataplane.Listener{{Port: 8080, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: new(to("g"))}}}}); err != nil {
		b.Fatal(err)
	}
	for node.Health("g")[t.Key()].State != dataplane.Healthy {
		time.Sleep(time.Millisecond)
	}
	for _, way := range []struct {
		name string
		to   netip.AddrPort
	}{{"direct", netip.AddrPortFrom(t.Address, t.Port)}, {"balanced", netip.AddrPortFrom(node.config.Address, 8080)}} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			answer := make([]byte, 100)
			for b.Loop() {
				conn, err := net.Dial("tcp", way.to.String())
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.WriteString(conn, "hello\n")
				if _, err := conn.Read(answer); err != nil {
					b.Fatal(err)
				}
				_ = conn.(*net.TCPConn).SetLinger(0) // no port of ours waits for stray segments
				_ = conn.Close()
			}
		})
	}
}

package soak

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// footprint is what a process holds on to.
type footprint struct {
	goroutines, handles int
	heap                float64 // MB that are in use after a collection
}

func measure() footprint {
	runtime.GC()
	runtime.GC() // what the first one has taken from pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := footprint{goroutines: runtime.NumGoroutine(), heap: float64(m.HeapAlloc) / (1 << 20)}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		f.handles = len(list)
	}
	return f
}

// within says whether a footprint is no larger than another one, but for a few connections that are kept for the next request and a little
// memory.
func (f footprint) within(g footprint) bool {
	return f.goroutines <= g.goroutines+16 && f.handles <= g.handles+16 && f.heap <= g.heap*1.1+3
}

// settle waits until enough is closed, for as long as the longest time-out that a bad client can use up.
func settle(enough func(footprint) bool) footprint {
	f := measure()
	for deadline := time.Now().Add(90 * time.Second); !enough(f) && time.Now().Before(deadline); f = measure() {
		time.Sleep(20 * time.Millisecond)
	}
	return f
}

// load lets all kinds of clients act at the same time.
func (w *world) load(lasts time.Duration, seed uint64) {
	ctx, cancel := context.WithTimeout(w.Context(), lasts)
	defer cancel()
	var all sync.WaitGroup
	for i, kind := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				kind.act(w, ctx, r)
				w.done.Add(1)
				linger(ctx, 20*time.Millisecond) // the pace of bad clients
			}
		})
	}
	all.Wait()
	w.client.CloseIdleConnections()
}

// profile keeps what is on the heap in the folder that LOCKSTEP_SOAK_PROFILES names: what has grown is told by
// go tool pprof -diff_base first.heap last.heap.
func (w *world) profile(name string) {
	dir := os.Getenv("LOCKSTEP_SOAK_PROFILES")
	if dir == "" {
		return
	}
	f, err := os.Create(filepath.Join(dir, name+".heap"))
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	if err := pprof.Lookup("heap").WriteTo(f, 0); err != nil {
		w.Error(err)
	}
}

// soak compares what the process holds after the first quarter with what it holds after the last.
func soak(tb testing.TB, lasts time.Duration) (first, last footprint, actions int64) {
	w := newWorld(tb, func(*aws.Config) {})
	w.furnish()
	w.client.CloseIdleConnections()
	empty := measure()
	w.load(lasts/4, 1)
	first = settle(func(f footprint) bool { return f.goroutines <= empty.goroutines+16 && f.handles <= empty.handles+16 })
	w.profile("first")
	w.load(lasts*3/4, 2)
	last = settle(func(f footprint) bool { return f.within(first) })
	w.profile("last")
	tb.Logf("empty %+v, after a quarter %+v, in the end %+v, %d actions", empty, first, last, w.done.Load())
	return first, last, w.done.Load()
}

// Bad clients leave nothing behind: seconds of what BenchmarkSoak does for minutes.
func TestBadClientsLeaveNothingBehind(t *testing.T) {
	if first, last, _ := soak(t, 6*time.Second); !last.within(first) {
		var stacks [1 << 20]byte
		t.Errorf("the process has grown from %+v to %+v\n%s", first, last, stacks[:runtime.Stack(stacks[:], true)])
	}
}

// BenchmarkSoak reports by how much the process has grown from the first quarter to the last:
//
//	LOCKSTEP_SOAK=10m go test -run '^$' -bench Soak -benchtime 1x -timeout 30m ./sandbox/aws/soak
//
// LOCKSTEP_SOAK sets the length of the whole, 20 s without it.
func BenchmarkSoak(b *testing.B) {
	lasts := 20 * time.Second
	if text := os.Getenv("LOCKSTEP_SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		first, _, actions := soak(b, lasts)
		// What is still being closed is no growth: the figure is what stays.
		last := settle(func(f footprint) bool { return f.goroutines <= first.goroutines && f.handles <= first.handles })
		b.ReportMetric(float64(actions), "actions")
		b.ReportMetric(float64(last.goroutines-first.goroutines), "more-goroutines")
		b.ReportMetric(float64(last.handles-first.handles), "more-handles")
		b.ReportMetric(last.heap-first.heap, "more-MB")
		b.ReportMetric(last.heap, "MB")
		if !last.within(first) {
			b.Errorf("the process has grown from %+v to %+v", first, last)
		}
	}
}

// What the soak asserts can fail: goroutines, sockets and memory that stay are each found.
func TestLeaksAreFound(t *testing.T) {
	for name, leak := range map[string]func() (end func()){
		"goroutines": func() func() {
			stop := make(chan struct{})
			for range 30 {
				go func() { <-stop }()
			}
			return func() { close(stop) }
		},
		"sockets": func() func() {
			var open []net.Listener
			for range 30 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, l)
			}
			return func() {
				for _, l := range open {
					_ = l.Close()
				}
			}
		},
		"memory": func() func() {
			kept := make([]byte, 64<<20)
			return func() { runtime.KeepAlive(kept) }
		},
	} {
		before := measure()
		end := leak()
		if after := measure(); after.within(before) {
			t.Errorf("a leak of %s was not found: %+v, %+v", name, before, after)
		}
		end()
	}
}

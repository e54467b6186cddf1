package nlb

import (
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// Flows that wait hold little: of TCP the two connections and no pipe, of UDP one socket and no buffer.
func TestWaitingFlowsHoldLittle(t *testing.T) {
	w := newWorldAlone(t) // it counts what the process has
	w.group("g", []*app{w.serve("a")}, datagramGroup)
	w.listen(dataplane.TCPUDP, to("g"))
	const flows = 150
	before := holding(t)
	for range flows {
		w.wantAnswer(w.dial(), "a")
	}
	if more := holding(t).handles - before.handles; more > 5*flows { // those of client and target are among them
		t.Errorf("%d TCP flows hold %d file handles", flows, more)
	}
	before = holding(t)
	for range flows {
		w.exchange(w.socket())
	}
	if more := holding(t).heap - before.heap; more > 3 {
		t.Errorf("%d UDP flows hold %.1f MB", flows, more)
	}
}

// holding is what the process has at this moment.
func holding(t *testing.T) footprint {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not list file handles")
	}
	runtime.GC()
	runtime.GC() // the first one only moves what pools have
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{handles: len(list), heap: float64(m.HeapAlloc+m.StackInuse) / (1 << 20)}
}

// Whatever moves the bytes, all of them arrive, in order, and are counted.
func TestBulkArrivesWhole(t *testing.T) {
	const size = 3*turns*spliced/2 + 12345 // by the kernel, by reads in between, and the rest
	near, in := tcpPair(t)
	out, far := tcpPair(t)
	sent, got := crc32.NewIEEE(), crc32.NewIEEE()
	go func() {
		defer near.Close()
		_, _ = io.CopyN(io.MultiWriter(near, sent), rand.NewChaCha8([32]byte{1}), size)
	}()
	received := make(chan int64)
	go func() {
		n, _ := io.Copy(got, far)
		received <- n
	}()
	var moved atomic.Uint64
	if err := move(out, in, &moved); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	if n := <-received; n != size || moved.Load() != size || sent.Sum32() != got.Sum32() {
		t.Errorf("%d bytes of %d arrived, %d were counted, sums %x and %x", n, size, moved.Load(), sent.Sum32(), got.Sum32())
	}
	if len(splices) != 0 {
		t.Errorf("%d flows are still taken for bulk", len(splices))
	}
}

func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near.(*net.TCPConn), far.(*net.TCPConn)
}

package nlb

import (
	"os"
	"runtime"
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

package nlb

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
)

// Clients that break off, never speak, speak no TLS, half-close or are cut leave no flow and no file handle behind.
func TestAbuseLeavesNothing(t *testing.T) {
	w := newWorldAlone(t) // it counts what the process has
	a := w.serve("a")
	w.group("g", []*app{a}, datagramGroup)
	plain := dataplane.Listener{Port: 8080, Protocol: dataplane.TCPUDP, Default: dataplane.Action{Forward: new(to("g"))}}
	encrypted := dataplane.Listener{Port: 8443, Protocol: dataplane.TLS, Default: plain.Default, Certificates: nil}
	secured(certificate(t))(&encrypted)
	if err := w.node.Apply(dataplane.NodeConfig{Listeners: []dataplane.Listener{plain, encrypted}}); err != nil {
		t.Fatal(err)
	}
	handles := func() int {
		runtime.GC() // the pipes of finished flows wait for it
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("this system does not tell the number of file handles")
		}
		return len(list)
	}
	before := handles()
	dial := func(port string) net.Conn {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.at.Addr().String()+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for range 40 {
		for _, abuse := range []func(){
			func() { _ = dial("8080").Close() },
			func() { blackhole.Reset(dial("8080")) },
			func() { c := dial("8080"); _, _ = io.WriteString(c, "no line"); _ = c.Close() },
			func() { c := dial("8080"); _, _ = io.WriteString(c, "line\n"); blackhole.Reset(c) },
			func() { _ = dial("8443").Close() },
			func() {
				c := dial("8443")
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			},
			func() {
				c := dial("8080")
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			},
		} {
			abuse()
		}
	}
	w.eventually("flows and handles are back to what they were", func() bool {
		w.node.mu.Lock()
		flows := len(w.node.flows)
		w.node.mu.Unlock()
		return flows == 0 && w.node.dropped.Len() == 0 && handles() <= before+2 // a check may be under way
	})
	if s := w.node.Stats().Network; s.ClientResets == 0 || s.ClientTLSErrors < 40 {
		t.Errorf("stats %+v", s)
	}
	w.wantAnswer(w.dial(), "a")
}

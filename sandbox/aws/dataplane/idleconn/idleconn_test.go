package idleconn

import (
	"io"
	"net"
	"testing"
	"time"
)

func pair(t *testing.T) (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

// settles waits for the loopback to carry what was sent.
func settles(t *testing.T, p Probe, want bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for p.Alive() != want {
		if time.Now().After(deadline) {
			t.Fatalf("Alive is still %v", !want)
		}
	}
}

func TestAliveUntilTheOtherEndCloses(t *testing.T) {
	near, far := pair(t)
	p := New(near)
	if !p.Alive() {
		t.Fatal("a fresh connection is not alive")
	}
	_ = far.Close()
	settles(t, p, false)
}

func TestAliveTakesNothing(t *testing.T) {
	near, far := pair(t)
	p := New(near)
	_, _ = io.WriteString(far, "x")
	settles(t, p, false) // unasked bytes: not fit for a request
	got := make([]byte, 1)
	if _, err := near.Read(got); err != nil || got[0] != 'x' {
		t.Fatalf("read %q, %v", got, err)
	}
	if !p.Alive() {
		t.Fatal("not alive after the bytes were read")
	}
}

func TestClosedByUsIsNotAlive(t *testing.T) {
	near, _ := pair(t)
	p := New(near)
	_ = near.Close()
	if p.Alive() {
		t.Fatal("a closed connection is alive")
	}
}

package blackhole

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// What was swallowed is silent for as long as a client would try to connect, and then over.
func TestSilentUntilPatienceIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hole Hole
		defer hole.Close()
		client, server := net.Pipe()
		hole.Swallow(server)
		_ = client.SetReadDeadline(time.Now().Add(Patience - time.Second))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("before the end the client reads: %v", err)
		}
		_ = client.SetReadDeadline(time.Time{})
		start := time.Now()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) != time.Second {
			t.Fatalf("after another %v the client reads: %v", time.Since(start), err)
		}
		if hole.Len() != 0 {
			t.Fatalf("%d connections are kept for ever", hole.Len())
		}
	})
}

func TestCapacityIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hole Hole
		first, server := net.Pipe()
		hole.Swallow(server)
		for range capacity {
			_, server := net.Pipe()
			hole.Swallow(server)
		}
		if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || hole.Len() != capacity {
			t.Fatalf("the oldest of %d: %v", hole.Len(), err)
		}
		hole.Close()
		client, server := net.Pipe()
		hole.Swallow(server)
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || hole.Len() != 0 {
			t.Fatalf("a closed hole keeps %d: %v", hole.Len(), err)
		}
	})
}

// Package blackhole keeps connections that a firewall has dropped: nobody reads from them and nobody answers, so that
// whoever is at the other end waits until it gives up.
//
// What a node drops itself the kernel drops for it (dataplane.Door), so that the attempt to connect times out as it does in a VPC. This is for
// the rest: where the kernel takes no filter, when a rule has just changed, and when the way on from the node is closed. There the
// client sees an established connection on which nothing ever comes, since the kernel completes the TCP handshake before a program can
// look at the peer.
package blackhole

import (
	"net"
	"sync"
	"time"
)

// Patience is for how long a connection is kept: about as long as Linux repeats a SYN that nobody answers.
const Patience = 127 * time.Second

// capacity bounds the connections that are kept; the oldest goes when there are more.
const capacity = 4096

// Hole keeps connections. The zero value is ready to use.
type Hole struct {
	mu     sync.Mutex
	kept   []entry // the oldest first
	timer  *time.Timer
	closed bool
}

type entry struct {
	conn net.Conn
	end  time.Time
}

// Swallow takes a connection, which ends after Patience or with the hole. The peer gets no farewell before.
func (h *Hole) Swallow(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		Reset(conn)
		return
	}
	if len(h.kept) == capacity {
		Reset(h.kept[0].conn)
		h.kept = h.kept[1:]
	}
	h.kept = append(h.kept, entry{conn, time.Now().Add(Patience)})
	if h.timer == nil {
		h.timer = time.AfterFunc(Patience, h.expire)
	}
}

func (h *Hole) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for len(h.kept) > 0 && !h.kept[0].end.After(now) {
		Reset(h.kept[0].conn)
		h.kept = h.kept[1:]
	}
	h.timer = nil
	if len(h.kept) > 0 && !h.closed {
		h.timer = time.AfterFunc(h.kept[0].end.Sub(now), h.expire)
	}
}

// Len is the number of connections that are kept.
func (h *Hole) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.kept)
}

// Close ends all connections, and those still to come at once.
func (h *Hole) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	for _, e := range h.kept {
		Reset(e.conn)
	}
	h.kept = nil
}

// Reset ends a connection so that its peer gets an RST and not a FIN.
func Reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

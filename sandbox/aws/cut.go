package aws

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// flows are the connections of load balancer nodes, so that the loss of a zone cuts those that are open: what comes in is dropped, and they hang
// until somebody gives up or the zone is back. Nobody tells when a connection ends; ended ones are looked for when there are twice as many as were
// left the last time.
type flows struct {
	mu    sync.Mutex
	open  map[*net.TCPConn]*flow
	limit int
}

type flow struct {
	ends [3]netip.Addr // in the VPC
	cut  bool
}

// leastFlows is how many connections there have to be before ended ones are looked for.
const leastFlows = 1024

// Follow implements dataplane.Follower.
func (f firewall) Follow(conn *net.TCPConn, p dataplane.Packet) {
	all := &f.flows
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.open) >= max(leastFlows, all.limit) {
		all.sweep()
	}
	one := &flow{ends: [3]netip.Addr{p.From, p.To.Addr(), p.Via}}
	all.open[conn] = one
	if !f.faults.Quiet() {
		f.sever(conn, one)
	}
}

// sweep forgets the connections that have ended. The caller holds the lock.
func (a *flows) sweep() {
	for conn := range a.open {
		raw, err := conn.SyscallConn()
		if err == nil {
			err = raw.Control(func(uintptr) {})
		}
		if err != nil {
			delete(a.open, conn)
		}
	}
	a.limit = 2 * len(a.open)
}

// sever cuts a connection that a lost zone is part of, or mends it, and says whether it has. The caller holds the lock.
func (e *Emulator) sever(conn *net.TCPConn, f *flow) (changed bool) {
	before := f.cut
	lost := false
	for _, a := range f.ends {
		lost = lost || e.faults.Loses(e.zoneOf(a))
	}
	switch {
	case lost == f.cut:
	case lost:
		f.cut = sockopt.Deafen(conn) == nil
	default:
		sockopt.ClearFilter(conn)
		f.cut = false
	}
	return f.cut != before
}

// severFlows lets zones that come and go cut and mend connections, until Close.
func (e *Emulator) severFlows() {
	for {
		changed := e.faults.Changed()
		_, _, until := e.faults.Failed()
		cut, mended := 0, 0
		e.flows.mu.Lock()
		for conn, f := range e.flows.open {
			switch {
			case !e.sever(conn, f):
			case f.cut:
				cut++
			default:
				mended++
			}
		}
		e.flows.mu.Unlock()
		if cut+mended > 0 {
			e.record("ConnectionsCut", time.Now(), map[string]int{"cut": cut, "mended": mended})
		}
		var edge <-chan time.Time
		if !until.IsZero() {
			edge = time.After(time.Until(until))
		}
		select {
		case <-changed:
		case <-edge:
		case <-e.closing:
			return
		}
	}
}

package dataplane

import (
	"errors"
	"sync/atomic"
	"time"
)

// usage counts what one target did, without locks: it is touched by every request.
type usage struct {
	requests, inFlight             atomic.Uint64
	status                         [6]atomic.Uint64
	connectErrors, brokenResponses atomic.Uint64
	tlsErrors                      atomic.Uint64
	first, last, done              atomic.Int64 // nanoseconds since the epoch
}

// began counts a request handed to the target; it says whether it was the first one.
func (u *usage) began(now time.Time) bool {
	at := now.UnixNano()
	u.last.Store(at)
	return u.requests.Add(1) == 1 && u.first.CompareAndSwap(0, at)
}

func (u *usage) ended() { u.done.Store(time.Now().UnixNano()) }

// broke counts a response that the target did not complete. When the client has gone it is not the target's fault.
func (u *usage) broke(err error) {
	if !errors.Is(err, errClientGone) {
		u.brokenResponses.Add(1)
	}
}

func (u *usage) snapshot() TargetUsage {
	s := TargetUsage{
		Requests: u.requests.Load(), InFlight: u.inFlight.Load(),
		ConnectErrors: u.connectErrors.Load(), BrokenResponses: u.brokenResponses.Load(), TLSErrors: u.tlsErrors.Load(),
		FirstRequest: moment(u.first.Load()), LastRequest: moment(u.last.Load()), LastDone: moment(u.done.Load()),
	}
	for i := range s.Status {
		s.Status[i] = u.status[i].Load()
	}
	return s
}

func moment(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

// counters count what a node does itself.
type counters struct {
	requests         atomic.Uint64
	generated        [600]atomic.Uint64
	fixed, redirects atomic.Uint64

	clientConnections               atomic.Int64 // open now
	newConnections, rejected        atomic.Uint64
	processed                       atomic.Uint64 // bytes from and to clients
	clientTLSErrors, nonCompliant   atomic.Uint64
	invalidDropped, invalidForwards atomic.Uint64
	newTargetConnections            atomic.Uint64
	evaluations, nonSticky, grpc    atomic.Uint64
	redirectsTooLong                atomic.Uint64
	ipv6Requests                    atomic.Uint64
}

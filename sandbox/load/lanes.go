package load

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// lanes are the nodes of the load balancer. Requests take them in turn; each lane has its own connections, each
// connection one worker. A request that finds the lane without idle connection gets a new one, while the
// bound allows; then an idle one of another lane is given up for it; then it waits, for a connection of its own lane if one
// becomes free in time.
type lanes struct {
	config  Config
	record  *record
	workers sync.WaitGroup

	mu       sync.Mutex
	current  []*lane
	turn     int
	open     int // workers, those of addresses no longer in use included
	finished bool
	swept    time.Time
}

// lane is one address. Guarded by lanes.mu.
type lane struct {
	address netip.AddrPort
	retired bool
	idle    []*worker // the newest last, and used first
	backlog []time.Time
}

// patience is how much longer a request of another lane must have waited before a connection changes lanes for it.
const patience = 50 * time.Millisecond

func (l *lanes) init(c Config, r *record) { l.config, l.record = c, r }

// use makes the given addresses the ones to send to. Connections to others are closed as their requests end.
func (l *lanes) use(addresses []netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make([]*lane, 0, len(addresses))
	for _, a := range addresses {
		i := slices.IndexFunc(l.current, func(old *lane) bool { return old.address == a })
		if i >= 0 {
			next = append(next, l.current[i])
		} else {
			next = append(next, &lane{address: a})
		}
	}
	for _, old := range l.current {
		if !slices.Contains(next, old) {
			old.retired = true
			l.dismiss(old, len(old.idle))
			next[0].backlog = append(next[0].backlog, old.backlog...)
			slices.SortFunc(next[0].backlog, time.Time.Compare)
			old.backlog = nil
		}
	}
	l.current = next
}

// dispatch hands out one request.
func (l *lanes) dispatch(intended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.swept) > time.Second {
		l.swept = now
		l.sweep(now)
	}
	lane := l.current[l.turn%len(l.current)]
	l.turn++
	w := lane.newestIdle()
	switch {
	case w != nil:
	case l.open < l.config.Connections:
		l.open++
		w = newWorker(l, lane)
		l.workers.Go(func() { w.run(intended) })
		return
	default:
		w = l.oldestIdle()
	}
	if w == nil {
		l.record.delayed()
		lane.backlog = append(lane.backlog, intended)
		return
	}
	w.lane = lane
	w.next <- intended
}

func (ln *lane) newestIdle() *worker {
	last := len(ln.idle) - 1
	if last < 0 {
		return nil
	}
	w := ln.idle[last]
	ln.idle = ln.idle[:last]
	return w
}

func (l *lanes) oldestIdle() *worker {
	for _, lane := range l.current {
		if len(lane.idle) > 0 {
			w := lane.idle[0]
			lane.idle = slices.Delete(lane.idle, 0, 1)
			return w
		}
	}
	return nil
}

// sweep closes connections that have been idle for long, and gives up requests that have waited for too long.
func (l *lanes) sweep(now time.Time) {
	for _, lane := range l.current {
		n := 0
		for n < len(lane.idle) && now.Sub(lane.idle[n].since) > l.config.IdleTimeout {
			n++
		}
		l.dismiss(lane, n)
		for len(lane.backlog) > 0 && now.Sub(lane.backlog[0]) > l.config.Timeout {
			l.record.unsent(lane.backlog[0])
			lane.backlog = lane.backlog[1:]
		}
	}
}

// dismiss ends the n oldest idle workers of a lane.
func (l *lanes) dismiss(ln *lane, n int) {
	for _, w := range ln.idle[:n] {
		close(w.next)
	}
	ln.idle = slices.Delete(ln.idle, 0, n)
	l.open -= n
}

// done takes a worker back that has finished a request. It returns the next request if one has waited; otherwise
// the worker is idle, and the next one comes through its channel, unless the worker is no longer needed.
func (l *lanes) done(w *worker) (waited time.Time, idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.nextWaiting(w.lane); lane != nil {
		waited = lane.backlog[0]
		lane.backlog = lane.backlog[1:]
		w.lane = lane
		return waited, false
	}
	if w.lane.retired || l.finished {
		l.open--
		return time.Time{}, false
	}
	w.since = time.Now()
	w.lane.idle = append(w.lane.idle, w)
	return time.Time{}, true
}

// nextWaiting is the lane whose oldest request is next for a connection of the lane own, nil when none waits.
func (l *lanes) nextWaiting(own *lane) *lane {
	var oldest *lane
	for _, lane := range l.current {
		if len(lane.backlog) > 0 && (oldest == nil || lane.backlog[0].Before(oldest.backlog[0])) {
			oldest = lane
		}
	}
	if oldest == nil || len(own.backlog) == 0 || own.backlog[0].Sub(oldest.backlog[0]) > patience {
		return oldest
	}
	return own
}

// finish waits for what is under way and closes all connections.
func (l *lanes) finish() {
	l.mu.Lock()
	l.finished = true
	for _, lane := range l.current {
		l.dismiss(lane, len(lane.idle))
	}
	l.mu.Unlock()
	l.workers.Wait()
}

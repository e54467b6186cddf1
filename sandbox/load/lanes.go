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
//
// An address that is no longer told retires its lane. Its connections are used on, in turn with the others, as a client does
// that looks a name up only to connect; when one ends, its worker connects to another address.
type lanes struct {
	config  Config
	record  *record
	workers sync.WaitGroup

	mu       sync.Mutex
	current  []*lane
	leaving  []*lane // retired ones with idle connections
	turn     int
	open     int // workers, those of addresses no longer in use included
	finished bool
	swept    time.Time
}

// lane is one address. Guarded by lanes.mu.
type lane struct {
	address netip.AddrPort
	// retired lanes get no new connections: the address was not in the last answer.
	retired bool
	idle    []*worker // the newest last, and used first
	backlog []time.Time
}

// patience is how much longer a request of another lane must have waited before a connection changes lanes for it.
const patience = 50 * time.Millisecond

func (l *lanes) init(c Config, r *record) { l.config, l.record = c, r }

// use makes the given addresses the ones to connect to. Connections to others stay in use.
func (l *lanes) use(addresses []netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := slices.Concat(l.current, l.leaving)
	next := make([]*lane, 0, len(addresses))
	for _, a := range addresses {
		i := slices.IndexFunc(known, func(old *lane) bool { return old.address == a })
		if i >= 0 {
			known[i].retired = false
			next = append(next, known[i])
		} else {
			next = append(next, &lane{address: a})
		}
	}
	l.current, l.leaving = next, nil
	for _, old := range known {
		if !slices.Contains(next, old) {
			old.retired = true
			next[0].backlog = append(next[0].backlog, old.backlog...)
			slices.SortFunc(next[0].backlog, time.Time.Compare)
			old.backlog = nil
			l.leaving = append(l.leaving, old)
		}
	}
	l.tidy()
}

// tidy forgets the retired lanes that have no idle connection. One that comes back from a request is found again by done.
func (l *lanes) tidy() {
	l.leaving = slices.DeleteFunc(l.leaving, func(old *lane) bool { return len(old.idle) == 0 })
}

// next is the lane whose turn it is: one of those to connect to, or a retired one with a connection to use on.
func (l *lanes) next() *lane {
	i := l.turn % (len(l.current) + len(l.leaving))
	l.turn++
	if i < len(l.current) {
		return l.current[i]
	}
	return l.leaving[i-len(l.current)]
}

// toConnect is the lane for which a worker opens a connection: its own, or another in place of a retired one.
func (l *lanes) toConnect(own *lane) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !own.retired {
		return own
	}
	l.turn++
	return l.current[l.turn%len(l.current)]
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
	lane := l.next()
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
	l.tidy()
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
	for _, lane := range slices.Concat(l.leaving, l.current) {
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
	for _, lane := range slices.Concat(l.current, l.leaving) {
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
	l.tidy()
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
	if w.lane.retired { // perhaps the address has come back in the meantime
		if i := slices.IndexFunc(l.current, func(lane *lane) bool { return lane.address == w.lane.address }); i >= 0 {
			w.lane = l.current[i]
		}
	}
	old := w.lane.retired && w.conn != nil
	if lane := l.nextWaiting(w.lane); lane != nil {
		waited = lane.backlog[0]
		lane.backlog = lane.backlog[1:]
		if !old {
			w.lane = lane
		}
		return waited, false
	}
	if l.finished || w.lane.retired && !old {
		l.open--
		return time.Time{}, false
	}
	w.since = time.Now()
	w.lane.idle = append(w.lane.idle, w)
	if old && !slices.Contains(l.leaving, w.lane) {
		l.leaving = append(l.leaving, w.lane)
	}
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
	for _, lane := range slices.Concat(l.current, l.leaving) {
		l.dismiss(lane, len(lane.idle))
	}
	l.mu.Unlock()
	l.workers.Wait()
}

package cloud

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// A write whose answer was lost may have happened, may never happen, or may happen later than everything that
// is written after it:
//
//	ModifyRule 50 -> no answer ... ModifyRule 0 -> accepted, seen ... the first one arrives: 50 again
//
// AWS refuses a request whose signature is older than five minutes, so there is an end to it. Until then such a
// listener is looked at again and again, and evidence says that what it shows may still change.

// lateCalls are the writes to routes that may still arrive. The zero value is ready.
type lateCalls struct {
	mu         sync.Mutex
	byListener map[string][]lateCall
	// takenOver is when this process became the one who writes: what its predecessor sent may be on its way.
	takenOver time.Time
}

// lateCall is one write whose answer was lost.
type lateCall struct {
	wrote mirror.Moment
	// until is the end: a read that begins then, or later, shows whether it has arrived.
	until time.Time
	// change is what it does; nil when a predecessor sent it, and nobody knows.
	change func(routes) routes
	// telling says that its effect, once seen, can only come from itself.
	telling bool
}

// alters reports whether the call would change the routes.
func (l lateCall) alters(r routes) bool { return l.change == nil || !reflect.DeepEqual(l.change(r), r) }

// own says that the call is ours and would change the routes.
func (l lateCall) own(r routes) bool { return l.change != nil && l.alters(r) }

// noteWrite keeps a write that was not answered, and what a later write means for the earlier ones.
func (c *Cloud) noteWrite(listenerARN string, result mirror.Result, change func(routes) routes, before routes, known bool) {
	if result != mirror.Accepted && result != mirror.Unanswered {
		return
	}
	late := &c.late
	late.mu.Lock()
	defer late.mu.Unlock()
	if result == mirror.Accepted && len(late.byListener[listenerARN]) == 0 {
		return
	}
	after := change(before)
	call := lateCall{wrote: c.moment(), until: c.now().Add(c.lateWindow()), change: change, telling: known && !reflect.DeepEqual(after, before)}
	calls := slices.Clone(late.byListener[listenerARN])
	for i := range calls {
		if calls[i].change != nil && !calls[i].alters(after) {
			calls[i].telling, call.telling = false, false
		}
	}
	if result == mirror.Unanswered {
		calls = append(calls, call)
	}
	late.set(listenerARN, calls)
}

// lateWindow is how long after it was sent a call may show: as long as AWS takes its signature, and as long as
// reads may lag.
func (c *Cloud) lateWindow() time.Duration { return c.settings.LateWindow + c.settings.StaleWindow }

func (l *lateCalls) set(listenerARN string, calls []lateCall) {
	if len(calls) == 0 {
		delete(l.byListener, listenerARN)
		return
	}
	if l.byListener == nil {
		l.byListener = map[string][]lateCall{}
	}
	l.byListener[listenerARN] = calls
}

// forget drops what is awaited of a listener that is gone.
func (l *lateCalls) forget(listenerARN string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byListener, listenerARN)
}

// reviewLate forgets the calls that the last read shows to have arrived, or to come no more.
func (c *Cloud) reviewLate(listenerARN string) {
	seen, at, ok := c.have.routes.Seen(listenerARN)
	if !ok {
		return
	}
	c.late.mu.Lock()
	defer c.late.mu.Unlock()
	c.late.set(listenerARN, slices.DeleteFunc(slices.Clone(c.late.byListener[listenerARN]), func(l lateCall) bool {
		return !at.Time.Before(l.until) || l.telling && l.wrote.Before(at) && !l.alters(seen)
	}))
}

// lateUntil is until when calls that were not answered may still change a listener in a way that matters; zero
// when none can.
func (c *Cloud) lateUntil(listenerARN string, matters func(lateCall, routes) bool) time.Time {
	seen, _, _ := c.have.routes.Seen(listenerARN)
	c.late.mu.Lock()
	defer c.late.mu.Unlock()
	var until time.Time
	for _, l := range c.late.byListener[listenerARN] {
		if l.until.After(until) && matters(l, seen) {
			until = l.until
		}
	}
	return until
}

// takeOver begins the time in which a predecessor's calls may still arrive. Beside another controller, which owns the
// load balancers, a predecessor of ours has sent none.
func (c *Cloud) takeOver() {
	if c.config.EvidenceCluster != c.config.ClusterName {
		return
	}
	c.late.mu.Lock()
	defer c.late.mu.Unlock()
	c.late.takenOver = c.now()
}

// outdatedUntil is until when reads of a listener may show what a write has replaced: one of ours that the last
// read does not show, or, before our first, one of a predecessor, who may have ended right after it.
func (c *Cloud) outdatedUntil(listenerARN string) time.Time {
	if wrote := c.have.routes.WroteAt(listenerARN); wrote.Order != 0 {
		if c.have.routes.Agreed(listenerARN) {
			return time.Time{}
		}
		return wrote.Time.Add(c.settings.StaleWindow)
	}
	c.late.mu.Lock()
	defer c.late.mu.Unlock()
	if c.late.takenOver.IsZero() {
		return time.Time{}
	}
	return c.late.takenOver.Add(c.settings.StaleWindow)
}

// expectPredecessor looks at listeners, on whose weights somebody is about to act, until nothing that a
// predecessor has sent can arrive any more. What the predecessor was doing is not known, so they are looked at
// no matter what they show; evidence does not wait for it, or each start would restart all waits.
func (c *Cloud) expectPredecessor(listenerARN string) {
	late := &c.late
	late.mu.Lock()
	until := late.takenOver.Add(c.lateWindow())
	expected := slices.ContainsFunc(late.byListener[listenerARN], func(l lateCall) bool { return l.change == nil })
	begin := !late.takenOver.IsZero() && c.now().Before(until) && !expected
	if begin {
		late.set(listenerARN, append(slices.Clone(late.byListener[listenerARN]), lateCall{wrote: c.moment(), until: until}))
	}
	late.mu.Unlock()
	if !begin {
		return
	}
	c.again.mu.Lock()
	defer c.again.mu.Unlock()
	if turn := c.again.begin(listenerARN); turn != nil { // else it is looked at already
		c.inBackground(func(ctx context.Context) { c.look(ctx, listenerARN, slowLook, turn, true) })
	}
}

// Package eventual makes reads of the emulator as inconsistent as those of AWS.
//
// A write is answered with the new state. Other reads, for a while after it, now and then go to a
// front end that has not heard of it: they miss a new resource, or show a changed one as it was. How
// likely that is and for how long is in the profile.
//
// A write that changes several resources at once (PutAll) is seen whole or not at all by a call that reads them with one Look.
//
// A Value keeps a resource and the state that it had before its last change. It must hold a value that is
// never changed in place: what was read stays what was read. Values are guarded by their owner's
// lock.
package eventual

import (
	"hash/maphash"
	"strconv"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// Reader is who asks: what consistency and permission depend on, but not what is asked.
type Reader struct {
	// Caller tells the programs that share an account apart.
	Caller string
	// AccessKey is what the call was signed with, if it was signed.
	AccessKey string
	// Stale, if set, overrides the profile for this call.
	Stale *Staleness
}

// Staleness is a fault: reads show the state before the last change until Window has passed, with the given
// Probability. They miss what has not changed since it was made.
type Staleness struct {
	Probability float64
	Window      time.Duration
}

// Model decides what a read sees.
type Model struct{ draws *profile.Draws }

// NewModel returns the model of the profile that draws are taken from.
func NewModel(draws *profile.Draws) *Model { return &Model{draws: draws} }

// Value is one resource. Make it with New.
type Value[T any] struct {
	model   *Model
	id      string
	now     T
	before  T
	changes int
	birth   *change // nil: it has been there for ever
	last    *change // birth, if nothing has changed since
}

// change is one write. Several values share it if the write changed them together.
type change struct {
	event  string // the name under which random draws are made
	at     time.Time
	window time.Duration
	joint  bool
	// settled: everybody has seen the write. One of several values has changed again, and who saw it at another of them as it was before
	// would see a part of it; or too many callers have seen it to remember them.
	settled bool
	reads   int
	seen    map[uint64]bool // hashes of the callers that have seen it, while the window is open
}

// maxCallers bounds what is remembered of one write: callers name themselves.
const maxCallers = 1000

var callerSeed = maphash.MakeSeed()

// New is a resource that has just been made. Its id is the name under which random draws are made: the
// same in each run.
func New[T any](m *Model, id string, value T) *Value[T] {
	v := &Value[T]{model: m, id: id}
	v.change(value, nil)
	v.birth = v.last
	return v
}

// Settled is a resource that has been there for ever, such as one of a fixture.
func Settled[T any](m *Model, id string, value T) *Value[T] {
	return &Value[T]{model: m, id: id, now: value}
}

// Get is the truth.
func (v *Value[T]) Get() T { return v.now }

// Put replaces the resource.
func (v *Value[T]) Put(value T) {
	v.before = v.now
	v.change(value, nil)
}

// PutAll replaces several resources at once: the first by the first of to, and so on.
func PutAll[T any](values []*Value[T], to []T) {
	var together *change
	for i, v := range values {
		v.before = v.now
		v.change(to[i], together)
		together = v.last
		together.joint = true
	}
}

// change notes a write. together is the write of another value that this one is a part of; nil: it is on its own.
func (v *Value[T]) change(value T, together *change) {
	v.now = value
	v.changes++
	if v.last != nil && v.last.joint {
		v.last.settled = true
	}
	v.last = together
	if together == nil {
		event := v.id + "#" + strconv.Itoa(v.changes)
		v.last = &change{event: event, at: time.Now(), window: v.model.draws.Once(profile.ReadWindow, event)}
	}
}

// Look is what one call sees of several resources.
type Look struct {
	reader Reader
	old    map[*change]bool
}

// NewLook begins to look for r. Use it within one call only.
func NewLook(r Reader) *Look { return &Look{reader: r} }

// Read is what r sees; ok is false if it does not see the resource at all.
func (v *Value[T]) Read(r Reader) (value T, ok bool) { return v.See(NewLook(r)) }

// See is what a look sees of the resource; ok is false if it does not see it at all. A resource that has changed since it was made can
// still be missing: the two writes take their own time.
func (v *Value[T]) See(l *Look) (value T, ok bool) {
	if v.missing(l) {
		return value, false
	}
	if v.last == v.birth || v.last.settled {
		return v.now, true
	}
	old, decided := l.old[v.last]
	if !decided {
		old = v.last.hides(l.reader, v.model.draws, profile.ReadOldState)
		l.decide(v.last, old)
	}
	if old {
		return v.before, true
	}
	return v.now, true
}

// missing says whether a look does not see that the resource was made. Who knows of the last change knows the resource.
func (v *Value[T]) missing(l *Look) bool {
	if v.birth == nil {
		return false
	}
	if v.last != v.birth {
		if l.reader.Stale != nil {
			return false // The fault is about the last change only.
		}
		if old, decided := l.old[v.last]; decided && !old || v.last.settled || v.last.known(l.reader, v.model.draws) {
			v.birth.note(l.reader)
			return false
		}
	}
	hidden := v.birth.hides(l.reader, v.model.draws, profile.ReadNewMissing)
	if hidden {
		l.decide(v.last, true)
	}
	return hidden
}

// decide notes whether a look sees the state before a change of several values: it is to see them all so.
func (l *Look) decide(c *change, old bool) {
	if !c.joint {
		return
	}
	if l.old == nil {
		l.old = map[*change]bool{}
	}
	l.old[c] = old
}

// hides says whether a reader does not see the change yet. Likely is the key of how likely that is.
func (c *change) hides(r Reader, draws *profile.Draws, likely profile.Key) bool {
	window, probability := c.window, draws.Profile().Probabilities[likely]
	if r.Stale != nil {
		window, probability = r.Stale.Window, r.Stale.Probability
	}
	if c.settled || time.Since(c.at) >= window || c.known(r, draws) {
		return false
	}
	c.reads++
	if draws.Chance(probability, c.event+"/read/"+strconv.Itoa(c.reads)) {
		return true
	}
	c.note(r)
	return false
}

// known says whether a reader has seen the change and must not go back.
func (c *change) known(r Reader, draws *profile.Draws) bool {
	return r.Stale == nil && draws.Profile().MonotonicReads && c.seen[maphash.String(callerSeed, r.Caller)]
}

// note remembers that a reader has seen the change, for as long as others may not.
func (c *change) note(r Reader) {
	switch {
	case time.Since(c.at) >= c.window:
		c.seen = nil
	case len(c.seen) >= maxCallers:
		c.settled, c.seen = true, nil
	case c.seen == nil:
		c.seen = map[uint64]bool{maphash.String(callerSeed, r.Caller): true}
	default:
		c.seen[maphash.String(callerSeed, r.Caller)] = true
	}
}

// Found is what a write that depends on the resource sees: it may miss a new one, but acts on the truth.
func (v *Value[T]) Found(r Reader) bool { return !v.missing(NewLook(r)) }

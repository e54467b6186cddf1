// Package eventual makes reads of the emulator as inconsistent as those of AWS.
//
// A write is answered with the new state. Other reads, for a while after it, now and then go to a
// front end that has not heard of it: they miss a new resource, or show a changed one as it was. How
// likely that is and for how long is in the profile.
//
// A Value keeps a resource and the state that it had before its last change. It must hold a value that is
// never changed in place: what was read stays what was read. Values are guarded by their owner's
// lock.
package eventual

import (
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

// Staleness is a fault: reads show the state before a change until Window has passed, with the given
// Probability.
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
	born    bool // the last change made the resource, before means nothing
	changed time.Time
	window  time.Duration
	changes int
	reads   int
	seen    map[string]bool // callers that have seen the newest state, while the window is open
}

// New is a resource that has just been made. Its id is the name under which random draws are made: the
// same in each run.
func New[T any](m *Model, id string, value T) *Value[T] {
	v := &Value[T]{model: m, id: id, born: true}
	v.change(value)
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
	v.before, v.born = v.now, false
	v.change(value)
}

func (v *Value[T]) change(value T) {
	v.now = value
	v.changes++
	v.changed = time.Now()
	v.window = v.model.draws.Once(profile.ReadWindow, v.event())
	v.seen = nil
}

func (v *Value[T]) event() string { return v.id + "#" + strconv.Itoa(v.changes) }

// Read is what r sees; ok is false if it does not see the resource at all.
func (v *Value[T]) Read(r Reader) (value T, ok bool) {
	window, probability := v.window, v.probability()
	if r.Stale != nil {
		window, probability = r.Stale.Window, r.Stale.Probability
	}
	if v.changes == 0 || time.Since(v.changed) >= window {
		return v.now, true
	}
	p := v.model.draws.Profile()
	if p.MonotonicReads && r.Stale == nil && v.seen[r.Caller] {
		return v.now, true
	}
	v.reads++
	if v.model.draws.Chance(probability, v.event()+"/read/"+strconv.Itoa(v.reads)) {
		return v.before, !v.born
	}
	if v.seen == nil {
		v.seen = map[string]bool{}
	}
	v.seen[r.Caller] = true
	return v.now, true
}

func (v *Value[T]) probability() float64 {
	p := v.model.draws.Profile().Probabilities
	if v.born {
		return p[profile.ReadNewMissing]
	}
	return p[profile.ReadOldState]
}

// Found is what a write that depends on the resource sees: it may miss a new one, but acts on the truth.
func (v *Value[T]) Found(r Reader) bool {
	if !v.born {
		return true
	}
	_, ok := v.Read(r)
	return ok
}

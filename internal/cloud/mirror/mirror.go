// Package mirror keeps what AWS has: what was read, when the read began, and what we have written since.
//
// Reads and writes of one resource overlap, and AWS's reads lag behind its writes. Two rules keep the
// mirror true (a Table enforces both):
//
//   - A read that began before our last write to the resource returned says nothing of that write, and is
//     thrown away.
//   - A read that began after it, but within the window in which AWS may still answer with the old state,
//     and that shows exactly a state which we have overwritten, is kept as seen, for it is what AWS says;
//     it does not replace what we believe. When the window is over, it does.
//
// So each resource has two values: Believed (for plans: what AWS has, our accepted writes included) and
// Seen (for evidence: only what a read has shown, with the moment at which that read began).
//
// The package does no I/O and has no clock: Moments come from the caller.
package mirror

import (
	"reflect"
	"slices"
	"sync"
	"time"
)

// Moment is a point in the order of all reads and writes of one process, and the time it was taken.
// The order decides; two moments of equal time still have one.
type Moment struct {
	Order uint64
	Time  time.Time
}

// Before reports whether m was taken before other.
func (m Moment) Before(other Moment) bool { return m.Order < other.Order }

// Outcome is what a Table did with a read.
type Outcome int

// The outcomes of a read.
const (
	// Discarded: the read began before a write returned, or before a read that is already known.
	Discarded Outcome = iota
	// Stale: it shows a state that we have overwritten, soon after the write.
	Stale
	// Confirmed: it shows what was believed.
	Confirmed
	// Changed: it shows something new.
	Changed
)

// Table keeps all resources of one kind by their key (an ARN or id). Values are never changed in place:
// who puts a value in gives it away, who gets one must not write into it. Safe for concurrent use.
type Table[T any] struct {
	// Window is how long after a write AWS's reads may show the state before it. Zero: each read is believed.
	Window time.Duration

	mu      sync.Mutex
	rows    map[string]*row[T]
	version uint64
}

type row[T any] struct {
	believed T
	known    bool // believed is set
	seen     T
	seenAt   Moment // zero: never seen

	writing  int    // writes on their way
	wroteAt  Moment // the last write's return
	doubtful bool   // a write ended without an answer: believed may be wrong until the next read

	outdated []T // states that our writes within the window have replaced
	version  uint64
}

// NewTable makes an empty table.
func NewTable[T any](window time.Duration) *Table[T] {
	return &Table[T]{Window: window, rows: map[string]*row[T]{}}
}

func (t *Table[T]) row(key string) *row[T] {
	r, ok := t.rows[key]
	if !ok {
		r = &row[T]{}
		t.rows[key] = r
	}
	return r
}

// Believed returns what AWS has as far as is known, our own accepted writes included.
func (t *Table[T]) Believed(key string) (value T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, found := t.rows[key]; found && r.known {
		return r.believed, true
	}
	return value, false
}

// Seen returns what the last accepted read has shown and when that read began.
func (t *Table[T]) Seen(key string) (value T, at Moment, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, found := t.rows[key]; found && r.seenAt.Order != 0 {
		return r.seen, r.seenAt, true
	}
	return value, at, false
}

// Fresh reports whether the last accepted read began at or after notBefore and after our last write.
func (t *Table[T]) Fresh(key string, notBefore time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, found := t.rows[key]
	return found && r.seenAt.Order != 0 && !r.seenAt.Time.Before(notBefore) && !r.doubtful && r.writing == 0 && r.wroteAt.Before(r.seenAt)
}

// Agreed reports whether the last read shows what is believed.
func (t *Table[T]) Agreed(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, found := t.rows[key]
	return found && r.known && r.seenAt.Order != 0 && reflect.DeepEqual(r.seen, r.believed)
}

// Doubtful reports whether the row must be read before its value is used: a write to it ended without an answer.
func (t *Table[T]) Doubtful(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, found := t.rows[key]
	return found && r.doubtful
}

// Doubt has the row read before its value is used again.
func (t *Table[T]) Doubt(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, found := t.rows[key]; found {
		r.doubtful = true
	}
}

// WroteAt returns the moment at which our last write to the row returned; zero when there was none.
func (t *Table[T]) WroteAt(key string) Moment {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, found := t.rows[key]; found {
		return r.wroteAt
	}
	return Moment{}
}

// Version returns a number that grows with each change of the row's values, and never falls while the row
// exists; zero when there is no row.
func (t *Table[T]) Version(key string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, found := t.rows[key]; found {
		return r.version
	}
	return 0
}

// Changes returns a number that grows with each change of any row's values.
func (t *Table[T]) Changes() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

// Keys returns the keys of all rows with a believed value, sorted.
func (t *Table[T]) Keys() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := make([]string, 0, len(t.rows))
	for key, r := range t.rows {
		if r.known {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// All returns all believed values by key.
func (t *Table[T]) All() map[string]T {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]T, len(t.rows))
	for key, r := range t.rows {
		if r.known {
			all[key] = r.believed
		}
	}
	return all
}

// BeginWrite announces a write: until EndWrite every read of the row is discarded.
func (t *Table[T]) BeginWrite(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row(key).writing++
}

// Result is how a write ended.
type Result int

// The results of a write.
const (
	// Refused: AWS answered with an error, or nothing was sent; nothing has changed.
	Refused Result = iota
	// Accepted: AWS answered with success.
	Accepted
	// Unanswered: whether it happened is not known; the next read decides.
	Unanswered
	// Refuted: AWS refused it for a reason that says that what is believed is wrong, such as not found.
	Refuted
)

// EndWrite records the end of a write at moment at. If it was accepted, change makes the new value from
// the believed one (the zero value when nothing is known; its second argument says which). A nil change
// leaves the value to the next read.
func (t *Table[T]) EndWrite(key string, at Moment, result Result, change func(value T, known bool) T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.row(key)
	r.writing--
	switch result {
	case Refused:
		return
	case Refuted:
		r.doubtful = true
		return
	case Unanswered:
		r.doubtful, r.wroteAt, r.outdated = true, at, nil
		return
	}
	if at.Time.Sub(r.wroteAt.Time) > t.Window {
		r.outdated = nil
	}
	if r.seenAt.Order != 0 && t.Window > 0 {
		r.outdated = remember(r.outdated, r.seen)
	}
	if r.known && t.Window > 0 {
		r.outdated = remember(r.outdated, r.believed)
	}
	r.wroteAt = at
	if change == nil {
		r.doubtful = true
		return
	}
	r.believed, r.known = change(r.believed, r.known), true
	// Writing a former state back makes it current again.
	r.outdated = slices.DeleteFunc(r.outdated, func(old T) bool { return reflect.DeepEqual(old, r.believed) })
	t.bump(r)
}

// maxOutdated bounds how many overwritten states are remembered for a row.
const maxOutdated = 8

func remember[T any](list []T, value T) []T {
	for _, old := range list {
		if reflect.DeepEqual(old, value) {
			return list
		}
	}
	list = append(slices.Clone(list), value)
	return list[max(0, len(list)-maxOutdated):]
}

// Read records what a read that began at moment begun has shown, at the time now.
func (t *Table[T]) Read(key string, begun Moment, now time.Time, value T) Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.row(key)
	if r.writing > 0 || begun.Before(r.wroteAt) || begun.Before(r.seenAt) {
		return Discarded
	}
	seenChanged := r.seenAt.Order == 0 || !reflect.DeepEqual(r.seen, value)
	r.seen, r.seenAt, r.doubtful = value, begun, false
	if seenChanged {
		t.bump(r)
	}
	if t.stale(r, now, value) {
		return Stale
	}
	outcome := Confirmed
	if !r.known || !reflect.DeepEqual(r.believed, value) {
		outcome = Changed
		t.bump(r)
	}
	r.believed, r.known = value, true
	return outcome
}

// stale judges a read within the window after an accepted write.
func (t *Table[T]) stale(r *row[T], now time.Time, value T) bool {
	if r.wroteAt.Order == 0 || now.Sub(r.wroteAt.Time) >= t.Window {
		return false
	}
	return slices.ContainsFunc(r.outdated, func(old T) bool { return reflect.DeepEqual(old, value) })
}

// Missing records that a read which began at moment begun and lists everything did not show the row. A row
// that we wrote within the window stays: lists miss what is young. It reports whether the row was dropped.
func (t *Table[T]) Missing(key string, begun Moment, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, found := t.rows[key]
	if !found || !r.known || r.writing > 0 || begun.Before(r.wroteAt) || begun.Before(r.seenAt) {
		return false
	}
	if r.wroteAt.Order != 0 && now.Sub(r.wroteAt.Time) < t.Window {
		return false
	}
	delete(t.rows, key)
	t.version++
	return true
}

// Forget records that the resource is gone: deleted by us, or not found. Reads that began before, or that
// show its last state within the window, do not bring it back.
func (t *Table[T]) Forget(key string, at Moment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, r := range t.rows { // forgotten ones are remembered for the length of the window only
		if !r.known && r.writing == 0 && at.Time.Sub(r.wroteAt.Time) >= t.Window {
			delete(t.rows, k)
		}
	}
	old, found := t.rows[key]
	if !found {
		return
	}
	gone := &row[T]{writing: old.writing, wroteAt: at}
	if old.seenAt.Order != 0 {
		gone.outdated = remember(gone.outdated, old.seen)
	}
	if old.known {
		gone.outdated = remember(gone.outdated, old.believed)
	}
	t.rows[key] = gone
	t.bump(gone)
}

func (t *Table[T]) bump(r *row[T]) {
	t.version++
	r.version = t.version
}

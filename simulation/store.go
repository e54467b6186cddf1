package simulation

import (
	"slices"
	"time"
)

// table holds the objects of one kind, as the API server has them and as the controllers' cache does. What
// it holds is never changed: a writer puts a new value.
type table[T any] struct {
	w *world
	// live is the API server's; cached lags behind it, in order.
	live, cached view[T]
	// delivered is when the newest change reaches the cache, so that changes arrive in order.
	delivered time.Time
	// changed is called when a change has reached the cache.
	changed func(name string)
	// stored is called at once, by the API server's own controllers.
	stored func(name string)
}

// view is a set of objects by name, in the order of their creation.
type view[T any] struct {
	names   []string
	objects map[string]object[T]
	// revision is the newest that it has.
	revision int64
}

// object is a value and its resource version.
type object[T any] struct {
	value   *T
	version int64
}

func newTable[T any](w *world) *table[T] {
	return &table[T]{w: w, live: view[T]{objects: map[string]object[T]{}}, cached: view[T]{objects: map[string]object[T]{}}}
}

func (v *view[T]) put(name string, o object[T]) {
	_, had := v.objects[name]
	switch {
	case o.value == nil:
		delete(v.objects, name)
		v.names = slices.DeleteFunc(v.names, func(n string) bool { return n == name })
	case !had:
		v.names = append(v.names, name)
		fallthrough
	default:
		v.objects[name] = o
	}
	v.revision = o.version
}

// get returns an object and its version; nil when it does not exist.
func (v *view[T]) get(name string) (*T, int64) {
	o := v.objects[name]
	return o.value, o.version
}

// at is the API server's view when a fresh one is asked for, else the cache's.
func (t *table[T]) at(fresh bool) *view[T] {
	if fresh {
		return &t.live
	}
	return &t.cached
}

// put stores a value (nil deletes) and has the watchers hear of it later.
func (t *table[T]) put(name string, value *T) {
	t.w.revision++
	o := object[T]{value, t.w.revision}
	t.live.put(name, o)
	if at := t.w.now().Add(t.w.watchDelay()); at.After(t.delivered) {
		t.delivered = at
	}
	t.w.at(t.delivered, func() { t.deliver(name, o) })
	if t.stored != nil {
		t.stored(name)
	}
}

// update stores a value if the object still has the version that the writer saw.
func (t *table[T]) update(name string, version int64, value *T) bool {
	if t.live.objects[name].version != version {
		return false
	}
	t.put(name, value)
	return true
}

// change edits a copy of the live object without a condition; nothing happens when it is gone.
func (t *table[T]) change(name string, edit func(*T)) {
	if old, _ := t.live.get(name); old != nil {
		value := *old
		edit(&value)
		t.put(name, &value)
	}
}

func (t *table[T]) deliver(name string, o object[T]) {
	if o.version <= t.cached.revision {
		return // listed anew meanwhile
	}
	t.cached.put(name, o)
	if t.changed != nil {
		t.changed(name)
	}
}

// relist fills the cache anew, as a process does that starts.
func (t *table[T]) relist() {
	t.cached.names, t.cached.revision = slices.Clone(t.live.names), t.live.revision
	t.cached.objects = make(map[string]object[T], len(t.live.objects))
	for _, name := range t.live.names {
		t.cached.objects[name] = t.live.objects[name]
	}
}

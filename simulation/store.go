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

// view is a set of objects in the order of their creation. There are few, so a list is the fastest.
type view[T any] struct {
	objects []object[T]
	// revision is the newest that it has.
	revision int64
}

// object is a value with its name and resource version.
type object[T any] struct {
	name    string
	value   *T
	version int64
}

func newTable[T any](w *world) *table[T] { return &table[T]{w: w} }

func (v *view[T]) find(name string) int {
	for i := range v.objects {
		if v.objects[i].name == name {
			return i
		}
	}
	return -1
}

func (v *view[T]) put(o object[T]) {
	i := v.find(o.name)
	switch {
	case o.value != nil && i >= 0:
		v.objects[i] = o
	case o.value != nil:
		v.objects = append(v.objects, o)
	case i >= 0:
		v.objects = slices.Delete(v.objects, i, i+1)
	}
	v.revision = o.version
}

// get returns an object and its version; nil when it does not exist.
func (v *view[T]) get(name string) (*T, int64) {
	if i := v.find(name); i >= 0 {
		return v.objects[i].value, v.objects[i].version
	}
	return nil, 0
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
	o := object[T]{name, value, t.w.revision}
	t.live.put(o)
	if at := t.w.now().Add(t.w.watchDelay()); at.After(t.delivered) {
		t.delivered = at
	}
	t.w.at(t.delivered, func() { t.deliver(o) })
	if t.stored != nil {
		t.stored(name)
	}
}

// update stores a value if the object still has the version that the writer saw.
func (t *table[T]) update(name string, version int64, value *T) bool {
	if _, now := t.live.get(name); now != version {
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

func (t *table[T]) deliver(o object[T]) {
	if o.version <= t.cached.revision {
		return // listed anew meanwhile
	}
	t.cached.put(o)
	if t.changed != nil {
		t.changed(o.name)
	}
}

// relist fills the cache anew, as a process does that starts.
func (t *table[T]) relist() {
	t.cached.objects = append(t.cached.objects[:0], t.live.objects...)
	t.cached.revision = t.live.revision
}

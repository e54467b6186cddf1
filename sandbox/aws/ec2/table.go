package ec2

import (
	"cmp"
	"slices"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// table holds the resources of one kind by id. What it holds is never changed in place, so that what was read stays what
// was read; a change replaces it.
type table[T any] struct {
	model  *eventual.Model
	kind   string
	values map[string]*eventual.Value[T]
	// changed, if it is not nil, is told of each change: the zero value stands for no resource.
	changed func(before, after T)
}

func newTable[T any](model *eventual.Model, kind string) *table[T] {
	return &table[T]{model: model, kind: kind, values: map[string]*eventual.Value[T]{}}
}

// get is the truth.
func (t *table[T]) get(id string) (value T, ok bool) {
	v := t.values[id]
	if v == nil {
		return value, false
	}
	return v.Get(), true
}

// found is the truth of what a write of r refers to, if r sees that it is there.
func (t *table[T]) found(r eventual.Reader, id string) (value T, ok bool) {
	v := t.values[id]
	if v == nil || !v.Found(r) {
		return value, false
	}
	return v.Get(), true
}

// has says whether there is a resource of that id.
func (t *table[T]) has(id string) bool { return t.values[id] != nil }

// put makes or changes a resource; others may see it later.
func (t *table[T]) put(id string, value T) {
	before, there := t.get(id)
	if there {
		t.values[id].Put(value)
	} else {
		t.values[id] = eventual.New(t.model, t.kind+"/"+id, value)
	}
	if t.changed != nil {
		t.changed(before, value)
	}
}

// settle makes or changes a resource for everybody at once.
func (t *table[T]) settle(id string, value T) {
	before, _ := t.get(id)
	t.values[id] = eventual.Settled(t.model, t.kind+"/"+id, value)
	if t.changed != nil {
		t.changed(before, value)
	}
}

func (t *table[T]) drop(id string) {
	before, there := t.get(id)
	delete(t.values, id)
	if t.changed != nil && there {
		var gone T
		t.changed(before, gone)
	}
}

func (t *table[T]) count() int { return len(t.values) }

// all is the truth, in no order.
func (t *table[T]) all(yield func(id string, value T) bool) {
	for id, v := range t.values {
		if !yield(id, v.Get()) {
			return
		}
	}
}

// visible is what r sees, in no order.
func (t *table[T]) visible(r eventual.Reader) []T {
	list := make([]T, 0, len(t.values))
	for _, v := range t.values {
		if value, ok := v.Read(r); ok {
			list = append(list, value)
		}
	}
	return list
}

// first is the resource with the smallest id of those that fit.
func (t *table[T]) first(fits func(T) bool) (value T, ok bool) {
	var ids []string
	for id, v := range t.all {
		if fits(v) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return value, false
	}
	return t.get(slices.MinFunc(ids, cmp.Compare[string]))
}

// countOf is how many resources fit.
func (t *table[T]) countOf(fits func(T) bool) (n int) {
	for _, v := range t.all {
		if fits(v) {
			n++
		}
	}
	return n
}

// truths copies the table, for Reset.
func (t *table[T]) truths() map[string]T {
	values := make(map[string]T, len(t.values))
	for id, v := range t.all {
		values[id] = v
	}
	return values
}

// restore makes the table what truths has said, with what keep lets stay of the rest.
func (t *table[T]) restore(values map[string]T, keep func(T) bool) {
	for id, v := range t.all {
		if _, built := values[id]; !built && (keep == nil || !keep(v)) {
			t.drop(id)
		}
	}
	for id, v := range values {
		t.settle(id, v)
	}
}

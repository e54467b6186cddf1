package fault

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Set holds the faults that are in force. Its methods may be called from several goroutines.
type Set struct {
	mu      sync.Mutex
	next    int
	faults  map[string]*counted
	changed chan struct{}
	// placed counts the faults of the data plane, which is asked for each connection.
	placed atomic.Int32
}

type counted struct {
	Fault
	matches int
}

// NewSet returns a set without faults.
func NewSet() *Set { return &Set{faults: map[string]*counted{}, changed: make(chan struct{})} }

// Changed is closed when a fault has been added or ended by hand since the call. The end of a fault's time closes nothing.
func (s *Set) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// change tells whoever waits. The caller holds the lock.
func (s *Set) change() {
	close(s.changed)
	s.changed = make(chan struct{})
	placed := 0
	for _, f := range s.faults {
		if !f.Kind.OnCalls() {
			placed++
		}
	}
	s.placed.Store(int32(placed))
}

// Add puts a fault into force and returns its id (that of the fault, if it has one: the former fault of
// that id is replaced).
func (s *Set) Add(f Fault) (id string, err error) {
	if err := f.Validate(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.ID == "" {
		s.next++
		f.ID = fmt.Sprintf("fault-%d", s.next)
	}
	s.faults[f.ID] = &counted{Fault: f}
	s.change()
	return f.ID, nil
}

// Remove ends a fault. It returns false if there is none of that id.
func (s *Set) Remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.faults[id]
	delete(s.faults, id)
	s.change()
	return known
}

// Replace puts these faults, which have ids, into force and ends all others at the same moment: one that was in force and still is never stops
// working. It fails for those that cannot be, and takes the rest.
func (s *Set) Replace(all []Fault) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*counted, len(all))
	var wrong error
	for _, f := range all {
		if err := f.Validate(); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("fault %s: %w", f.ID, err))
			continue
		}
		next[f.ID] = &counted{Fault: f}
	}
	s.faults = next
	s.change()
	return wrong
}

// Clear ends all faults.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
	s.change()
}

// List shows the faults, sorted by id.
func (s *Set) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Fault, 0, len(s.faults))
	for _, id := range slices.Sorted(maps.Keys(s.faults)) {
		list = append(list, s.faults[id].Fault)
	}
	return list
}

// Strike says what happens to a call.
func (s *Set) Strike(c Call) Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	var effect Effect
	now := time.Now()
	for _, id := range slices.Sorted(maps.Keys(s.faults)) {
		f := s.faults[id]
		if !f.matchesCall(c, now) {
			continue
		}
		f.matches++
		if f.Every > 1 && f.matches%f.Every != 0 {
			continue
		}
		f.apply(c, &effect)
	}
	return effect
}

// Package fault makes calls of the emulated AWS fail on purpose: throttled, denied, slow, broken or
// answered from an old state, for chosen operations and callers and for a time.
package fault

import (
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Kind is what a fault does to a call.
type Kind string

// The kinds of faults.
const (
	Throttle Kind = "throttle" // refused as throttled, without having taken effect
	Deny     Kind = "deny"     // refused for want of permission, naming the action
	Error    Kind = "error"    // refused with Status (default 500) and Code (default InternalFailure)
	Delay    Kind = "delay"    // answered later by Delay
	Stale    Kind = "stale"    // reads show the state before a change, for Delay after that change
)

// Fault says which calls fail how, and when. The zero values of the filters match every call.
type Fault struct {
	ID   string `json:"id,omitempty"`
	Kind Kind   `json:"kind"`
	// Operations are patterns (with * and ?) for actions as policies name them, such as
	// elasticloadbalancing:Modify* or cloudwatch:GetMetricData.
	Operations []string `json:"operations,omitempty"`
	// Caller must be contained in the user agent or be equal to the access key.
	Caller string `json:"caller,omitempty"`
	// From and Until bound the time in which the fault works. Zero: no bound.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Every n-th matching call is hit. 0 and 1: each.
	Every int `json:"every,omitempty"`
	// Delay of kind Delay, or the age of a change until which Stale hides it; in nanoseconds.
	Delay time.Duration `json:"delay,omitempty"`
	// Status, Code and Message of kind Error.
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// Validate says what is wrong with a fault.
func (f Fault) Validate() error {
	switch f.Kind {
	case Throttle, Deny, Error:
	case Delay, Stale:
		if f.Delay <= 0 {
			return fmt.Errorf("a fault of kind %s needs a delay above 0", f.Kind)
		}
	default:
		return fmt.Errorf("there is no fault of kind %q: take throttle, deny, error, delay or stale", f.Kind)
	}
	for _, pattern := range f.Operations {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("operations: %q is no pattern: write one like elasticloadbalancing:Modify*", pattern)
		}
	}
	return nil
}

// Call is what faults can be told apart by.
type Call struct {
	// Service and Operation are those of the action, as policies name it.
	Service, Operation   string
	AccessKey, UserAgent string
	// Principal is the ARN of the caller.
	Principal string
	// Dialect decides on the code of a denial.
	Dialect wire.Dialect
}

// Effect is what the faults do to one call together.
type Effect struct {
	Delay time.Duration
	Stale *eventual.Staleness
	// Error is nil for a call that goes on.
	Error *wire.Error
}

// Set holds the faults that are in force.
type Set struct {
	mu     sync.Mutex
	next   int
	faults map[string]*counted
}

type counted struct {
	Fault
	matches int
}

// NewSet returns a set without faults.
func NewSet() *Set { return &Set{faults: map[string]*counted{}} }

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
	return f.ID, nil
}

// Remove ends a fault. It returns false if there is none of that id.
func (s *Set) Remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.faults[id]
	delete(s.faults, id)
	return known
}

// Clear ends all faults.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
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

func (f Fault) matchesCall(c Call, now time.Time) bool {
	if now.Before(f.From) || !f.Until.IsZero() && !now.Before(f.Until) {
		return false
	}
	if f.Caller != "" && f.Caller != c.AccessKey && !strings.Contains(c.UserAgent, f.Caller) {
		return false
	}
	name := c.Service + ":" + c.Operation
	return len(f.Operations) == 0 || slices.ContainsFunc(f.Operations, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

func (f Fault) apply(c Call, effect *Effect) {
	switch f.Kind {
	case Delay:
		effect.Delay += f.Delay
	case Stale:
		effect.Stale = &eventual.Staleness{Probability: 1, Window: f.Delay}
	case Throttle:
		effect.fail(throttle.Refusal(c.Service))
	case Deny:
		effect.fail(Denial(c, c.Service+":"+c.Operation, false))
	case Error:
		e := wire.Errorf("InternalFailure", "An internal error has occurred.").WithStatus(http.StatusInternalServerError)
		if f.Status != 0 {
			e.Status = f.Status
		}
		if f.Code != "" {
			e.Code = f.Code
		}
		if f.Message != "" {
			e.Message = f.Message
		}
		effect.fail(e)
	}
}

// fail keeps the first error.
func (e *Effect) fail(err *wire.Error) {
	if e.Error == nil {
		e.Error = err
	}
}

// Denial is the answer to a call for want of permission for an action, which a policy denies explicitly, or none allows.
func Denial(c Call, action string, explicit bool) *wire.Error {
	why := fmt.Sprintf("because no identity-based policy allows the %s action", action)
	if explicit {
		why = "with an explicit deny in an identity-based policy"
	}
	text := fmt.Sprintf("User: %s is not authorized to perform: %s %s", c.Principal, action, why)
	switch c.Dialect {
	case wire.EC2Dialect:
		return wire.Errorf("UnauthorizedOperation", "You are not authorized to perform this operation. %s", text).WithStatus(http.StatusForbidden)
	case wire.JSONDialect:
		return wire.Errorf("AccessDeniedException", "%s", text)
	}
	return wire.Errorf("AccessDenied", "%s", text).WithStatus(http.StatusForbidden)
}

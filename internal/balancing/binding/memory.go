package binding

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
)

// memory is what this process knows of a binding beyond Kubernetes and AWS. Losing it loses no safety: a
// wait starts anew, and a target whose pod went away meanwhile counts as somebody else's until it fails
// its health checks.
type memory struct {
	// podAt is the pod that an address was last seen with, by ip:port.
	podAt map[string]string
	// zeroSince is when the share was first seen to be 0, without another answer since.
	zeroSince time.Time
	// servedAt is when the share was last seen to be more.
	servedAt time.Time
	// waiting says that an event told what is waited for, problem which problem an event told last.
	waiting bool
	problem string
	// missing says that an event told that the Service is gone.
	missing bool
	// networking is the last problem of the firewall that an event told.
	networking string
	// watched is the target group whose health is being watched; empty when none is.
	watched string
}

// memories holds the memory of each binding. Its zero value is ready.
type memories struct {
	mu        sync.Mutex
	byBinding map[types.NamespacedName]*memory
	// byIP are the bindings that have an address registered, so that a pod which the Service no longer
	// selects still wakes them.
	byIP map[string]map[types.NamespacedName]bool
	ips  map[types.NamespacedName][]string
}

func (m *memories) ready() {
	if m.byBinding == nil {
		m.byBinding = map[types.NamespacedName]*memory{}
		m.byIP, m.ips = map[string]map[types.NamespacedName]bool{}, map[types.NamespacedName][]string{}
	}
}

// of returns the memory of a binding. Only the worker that has the binding may use it.
func (m *memories) of(key types.NamespacedName) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready()
	if m.byBinding[key] == nil {
		m.byBinding[key] = &memory{podAt: map[string]string{}}
	}
	return m.byBinding[key]
}

// forget drops everything about a binding.
func (m *memories) forget(key types.NamespacedName) {
	m.index(key, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byBinding, key)
}

// index replaces the addresses that a binding has registered.
func (m *memories) index(key types.NamespacedName, targets []plan.Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready()
	now := make(map[string]bool, len(targets))
	for _, t := range targets {
		now[t.ID] = true
	}
	for _, ip := range m.ips[key] {
		if now[ip] {
			continue
		}
		if delete(m.byIP[ip], key); len(m.byIP[ip]) == 0 {
			delete(m.byIP, ip)
		}
	}
	if m.ips[key] = slices.Collect(maps.Keys(now)); len(now) == 0 {
		delete(m.ips, key)
	}
	for ip := range now {
		if m.byIP[ip] == nil {
			m.byIP[ip] = map[types.NamespacedName]bool{}
		}
		m.byIP[ip][key] = true
	}
}

// bindingsAt are the bindings that have the address registered.
func (m *memories) bindingsAt(ip string) []types.NamespacedName {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.byIP[ip]))
}

package aws

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"sync"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// Host is a program outside of the sandbox that is to be a target: an instance of the account whose ports are really
// served elsewhere on this machine. Register its id, or its address.
type Host struct {
	Name string `json:"name"`
	Zone string `json:"zone"`
	// Instance is the id of an instance that a call has started, in whatever VPC, and that the program stands for. Empty: one is
	// started, in the private subnet of the zone.
	Instance string `json:"instance,omitempty"`
	// Ports says where a port of the host is really served: an address on loopback.
	Ports map[uint16]netip.AddrPort `json:"ports"`
	// ID and Address are those of the instance. The emulator sets them.
	ID      string     `json:"id,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
}

// hosts are all programs from outside, by name, and where they are.
type hosts struct {
	mu     sync.RWMutex
	byName map[string]Host
	real   map[netip.AddrPort]netip.AddrPort
}

var hostName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

func (h Host) validate() error {
	if !hostName.MatchString(h.Name) {
		return fmt.Errorf("%q cannot be the name of a host: use up to 63 letters, digits, dots, hyphens and underscores", h.Name)
	}
	if len(h.Ports) == 0 {
		return errors.New("a host needs a port, and where it is really served")
	}
	for port, real := range h.Ports {
		if port == 0 || real.Port() == 0 || !real.Addr().Is4() || !real.Addr().IsLoopback() {
			return fmt.Errorf("port %d cannot be served at %s: use an address of 127.0.0.0/8 with a port", port, real)
		}
	}
	return nil
}

// AddHost starts the instance of a program outside, or takes the one that it names. A host that is there already keeps its instance and gets
// the ports of this one; its zone must be the same. If somebody has terminated its instance, it gets another.
func (e *Emulator) AddHost(h Host) (Host, error) {
	e.gate.RLock()
	defer e.gate.RUnlock()
	return e.addHost(h)
}

func (e *Emulator) addHost(h Host) (Host, error) {
	if err := h.validate(); err != nil {
		return Host{}, fmt.Errorf("cannot add host %s: %w", h.Name, err)
	}
	e.hosts.mu.Lock()
	defer e.hosts.mu.Unlock()
	known, there := e.hosts.byName[h.Name]
	if there {
		if _, runs := e.ec2.InstanceByID(known.ID); !runs {
			e.hosts.forget(known)
			there = false
		}
	}
	switch {
	case there && known.Zone != cmp.Or(h.Zone, known.Zone):
		return Host{}, fmt.Errorf("cannot move host %s from zone %s to %s: remove it first", h.Name, known.Zone, h.Zone)
	case there && known.ID != cmp.Or(h.Instance, known.ID):
		return Host{}, fmt.Errorf("cannot move host %s from instance %s to %s: remove it first", h.Name, known.ID, h.Instance)
	case there:
		h.Zone, h.Instance, h.ID, h.Address = known.Zone, known.Instance, known.ID, known.Address
		e.hosts.forget(known)
	default:
		if err := e.settle(&h); err != nil {
			return Host{}, err
		}
	}
	for port, real := range h.Ports {
		e.hosts.real[netip.AddrPortFrom(h.Address, port)] = real
	}
	e.hosts.byName[h.Name] = h
	e.keeper.Changed()
	return h, nil
}

// settle gives a new host its instance.
func (e *Emulator) settle(h *Host) error {
	if h.Instance == "" {
		instance, err := e.ec2.AddInstance(cmp.Or(h.Zone, e.config.Zones[0]), h.Name)
		if err != nil {
			return err
		}
		h.Zone, h.ID, h.Address = instance.Zone, instance.ID, instance.Address
		return nil
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("cannot add host %s: %w", h.Name, fmt.Errorf(format, args...))
	}
	instance, ok := e.ec2.InstanceByID(h.Instance)
	switch {
	case !ok:
		return fail("there is no instance %s", h.Instance)
	case instance.Zone != cmp.Or(h.Zone, instance.Zone):
		return fail("instance %s is in zone %s", h.Instance, instance.Zone)
	}
	for _, other := range e.hosts.byName {
		if other.ID == h.Instance {
			return fail("instance %s is that of host %s", h.Instance, other.Name)
		}
	}
	h.Zone, h.ID, h.Address = instance.Zone, h.Instance, instance.Address
	return nil
}

// RemoveHost terminates the instance that was started for a host; one that it was given stays, and serves nothing.
func (e *Emulator) RemoveHost(name string) error {
	e.gate.RLock()
	defer e.gate.RUnlock()
	return e.removeHost(name)
}

func (e *Emulator) removeHost(name string) error {
	e.hosts.mu.Lock()
	defer e.hosts.mu.Unlock()
	h, ok := e.hosts.byName[name]
	if !ok {
		return fmt.Errorf("there is no host %q", name)
	}
	if _, there := e.ec2.InstanceByID(h.ID); there && h.Instance == "" {
		if err := e.ec2.RemoveInstance(h.ID); err != nil {
			return err
		}
	}
	e.hosts.forget(h)
	e.keeper.Changed()
	return nil
}

func (h *hosts) forget(one Host) {
	for port := range one.Ports {
		delete(h.real, netip.AddrPortFrom(one.Address, port))
	}
	delete(h.byName, one.Name)
}

// Export tells all hosts.
func (h *hosts) Export() (json.RawMessage, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return json.Marshal(h.byName)
}

// Import takes over the hosts that were exported. Their instances must be there.
func (h *hosts) Import(text json.RawMessage) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := snapshot.Decode(text, &h.byName); err != nil {
		return err
	}
	for _, one := range h.byName {
		for port, real := range one.Ports {
			h.real[netip.AddrPortFrom(one.Address, port)] = real
		}
	}
	return nil
}

// Hosts lists the programs from outside, sorted by name.
func (e *Emulator) Hosts() []Host {
	e.hosts.mu.RLock()
	defer e.hosts.mu.RUnlock()
	list := []Host{}
	for _, name := range slices.Sorted(maps.Keys(e.hosts.byName)) {
		list = append(list, e.hosts.byName[name])
	}
	return list
}

// real is where an address of a VPC is really served: by a host, or at the loopback address that stands for it.
func (e *Emulator) real(at netip.AddrPort) netip.AddrPort {
	e.hosts.mu.RLock()
	elsewhere, ok := e.hosts.real[at]
	e.hosts.mu.RUnlock()
	if ok {
		return elsewhere
	}
	return e.space.Real(at)
}

package kubelet

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
)

// vpcAddresses hands out the addresses of a VPC one after the other, and never the same one twice.
type vpcAddresses struct {
	vpc address.Mapping

	mu        sync.Mutex
	instances int
	last      int
	used      map[netip.Addr]bool
	// owned are the primary addresses of instances.
	owned map[string]netip.Addr
	// refused is what RemoveInstance answers if it is not nil.
	refused error
}

func (a *vpcAddresses) refuse(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = err
}

func newAddresses(vpc address.Mapping) *vpcAddresses {
	return &vpcAddresses{vpc: vpc, last: 9, used: map[netip.Addr]bool{}, owned: map[string]netip.Addr{}}
}

func (a *vpcAddresses) next() netip.Addr {
	a.last++
	addr := netip.AddrFrom4([4]byte{10, a.vpc.Octet, byte(a.last >> 8), byte(a.last)})
	a.used[addr] = true
	return addr
}

func (a *vpcAddresses) AddInstance(zone, name string) (string, netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instances++
	id, addr := fmt.Sprintf("i-%017x", a.instances), a.next()
	a.owned[id] = addr
	return id, addr, nil
}

func (a *vpcAddresses) RemoveInstance(id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused != nil {
		return a.refused
	}
	addr, ok := a.owned[id]
	if !ok {
		return fmt.Errorf("there is no instance %s", id)
	}
	delete(a.used, addr)
	delete(a.owned, id)
	return nil
}

func (a *vpcAddresses) AssignPodAddress(instance string) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next(), nil
}

func (a *vpcAddresses) ReleasePodAddress(addr netip.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.used[addr] {
		return fmt.Errorf("address %s is not in use", addr)
	}
	delete(a.used, addr)
	return nil
}

// inUse returns how many addresses are given out, those of instances included.
func (a *vpcAddresses) inUse() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.used)
}

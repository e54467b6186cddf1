package address

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Space is the network of a sandbox together with those of VPCs that its users make. Each of these, by its first two
// octets, gets a loopback network 127.m.0.0/16 of its own while somebody has it annexed: 192.168.b.c is then served at 127.m.b.c.
// Networks of one space that have the same first two octets are one; they share their addresses.
//
// The methods that translate are Mapping's, and never wait.
type Space struct {
	Mapping
	mu      sync.Mutex // serialises what changes the space
	closed  bool
	users   map[netip.Prefix]int // of each annexed network, who still needs it
	annexes atomic.Pointer[[]annex]
}

// annex is a network that is served at the addresses of another one, which is claimed for it.
type annex struct {
	block netip.Prefix // of 16 bits
	at    *VPC
}

// NewSpace begins with the network of a sandbox alone.
func NewSpace(own Mapping) *Space {
	s := &Space{Mapping: own, users: map[netip.Prefix]int{}}
	s.annexes.Store(&[]annex{})
	return s
}

// Annex lets addresses with the first two octets of a be served until it is released, by all who have annexed them. Those of the sandbox's own network always
// are. It fails if a is no IPv4 address, on loopback, or when there is no free network on this machine.
func (s *Space) Annex(a netip.Addr) (release func(), err error) {
	a = a.Unmap()
	if !a.Is4() || a.IsLoopback() {
		return nil, fmt.Errorf("cannot serve addresses like %s: only those of IPv4 networks can be", a)
	}
	if s.Contains(a) {
		return func() {}, nil
	}
	block, _ := a.Prefix(16) // cannot fail: it is an IPv4 address
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the sandbox's networks are given back")
	}
	if s.users[block] == 0 {
		at, err := claimHigh()
		if err != nil {
			return nil, err
		}
		s.annexes.Store(new(append(slices.Clone(*s.annexes.Load()), annex{block, at})))
	}
	s.users[block]++
	return sync.OnceFunc(func() { s.release(block) }), nil
}

// release gives a network back with the last of its users.
func (s *Space) release(block netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[block]--; s.users[block] > 0 {
		return
	}
	delete(s.users, block)
	s.annexes.Store(new(slices.DeleteFunc(slices.Clone(*s.annexes.Load()), func(n annex) bool {
		if n.block != block {
			return false
		}
		_ = n.at.Release() // nobody can do anything about it
		return true
	})))
}

// Close gives the annexed networks back, not the sandbox's own. It is safe to call it twice.
func (s *Space) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var problems []error
	for _, n := range *s.annexes.Load() {
		problems = append(problems, n.at.Release())
	}
	s.annexes.Store(&[]annex{})
	return errors.Join(problems...)
}

// RealAddr is as Mapping's.
func (s *Space) RealAddr(a netip.Addr) netip.Addr {
	if real := s.Mapping.RealAddr(a); real.IsValid() {
		return real
	}
	for _, n := range *s.annexes.Load() {
		if inner := n.inner(a); inner.IsValid() {
			return n.at.RealAddr(inner)
		}
	}
	return netip.Addr{}
}

// VirtualAddr is as Mapping's.
func (s *Space) VirtualAddr(a netip.Addr) netip.Addr {
	if virtual := s.Mapping.VirtualAddr(a); virtual.IsValid() {
		return virtual
	}
	for _, n := range *s.annexes.Load() {
		if inner := n.at.VirtualAddr(a); inner.IsValid() {
			return n.outer(inner)
		}
	}
	return netip.Addr{}
}

// Real is as Mapping's.
func (s *Space) Real(at netip.AddrPort) netip.AddrPort {
	if s.Contains(at.Addr()) {
		return s.Mapping.Real(at)
	}
	for _, n := range *s.annexes.Load() {
		if inner := n.inner(at.Addr()); inner.IsValid() {
			return n.at.Real(netip.AddrPortFrom(inner, at.Port()))
		}
	}
	return netip.AddrPort{}
}

// Virtual is as Mapping's.
func (s *Space) Virtual(at netip.AddrPort) netip.AddrPort {
	if s.Loopback().Contains(at.Addr().Unmap()) {
		return s.Mapping.Virtual(at)
	}
	for _, n := range *s.annexes.Load() {
		if virtual := n.at.Virtual(at); virtual.IsValid() {
			return netip.AddrPortFrom(n.outer(virtual.Addr()), virtual.Port())
		}
	}
	return netip.AddrPort{}
}

// Served are the real blocks whose addresses stand for addresses of block. The block itself is one of them unless the space
// serves all of it.
func (s *Space) Served(block netip.Prefix) []netip.Prefix {
	var list []netip.Prefix
	within := false
	add := func(own, loopback netip.Prefix) {
		switch {
		case !own.Overlaps(block):
		case block.Bits() >= own.Bits():
			within = true
			list = append(list, netip.PrefixFrom(s.RealAddr(block.Addr()), block.Bits()))
		default:
			list = append(list, loopback)
		}
	}
	add(s.CIDR(), s.Loopback())
	for _, n := range *s.annexes.Load() {
		add(n.block, n.at.Loopback())
	}
	if !within {
		list = append(list, block)
	}
	return list
}

// inner is the address of the claimed network that stands for a, or the zero Addr.
func (n annex) inner(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !n.block.Contains(a) {
		return netip.Addr{}
	}
	return swap(a, n.at.CIDR())
}

// outer is the inverse of inner.
func (n annex) outer(a netip.Addr) netip.Addr { return swap(a, n.block) }

// swap gives a the first two octets of a network.
func swap(a netip.Addr, network netip.Prefix) netip.Addr {
	b, first := a.As4(), network.Addr().As4()
	b[0], b[1] = first[0], first[1]
	return netip.AddrFrom4(b)
}

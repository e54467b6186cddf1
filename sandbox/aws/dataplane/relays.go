package dataplane

import (
	"net/netip"
	"sync"
)

// Relays knows the connections that nodes of Network Load Balancers make to other load balancers under the addresses of their clients. It
// is what the network knows in AWS, where a rule that names a group of the Network Load Balancer admits such a connection. The zero value is
// ready to use, and nil knows none.
type Relays struct {
	mu  sync.Mutex
	via map[netip.AddrPort]netip.Addr // by the real source of the connection
}

// Enter notes a connection before it is made: its real source, and the node that makes it. It is to be taken out when the connection is over.
func (r *Relays) Enter(source netip.AddrPort, node netip.Addr) (leave func()) {
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.via == nil {
		r.via = map[netip.AddrPort]netip.Addr{}
	}
	r.via[source] = node
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.via, source)
	}
}

// Via is the node that makes a connection from a real source, or the zero address.
func (r *Relays) Via(source netip.AddrPort) netip.Addr {
	if r == nil {
		return netip.Addr{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.via[source]
}

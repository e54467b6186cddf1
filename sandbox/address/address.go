// Package address is the one mapping between the addresses of a sandbox's VPC and the loopback
// addresses on which they are really served.
//
// A sandbox owns one octet k, from 1 to 254. Its VPC is 10.k.0.0/16, and what has the VPC address
// 10.k.b.c listens at 127.k.b.c. So every pod, node and load balancer node has an address of its
// own, several sandboxes live side by side on one machine, and 127.0.0.1, where everything else
// on the machine listens, is never in the way (k is never 0).
//
// Ports stay what they are, except where the system does not let this user bind ports below 1024.
// There, and only there, a low port p is served at 64000+p: 80 at 64080, 443 at 64443. These
// real ports lie above Linux's default range for outgoing connections (32768-60999). The price: the VPC
// ports 64001-65023 themselves cannot be served on such a machine.
//
// [Mapping] is the pure value; [VPC] is a Mapping together with the claim on its octet.
package address

import "net/netip"

const (
	firstHighPort = 1024
	lowPortOffset = 64000
)

// Mapping translates between VPC addresses and loopback addresses. It is a plain value: a process
// that claims an octet can hand it to others (as JSON) that only have to reach what is served.
type Mapping struct {
	// Octet is the second octet of the VPC and of its loopback addresses, 1 to 254.
	Octet uint8 `json:"octet"`
	// LowPortsMoved says that ports 1-1023 are served at 64000 + port.
	LowPortsMoved bool `json:"lowPortsMoved"`
}

// CIDR returns the VPC's block, 10.k.0.0/16.
func (m Mapping) CIDR() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, m.Octet, 0, 0}), 16)
}

// Loopback returns the block in which the VPC is really served, 127.k.0.0/16.
func (m Mapping) Loopback() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, m.Octet, 0, 0}), 16)
}

// Contains reports whether a is an address of the VPC.
func (m Mapping) Contains(a netip.Addr) bool { return m.CIDR().Contains(a.Unmap()) }

// RealAddr returns the loopback address at which a VPC address is served, or the zero Addr if a
// is not in the VPC: nothing outside the sandbox can be reached through a Mapping.
func (m Mapping) RealAddr(a netip.Addr) netip.Addr { return m.move(a, m.CIDR(), 127) }

// VirtualAddr is the inverse of RealAddr.
func (m Mapping) VirtualAddr(a netip.Addr) netip.Addr { return m.move(a, m.Loopback(), 10) }

func (m Mapping) move(a netip.Addr, from netip.Prefix, first byte) netip.Addr {
	a = a.Unmap()
	if !from.Contains(a) {
		return netip.Addr{}
	}
	b := a.As4()
	b[0] = first
	return netip.AddrFrom4(b)
}

// Real returns where the VPC address and port are really served. It is the zero AddrPort, which
// cannot be dialled or bound, if the address is not in the VPC or the port cannot be served here
// (see the package comment). Port 0, "any", stays 0.
func (m Mapping) Real(ap netip.AddrPort) netip.AddrPort {
	addr, port := m.RealAddr(ap.Addr()), ap.Port()
	if !addr.IsValid() {
		return netip.AddrPort{}
	}
	switch {
	case !m.LowPortsMoved || port == 0:
	case port < firstHighPort:
		port += lowPortOffset
	case movedPort(port):
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

// Virtual is the inverse of Real: which VPC address and port is served at, or sends from, a
// loopback address. It is the zero AddrPort for addresses outside the sandbox.
func (m Mapping) Virtual(ap netip.AddrPort) netip.AddrPort {
	addr, port := m.VirtualAddr(ap.Addr()), ap.Port()
	if !addr.IsValid() {
		return netip.AddrPort{}
	}
	if m.LowPortsMoved {
		switch {
		case movedPort(port):
			port -= lowPortOffset
		case port > 0 && port < firstHighPort:
			return netip.AddrPort{} // nothing of ours can be there
		}
	}
	return netip.AddrPortFrom(addr, port)
}

// movedPort reports whether a real port stands for a low VPC port.
func movedPort(port uint16) bool {
	return port > lowPortOffset && port < lowPortOffset+firstHighPort
}

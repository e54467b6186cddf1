// Package proxyproto writes headers of the PROXY protocol, version 2, as a Network Load Balancer does: binary, ahead of the
// data of a connection, without optional fields (AWS adds one only for VPC endpoints, which are not modelled).
//
// The format is that of https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2.
package proxyproto

import (
	"encoding/binary"
	"net/netip"
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	local     = 0x20 // version 2, command LOCAL
	proxied   = 0x21 // version 2, command PROXY
	tcp4      = 0x11
	tcp6      = 0x21
)

// Local is the header of a connection that a load balancer makes for itself, such as a health check.
func Local() []byte {
	return append([]byte(signature), local, 0, 0, 0)
}

// Header is the header of a TCP connection that a client made to a load balancer. Addresses of different families are both
// written as IPv6.
func Header(client, balancer netip.AddrPort) []byte {
	family := byte(tcp4)
	a, b := client.Addr().Unmap(), balancer.Addr().Unmap()
	if !a.Is4() || !b.Is4() {
		family = tcp6
		a, b = netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16())
	}
	addresses := append(a.AsSlice(), b.AsSlice()...)
	h := append([]byte(signature), proxied, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(addresses)+4))
	h = append(h, addresses...)
	h = binary.BigEndian.AppendUint16(h, client.Port())
	return binary.BigEndian.AppendUint16(h, balancer.Port())
}

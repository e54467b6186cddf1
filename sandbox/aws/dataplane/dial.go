package dataplane

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// dialing is one way from a node to a target, in addresses of the VPC.
type dialing struct {
	from     netip.Addr
	to       netip.AddrPort
	endpoint func(netip.AddrPort) netip.AddrPort
	firewall Firewall
}

// dial connects to the real endpoint of a target. Packets that are not admitted are dropped, so the attempt ends
// with ctx and never earlier, as when a security group is in the way.
func dial(ctx context.Context, d dialing) (net.Conn, error) {
	if !d.firewall.Passes(Packet{Protocol: TCP, From: d.from, To: d.to}) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	dialer := net.Dialer{Control: sharePorts, KeepAlive: -1}
	if d.from.IsValid() {
		// The target sees the node's own address as its peer, as it does in a VPC.
		dialer.LocalAddr = &net.TCPAddr{IP: d.endpoint(netip.AddrPortFrom(d.from, 1024)).Addr().AsSlice()}
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.endpoint(d.to).String())
	if err == nil {
		Follow(d.firewall, conn, Packet{Protocol: TCP, From: d.from, To: d.to})
	}
	return conn, err
}

// sharePorts is how sockets to targets are made: one node can have more connections than there are ports.
func sharePorts(_, _ string, c syscall.RawConn) error { return c.Control(sockopt.SharePorts) }

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

func putReader(r *bufio.Reader) {
	r.Reset(nil)
	readers.Put(r)
}

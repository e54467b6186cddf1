package dataplane

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// Announcer is a Firewall that can say beforehand who may come, so that the kernel can drop the packets of all others.
type Announcer interface {
	// Announce tells from which real addresses TCP connections may come to an address of the VPC: before it returns, and whenever
	// that changes, until end is called. Who is announced may still be one whom Passes does not let in, but not the other way
	// round. sources is called for one change after the other, and must neither block nor ask the firewall.
	Announce(to netip.AddrPort, sources func(sockopt.Filter)) (end func())
}

// Door is a listening socket of a node that drops what security groups do not let in: clients time out when they try to connect.
//
// The kernel looks at first segments only, and accepted connections no longer pass through its filter, so what is connected costs
// nothing and stays connected when rules change. Where the firewall cannot announce, or the kernel takes no filter, everybody can connect,
// and it is for the node to ask the firewall about each connection; it has to do so in any case.
type Door struct {
	listener *net.TCPListener
	end      func()
	filtered atomic.Bool // at some time, so that connections have to be freed from it

	mu       sync.Mutex // a leaf: nothing is called with it held
	shut     bool
	admitted sockopt.Filter
	dropped  uint32 // as counted by the kernel, when it was last looked at
	blocked  uint64 // of these, by security groups
}

// OpenDoor listens at a real address, for connections to an address of the VPC.
func OpenDoor(real, at netip.AddrPort, wall Firewall) (*Door, error) {
	// Keep-alive probes of ours would make the answers to them look like activity of the peer, and sockets of Multipath TCP take no
	// filter.
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", real.String())
	if err != nil {
		return nil, err
	}
	d := &Door{listener: l.(*net.TCPListener), admitted: sockopt.Everybody, end: func() {}}
	if announcer, ok := wall.(Announcer); ok {
		d.end = announcer.Announce(at, d.admit)
	}
	return d, nil
}

func (d *Door) admit(f sockopt.Filter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count()
	d.admitted = f
	d.set()
}

// Shut drops everybody's attempts, or no longer: what becomes of a port that has no listener.
func (d *Door) Shut(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut == shut {
		return
	}
	d.count()
	d.shut = shut
	d.set()
}

// set gives the kernel what holds now. Called with the lock.
func (d *Door) set() {
	f := d.admitted
	if d.shut {
		f = sockopt.Filter{}
	}
	if sockopt.SetFilter(d.listener, f) == nil && !f.DropsNothing() {
		d.filtered.Store(true)
	}
}

// count enters what has been dropped since it was last called. Called with the lock.
func (d *Door) count() {
	if !d.filtered.Load() {
		return
	}
	if now := sockopt.Dropped(d.listener); now > d.dropped {
		if !d.shut {
			d.blocked += uint64(now - d.dropped)
		}
		d.dropped = now
	}
}

// Blocked is how many first segments security groups have kept out: a client that times out has sent several.
func (d *Door) Blocked() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count()
	return d.blocked
}

// Accept implements net.Listener.
func (d *Door) Accept() (net.Conn, error) {
	conn, err := d.listener.AcceptTCP()
	if err != nil {
		return nil, err
	}
	if d.filtered.Load() {
		sockopt.ClearFilter(conn)
	}
	return conn, nil
}

// Close implements net.Listener.
func (d *Door) Close() error {
	d.end()
	return d.listener.Close()
}

// Addr implements net.Listener.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

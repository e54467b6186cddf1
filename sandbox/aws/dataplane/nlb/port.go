package nlb

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// acceptPause is how long a port rests that could not accept a connection.
const acceptPause = 50 * time.Millisecond

// port is one port of the node, with a socket for each transport that a listener has needed there. Guarded by Node.apply.
type port struct {
	node   *Node
	number uint16
	tcp    *dataplane.Door
	serves bool // somebody accepts what comes through tcp
	udp    *net.UDPConn
}

// open binds what a protocol needs and is not bound yet.
func (p *port) open(protocol dataplane.Protocol) error {
	at := netip.AddrPortFrom(p.node.config.Address, p.number)
	real := p.node.config.Endpoint(at)
	if carries(protocol, dataplane.TCP) {
		if err := p.listen(); err != nil {
			return err
		}
		if door := p.tcp; !p.serves {
			p.serves = true
			p.node.work.Go(func() { p.accept(door) })
		}
	}
	if p.tcp != nil {
		p.tcp.Shut(!carries(protocol, dataplane.TCP))
	}
	if p.udp == nil && carries(protocol, dataplane.UDP) {
		c, err := net.ListenPacket("udp", real.String())
		if err != nil {
			return fmt.Errorf("cannot receive at %s for %s of node %s: %w", real, at, p.node.config.LoadBalancer, err)
		}
		p.udp = c.(*net.UDPConn)
		receiver := newReceiver(p.node, p.number, p.udp)
		p.node.work.Go(receiver.receive)
	}
	return nil
}

// listen binds the TCP port, if it is not bound yet. Nobody accepts what comes.
func (p *port) listen() error {
	if p.tcp != nil {
		return nil
	}
	at := netip.AddrPortFrom(p.node.config.Address, p.number)
	real := p.node.config.Endpoint(at)
	door, err := dataplane.OpenDoor(real, at, p.node.config.Firewall)
	if err != nil {
		return fmt.Errorf("cannot listen on %s for %s of node %s: %w", real, at, p.node.config.LoadBalancer, err)
	}
	p.tcp = door
	p.node.enter(door)
	return nil
}

// shut lets nobody in any more. The port stays bound, so that who tries it is dropped and not refused.
func (p *port) shut() {
	if p.tcp != nil {
		p.tcp.Shut(true)
	}
}

func (p *port) close() {
	if p.tcp != nil {
		_ = p.tcp.Close()
	}
	if p.udp != nil {
		_ = p.udp.Close()
	}
}

func (p *port) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // most likely there are no more file handles, and some come back
			p.node.config.Log.Warn("a port of the load balancer cannot accept", "loadBalancer", p.node.config.LoadBalancer, "port", p.number, "cause", err)
			select {
			case <-p.node.ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		s := newStream(p.node, p.number, conn.(*net.TCPConn))
		p.node.work.Go(s.run)
	}
}

// peer is the address of a client in the VPC, or its own if it comes from outside.
func (n *Node) peer(real netip.AddrPort) netip.AddrPort {
	return n.config.Peer(netip.AddrPortFrom(real.Addr().Unmap(), real.Port()))
}

// hairpin says whether a target would get a packet from itself, which it drops.
func (w way) hairpin(client netip.AddrPort) bool {
	return w.settings.Network.PreserveClient && client.Addr() == w.to.Addr()
}

// source is the real address from which a flow goes on to its target, and what the firewall has to know of it. The port is
// chosen by the kernel.
func (n *Node) source(preserve bool, real, client netip.AddrPort, p dataplane.Packet) (netip.Addr, dataplane.Packet) {
	if preserve {
		p.From, p.Via = client.Addr(), n.config.Address
		return real.Addr().Unmap(), p
	}
	p.From = n.config.Address
	return n.config.Endpoint(netip.AddrPortFrom(n.config.Address, 1024)).Addr(), p
}

package nlb

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// datagramFlows bounds the UDP flows of one port; datagrams of further ones are dropped.
const datagramFlows = 20_000

// receiver takes the datagrams that come to one port and keeps the flow table.
type receiver struct {
	node *Node
	port uint16
	conn *net.UDPConn

	mu    sync.Mutex
	flows map[netip.AddrPort]*datagrams // by the real address of the client
}

func newReceiver(n *Node, number uint16, conn *net.UDPConn) *receiver {
	return &receiver{node: n, port: number, conn: conn, flows: map[netip.AddrPort]*datagrams{}}
}

// datagrams is one UDP flow: what one client port exchanges with its target.
type datagrams struct {
	*flow
	receiver *receiver
	client   netip.AddrPort // real
	server   *net.UDPConn
	last     atomic.Int64 // nanoseconds since the epoch
	bytes    atomic.Uint64
	packets  atomic.Uint64
}

// receive hands each datagram to its flow, until the port is closed.
func (r *receiver) receive() {
	buffer := make([]byte, 64<<10)
	for {
		size, from, err := r.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an answer could not be delivered to its client, which is the client's affair
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		r.mu.Lock()
		d, full := r.flows[from], len(r.flows) >= datagramFlows
		r.mu.Unlock()
		if d == nil {
			if full {
				continue
			}
			if d = r.begin(from); d == nil {
				continue
			}
		}
		d.touch(size)
		_, _ = d.server.Write(buffer[:size]) // a target that is not there loses datagrams
	}
}

// begin opens a flow, or returns nil if its datagrams are dropped.
func (r *receiver) begin(real netip.AddrPort) *datagrams {
	n, client := r.node, r.node.peer(real)
	at := netip.AddrPortFrom(n.config.Address, r.port)
	if !n.config.Firewall.Passes(dataplane.Packet{Protocol: dataplane.UDP, From: client.Addr(), To: at}) {
		n.blocked(n.counts.blockedInbound, dataplane.UDP)
		return nil
	}
	d := &datagrams{flow: &flow{port: r.port, protocol: dataplane.UDP}, receiver: r, client: real}
	var ready sync.Mutex // until the flow has its socket, nobody can cut it
	ready.Lock()
	defer ready.Unlock()
	d.cut = func() { ready.Lock(); defer ready.Unlock(); d.close() }
	d.moved = func() (uint64, uint64) { return d.bytes.Load(), d.packets.Load() }
	w, verdict := n.choose(d.flow, client, dataplane.UDP)
	if verdict != forward {
		return nil
	}
	if w.hairpin(client) {
		n.end(d.flow)
		return nil
	}
	from, packet := n.source(w.settings.Network.PreserveClient, real, client, dataplane.Packet{Protocol: dataplane.UDP, To: w.to})
	if !n.config.Firewall.Passes(packet) {
		n.blocked(n.counts.blockedOutbound, dataplane.UDP)
		n.end(d.flow)
		return nil
	}
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: from.AsSlice()}}
	conn, err := dialer.DialContext(context.Background(), "udp", n.config.Endpoint(w.to).String())
	if err != nil {
		n.count(func(c *counts) {
			d.target.usage.ConnectErrors++
			if errors.Is(err, syscall.EADDRNOTAVAIL) {
				c.portAllocation++
			}
		})
		n.end(d.flow)
		return nil
	}
	d.server = conn.(*net.UDPConn)
	d.last.Store(time.Now().UnixNano())
	r.mu.Lock()
	r.flows[real] = d
	r.mu.Unlock()
	n.work.Go(func() { d.answer(n.config.idle(datagramIdle)) })
	return d
}

func (d *datagrams) touch(size int) {
	d.last.Store(time.Now().UnixNano())
	d.bytes.Add(uint64(size))
	d.packets.Add(1)
}

// answer brings the target's datagrams to the client until the flow is idle or cut.
func (d *datagrams) answer(idle time.Duration) {
	raw, err := d.server.SyscallConn()
	for err == nil {
		left := idle - time.Since(time.Unix(0, d.last.Load()))
		if left <= 0 {
			break
		}
		_ = d.server.SetReadDeadline(time.Now().Add(left))
		failed := lentReader{raw}.next(func(datagram []byte) error {
			d.touch(len(datagram))
			_, _ = d.receiver.conn.WriteToUDPAddrPort(datagram, d.client)
			return nil
		})
		if errors.Is(failed, net.ErrClosed) {
			break
		}
	}
	d.close()
	d.receiver.node.end(d.flow)
}

// close takes the flow from the table: the next datagram of the client begins a new one.
func (d *datagrams) close() {
	d.receiver.mu.Lock()
	if d.receiver.flows[d.client] == d {
		delete(d.receiver.flows, d.client)
	}
	d.receiver.mu.Unlock()
	if d.server != nil {
		_ = d.server.Close()
	}
}

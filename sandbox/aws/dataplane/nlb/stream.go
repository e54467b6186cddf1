package nlb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/proxyproto"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// stream is a TCP connection of a client, TLS or not, with the one to its target.
type stream struct {
	*flow
	node   *Node
	peer   netip.AddrPort // in the VPC
	client *net.TCPConn
	ctx    context.Context // ends when the flow is cut
	cancel context.CancelFunc

	bytes atomic.Uint64 // moved, both ways
	leave func()        // takes the stream from the relays

	mu        sync.Mutex
	server    *net.TCPConn // nil until connected
	isCut     bool
	forgotten bool
}

func newStream(n *Node, number uint16, client *net.TCPConn) *stream {
	real := client.RemoteAddr().(*net.TCPAddr).AddrPort()
	s := &stream{node: n, peer: n.peer(real), client: client, leave: func() {}, flow: &flow{port: number, protocol: dataplane.TCP}}
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	s.flow.cut, s.flow.moved = s.cut, s.moved
	return s
}

// cut ends both sides by RST.
func (s *stream) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isCut = true
	s.cancel()
	blackhole.Reset(s.client)
	if s.server != nil {
		blackhole.Reset(s.server)
	}
}

// run is the life of the stream.
func (s *stream) run() {
	defer s.cancel()
	defer func() { s.leave() }()
	n := s.node
	at := netip.AddrPortFrom(n.config.Address, s.port)
	if !n.config.Firewall.Passes(dataplane.Packet{Protocol: dataplane.TCP, From: s.peer.Addr(), To: at}) {
		n.blocked(n.counts.blockedInbound, dataplane.TCP)
		n.dropped.Swallow(s.client)
		return
	}
	dataplane.Follow(n.config.Firewall, s.client, dataplane.Packet{Protocol: dataplane.TCP, From: s.peer.Addr(), To: at})
	front, ok := s.greet()
	if !ok {
		return
	}
	w, verdict := n.choose(s.flow, s.peer, dataplane.TCP)
	switch verdict {
	case drop:
		n.dropped.Swallow(s.client)
		return
	case refuse:
		n.count(func(c *counts) { c.elbResets++ })
		blackhole.Reset(s.client)
		return
	}
	back, err := s.connect(w, front)
	switch {
	case errors.Is(err, errDropped):
		n.end(s.flow)
		n.dropped.Swallow(s.client)
		return
	case err != nil:
		s.failed(err)
		s.cut()
		return
	}
	s.carry(front, back, n.config.idle(idleOf(w.listener)))
}

func idleOf(l *listener) time.Duration {
	if l.FlowIdle > 0 && l.Protocol != dataplane.TLS {
		return l.FlowIdle
	}
	return streamIdle
}

// greet makes the TLS handshake with the client, where the listener speaks TLS.
func (s *stream) greet() (front net.Conn, ok bool) {
	s.node.mu.Lock()
	l := s.node.listeners[s.port]
	s.node.mu.Unlock()
	if l == nil || l.tls == nil {
		return s.client, true
	}
	s.protocol = dataplane.TLS
	secured := tls.Server(s.client, l.tls)
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		s.node.count(func(c *counts) { c.clientTLS++ })
		_ = s.client.Close()
		return nil, false
	}
	return secured, true
}

var (
	errDropped   = errors.New("security groups drop the connection")
	errHandshake = errors.New("TLS handshake with the target")
)

// connect makes the connection to the target: under the address of the client or of the node, with the header of the PROXY protocol and
// TLS as the group wants it.
func (s *stream) connect(w way, front net.Conn) (net.Conn, error) {
	n, network := s.node, w.settings.Network
	real := s.client.RemoteAddr().(*net.TCPAddr).AddrPort()
	from, packet := n.source(network.PreserveClient, real, s.peer, dataplane.Packet{Protocol: dataplane.TCP, To: w.to})
	if w.hairpin(s.peer) {
		return nil, errDropped
	}
	if !n.config.Firewall.Passes(packet) {
		n.blocked(n.counts.blockedOutbound, dataplane.TCP)
		return nil, errDropped
	}
	ctx, cancel := context.WithTimeout(s.ctx, blackhole.Patience)
	defer cancel()
	dialer := net.Dialer{Control: sharePorts, KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	if network.PreserveClient && w.relay && from.Is4() {
		dialer.Control, dialer.LocalAddr = s.relayFrom(from), nil
	}
	conn, err := dialer.DialContext(ctx, "tcp", n.config.Endpoint(w.to).String())
	if err != nil {
		return nil, err
	}
	server := conn.(*net.TCPConn)
	dataplane.Follow(n.config.Firewall, server, packet)
	if !s.attach(server) {
		return nil, net.ErrClosed
	}
	if network.ProxyProtocol {
		if _, err := server.Write(proxyproto.Header(s.peer, netip.AddrPortFrom(n.config.Address, s.port))); err != nil {
			return nil, err
		}
	}
	if w.settings.Protocol != dataplane.TLS {
		return server, nil
	}
	return s.encrypt(server, front)
}

// encrypt makes the TLS handshake with a target, which is offered the application protocol that the client has agreed to.
func (s *stream) encrypt(server *net.TCPConn, front net.Conn) (net.Conn, error) {
	c := &tls.Config{InsecureSkipVerify: true} // a load balancer does not verify targets
	if t, ok := front.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "" {
		c.NextProtos = []string{t.ConnectionState().NegotiatedProtocol}
	}
	secured := tls.Client(server, c)
	handshake, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(handshake); err != nil {
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return secured, nil
}

// relayFrom binds a socket to an address of which the kernel chooses the port now, so that the connection can be entered among the
// relays before the other load balancer sees it.
func (s *stream) relayFrom(from netip.Addr) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			sockopt.Relay(fd)
			if failed = unix.Bind(int(fd), &unix.SockaddrInet4{Addr: from.As4()}); failed != nil {
				return
			}
			bound, err := unix.Getsockname(int(fd))
			if at, ok := bound.(*unix.SockaddrInet4); ok && err == nil {
				s.leave = s.node.config.Relays.Enter(netip.AddrPortFrom(from, uint16(at.Port)), s.node.config.Address)
			}
		})
		return errors.Join(err, failed)
	}
}

// attach gives the stream its connection to the target, unless it was cut meanwhile.
func (s *stream) attach(server *net.TCPConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isCut {
		blackhole.Reset(server)
		return false
	}
	s.server = server
	return true
}

// sharePorts is how sockets to targets are made: one address can have more connections than there are ports.
func sharePorts(_, _ string, c syscall.RawConn) error { return c.Control(sockopt.SharePorts) }

// failed records that no connection to the target could be made, and lets a refusal count as a check.
func (s *stream) failed(err error) {
	n := s.node
	n.mu.Lock()
	mine := n.forget(s.flow) // else the flow was cut, and it is not the target's fault
	var checks *dataplane.Observation
	if mine {
		s.target.usage.ConnectErrors++
		n.counts.elbResets++
		g := s.target.group
		if refused(err) && g.settings != nil && !g.settings.Network.StickySource {
			checks = s.target.checks
		}
		switch {
		case errors.Is(err, errHandshake):
			n.counts.targetTLS++
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			n.counts.portAllocation++
		}
	}
	n.mu.Unlock()
	if checks != nil {
		checks.Refused()
	}
}

// refused says whether it was the target that did not take a connection, and not this machine that could not make it, for lack of file handles
// or ports.
func refused(err error) bool {
	if errors.Is(err, errHandshake) {
		return false
	}
	var late net.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.As(err, &late) && late.Timeout()
}

// carry moves bytes both ways until both sides have ended or the flow is over.
func (s *stream) carry(front, back net.Conn, idle time.Duration) {
	watcher := s.watchIdle(idle)
	defer watcher.stop()
	var upErr, downErr error
	both := make(chan struct{})
	go func() {
		defer close(both)
		downErr = s.pipe(front, back, s.client, s.server)
	}()
	upErr = s.pipe(back, front, s.server, s.client)
	<-both
	s.node.mu.Lock()
	mine := s.node.forget(s.flow)
	s.node.mu.Unlock()
	s.mu.Lock()
	forgotten := s.forgotten
	s.mu.Unlock()
	switch {
	case forgotten:
		s.haunt(idle)
	case mine && (upErr != nil || downErr != nil):
		s.reset()
	default:
		_ = s.client.Close()
		_ = s.server.Close()
	}
}

// pipe copies from one side to the other and passes the end on. An error of either side ends both directions.
func (s *stream) pipe(to, from net.Conn, rawTo, rawFrom *net.TCPConn) error {
	err := s.copyFrom(to, from)
	if errors.Is(err, io.ErrUnexpectedEOF) { // TLS that ends without saying so
		err = nil
	}
	if err == nil {
		if t, secured := to.(*tls.Conn); secured {
			err = t.CloseWrite()
		}
		if err == nil {
			err = rawTo.CloseWrite()
		}
		if errors.Is(err, syscall.ENOTCONN) { // the other side has ended at the same moment
			err = nil
		}
	}
	if err != nil {
		past := time.Unix(1, 0)
		_, _ = rawTo.SetDeadline(past), rawFrom.SetDeadline(past)
	}
	return err
}

// counted notes what is written.
type counted struct {
	io.Writer
	bytes *atomic.Uint64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.bytes.Add(uint64(n))
	return n, err
}

// copyFrom is io.Copy, but for plain connections that wait: they hold no buffer.
func (s *stream) copyFrom(to, from net.Conn) error {
	if plain, ok := from.(*net.TCPConn); ok {
		return move(to, plain, &s.bytes)
	}
	_, err := io.Copy(counted{to, &s.bytes}, from)
	return err
}

// reset ends a flow of which one side has gone without a proper end, and counts who it was.
func (s *stream) reset() {
	client, server := gone(s.client), gone(s.server)
	s.node.count(func(c *counts) {
		switch {
		case server:
			c.targetResets++
		case client:
			c.clientResets++
		default:
			c.elbResets++
		}
	})
	blackhole.Reset(s.client)
	blackhole.Reset(s.server)
}

// gone says whether the kernel has given up a connection, which before we close it means an RST from the peer.
func gone(c *net.TCPConn) bool {
	info, _ := sockopt.Look(c)
	return info.Closed
}

// moved is how many bytes have gone both ways so far, and how many segments have come from both sides as long as the stream has its connections.
func (s *stream) moved() (bytes, packets uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range []*net.TCPConn{s.client, s.server} {
		if c == nil {
			continue
		}
		info, _ := sockopt.Look(c)
		packets += info.Segments
	}
	return s.bytes.Load(), packets
}

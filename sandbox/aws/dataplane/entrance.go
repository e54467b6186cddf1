package dataplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// welcome takes in the client connections of the port until it is closed: those that security groups let in, once they speak TLS where that is
// spoken.
func (s *socket) welcome() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.closing:
				return
			case <-time.After(5 * time.Millisecond): // there are no descriptors, for example
				s.node.rejected.Add(1)
				continue
			}
		}
		if !s.admits(conn) {
			s.node.dropped.Swallow(conn)
			continue
		}
		Follow(s.node.config.Firewall, conn, Packet{Protocol: TCP, From: s.node.peer(conn).Addr(), To: netip.AddrPortFrom(s.node.config.Address, s.port)})
		client := meter(conn, s.node)
		if l := s.node.routes.Load().listeners[s.port]; l != nil && l.tls != nil {
			s.node.work.Go(func() { s.secure(client, l) })
			continue
		}
		s.hand(inspect(client, s.node))
	}
}

// secure makes the TLS handshake of a connection. Over HTTP/2 it is net/http's alone.
func (s *socket) secure(conn *metered, l *listenerRoutes) {
	ctx, cancel := context.WithTimeout(s.node.ctx, s.node.routes.Load().attributes.IdleTimeout)
	defer cancel()
	over := tls.Server(conn, l.tls)
	if err := over.HandshakeContext(ctx); err != nil {
		s.node.clientTLSErrors.Add(1)
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) && plain.Conn != nil {
			page := pages[http.StatusBadRequest]
			_, _ = fmt.Fprintf(plain.Conn, "HTTP/1.1 400 Bad Request\r\nServer: %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
				serverName[0], len(page), page)
			_ = closeWrite(plain.Conn)
			_ = plain.Conn.SetReadDeadline(time.Now().Add(lingers))
			_, _ = io.Copy(io.Discard, io.LimitReader(plain.Conn, 1<<20))
		}
		_ = conn.Close()
		return
	}
	if l.mutual != nil {
		conn.identity = l.mutual.identify(over.ConnectionState().PeerCertificates)
	}
	if over.ConnectionState().NegotiatedProtocol == "h2" {
		s.hand(over)
		return
	}
	s.hand(secured{inspect(over, s.node)})
}

// hand gives a connection to the server.
func (s *socket) hand(conn net.Conn) {
	select {
	case s.ready <- conn:
	case <-s.closing:
		_ = conn.Close()
	}
}

// Accept waits for the next client connection.
func (s *socket) Accept() (net.Conn, error) {
	select {
	case conn := <-s.ready:
		return conn, nil
	case <-s.closing:
		return nil, net.ErrClosed
	}
}

// Close releases the port.
func (s *socket) Close() error {
	s.closed.Do(func() { close(s.closing) })
	return s.listener.Close()
}

// metered counts a client connection and its bytes.
type metered struct {
	net.Conn
	node *Node
	over atomic.Bool
	// identity is that of the certificate that the client has shown, nil if it was not asked or has none.
	identity *identity
}

func meter(conn net.Conn, n *Node) *metered {
	n.clientConnections.Add(1)
	n.newConnections.Add(1)
	return &metered{Conn: conn, node: n}
}

// Read counts what the client has sent.
func (c *metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.node.processed.Add(uint64(n))
	return n, err
}

// Write counts what the client is sent.
func (c *metered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.node.processed.Add(uint64(n))
	return n, err
}

// Close ends the connection.
func (c *metered) Close() error {
	if !c.over.Swap(true) {
		c.node.clientConnections.Add(-1)
	}
	return c.Conn.Close()
}

// CloseWrite tells the client that nothing more comes.
func (c *metered) CloseWrite() error { return closeWrite(c.Conn) }

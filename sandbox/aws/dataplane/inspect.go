package dataplane

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/desync"
)

// DesyncMode is routing.http.desync_mitigation_mode: which requests are let in, by their class (package desync).
type DesyncMode string

// The modes. What nobody can delimit is refused in all of them.
const (
	// DesyncMonitor lets everything in and counts.
	DesyncMonitor DesyncMode = "monitor"
	// DesyncDefensive refuses what is severe, and closes both connections after what is ambiguous.
	DesyncDefensive DesyncMode = "defensive"
	// DesyncStrictest lets in what is compliant.
	DesyncStrictest DesyncMode = "strictest"
)

// verdict is what is known of a request that net/http does not say.
type verdict struct {
	desync.Head
	// apart: the connections of this request serve no other.
	apart bool
}

// inspected is a client connection of HTTP/1 as net/http may see it: the heads of requests are read here first, and handed on in a clean form. A
// request that the load balancer refuses is handed on as another, harmless one, so that its answer is written in its turn and looks like every
// other error page.
//
//	head ──▶ body ──▶ answering ──▶ head ...
//	           │         │
//	           │         └──▶ tunnel, once the protocol has changed
//	           └──▶ end, where nobody can tell what comes next
//
// While a request is answered the next one is not looked at.
type inspected struct {
	net.Conn
	node *Node

	// For whoever reads: net/http sees to it that there is only one at a time.
	base, held []byte // held is what was read and not yet handed on, within base
	ready      []byte // of a head that is being handed on
	body       desync.Body
	gone       error // the client has closed its side
	end        error // nothing else is handed on

	verdict  verdict  // of the newest head
	exchange exchange // of the request that is being answered, one at a time
	served   atomic.Bool
	tunnel   atomic.Bool
	refused  atomic.Bool

	// For whoever writes, which may still be at the answer before.
	old   bool // an answer to HTTP/0.9, of which the head is still to be left out
	after []byte

	mu      sync.Mutex // guards what follows, and deadlines
	limited bool       // reading has a deadline in the future
	aborted bool       // reading has a deadline in the past
	wake    chan struct{}
	left    bool      // the client has gone away, or was sent away
	waiting *upstream // the connection on which its request waits for a target
}

// pipelined is how much of the next requests is read while one is answered.
const pipelined = 16 << 10

// refusedRequest stands for a request that is refused.
const refusedRequest = "GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"

var errChunk = errors.New("the body is not made of chunks")

func inspect(conn net.Conn, n *Node) *inspected {
	c := &inspected{Conn: conn, node: n, wake: make(chan struct{}, 1)}
	c.served.Store(true)
	return c
}

// secured is an inspected connection over TLS; net/http asks it for its state.
type secured struct{ *inspected }

// ConnectionState is that of TLS.
func (c secured) ConnectionState() tls.ConnectionState {
	return c.Conn.(*tls.Conn).ConnectionState()
}

// Read hands on one request after the other.
func (c *inspected) Read(p []byte) (int, error) {
	for {
		switch {
		case len(c.ready) > 0:
			n := copy(p, c.ready)
			c.ready = c.ready[n:]
			return n, nil
		case c.end != nil:
			return 0, c.end
		case c.tunnel.Load():
			if len(c.held) > 0 {
				n := copy(p, c.held)
				c.consume(n)
				return n, nil
			}
			return c.Conn.Read(p)
		case !c.body.Ended():
			return c.readBody(p)
		case !c.served.Load():
			if err := c.watch(); err != nil {
				return 0, err
			}
		default:
			if err := c.next(); err != nil {
				return 0, err
			}
		}
	}
}

func (c *inspected) consume(n int) {
	c.held = c.held[n:]
	if len(c.held) == 0 {
		c.held = c.base[:0]
	}
}

// fill reads more of what the client sends.
func (c *inspected) fill() error {
	if cap(c.held)-len(c.held) < 512 {
		c.base = append(make([]byte, 0, max(4<<10, 2*len(c.held)+512)), c.held...)
		c.held = c.base
	}
	n, err := c.Conn.Read(c.held[len(c.held):cap(c.held)])
	c.held = c.held[:len(c.held)+n]
	if n > 0 {
		return nil // the error comes again
	}
	return err
}

func (c *inspected) readBody(p []byte) (int, error) {
	var n, taken int
	var ok bool
	var err error
	if len(c.held) > 0 {
		n = copy(p, c.held)
		taken, ok = c.body.Take(p[:n])
		c.consume(taken)
	} else {
		n, err = c.Conn.Read(p)
		taken, ok = c.body.Take(p[:n])
		if taken < n {
			c.base = append(c.base[:0], p[taken:n]...)
			c.held = c.base
		}
	}
	if !ok {
		c.end = errChunk
		err = errChunk
	}
	return taken, err
}

// watch waits, while a request is answered, for the client to go away.
func (c *inspected) watch() error {
	if len(c.held) >= pipelined || c.gone != nil && len(c.held) > 0 {
		<-c.wake
		return os.ErrDeadlineExceeded
	}
	if c.gone != nil {
		c.leave()
		return c.gone
	}
	err := c.fill()
	if err != nil && !isTimeout(err) {
		c.gone = err
		return nil
	}
	return err
}

// next reads a head and judges it.
func (c *inspected) next() error {
	for {
		for len(c.held) > 0 && (c.held[0] == '\r' || c.held[0] == '\n') {
			c.consume(1)
		}
		if end := desync.End(c.held); end > 0 {
			c.judge(c.held[:end])
			c.consume(end)
			return nil
		}
		if status := desync.TooLong(c.held); status != 0 {
			c.refuse(verdict{Head: desync.Head{Status: status}})
			return nil
		}
		if c.gone != nil {
			if len(c.held) == 0 {
				return c.gone
			}
			c.refuse(verdict{Head: desync.Head{Status: 400}})
			return nil
		}
		if len(c.held) > 0 {
			c.renew()
		}
		err := c.fill()
		switch {
		case err == nil:
		case !isTimeout(err):
			c.gone = err
		case len(c.held) > 0 && !c.interrupted():
			c.refuse(verdict{Head: desync.Head{Status: 408}})
			return nil
		default:
			return err
		}
	}
}

func (c *inspected) judge(head []byte) {
	v := verdict{Head: desync.Parse(head)}
	mode := c.node.routes.Load().attributes.Desync
	if v.Class > desync.Compliant {
		c.node.nonCompliant.Add(1)
	}
	switch {
	case v.Status != 0:
	case mode == DesyncStrictest && v.Class > desync.Compliant, mode == DesyncDefensive && v.Class == desync.Severe:
		v.Status = 400
	case mode == DesyncDefensive && v.Class == desync.Ambiguous:
		v.apart = true
	}
	if v.Status != 0 {
		c.refuse(v)
		return
	}
	c.verdict, c.ready, c.body = v, v.Clean, desync.NewBody(v.Length)
	c.served.Store(false)
}

// refuse hands on the request that stands for a refused one. It is the last.
func (c *inspected) refuse(v verdict) {
	c.verdict, c.ready, c.end = v, []byte(refusedRequest), io.EOF
	c.refused.Store(true)
	c.served.Store(false)
}

// finish ends a request: the next one may be looked at.
func (c *inspected) finish() {
	c.exchange = exchange{}
	c.served.Store(true)
}

// awaits makes the connection to a target end with that of the client, until answered. The context of a request would do the same for much more
// work per request.
func (c *inspected) awaits(u *upstream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		go u.abort(errClientGone)
		return
	}
	c.waiting = u
}

// answered takes awaits back. It is false when the client has gone.
func (c *inspected) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = nil
	return !c.left
}

// leave notes that the client has gone.
func (c *inspected) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
	if c.waiting != nil {
		go c.waiting.abort(errClientGone) // which may say goodbye over TLS, and wait for that
		c.waiting = nil
	}
}

// Write sends what net/http writes; HTTP/0.9 knows no head.
func (c *inspected) Write(p []byte) (int, error) {
	if !c.old {
		return c.send(p)
	}
	c.after = append(c.after, p...)
	if end := desync.End(c.after); end > 0 {
		body := c.after[end:]
		c.old, c.after = false, nil
		if _, err := c.send(body); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// send gives the client the idle timeout to take something. After each answer net/http takes the deadline back.
func (c *inspected) send(p []byte) (int, error) {
	if !c.tunnel.Load() {
		_ = c.SetWriteDeadline(time.Now().Add(c.node.routes.Load().attributes.IdleTimeout))
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.leave()
	}
	return n, err
}

// SetReadDeadline gives reading the idle timeout that is in force now, whatever moment in the future it is asked for.
func (c *inspected) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limited, c.aborted = false, false
	if !t.IsZero() {
		now := time.Now()
		c.limited = t.After(now)
		c.aborted = !c.limited
		if c.limited {
			t = now.Add(c.node.routes.Load().attributes.IdleTimeout)
		}
	}
	select {
	case <-c.wake:
	default:
	}
	if c.aborted {
		c.wake <- struct{}{}
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is for reading and writing.
func (c *inspected) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// renew begins the idle timeout anew, since something has come.
func (c *inspected) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limited {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.node.routes.Load().attributes.IdleTimeout))
	}
}

func (c *inspected) interrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aborted
}

// lingers is how long the rest of a refused request is taken in: a reset would take the answer away from the client.
const lingers = 500 * time.Millisecond

// Close closes the connection.
func (c *inspected) Close() error {
	c.leave()
	_ = c.SetReadDeadline(time.Unix(1, 0)) // whoever waits
	if !c.refused.Swap(false) || c.CloseWrite() != nil {
		return c.Conn.Close()
	}
	go func() {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingers))
		_, _ = io.Copy(io.Discard, io.LimitReader(c.Conn, 1<<20))
		_ = c.Conn.Close()
	}()
	return nil
}

// CloseWrite tells the client that nothing more comes.
func (c *inspected) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

package dataplane

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/idleconn"
)

// idlePerTarget bounds the idle connections that a node keeps to one target.
const idlePerTarget = 64

// responseHeaderLimit is the size of response headers above which a real load balancer answers 502.
const responseHeaderLimit = 32 << 10

var (
	errLeft        = errors.New("the target takes no new requests")
	errCut         = errors.New("the deregistration delay is over")
	errClientGone  = errors.New("the client has closed its connection")
	errHeaderLimit = errors.New("the response headers are larger than 32 KB")
	errConnect     = errors.New("cannot connect")
	errHandshake   = errors.New("TLS handshake with the target")
)

// flights are the connections of a target: those with a request on them, and idle ones to be used again.
type flights struct {
	mu     sync.Mutex
	idle   []*upstream // the newest last, and used first
	active []*upstream
	shared []*shared // HTTP/2
	closed bool      // no new requests
}

// upstream is one connection to a target.
type upstream struct {
	conn  net.Conn
	h2    *http.ClientConn // nil for HTTP/1.1
	on    *shared          // of which this is one stream; nil for HTTP/1.1
	probe idleconn.Probe
	owner *target
	r     *bufio.Reader
	w     *bufio.Writer
	place int       // in owner.active, while a request is on it
	begun time.Time // of the newest request
	since time.Time // idle since

	idleTimeout time.Duration
	budget      int // bytes that may still be read before the response headers are too large; negative: no limit
	cause       atomic.Pointer[error]
}

// Read reads from the target, at most for the idle timeout, and no more than the budget.
func (u *upstream) Read(p []byte) (int, error) {
	if u.budget == 0 {
		return 0, errHeaderLimit
	}
	if u.budget > 0 && len(p) > u.budget {
		p = p[:u.budget]
	}
	if err := u.conn.SetReadDeadline(time.Now().Add(u.idleTimeout)); err != nil {
		return 0, u.because(err)
	}
	n, err := u.conn.Read(p)
	if u.budget > 0 {
		u.budget -= n
	}
	return n, u.because(err)
}

// Write writes to the target; a target that reads nothing for the idle timeout has timed out as well.
func (u *upstream) Write(p []byte) (int, error) {
	if err := u.conn.SetWriteDeadline(time.Now().Add(u.idleTimeout)); err != nil {
		return 0, u.because(err)
	}
	n, err := u.conn.Write(p)
	return n, u.because(err)
}

// because replaces an error by its true cause when the node itself closed the connection.
func (u *upstream) because(err error) error {
	if err == nil {
		return nil
	}
	if cause := u.cause.Load(); cause != nil {
		return *cause
	}
	return err
}

// abort closes the connection under whoever uses it.
func (u *upstream) abort(cause error) {
	u.cause.CompareAndSwap(nil, &cause)
	_ = u.conn.Close()
}

// alive says whether an idle connection can be used.
func (u *upstream) alive() bool {
	if u.h2 != nil {
		return u.h2.Err() == nil
	}
	return u.probe.Alive()
}

// quiet says whether the target has sent nothing after its answer, as far as that has been read: it would pass for the next answer. What TLS has
// taken in and not handed out is behind the back of the probe.
func (u *upstream) quiet() bool {
	if u.r.Buffered() > 0 {
		return false
	}
	if _, secured := u.conn.(*tls.Conn); !secured {
		return true
	}
	if u.conn.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	var one [1]byte
	n, err := u.conn.Read(one[:])
	return n == 0 && isTimeout(err) && u.conn.SetReadDeadline(time.Time{}) == nil
}

// acquire returns a connection for one request: an idle one, or a new one. It fails with errLeft when
// the target takes no new requests.
func (t *target) acquire(ctx context.Context, g *Group, idleTimeout time.Duration) (*upstream, error) {
	if g.ProtocolVersion == HTTP2 || g.ProtocolVersion == GRPC {
		return t.stream(ctx, g, idleTimeout)
	}
	for {
		u, err := t.reuse()
		if err != nil {
			return nil, err
		}
		if u == nil {
			break
		}
		// A real load balancer, too, has seen a FIN that arrived before the request did. What it cannot see is
		// one that arrives after it: that request gets a 502.
		if u.alive() {
			u.idleTimeout = idleTimeout
			return u, nil
		}
		t.release(u, false)
	}
	u, err := t.connect(ctx, g)
	if err != nil {
		return nil, err
	}
	u.idleTimeout = idleTimeout
	t.flights.mu.Lock()
	defer t.flights.mu.Unlock()
	if t.closed { // meanwhile
		_ = u.conn.Close()
		return nil, errLeft
	}
	t.activate(u)
	return u, nil
}

// reuse takes the newest idle connection, nil when there is none.
func (t *target) reuse() (*upstream, error) {
	t.flights.mu.Lock()
	defer t.flights.mu.Unlock()
	if t.closed {
		return nil, errLeft
	}
	last := len(t.idle) - 1
	if last < 0 {
		return nil, nil
	}
	u := t.idle[last]
	t.idle[last] = nil
	t.idle = t.idle[:last]
	t.activate(u)
	return u, nil
}

// activate is the moment at which a request is handed to the target. It holds f.mu, so that no such moment is later than
// that of close.
func (f *flights) activate(u *upstream) {
	u.begun = time.Now()
	u.place = len(f.active)
	f.active = append(f.active, u)
}

// release ends the request on a connection. A connection that is fit for another request is kept.
func (t *target) release(u *upstream, fit bool) {
	t.flights.mu.Lock()
	last := len(t.active) - 1
	t.active[u.place] = t.active[last]
	t.active[u.place].place = u.place
	t.active[last] = nil
	t.active = t.active[:last]
	keep := fit && !t.closed && len(t.idle) < idlePerTarget
	if u.on != nil {
		u.on.broken = u.on.broken || !fit && u.cause.Load() != nil
		keep = !t.endStream(u.on)
	} else if keep {
		u.since = time.Now()
		t.idle = append(t.idle, u)
	}
	t.flights.mu.Unlock()
	if !keep {
		_ = u.conn.Close()
	}
}

// connect opens a connection to the target from the node's own address.
func (t *target) connect(ctx context.Context, g *Group) (*upstream, error) {
	n := t.group.node
	bounded, cancel := context.WithTimeout(ctx, n.config.ConnectTimeout)
	defer cancel()
	conn, err := dial(bounded, dialing{from: n.config.Address, to: t.at, endpoint: n.config.Endpoint, firewall: n.config.Firewall})
	if err != nil {
		if ctx.Err() != nil {
			return nil, errClientGone
		}
		return nil, fmt.Errorf("%w: %w", errConnect, err)
	}
	n.newTargetConnections.Add(1)
	u := &upstream{conn: conn, owner: t, probe: idleconn.New(conn)}
	v2 := g.ProtocolVersion == HTTP2 || g.ProtocolVersion == GRPC
	if g.Protocol == HTTPS {
		secured := tls.Client(conn, targetTLS(v2))
		handshake, cancel := context.WithTimeout(ctx, n.config.ConnectTimeout)
		defer cancel()
		if err := secured.HandshakeContext(handshake); err != nil {
			_ = conn.Close()
			if ctx.Err() != nil {
				return nil, errClientGone
			}
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		u.conn = secured
	}
	if v2 {
		if u.h2, err = http2Client(ctx, u.conn); err != nil {
			_ = u.conn.Close()
			return nil, fmt.Errorf("%w: %w", errConnect, err)
		}
		return u, nil
	}
	u.r, u.w = bufio.NewReaderSize(u, 4096), bufio.NewWriterSize(u, 4096)
	return u, nil
}

// connections counts those that are open.
func (f *flights) connections() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.idle) + len(f.shared)
	for _, u := range f.active {
		if u.on == nil {
			n++
		}
	}
	return int64(n)
}

// open lets requests in again.
func (f *flights) open() {
	f.mu.Lock()
	f.closed = false
	f.mu.Unlock()
}

// closing says whether new requests are refused.
func (f *flights) closing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// close refuses new requests from now on and closes idle connections; those in use are left alone.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	idle := append(f.idle, f.unused(time.Now().Add(time.Hour))...)
	f.idle = nil
	f.mu.Unlock()
	for _, u := range idle {
		_ = u.conn.Close()
	}
}

// cut closes the connections in use and returns how many there were.
func (f *flights) cut() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.active {
		u.abort(errCut)
	}
	return len(f.active)
}

// sweep closes idle connections that the target has closed, or that were idle for too long.
func (f *flights) sweep(olderThan time.Time) {
	f.mu.Lock()
	dead := f.unused(olderThan)
	kept := f.idle[:0]
	for _, u := range f.idle {
		if u.since.Before(olderThan) || !u.alive() {
			dead = append(dead, u)
		} else {
			kept = append(kept, u)
		}
	}
	clear(f.idle[len(kept):])
	f.idle = kept
	f.mu.Unlock()
	for _, u := range dead {
		_ = u.conn.Close()
	}
}

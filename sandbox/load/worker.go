package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/idleconn"
)

// worker owns one connection and sends one request at a time.
type worker struct {
	all  *lanes
	lane *lane // set by others only while the worker is idle
	next chan time.Time
	// since is when the worker became idle.
	since time.Time

	conn    net.Conn
	to      netip.AddrPort // of conn
	probe   idleconn.Probe
	r       *bufio.Reader
	request []byte
}

func newWorker(all *lanes, ln *lane) *worker {
	return &worker{all: all, lane: ln, next: make(chan time.Time, 1)}
}

// run sends the given request and then those that it is given.
func (w *worker) run(intended time.Time) {
	defer w.hangUp()
	for {
		w.send(intended)
		waited, idle := w.all.done(w)
		switch {
		case !waited.IsZero():
			intended = waited
		case !idle:
			return
		default:
			var more bool
			if intended, more = <-w.next; !more {
				return
			}
		}
	}
}

// send sends one request, waits for the answer, and records what happened.
func (w *worker) send(intended time.Time) {
	c := &w.all.config
	began := time.Now()
	if began.Sub(intended) > c.Timeout {
		w.all.record.unsent(intended)
		return
	}
	o := outcome{intended: intended, began: began}
	deadline := began.Add(c.Timeout) // in full: the server must not pay for our lateness
	var keep bool
	o.reused, o.err = w.connect(deadline)
	o.node = w.lane.address
	if o.err == nil {
		keep, o.err = w.exchange(&o)
	}
	if o.err != nil || !keep {
		w.hangUp()
	}
	o.ended = time.Now()
	w.all.record.add(&o)
}

// connect makes sure that there is a connection: that to the lane's address, or a new one to an address that still counts.
func (w *worker) connect(deadline time.Time) (reused bool, err error) {
	if w.conn != nil && (w.to != w.lane.address || !w.probe.Alive()) {
		w.hangUp()
	}
	if w.conn != nil {
		return true, w.conn.SetDeadline(deadline)
	}
	w.lane = w.all.toConnect(w.lane)
	dialer := net.Dialer{Deadline: deadline, KeepAlive: -1}
	conn, err := dialer.Dial("tcp", w.lane.address.String())
	if err != nil {
		return false, err
	}
	if w.to != w.lane.address || w.request == nil {
		w.to = w.lane.address
		w.request = w.all.config.request(w.to)
	}
	w.conn, w.probe = conn, idleconn.New(conn)
	if w.r == nil {
		w.r = bufio.NewReaderSize(conn, 4096)
	} else {
		w.r.Reset(conn)
	}
	return false, conn.SetDeadline(deadline)
}

func (w *worker) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// request is the same bytes for all requests to an address.
func (c *Config) request(to netip.AddrPort) []byte {
	var b bytes.Buffer
	host := c.Host
	if host == "" {
		host = to.String()
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.Method, c.Path, host)
	if c.Header.Get("User-Agent") == "" {
		b.WriteString("User-Agent: lockstep-load\r\n")
	}
	_ = c.Header.Write(&b) // a buffer takes everything
	if c.Method == http.MethodPost || c.Method == http.MethodPut || c.Method == http.MethodPatch {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// exchange sends the request and reads the whole answer. keep is false when the connection ends with it.
func (w *worker) exchange(o *outcome) (keep bool, err error) {
	if _, err := w.conn.Write(w.request); err != nil {
		return false, err
	}
	for {
		h, err := w.readHead(o)
		if err != nil {
			return false, err
		}
		o.status = h.status
		if h.status < 200 {
			o.version = ""
			continue
		}
		keep, err := w.readBody(h)
		return keep && !h.close, err
	}
}

// head is what matters of a response header.
type head struct {
	status  int
	length  int64 // -1: not given
	chunked bool
	close   bool
}

var (
	errMalformed = errors.New("malformed response")
	errClosed    = errors.New("connection closed before the response")
	errTruncated = errors.New("connection closed within the response")
)

var (
	contentLength    = []byte("content-length")
	transferEncoding = []byte("transfer-encoding")
	connection       = []byte("connection")
	server           = []byte("server")
)

// readHead reads the status line and the headers without keeping more than it needs.
func (w *worker) readHead(o *outcome) (head, error) {
	h := head{length: -1}
	line, err := w.r.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return h, errClosed
	case err == io.EOF:
		return h, errTruncated
	case err == bufio.ErrBufferFull:
		return h, errMalformed
	case err != nil:
		return h, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return h, fmt.Errorf("%w: %.60q", errMalformed, line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil || h.status < 100 {
		return h, fmt.Errorf("%w: %.60q", errMalformed, line)
	}
	h.close = line[7] == '0'
	for {
		line, err := w.r.ReadSlice('\n')
		if err == io.EOF {
			return h, errTruncated
		}
		if err == bufio.ErrBufferFull {
			return h, fmt.Errorf("%w: a header line longer than 4 KB", errMalformed)
		}
		if err != nil {
			return h, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return h, nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return h, fmt.Errorf("%w: header line %.60q", errMalformed, line)
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, contentLength):
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
				return h, fmt.Errorf("%w: Content-Length %.60q", errMalformed, value)
			}
		case bytes.EqualFold(name, transferEncoding):
			h.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, connection):
			h.close = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, w.all.record.versionHeader):
			o.version = w.all.record.intern(value)
		case h.status >= 400 && bytes.EqualFold(name, server):
			o.server = string(value)
		}
	}
}

func (w *worker) readBody(h head) (keep bool, err error) {
	switch {
	case w.all.config.Method == http.MethodHead || h.status == http.StatusNoContent || h.status == http.StatusNotModified:
		return true, nil
	case h.chunked:
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(w.r)); err != nil {
			return false, truncated(err)
		}
		for { // trailers, up to the empty line
			line, err := w.r.ReadSlice('\n')
			if err != nil {
				return false, truncated(err)
			}
			if len(bytes.TrimRight(line, "\r\n")) == 0 {
				return true, nil
			}
		}
	case h.length >= 0:
		_, err := io.CopyN(io.Discard, w.r, h.length)
		return true, truncated(err)
	default: // until the end of the connection
		_, err := io.Copy(io.Discard, w.r)
		return false, err
	}
}

func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}

// kindOf sorts failures.
func kindOf(err error) Kind {
	var ne net.Error
	switch {
	case errors.Is(err, errMalformed):
		return Malformed
	case errors.Is(err, errClosed):
		return Closed
	case errors.Is(err, errTruncated):
		return Truncated
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EMFILE):
		return ClientLimit
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Unreachable
	}
	return Other
}

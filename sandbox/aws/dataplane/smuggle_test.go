package dataplane

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// witness is a target that writes down which requests it has got. It reads by the letter of RFC 7230, and answers what it is told.
type witness struct {
	mu    sync.Mutex
	reply []byte
	close bool     // after each answer
	seen  int      // requests that have begun
	odd   []string // what no load balancer should send
}

func (w *witness) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.odd = append(w.odd, fmt.Sprintf(format, args...))
}

func (w *witness) tell(reply []byte, close bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reply, w.close, w.odd = reply, close, nil
}

func (w *witness) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		w.mu.Lock()
		w.seen++
		w.mu.Unlock()
		upgrade, ok := w.request(r)
		if !ok {
			return
		}
		w.mu.Lock()
		reply, end := w.reply, w.close
		w.mu.Unlock()
		if _, err := conn.Write(reply); err != nil || end {
			return
		}
		if upgrade && bytes.Contains(reply, []byte(" 101")) {
			_, _ = io.Copy(io.Discard, r) // no requests any more
			return
		}
	}
}

// request reads one request with its body; false: it did not come to its end.
func (w *witness) request(r *bufio.Reader) (upgrade, ok bool) {
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			return upgrade, false
		}
		if !strings.HasSuffix(line, "\r\n") {
			w.note("a line without CR LF in %q", head+line)
		}
		head += line
	}
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	if parts := strings.Split(lines[0], " "); len(parts) != 3 || parts[2] != "HTTP/1.1" {
		w.note("request line %q", lines[0])
	}
	values := map[string][]string{}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || line[0] == ' ' || line[0] == '\t' {
			w.note("a line that is no header: %q", line)
		}
		values[strings.ToLower(name)] = append(values[strings.ToLower(name)], strings.TrimSpace(value))
	}
	lengths, codings := values["content-length"], values["transfer-encoding"]
	if len(values["x-amzn-trace-id"]) != 1 || len(values["host"]) != 1 || len(lengths)+len(codings) > 1 {
		w.note("headers that are not there once: %q", head)
	}
	upgrade = len(values["upgrade"]) > 0
	switch {
	case len(codings) == 1 && codings[0] == "chunked":
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(r)); err != nil {
			return upgrade, false
		}
		for { // the trailer
			line, err := r.ReadString('\n')
			if err != nil || line == "\r\n" {
				return upgrade, err == nil
			}
		}
	case len(codings) == 1:
		w.note("transfer coding %q", codings[0])
	case len(lengths) == 1:
		n, err := strconv.ParseInt(lengths[0], 10, 63)
		if err != nil {
			w.note("length %q", lengths[0])
		}
		_, err = io.CopyN(io.Discard, r, n)
		return upgrade, err == nil
	}
	return upgrade, true
}

// FuzzProxy lets a client send arbitrary bytes and a target answer with arbitrary others. The node never panics and never hangs, error pages are its
// own, and the target gets the requests that the node has counted, no other one.
func FuzzProxy(f *testing.F) {
	const fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, seed := range [][2]string{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n", fine},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", fine},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", fine},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nbody\r\n0\r\nT: 1\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\n", fine},
		{"GET /a b HTTP/1.1\r\nHost: x\r\nHost: y\r\nX Y: 1\r\nX: \x01\r\n:\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Amzn-Trace-Id, Host, Content-Length\r\nContent-Length: 1\r\n\r\nz", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"GET /\r\n", "HTTP/1.0 200 OK\r\n\r\nall"}, {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nhalf", "HTTP/1.1 100 Continue\r\n\r\n" + fine},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"}, {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"POST / HTTP/1.0\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.0\r\n\r\n", fine + fine},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]), false)
		f.Add([]byte(seed[0]), []byte(seed[1]), true)
	}
	w, node, log := newProxyWorld(f)
	counted := func() (requests, inFlight, own int) {
		s := node.Stats()
		for _, t := range s.Targets {
			requests, inFlight = requests+int(t.Usage.Requests), inFlight+int(t.Usage.InFlight)
		}
		for _, n := range s.Generated {
			own += int(n)
		}
		return requests, inFlight, own
	}
	f.Fuzz(func(t *testing.T, sent, reply []byte, end bool) {
		w.tell(reply, end)
		conn, err := net.Dial("tcp", node.config.Address.String()+":8080")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		if isTimeout(err) {
			t.Fatalf("no end after %q, answered with %q", sent, reply)
		}
		if own := []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"); bytes.Contains(got, own) && !bytes.Contains(reply, []byte("text/plain")) {
			t.Fatalf("after %q a page of net/http: %q", sent, got)
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			w.mu.Lock()
			seen, odd := w.seen, w.odd
			w.mu.Unlock()
			requests, inFlight, own := counted() // all of them since the beginning, since what was given up may arrive later
			if len(odd) > 0 {
				t.Fatalf("after %q: %s", sent, odd)
			}
			if seen > requests {
				t.Fatalf("after %q: %d requests for the node and %d for the target, which answers %q", sent, requests, seen, reply)
			}
			if inFlight == 0 && requests <= seen+own { // one that has failed may have been counted without a byte that has left
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q: %d requests counted, %d seen, %d in flight, %d error pages", sent, requests, seen, inFlight, own)
			}
			<-time.After(100 * time.Microsecond)
		}
		if logged := log.String(); logged != "" {
			t.Fatalf("after %q: %s", sent, logged)
		}
	})
}

// newProxyWorld starts a node with little patience, and a witness behind it that has passed its only health check.
func newProxyWorld(f *testing.F) (*witness, *Node, *lockedBuffer) {
	f.Helper()
	const fine = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	w := &witness{reply: []byte(fine)}
	node, log := fuzzNode(f, Group{HealthCheck: HealthCheck{Interval: time.Hour}}, NodeConfig{Attributes: Attributes{IdleTimeout: 50 * time.Millisecond},
		Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{{"g", 1}}}}}},
	}, func(l net.Listener) {
		var all sync.WaitGroup
		defer all.Wait()
		for check := true; ; check = false {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if check {
				_, _ = io.WriteString(conn, fine)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
				continue
			}
			all.Go(func() { w.serve(conn) })
		}
	})
	return w, node, log
}

// TestHTTP2CannotWriteIntoARequestLine: what HTTP/2 carries in fields of their own stays in its place when it becomes a line of HTTP/1.1.
func TestHTTP2CannotWriteIntoARequestLine(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Method+" "+r.RequestURI+" "+r.Host)
	})
	w.healthyGroup("g", a.Target)
	w.secured(Attributes{}, only("g"))
	for _, c := range []struct{ method, path, host, want string }{
		{"GET", "/a", "X", "GET /a x:8080"},
		{"GET /admin HTTP/1.1", "/a", "x", "400"},
		{"GET", "/a", "x y", "400"},
		{"GET", "/a", "x/admin", "400"},
		{"GET", "/a HTTP/1.1", "x", "GET /a%20HTTP/1.1 x:8080"},
	} {
		if got := w.frames(c.method, c.path, c.host); got != c.want {
			t.Errorf("%q %q at %q: got %q, want %q", c.method, c.path, c.host, got, c.want)
		}
	}
}

// corked holds back what is written until it is let go.
type corked struct {
	net.Conn
	held bytes.Buffer
	on   bool
}

// Write writes, or keeps for later.
func (c *corked) Write(p []byte) (int, error) {
	if c.on {
		return c.held.Write(p)
	}
	return c.Conn.Write(p)
}

// TestWhatFollowsAnAnswerIsNotTheNextOne: a target that has sent more than its answer, in a record of its own that TLS has already taken in, is asked
// again on another connection.
func TestWhatFollowsAnAnswerIsNotTheNextOne(t *testing.T) {
	w := newWorld(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t, "a.example.com")}}
	a := w.raw(func(conn net.Conn) {
		cork := &corked{Conn: conn}
		over := tls.Server(cork, config)
		for r := bufio.NewReader(over); ; {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if request.Method == http.MethodHead { // with a body, in two records and one segment
				cork.on = true
				const second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
				_, _ = fmt.Fprintf(over, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(second))
				_, _ = io.WriteString(over, second)
				cork.on = false
				_, _ = cork.held.WriteTo(conn)
				continue
			}
			_, _ = io.WriteString(over, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")
		}
	})
	g := quick("g")
	g.Protocol, g.HealthCheck.Protocol = HTTPS, HTTPS
	w.node.ApplyGroup(g)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a}})
	w.awaitState(a, Healthy)
	w.forwarding(only("g"))
	w.wantTarget("real")
	before := w.node.Stats().NewTargetConnections
	w.wantTarget("real")
	if n := w.node.Stats().NewTargetConnections; n != before {
		t.Errorf("%d connections for the second request: a good one is not used again", n-before)
	}
	head, _ := http.NewRequestWithContext(t.Context(), http.MethodHead, w.url("/"), nil)
	w.do(head)
	w.wantTarget("real")
}

// frames asks by HTTP/2 as no decent client would, and returns the body of the answer, or its status if that is not 200.
func (w *world) frames(method, path, host string) string {
	w.Helper()
	conn, err := tls.Dial("tcp", w.at.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: path}, {Name: ":authority", Value: host}} {
		_ = encoder.WriteField(f)
	}
	if err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
	})); err != nil {
		w.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			w.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status := frame.PseudoValue("status"); status != "200" {
				return status
			}
		case *http2.DataFrame:
			return string(frame.Data())
		case *http2.RSTStreamFrame:
			w.Fatalf("%q %q at %q: the stream is reset: %s", method, path, host, frame.ErrCode)
		}
	}
}

package dataplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSituation17AcceptsButNeverAnswers(t *testing.T) {
	w := newWorld(t)
	mute := w.raw(func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	w.group("g", mute)
	w.apply(NodeConfig{
		Attributes: Attributes{IdleTimeout: 100 * time.Millisecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}},
	})
	if got := w.awaitState(mute, Unhealthy); got.Reason != "Target.Timeout" || got.Description != "Request timed out" {
		t.Fatalf("got %+v", got)
	}
	w.wantOwn(504)
}

// TestBodyThatNeverComes: the length is larger than the body, of which nothing comes.
func TestBodyThatNeverComes(t *testing.T) {
	w := newWorld(t)
	mute := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}))
	w.healthyGroup("g", mute)
	w.apply(NodeConfig{
		Attributes: Attributes{IdleTimeout: 100 * time.Millisecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}},
	})
	w.wantOwn(504)
}

func TestSituation20TargetClosesAsTheRequestArrives(t *testing.T) {
	// The race of keep-alive: the target answers once, keeps the connection, and closes it on the next request.
	w := newWorld(t)
	racy := w.raw(func(conn net.Conn) {
		passing(func(conn net.Conn, _ *http.Request) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
			_, _ = conn.Read(make([]byte, 1))
		})(conn)
	})
	w.healthyGroup("g", racy)
	w.forwarding(only("g"))
	w.wantTarget("first")
	w.wantOwn(502) // not repeated on a fresh connection, also for GET
	w.wantTarget("first")
}

func TestIdleConnectionClosedLongAgoIsNotUsed(t *testing.T) {
	w := newWorld(t)
	closed := make(chan struct{}, 10)
	polite := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_ = conn.Close()
		closed <- struct{}{}
	}))
	w.healthyGroup("g", polite)
	w.forwarding(only("g"))
	for range 5 {
		w.wantTarget("ok")
		<-closed // the FIN has been sent, and on loopback it has arrived
	}
}

func TestBrokenTargets(t *testing.T) {
	say := func(text string) func(net.Conn, *http.Request) {
		return func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, text) }
	}
	for _, c := range []struct {
		name   string
		then   func(net.Conn, *http.Request)
		status int
	}{
		{"FIN", func(net.Conn, *http.Request) {}, 502},
		{"RST", func(conn net.Conn, _ *http.Request) { reset(conn) }, 502},
		{"length-without-body", say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), 502},
		{"nonsense", say("hello\r\n\r\n"), 502},
		{"half-a-header", say("HTTP/1.1 200 OK\r\nContent-"), 502},
		{"status-99", say("HTTP/1.1 099 Odd\r\n\r\n"), 502},
		{"upgrade-unasked", say("HTTP/1.1 101 Switching Protocols\r\n\r\n"), 502},
		{"large-header", say("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 40<<10) + "\r\nContent-Length: 0\r\n\r\n"), 502},
		{"large-enough-header", say("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 30<<10) + "\r\nContent-Length: 0\r\n\r\n"), 200},
		{"interim-answers", say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200},
		{"answer-until-close", say("HTTP/1.0 200 OK\r\n\r\nall there is"), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			target := w.raw(passing(c.then))
			w.healthyGroup("g", target)
			w.forwarding(only("g"))
			if status, _, body := w.get("/"); status != c.status {
				t.Fatalf("got %d %s", status, body)
			}
		})
	}
}

func TestResponseCutInTheMiddleClosesTheClient(t *testing.T) {
	w := newWorld(t)
	target := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	}))
	w.healthyGroup("g", target)
	w.forwarding(only("g"))
	res, err := w.client.Get(w.url("/"))
	if err == nil {
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Fatal("the client believes that the response was complete")
	}
}

func TestClientGoneIs460(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	gone := make(chan struct{})
	arrived := make(chan struct{})
	a.on(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // the node closes its connection to the target
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.url("/"), nil)
	go func() { <-arrived; cancel() }()
	if _, err := w.client.Do(r); err == nil {
		t.Fatal("the request was cancelled, and has an answer")
	}
	<-gone
	w.eventually("the request is counted as 460", func() bool { return w.node.Stats().Generated[460] == 1 })
}

func TestRefusedRequests(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.healthyGroup("grpc", a.Target)
	grpc := quick("grpc")
	grpc.ProtocolVersion = "GRPC"
	w.node.ApplyGroup(grpc)
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP,
		Rules: []Rule{
			{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/grpc"}}}, Action: Action{Forward: &Forward{Groups: []WeightedGroup{only("grpc")}}}},
			{Priority: 2, Conditions: []Condition{{Field: PathPattern, Values: []string{"/zero"}}}, Action: Action{Forward: &Forward{Groups: []WeightedGroup{{"g", 0}, {"grpc", 0}}}}},
		},
		Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}},
	}}})
	for _, c := range []struct {
		name   string
		path   string
		adjust func(*http.Request)
		status int
	}{
		{"trace", "/", func(r *http.Request) { r.Method = http.MethodTrace }, 405},
		{"long-uri", "/" + strings.Repeat("x", 17<<10), func(*http.Request) {}, 414},
		{"long-header", "/", func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 17<<10)) }, 400},
		{"many-long-headers", "/", func(r *http.Request) {
			for i := range 5 {
				r.Header.Set(fmt.Sprint("X-", i), strings.Repeat("x", 14<<10))
			}
		}, 400},
		{"thirty-addresses", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", strings.Repeat("1.2.3.4, ", 29)+"1.2.3.4") }, 200},
		{"thirty-one-addresses", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", strings.Repeat("1.2.3.4, ", 30)+"1.2.3.4") }, 463},
		{"http1-to-grpc-group", "/grpc", func(*http.Request) {}, 464},
		{"all-weights-zero", "/zero", func(*http.Request) {}, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, header, _ := w.get(c.path, c.adjust)
			if status != c.status || status != 200 && header.Get("Server") != "awselb/2.0" {
				t.Fatalf("got %d by %q", status, header.Get("Server"))
			}
		})
	}
}

func TestSlowBodyIs408(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	w.healthyGroup("g", a.Target)
	w.apply(NodeConfig{
		Attributes: Attributes{IdleTimeout: 100 * time.Millisecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}},
	})
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Fatalf("got %q", answer)
	}
}

// TestClientThatReadsNoSmallAnswers: each of them fits into a socket, all of them together do not.
func TestClientThatReadsNoSmallAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "30000")
		_, _ = io.WriteString(rw, strings.Repeat("x", 30_000))
	})
	w.healthyGroup("g", a.Target)
	listener := Listener{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}
	config := NodeConfig{Attributes: Attributes{IdleTimeout: 200 * time.Millisecond}, Listeners: []Listener{listener}}
	w.apply(config)
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2000)) }()
	w.eventually("it is given up over HTTP/1.1", func() bool {
		s := w.node.Stats()
		return s.Targets[0].Usage.Requests > 0 && s.Targets[0].Usage.InFlight == 0 && s.ClientConnections == 0
	})

	config.Listeners[0].Protocol, config.Listeners[0].Certificates = HTTPS, []tls.Certificate{certificate(t, "a.example.com")}
	w.apply(config)
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: &protocols,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10}}
	defer transport.CloseIdleConnections()
	for range 8 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.at.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	w.eventually("it is given up over HTTP/2", func() bool { return w.node.Stats().Targets[0].Usage.InFlight == 0 })
}

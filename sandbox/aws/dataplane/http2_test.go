package dataplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// secured applies one HTTPS listener and makes the client of the world speak TLS, with HTTP/2 where the node agrees.
func (w *world) secured(a Attributes, groups ...WeightedGroup) {
	w.Helper()
	w.apply(NodeConfig{Attributes: a, Listeners: []Listener{{
		Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(w.T, "a.example.com")},
		Default: Action{Forward: &Forward{Groups: groups}},
	}}})
	transport := w.client.Transport.(*http.Transport)
	transport.TLSClientConfig, transport.ForceAttemptHTTP2 = &tls.Config{InsecureSkipVerify: true}, true
}

// serveHTTP2 starts a target that speaks HTTP/2 without TLS only.
func (w *world) serveHTTP2(h http.HandlerFunc) Target {
	w.Helper()
	t := Target{Address: address(), Port: 8080, Zone: "zone-a"}
	l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, t.Port).String())
	if err != nil {
		w.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: &protocols}
	go func() { _ = server.Serve(l) }()
	w.Cleanup(func() { _ = server.Close() })
	return t
}

func (w *world) post(path, contentType string, body io.Reader) (*http.Response, string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "https://"+w.at.String()+path, body)
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	res, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res, string(answer)
}

func TestHTTP2Client(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(rw, r.Proto+" "+r.Host+" "+r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Amzn-Tls-Version")+" "+string(body))
	})
	w.healthyGroup("g", a.Target)
	w.secured(Attributes{TLSHeaders: true}, only("g"))
	res, body := w.post("/", "text/plain", strings.NewReader("hello"))
	if want := "HTTP/1.1 " + w.at.String() + " https TLSv1.3 hello"; res.ProtoMajor != 2 || body != want {
		t.Errorf("got %s %q, want HTTP/2.0 %q", res.Proto, body, want)
	}

	w.client.CloseIdleConnections()
	w.secured(Attributes{WithoutHTTP2: true}, only("g"))
	if res, _ := w.post("/", "text/plain", nil); res.ProtoMajor != 1 {
		t.Errorf("got %s although HTTP/2 is off", res.Proto)
	}
}

func TestGRPCTargets(t *testing.T) {
	w := newWorld(t)
	a := w.serveHTTP2(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("Trailer", "Grpc-Status")
		if r.URL.Path == "/AWS.ALB/healthcheck" {
			rw.Header().Set("Grpc-Status", "12")
			return
		}
		flush := http.NewResponseController(rw).Flush
		piece := make([]byte, 4)
		for { // answers each piece before it gets the next one
			if _, err := io.ReadFull(r.Body, piece); err != nil {
				break
			}
			_, _ = rw.Write(bytes.ToUpper(piece))
			_ = flush()
		}
		rw.Header().Set("Grpc-Status", "0")
		rw.Header().Set(http.TrailerPrefix+"X-Te", r.Header.Get("Te"))
	})
	group := quick("g")
	group.ProtocolVersion, group.HealthCheck.Path = GRPC, "/AWS.ALB/healthcheck"
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a}})
	w.awaitState(a, Healthy)
	w.secured(Attributes{}, only("g"))

	// Both directions at the same time: each answer is awaited before the next piece is sent.
	pieces, send := io.Pipe()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.at.String()+"/shop.Cart/Add?x=1", pieces)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	go func() { _, _ = io.WriteString(send, "abcd") }()
	res, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := make([]byte, 4)
	for _, next := range []string{"efgh", "ijkl", ""} {
		if _, err := io.ReadFull(res.Body, got); err != nil {
			t.Fatal(err)
		}
		if next == "" {
			break
		}
		_, _ = io.WriteString(send, next)
	}
	_ = send.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 || string(got) != "IJKL" {
		t.Errorf("got %q %q, %v", got, rest, err)
	}
	if res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("X-Te") != "trailers" {
		t.Errorf("got trailers %v", res.Trailer)
	}

	if res, _ := w.get2("/"); res.StatusCode != statusWrongProtocol {
		t.Errorf("GET to a gRPC group: got %s", res.Status)
	}
	w.node.ApplyTargets("g", TargetSet{})
	if res, _ := w.post("/", "application/grpc", nil); res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "14" || res.Header.Get("Server") != "awselb/2.0" {
		t.Errorf("no targets: got %s %v", res.Status, res.Header)
	}
}

func (w *world) get2(path string) (*http.Response, string) {
	w.Helper()
	res, err := w.client.Get("https://" + w.at.String() + path)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res, string(body)
}

func TestHTTP2Targets(t *testing.T) {
	w := newWorld(t)
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	a := w.serveHTTP2(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			select {
			case <-silent:
			case <-r.Context().Done():
			}
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/700":
			rw.WriteHeader(700)
		case "/trailer":
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(rw, r.Trailer)
			return
		}
		_, _ = io.WriteString(rw, r.Proto+" "+r.RequestURI+" "+r.Header.Get("X-Forwarded-For"))
	})
	group := quick("g")
	group.ProtocolVersion = HTTP2
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a}})
	w.awaitState(a, Healthy)
	w.secured(Attributes{IdleTimeout: 300 * time.Millisecond}, only("g"))
	for range 3 {
		if _, body := w.get2("/a%2Fb?c=%20d"); body != "HTTP/2.0 /a%2Fb?c=%20d 127.0.0.1" {
			t.Errorf("got %q", body)
		}
	}
	for path, want := range map[string]int{"/silent": 504, "/broken": 502, "/700": 502} {
		if res, _ := w.get2(path); res.StatusCode != want || res.Header.Get("Server") != "awselb/2.0" {
			t.Errorf("%s: got %s by %q", path, res.Status, res.Header.Get("Server"))
		}
	}
	if usage := w.node.Stats().Targets[0].Usage; usage.Requests != 6 || usage.InFlight != 0 || usage.BrokenResponses != 3 {
		t.Errorf("got %+v", usage)
	}

	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.at.String()+"/trailer", strings.NewReader("body"))
	r.Trailer = http.Header{"X-Check": {"1"}, "X-Forwarded-For": {"forged"}}
	if _, _, body := w.do(r); body != "map[X-Check:[1]]" {
		t.Errorf("the target got the trailer %s", body)
	}

	w.forwarding(only("g")) // now without TLS: HTTP/1.1
	w.client.CloseIdleConnections()
	w.wantOwn(statusWrongProtocol)
}

func TestHTTP2RequestInFlightIsCut(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{})
	a := w.serveHTTP2(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			close(arrived)
			<-r.Context().Done()
		}
	})
	group := quick("g")
	group.ProtocolVersion = HTTP2
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a}})
	w.awaitState(a, Healthy)
	w.secured(Attributes{}, only("g"))
	status := make(chan int)
	go func() {
		res, err := w.client.Get("https://" + w.at.String() + "/long")
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	<-arrived
	w.node.ApplyTargets("g", TargetSet{})
	if got := <-status; got != 502 {
		t.Errorf("got %d", got)
	}
}

func TestHTTP2TargetsOverTLS(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(rw, "%s %t", r.Proto, r.TLS != nil) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	target := Target{Address: at.Addr(), Port: at.Port()}
	group := quick("g")
	group.Protocol, group.ProtocolVersion, group.HealthCheck.Protocol = HTTPS, HTTP2, HTTPS
	group.HealthCheck.Interval, group.HealthCheck.Timeout = time.Second, time.Second/2 // a handshake takes its time under -race
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{target}})
	w.awaitState(target, Healthy)
	w.secured(Attributes{}, only("g"))
	if _, body := w.get2("/"); body != "HTTP/2.0 true" {
		t.Errorf("got %q", body)
	}
}

// TestHTTP2RequestsShareConnections: many requests at the same time are streams of one connection, and one that the client gives up does not
// disturb the others.
func TestHTTP2RequestsShareConnections(t *testing.T) {
	w := newWorld(t)
	arrived, letGo := make(chan struct{}, 100), make(chan struct{})
	a := w.serveHTTP2(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			arrived <- struct{}{}
			<-letGo
		}
		_, _ = io.WriteString(rw, "a")
	})
	group := quick("g")
	group.ProtocolVersion = HTTP2
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a}})
	w.awaitState(a, Healthy)
	w.secured(Attributes{}, only("g"))
	if _, body := w.get2("/"); body != "a" {
		t.Fatalf("got %q", body)
	}
	const n = 30
	bodies := make(chan string, n)
	for range n {
		go func() {
			res, err := w.client.Get("https://" + w.at.String() + "/held")
			if err != nil {
				bodies <- err.Error()
				return
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			bodies <- string(body)
		}()
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.at.String()+"/held", nil)
		if res, err := w.client.Do(r); err == nil {
			_ = res.Body.Close()
			t.Error("the request that was given up has an answer")
		}
	}()
	for range n + 1 {
		<-arrived
	}
	cancel()
	<-gone
	close(letGo)
	for range n {
		if body := <-bodies; body != "a" {
			t.Errorf("got %q", body)
		}
	}
	if s := w.node.Stats(); s.NewTargetConnections != 1 || s.TargetConnections != 1 {
		t.Errorf("%d connections to the target were made, %d are open", s.NewTargetConnections, s.TargetConnections)
	}
	w.node.ApplyTargets("g", TargetSet{})
	w.eventually("nothing is left open", func() bool { return w.node.Stats().TargetConnections == 0 })
}

// TestClientKeepAliveEndsOverHTTP2: the client is told by GOAWAY, and makes a new connection for its next request.
func TestClientKeepAliveEndsOverHTTP2(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.secured(Attributes{ClientKeepAlive: time.Nanosecond}, only("g"))
	for range 3 {
		if _, body := w.get2("/"); body != "a" {
			t.Fatalf("got %q", body)
		}
	}
	if n := w.node.Stats().NewConnections; n < 3 { // a client on a busy machine may make more than it needs
		t.Errorf("%d connections for three requests", n)
	}
}

// TestHTTP2ConnectionThatHangsIsLeft: no request follows one that had no answer onto its connection, since nobody knows whether there is somebody
// at its other end.
func TestHTTP2ConnectionThatHangsIsLeft(t *testing.T) {
	w := newWorld(t)
	var first atomic.Pointer[string] // the connection of the first request
	a := w.serveHTTP2(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		if first.CompareAndSwap(nil, &r.RemoteAddr) || *first.Load() == r.RemoteAddr {
			<-r.Context().Done()
		}
	})
	group := quick("g")
	group.ProtocolVersion = HTTP2
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a}})
	w.awaitState(a, Healthy)
	w.secured(Attributes{IdleTimeout: 300 * time.Millisecond}, only("g"))
	for _, want := range []int{504, 200} {
		if res, _ := w.get2("/"); res.StatusCode != want {
			t.Errorf("got %s, want %d", res.Status, want)
		}
	}
	w.eventually("it is closed", func() bool { return w.node.Stats().TargetConnections == 1 })
}

package dataplane

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// say sends bytes to a node and returns its answers, until it closes the connection.
func (w *world) say(text string) string {
	w.Helper()
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, text)
	answer, err := io.ReadAll(conn)
	if err != nil && len(answer) == 0 {
		w.Fatal(err)
	}
	return string(answer)
}

// statuses lists those of the answers to pipelined requests without bodies of their own.
func statuses(t *testing.T, answers string) (all []int) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(answers))
	for {
		if _, err := r.Peek(1); err != nil {
			return all
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%q: %v", answers, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		all = append(all, res.StatusCode)
	}
}

func TestMalformedRequestsGetThePageOfTheLoadBalancer(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	for _, c := range []struct {
		request string
		status  int
	}{
		{"nonsense\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1<<10)+"\r\n", 200) + "\r\n", 400},
		{"GET /" + strings.Repeat("x", 200<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
	} {
		answer := w.say(c.request)
		head := fmt.Sprintf("HTTP/1.1 %d ", c.status)
		if !strings.HasPrefix(answer, head) || !strings.Contains(answer, "\r\nServer: awselb/2.0\r\n") ||
			!strings.Contains(answer, "\r\nContent-Type: text/html\r\n") || !strings.Contains(answer, fmt.Sprintf("<center><h1>%d ", c.status)) {
			t.Errorf("%.60q: want %d by the load balancer, got %.300q", c.request, c.status, answer)
		}
		if n := strings.Count(answer, "HTTP/1.1 "); n != 1 {
			t.Errorf("%.60q: %d answers: %q", c.request, n, answer)
		}
	}
	if sent := w.node.Stats().Targets[0].Usage.Status[2]; sent != 0 {
		t.Errorf("the target has answered %d of them", sent)
	}
}

// TestDesyncModes sends requests of each class, a harmless one behind them on the same connection, and looks who of both sides closes.
func TestDesyncModes(t *testing.T) {
	w := newWorld(t)
	var connections atomic.Int64
	target := w.raw(func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for first := true; ; first = false {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			if first && request.URL.Path != "/healthz" {
				connections.Add(1)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	w.healthyGroup("g", target)
	const (
		compliant  = "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
		acceptable = "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"
		ambiguous  = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
		severe     = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n"
		last       = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	)
	version := uint64(0)
	for _, c := range []struct {
		mode             DesyncMode
		request          string
		want             string
		targetConnection int64 // new ones
	}{
		{"", compliant, "[200 200]", 1},
		{DesyncDefensive, acceptable, "[200 200]", 1},
		{DesyncDefensive, ambiguous, "[200]", 1},
		{DesyncDefensive, severe, "[400]", 0},
		{DesyncMonitor, acceptable, "[200 200]", 1},
		{DesyncMonitor, ambiguous, "[200 200]", 1},
		{DesyncMonitor, severe, "[200 200]", 1},
		{DesyncStrictest, compliant, "[200 200]", 1},
		{DesyncStrictest, acceptable, "[400]", 0},
		{DesyncStrictest, ambiguous, "[400]", 0},
		{DesyncStrictest, severe, "[400]", 0},
	} {
		version++
		w.node.ApplyTargets("g", TargetSet{}) // closes what is kept
		w.healthyAgain("g", target)
		w.apply(NodeConfig{Version: version, Attributes: Attributes{Desync: c.mode},
			Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}}})
		before := connections.Load()
		if got := fmt.Sprint(statuses(t, w.say(c.request+last))); got != c.want {
			t.Errorf("mode %q, %.40q: %s, want %s", c.mode, c.request, got, c.want)
		}
		if n := connections.Load() - before; n != c.targetConnection {
			t.Errorf("mode %q, %.40q: %d connections to the target, want %d", c.mode, c.request, n, c.targetConnection)
		}
		if c.mode == DesyncDefensive && c.request == ambiguous {
			w.say(last)
			if n := connections.Load() - before; n != 2 {
				t.Errorf("the connection to the target was used again after an ambiguous request")
			}
		}
	}
	if n := w.node.Stats().NonCompliant; n != 9 {
		t.Errorf("%d requests counted that do not comply, want 9", n)
	}
}

// healthyAgain registers a target once more, and waits until this registration is healthy.
func (w *world) healthyAgain(arn string, target Target) {
	w.Helper()
	w.node.ApplyTargets(arn, TargetSet{Targets: []Target{target}})
	w.await("healthy again", func() bool { return w.node.Health(arn)[target.Key()].State == Healthy })
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	get, post := "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	if got := fmt.Sprint(statuses(t, w.say(get+post+"\r\n"+get+"bad\r\n\r\n"+get))); got != "[200 200 200 400]" {
		t.Errorf("got %s", got)
	}
}

func TestHTTP09(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	if got := w.say("GET /\r\n"); got != "a" {
		t.Errorf("got %q", got)
	}
}

func TestContinueComesBeforeTheTargetIsAsked(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP,
		Rules:   []Rule{{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/own"}}}, Action: Action{Fixed: &FixedResponse{Status: 204}}}},
		Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}},
	}}})
	var expect atomic.Bool
	a.on(func(rw http.ResponseWriter, r *http.Request) { expect.Store(r.Header.Get("Expect") != "") })
	for path, want := range map[string]string{"/": "HTTP/1.1 200 ", "/own": "HTTP/1.1 204 "} {
		conn, err := net.Dial("tcp", w.at.String())
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Errorf("%s: got %q", path, line)
		}
		if line, _ := r.ReadString('\n'); line != "\r\n" {
			t.Errorf("%s: a header in the interim answer: %q", path, line)
		}
		_, _ = io.WriteString(conn, "body")
		if line, _ := r.ReadString('\n'); !strings.HasPrefix(line, want) {
			t.Errorf("%s: got %q, want %s", path, line, want)
		}
		_ = conn.Close()
	}
	if expect.Load() {
		t.Error("the target got the header Expect")
	}
}

func TestIdleClientsAreClosedSilently(t *testing.T) {
	w := newWorld(t)
	listener := []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Fixed: &FixedResponse{Status: 200, Body: "x"}}}}
	w.apply(NodeConfig{Listeners: listener})
	w.apply(NodeConfig{Attributes: Attributes{IdleTimeout: 50 * time.Millisecond}, Listeners: listener}) // holds for the port that is open
	for sent, want := range map[string]string{
		"":                                  "[]",
		"GET / HTTP/1.1\r\nHo":              "[408]",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n": "[200]",
	} {
		if got := fmt.Sprint(statuses(t, w.say(sent))); got != want {
			t.Errorf("%q: got %s, want %s", sent, got, want)
		}
	}
}

func TestInvalidHeaderNames(t *testing.T) {
	w := newWorld(t)
	heads := make(chan string, 10)
	target := w.raw(func(conn net.Conn) {
		r := bufio.NewReader(conn)
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		if !strings.Contains(head, "/healthz") {
			heads <- head
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	w.healthyGroup("g", target)
	for i, drop := range []bool{false, true} {
		w.apply(NodeConfig{Version: uint64(i + 1), Attributes: Attributes{DropInvalidHeaders: drop, PreserveHost: drop},
			Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}}})
		w.say("GET / HTTP/1.1\r\nHost: x\r\nHost: second\r\nX Y: 1\r\nX_Z: 2\r\nX-Good: 3\r\nX-Amzn-Oidc-Data : me\r\nX-Control: \x01\r\nConnection: close\r\n\r\n")
		head := <-heads
		for part, want := range map[string]bool{
			"\r\nX Y: 1\r\n": !drop, "\r\nX_z: 2\r\n": !drop, "\r\nX-Good: 3\r\n": true, "\r\nX-Control: \x01\r\n": true, "\r\nHost: second\r\n": drop, "me\r\n": false,
		} {
			if strings.Contains(head, part) != want {
				t.Errorf("drop %v: %q in it: %v, want %v\n%q", drop, part, !want, want, head)
			}
		}
	}
	if s := w.node.Stats(); s.InvalidForwarded != 1 || s.InvalidDropped != 1 {
		t.Errorf("counted %d forwarded and %d dropped", s.InvalidForwarded, s.InvalidDropped)
	}
}

func TestTLSHandshakesThatFail(t *testing.T) {
	w := newWorld(t)
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(t, "x")},
		Default: Action{Fixed: &FixedResponse{Status: 200}}}}})
	if got := w.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "awselb/2.0") {
		t.Errorf("a client without TLS got %q", got)
	}
	if _, err := tls.Dial("tcp", w.at.String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.0 was agreed to")
	}
	w.eventually("both are counted", func() bool { return w.node.Stats().ClientTLSErrors == 2 })
	w.eventually("no connection is left", func() bool { return w.node.Stats().ClientConnections == 0 })
}

// TestManyRequestsOnOneConnection: the connection ends with its ten-thousandth request.
func TestManyRequestsOnOneConnection(t *testing.T) {
	w := newWorld(t)
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Fixed: &FixedResponse{Status: 204}}}}})
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", requestsPerConnection+10))
	}()
	r := bufio.NewReader(conn)
	for n := 1; ; n++ {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("no answer to request %d: %v", n, err)
		}
		if res.Close != (n == requestsPerConnection) {
			t.Fatalf("request %d closes the connection: %v", n, res.Close)
		}
		if res.Close {
			return
		}
	}
}

// TestStalledBodyOfARequestThatNoTargetGets: whoever announces a body and does not send it has its answer and its connection closed after the idle
// timeout.
func TestStalledBodyOfARequestThatNoTargetGets(t *testing.T) {
	w := newWorld(t)
	w.apply(NodeConfig{Attributes: Attributes{IdleTimeout: 200 * time.Millisecond}, Listeners: []Listener{
		{Port: 8080, Protocol: HTTP, Default: Action{Fixed: &FixedResponse{Status: 404}}}}})
	if got := fmt.Sprint(statuses(t, w.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab"))); got != "[404]" {
		t.Errorf("got %s", got)
	}
}

package dataplane

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// FuzzClient sends arbitrary bytes to a node: it answers or closes the connection, it never hangs and never panics.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a/../%2e/b?x=1&&y HTTP/1.1\r\nHost: x:80\r\nConnection: x, close\r\nX: 1\r\n\r\nGET / HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nT: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nhalf",
		"GET http://y/abs HTTP/1.1\r\nHost: x\r\nX-Amzn-Trace-Id: Self=;;Root\r\nX-Forwarded-For: ,,,\r\nCookie: AWSALB=x; AWSALBTG=AAAA\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "GET /\r\n",
	} {
		f.Add([]byte(seed))
	}
	w := newFuzzWorld(f)
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := net.Dial("tcp", w.at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(sent) // the node may close in the middle of it
		_ = conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Fatalf("no end after %q", sent)
		}
		if logged := w.log.String(); logged != "" {
			t.Fatalf("after %q: %s", sent, logged)
		}
	})
}

type fuzzWorld struct {
	at  string
	log *lockedBuffer
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// fuzzNode is a node with one group, g, of one target that is healthy, and what it logs.
func fuzzNode(f *testing.F, g Group, c NodeConfig, serve func(net.Listener)) (*Node, *lockedBuffer) {
	f.Helper()
	log := &lockedBuffer{}
	healthy := make(chan struct{}, 10)
	node := NewNode(Config{
		LoadBalancer: "app/fuzz", Address: address(), Log: slog.New(slog.NewTextHandler(log, nil)),
		Health: func(c HealthChange) {
			if c.State == Healthy {
				healthy <- struct{}{}
			}
		},
	})
	target := Target{Address: address(), Port: 8080}
	l, err := net.Listen("tcp", target.Address.String()+":8080")
	if err != nil {
		f.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { serve(l) })
	f.Cleanup(func() { node.Close(); _ = l.Close(); served.Wait() })
	g.ARN, g.Protocol = "g", HTTP
	node.ApplyGroup(g)
	node.ApplyTargets("g", TargetSet{Targets: []Target{target}})
	if err := node.Apply(c); err != nil {
		f.Fatal(err)
	}
	<-healthy
	return node, log
}

// newFuzzWorld starts a node with both kinds of stickiness, rules of each kind, and an echoing target.
func newFuzzWorld(f *testing.F) fuzzWorld {
	f.Helper()
	forward := Action{Forward: &Forward{Groups: []WeightedGroup{{"g", 1}, {"g2", 0}}, Stickiness: time.Hour}}
	var rules []Rule
	for i, c := range []Condition{
		{Field: HostHeader, Values: []string{"*.x?"}}, {Field: PathPattern, Values: []string{"/a*/b"}}, {Field: HTTPHeader, Name: "X", Values: []string{"?"}},
		{Field: QueryString, Query: []QueryValue{{"x", "*"}, {"", `\*`}}}, {Field: SourceIP, Values: []string{"10.0.0.0/8"}},
	} {
		rules = append(rules, Rule{Priority: i + 1, Conditions: []Condition{c}, Action: Action{Redirect: &Redirect{Query: "#{query}", Status: 302}}})
	}
	echo := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	f.Cleanup(func() { _ = echo.Close() })
	node, log := fuzzNode(f, Group{Stickiness: time.Hour}, NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Rules: rules, Default: forward}}},
		func(l net.Listener) { _ = echo.Serve(l) })
	return fuzzWorld{node.config.Address.String() + ":8080", log}
}

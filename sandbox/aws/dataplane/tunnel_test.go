package dataplane

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// echo is a target that changes to a protocol in which every line is sent back, after a greeting that comes with the answer itself.
func echo(conn net.Conn, r *http.Request) {
	if r.Header.Get("Upgrade") == "" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+
		"\r\nSec-Websocket-Accept: "+r.Header.Get("Sec-Websocket-Key")+"\r\n\r\nhello\n")
	_, _ = io.Copy(conn, conn)
}

// upgraded asks for the change and returns the connection after it.
func (w *world) upgraded() (net.Conn, *bufio.Reader) {
	w.Helper()
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nearly\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		w.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-Websocket-Accept") != "k" {
		w.Fatalf("got %s %v", res.Status, res.Header)
	}
	for _, want := range []string{"hello\n", "early\n"} {
		if line, err := r.ReadString('\n'); err != nil || line != want {
			w.Fatalf("got %q, %v; want %q", line, err, want)
		}
	}
	return conn, r
}

func TestWebSocket(t *testing.T) {
	w := newWorld(t)
	target := w.raw(passing(echo))
	w.healthyGroup("g", target)
	w.forwarding(only("g"))
	conn, r := w.upgraded()
	_, _ = io.WriteString(conn, "later\n")
	if line, err := r.ReadString('\n'); line != "later\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if usage := w.node.Stats().Targets[0].Usage; usage.InFlight != 1 || usage.Status[1] != 1 {
		t.Errorf("got %+v", usage)
	}
	_ = conn.Close()
	w.eventually("the connection to the target is over", func() bool { return w.node.Stats().Targets[0].Usage.InFlight == 0 })
}

func TestWebSocketEndsWith(t *testing.T) {
	for name, end := range map[string]func(*world, Target){
		"Target":      func(w *world, _ Target) { w.node.ApplyTargets("g", TargetSet{}) },
		"Listener":    func(w *world, _ Target) { w.apply(NodeConfig{}) },
		"Node":        func(w *world, _ Target) { w.node.Close() },
		"IdleTimeout": func(*world, Target) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			target := w.raw(passing(echo))
			w.healthyGroup("g", target)
			attributes := Attributes{}
			if name == "IdleTimeout" {
				attributes.IdleTimeout = 200 * time.Millisecond
			}
			w.apply(NodeConfig{Attributes: attributes, Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}}})
			_, r := w.upgraded()
			end(w, target)
			if rest, err := io.ReadAll(r); err != nil && isTimeout(err) || len(rest) > 0 {
				t.Errorf("got %q, %v", rest, err)
			}
		})
	}
}

func TestUpgradeThatTheTargetRefuses(t *testing.T) {
	w := newWorld(t)
	a := w.serve("plain")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	status, _, body := w.get("/", func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	})
	if status != 200 || body != "plain" {
		t.Errorf("got %d %q", status, body)
	}
}

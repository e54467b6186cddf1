package nlb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// address returns a loopback address that no other test uses.
func address() netip.Addr {
	n := addresses.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(128 + os.Getpid()%64), byte(n >> 8), byte(n)})
}

var addresses atomic.Uint32

// world is a node with what it reported, and what it delays and drops.
type world struct {
	*testing.T
	node *Node
	at   netip.AddrPort

	mu      sync.Mutex
	changes []dataplane.HealthChange
	events  []dataplane.Event
	wall    func(dataplane.Packet) bool
}

// Passes asks the firewall of the test.
func (w *world) Passes(p dataplane.Packet) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wall == nil || w.wall(p)
}

func (w *world) firewall(wall func(dataplane.Packet) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wall = wall
}

// newWorld starts a node for a test that runs beside others, newWorldAlone one for a test that does not.
func newWorld(t *testing.T, adjust ...func(*Config)) *world {
	t.Helper()
	t.Parallel()
	return newWorldAlone(t, adjust...)
}

func newWorldAlone(t *testing.T, adjust ...func(*Config)) *world {
	t.Helper()
	w := &world{T: t}
	c := Config{
		LoadBalancer: "net/test", Zone: "zone-a", Address: address(), Seed: 1, Firewall: w,
		Health:  func(h dataplane.HealthChange) { w.mu.Lock(); w.changes = append(w.changes, h); w.mu.Unlock() },
		Journal: func(e dataplane.Event) { w.mu.Lock(); w.events = append(w.events, e); w.mu.Unlock() },
	}
	for _, f := range adjust {
		f(&c)
	}
	w.node = NewNode(c)
	w.at = netip.AddrPortFrom(c.Address, 8080)
	t.Cleanup(w.node.Close)
	return w
}

// eventually looks again and again until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.Fatalf("timed out waiting: %s\nhealth: %v\nevents: %v", what, w.changes, w.events)
		}
	}
}

// event waits for an event of a kind.
func (w *world) event(kind dataplane.EventKind) dataplane.Event {
	w.Helper()
	var found dataplane.Event
	w.eventually(string(kind), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if e.Kind == kind {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// state waits until the node sees a target in a state.
func (w *world) state(group string, t dataplane.Target, want dataplane.HealthState) {
	w.Helper()
	w.eventually(fmt.Sprintf("%v is %s", t.Key(), want), func() bool { return w.node.Health(group)[t.Key()].State == want })
}

// quick is a group with frequent checks and the attributes that a new TCP group of instances has in AWS.
func quick(arn string) dataplane.Group {
	return dataplane.Group{
		ARN: arn, Protocol: dataplane.TCP, DeregistrationDelay: time.Minute, SameZoneOnly: true,
		HealthCheck: dataplane.HealthCheck{Protocol: dataplane.TCP, Interval: 20 * time.Millisecond, Timeout: 500 * time.Millisecond, HealthyThreshold: 2, UnhealthyThreshold: 2},
		Network:     dataplane.NetworkGroup{PreserveClient: true, TerminateUnhealthy: true},
	}
}

// group applies a group of the targets, and waits until all of them are healthy. adjust may change its settings first.
func (w *world) group(arn string, targets []*app, adjust ...func(*dataplane.Group)) dataplane.Group {
	w.Helper()
	g := quick(arn)
	for _, f := range adjust {
		f(&g)
	}
	w.node.ApplyGroup(g)
	w.register(arn, targets...)
	for _, t := range targets {
		w.state(arn, t.Target, dataplane.Healthy)
	}
	return g
}

func (w *world) register(arn string, targets ...*app) {
	var set dataplane.TargetSet
	for _, t := range targets {
		set.Targets = append(set.Targets, t.Target)
	}
	w.node.ApplyTargets(arn, set)
}

// listen applies one listener on port 8080.
func (w *world) listen(protocol dataplane.Protocol, f dataplane.Forward, adjust ...func(*dataplane.Listener)) {
	w.Helper()
	l := dataplane.Listener{Port: 8080, Protocol: protocol, Default: dataplane.Action{Forward: &f}}
	for _, a := range adjust {
		a(&l)
	}
	if err := w.node.Apply(dataplane.NodeConfig{Listeners: []dataplane.Listener{l}}); err != nil {
		w.Fatal(err)
	}
}

// to is a forward to groups of weight 1.
func to(groups ...string) dataplane.Forward {
	var f dataplane.Forward
	for _, g := range groups {
		f.Groups = append(f.Groups, dataplane.WeightedGroup{ARN: g, Weight: 1})
	}
	return f
}

// app is a real TCP and UDP target that echoes lines with its name and the peer that it sees in front.
type app struct {
	dataplane.Target
	name     string
	listener net.Listener
	packets  net.PacketConn
}

func (w *world) serve(name string) *app {
	w.Helper()
	t := &app{name: name, Target: dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}}
	t.open(w)
	t.openPackets(w)
	return t
}

// open lets the target accept connections (again).
func (t *app) open(w *world) {
	w.Helper()
	at := netip.AddrPortFrom(t.Address, t.Port).String()
	l, err := net.Listen("tcp", at)
	if err != nil {
		w.Fatal(err)
	}
	t.listener = l
	var work sync.WaitGroup
	work.Go(func() { t.accept(l) })
	w.Cleanup(func() { _ = l.Close(); work.Wait() })
}

// openPackets lets the target take datagrams.
func (t *app) openPackets(w *world) {
	w.Helper()
	p, err := net.ListenPacket("udp", netip.AddrPortFrom(t.Address, t.Port).String())
	if err != nil {
		w.Fatal(err)
	}
	t.packets = p
	var work sync.WaitGroup
	work.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := p.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte(t.answer(from, string(buffer[:n]))), from)
		}
	})
	w.Cleanup(func() { _ = p.Close(); work.Wait() })
}

func (t *app) answer(from net.Addr, line string) string {
	return t.name + " " + from.String() + " " + strings.TrimSpace(line) + "\n"
}

func (t *app) accept(l net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if _, err := io.WriteString(conn, t.answer(conn.RemoteAddr(), line)); err != nil {
					return
				}
			}
		})
	}
}

// client is a connection through the node.
type client struct {
	net.Conn
	r *bufio.Reader
}

// dialAny connects to the node, which may refuse.
func dialAny(w *world) (*client, error) {
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		return nil, err
	}
	w.Cleanup(func() { _ = conn.Close() })
	return &client{conn, bufio.NewReader(conn)}, nil
}

// dial connects to the node from a new address.
func (w *world) dial() *client { return w.dialFrom(address()) }

func (w *world) dialFrom(from netip.Addr) *client {
	w.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, KeepAlive: -1}
	conn, err := d.DialContext(w.Context(), "tcp", w.at.String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	return &client{conn, bufio.NewReader(conn)}
}

// say sends a line and returns who answered, what client it saw and the text.
func (c *client) say(line string) (name, peer string, err error) {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", "", err
	}
	answer, err := c.r.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	name, rest, _ := strings.Cut(answer, " ")
	peer, text, _ := strings.Cut(rest, " ")
	if strings.TrimSpace(text) != line {
		return "", "", fmt.Errorf("%q came back as %q", line, text)
	}
	return name, peer, nil
}

// wantAnswer checks that a target answers on a connection.
func (w *world) wantAnswer(c *client, name string) {
	w.Helper()
	if got, _, err := c.say("hello"); got != name || err != nil {
		w.Fatalf("%q answers (%v), want %q", got, err, name)
	}
}

// wantReset waits until a connection ends by an RST, in answer to something that is sent or before.
func (w *world) wantReset(c *client) {
	w.Helper()
	_, _, err := c.say("hello")
	for deadline := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(deadline); {
		_, _, err = c.say("hello")
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		w.Fatalf("the connection ends by %v, want an RST", err)
	}
}

// wantRefusal checks that a new connection is answered by an RST, which may come before the client knows that it is connected.
func (w *world) wantRefusal() {
	w.Helper()
	conn, err := net.Dial("tcp", w.at.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	w.wantReset(&client{conn, bufio.NewReader(conn)})
}

// wantSilence checks that nobody answers.
func (w *world) wantSilence(c *client) {
	w.Helper()
	_, _ = io.WriteString(c, "hello\n")
	_ = c.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	if line, err := c.r.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		w.Fatalf("the client reads %q, %v, want silence", line, err)
	}
}

// wantTimeout checks that an attempt to connect is dropped: neither accepted nor refused.
func (w *world) wantTimeout(from netip.Addr) {
	w.Helper()
	if !sockopt.Filters {
		return
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 150 * time.Millisecond}
	conn, err := d.DialContext(w.Context(), "tcp", w.at.String())
	if err == nil {
		_ = conn.Close()
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		w.Fatalf("the attempt to connect ends by %v, want a time-out", err)
	}
}

func host(peer string) string { h, _, _ := net.SplitHostPort(peer); return h }

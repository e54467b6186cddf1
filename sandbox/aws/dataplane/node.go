package dataplane

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/jwt"
)

// listenerGrace bounds how long requests in flight may keep the connections of a removed listener open.
const listenerGrace = 60 * time.Second

// streamsPerConnection is how many requests a client may have on one HTTP/2 connection at the same time.
const streamsPerConnection = 128

// Node is the address of one load balancer in one zone. Its methods may be called from several goroutines.
type Node struct {
	config Config
	probes *Probes
	cookie cookieKey
	tokens *jwt.Verifier
	counters
	draws   atomic.Uint64
	dropped blackhole.Hole

	routes atomic.Pointer[routes]

	apply   sync.Mutex // one Apply at a time
	sockets map[uint16]*socket
	closed  bool

	mu     sync.Mutex // guards what follows
	groups map[string]*group
	history

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewNode returns a node that knows nothing yet: it listens nowhere.
func NewNode(c Config) *Node {
	same := func(a netip.AddrPort) netip.AddrPort { return a }
	if c.Endpoint == nil {
		c.Endpoint = same
	}
	if c.Peer == nil {
		c.Peer = same
	}
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 10*time.Second)
	if c.Firewall == nil {
		c.Firewall = Open
	}
	if c.Issuers == nil {
		c.Issuers = issuers()
	}
	if c.Users == nil {
		c.Users = &Signer{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	n := &Node{config: c, probes: c.Probes, cookie: newCookieKey(c.LoadBalancer), sockets: map[uint16]*socket{}, groups: map[string]*group{},
		history: history{forgotten: map[string]TargetUsage{}}}
	n.tokens = jwt.NewVerifier(c.Issuers)
	if n.probes == nil {
		n.probes = NewProbes(c.Endpoint)
	}
	n.routes.Store(&routes{attributes: Attributes{}.withDefaults()})
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.work.Go(n.sweep)
	return n
}

// Apply makes c the configuration of the node, as a whole: a request is served either by what was before or by c.
//
// A configuration that makes no sense is refused and changes nothing. A port that cannot be bound is reported, the rest
// of c is in force, and the next Apply tries that port again.
func (n *Node) Apply(c NodeConfig) error {
	n.apply.Lock()
	defer n.apply.Unlock()
	if n.closed {
		return fmt.Errorf("node %s in %s is closed", n.config.LoadBalancer, n.config.Zone)
	}
	if c.Version != 0 && c.Version <= n.routes.Load().version {
		return nil
	}
	compiled, err := compile(c, n.group)
	if err != nil {
		return fmt.Errorf("cannot apply version %d to node %s in %s: %w", c.Version, n.config.LoadBalancer, n.config.Zone, err)
	}
	n.routes.Store(compiled)
	for port, s := range n.sockets {
		if compiled.listeners[port] == nil {
			delete(n.sockets, port)
			n.journal(Event{Kind: ListenerClosed, Port: port})
			n.work.Go(s.shutdown)
		}
	}
	var failed []error
	for port := range compiled.listeners {
		if n.sockets[port] != nil {
			continue
		}
		if err := n.listen(port, compiled.attributes.IdleTimeout); err != nil {
			failed = append(failed, err)
			continue
		}
		n.journal(Event{Kind: ListenerOpened, Port: port})
	}
	n.journal(Event{Kind: ConfigApplied, Version: c.Version})
	return errors.Join(failed...)
}

// ApplyGroup makes g the settings of a target group on this node.
func (n *Node) ApplyGroup(g Group) {
	for !n.group(g.ARN).apply(g) { // it was forgotten just now
	}
}

// ApplyTargets makes set the targets of a group on this node. When it returns, no new request goes to a target that
// is Draining or absent. Targets given before the group's settings are kept, and checked once ApplyGroup was called.
func (n *Node) ApplyTargets(groupARN string, set TargetSet) {
	for !n.group(groupARN).applyTargets(set) { // it was forgotten just now
	}
}

// RemoveGroup makes the node forget a group and its targets. Requests in flight end as they will; rules that
// still name the group answer 503. Versions of the group begin anew.
func (n *Node) RemoveGroup(groupARN string) {
	n.apply.Lock()
	defer n.apply.Unlock()
	n.mu.Lock()
	g := n.groups[groupARN]
	n.mu.Unlock()
	if g != nil {
		g.remove()
		n.remember(g)
	}
}

// Health returns this node's view of the targets of a group that are registered (not draining).
func (n *Node) Health(groupARN string) map[TargetKey]TargetHealth {
	all := map[TargetKey]TargetHealth{}
	n.mu.Lock()
	g := n.groups[groupARN]
	n.mu.Unlock()
	if g == nil {
		return all
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.order {
		if t.State == Registered {
			all[t.key] = t.health.TargetHealth
		}
	}
	return all
}

// Stats returns what the node has done so far.
func (n *Node) Stats() Stats {
	s := Stats{
		LoadBalancer: n.config.LoadBalancer, Zone: n.config.Zone, ConfigVersion: n.routes.Load().version,
		Requests: n.requests.Load(), Generated: map[int]uint64{}, Groups: map[string]GroupStats{},
		Fixed: n.fixed.Load(), Redirects: n.redirects.Load(),
		ClientConnections: n.clientConnections.Load(), NewConnections: n.newConnections.Load(), Rejected: n.rejected.Load(),
		Processed: n.processed.Load(), ClientTLSErrors: n.clientTLSErrors.Load(), NonCompliant: n.nonCompliant.Load(),
		NewTargetConnections: n.newTargetConnections.Load(),
		RuleEvaluations:      n.evaluations.Load(), NonSticky: n.nonSticky.Load(), GRPC: n.grpc.Load(), RedirectsTooLong: n.redirectsTooLong.Load(),
		IPv6Requests:     n.ipv6Requests.Load(),
		InvalidForwarded: n.invalidForwards.Load(), InvalidDropped: n.invalidDropped.Load(),
	}
	for code := range n.generated {
		if count := n.generated[code].Load(); count > 0 {
			s.Generated[code] = count
		}
	}
	there, present := n.present(&s)
	// After those that are there, so that no target is left out that goes meanwhile: what all together have done never becomes less.
	n.mu.Lock()
	gone, forgotten := slices.Clone(n.gone), maps.Clone(n.forgotten)
	n.mu.Unlock()
	for _, t := range gone {
		if !present[t] {
			s.Targets = append(s.Targets, TargetStats{Group: t.group.arn, Target: t.key, Gone: true, Usage: t.usage.snapshot()})
		}
	}
	for _, arn := range slices.Sorted(maps.Keys(forgotten)) {
		s.Targets = append(s.Targets, TargetStats{Group: arn, Gone: true, Usage: forgotten[arn]})
	}
	s.Targets = append(s.Targets, there...)
	return s
}

// present fills in what the groups have done, and returns their targets.
func (n *Node) present(s *Stats) (there []TargetStats, present map[*target]bool) {
	present = map[*target]bool{}
	n.mu.Lock()
	groups := n.sortedGroups()
	if n.nameless != nil {
		s.Groups[""] = n.nameless.stats()
	}
	n.mu.Unlock()
	for _, g := range groups {
		g.mu.Lock()
		s.Groups[g.arn] = g.stats()
		for _, t := range g.order {
			s.TargetConnections += t.flights.connections()
			if !t.over {
				present[t] = true
				there = append(there, TargetStats{Group: g.arn, Target: t.key, Health: t.health.TargetHealth, Usage: t.usage.snapshot(),
					Draining: t.State == Draining, Anomalous: t.anomaly.anomalous, Mitigated: t.anomaly.share.Load() < fullShare})
			}
		}
		g.mu.Unlock()
	}
	return there, present
}

// Close is the deletion of the load balancer: listeners and connections are closed at once, checks end.
func (n *Node) Close() {
	n.apply.Lock()
	n.closed = true
	for _, s := range n.sockets {
		_ = s.server.Close()
		s.cut()
	}
	clear(n.sockets)
	n.apply.Unlock()
	n.cancel()
	n.dropped.Close()
	for _, g := range n.allGroups() {
		g.applyTargets(TargetSet{})
	}
	n.work.Wait()
}

// group finds the node's record of a group, or makes one that knows nothing.
func (n *Node) group(arn string) *group {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.groups[arn]
	if g == nil {
		g = newGroup(n, arn)
		n.groups[arn] = g
	}
	return g
}

// allGroups lists the groups in order of their ARNs.
func (n *Node) allGroups() []*group {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sortedGroups()
}

// sortedGroups is allGroups. Called with n.mu held.
func (n *Node) sortedGroups() []*group {
	return slices.SortedFunc(maps.Values(n.groups), func(a, b *group) int { return cmp.Compare(a.arn, b.arn) })
}

// sweep looks after idle connections to targets, and after anomalies.
func (n *Node) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case now := <-tick.C:
			idleSince := now.Add(-n.routes.Load().attributes.IdleTimeout)
			for _, g := range n.allGroups() {
				g.detect()
				g.mu.Lock()
				targets := slices.Clone(g.order)
				g.mu.Unlock()
				for _, t := range targets {
					t.flights.sweep(idleSince)
				}
			}
		}
	}
}

// draw returns the next of the node's repeatable random numbers (splitmix64 over a counter).
func (n *Node) draw() uint64 {
	z := n.config.Seed + n.draws.Add(1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (n *Node) journal(e Event) {
	if n.config.Journal == nil {
		return
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.LoadBalancer, e.Zone = n.config.LoadBalancer, n.config.Zone
	n.config.Journal(e)
}

// socket is one bound port.
type socket struct {
	node     *Node
	port     uint16
	listener net.Listener
	server   *http.Server
	ready    chan net.Conn
	closing  chan struct{}
	closed   sync.Once
	// tunnels ends when connections that are no longer the server's, upgraded ones, have to close.
	tunnels context.Context
	cut     context.CancelFunc
}

// listen binds a port. What is served there is decided request by request, and whether TLS is spoken connection by
// connection, so that a change of the listener never closes the port.
func (n *Node) listen(port uint16, idle time.Duration) error {
	at := netip.AddrPortFrom(n.config.Address, port)
	real := n.config.Endpoint(at)
	l, err := OpenDoor(real, at, n.config.Firewall)
	if err != nil {
		return fmt.Errorf("cannot listen on %s for %s of node %s: %w", real, at, n.config.LoadBalancer, err)
	}
	s := &socket{node: n, port: port, listener: l, ready: make(chan net.Conn), closing: make(chan struct{})}
	s.tunnels, s.cut = context.WithCancel(n.ctx)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // where TLS has negotiated it
	s.server = &http.Server{
		Handler:                      s,
		Protocols:                    &protocols,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: streamsPerConnection},
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            idle,
		IdleTimeout:                  idle,
		MaxHeaderBytes:               2 * requestHeadersLimit, // what is above the limit of AWS is answered as AWS does
		ErrorLog:                     log.New(panics{n.config.Log}, "", 0),
		ConnContext:                  s.greet,
	}
	n.sockets[port] = s
	n.work.Go(s.welcome)
	n.work.Go(func() { _ = s.server.Serve(s) })
	return nil
}

// panics passes on what net/http says about panics of the node, which would be bugs, and leaves out what it
// says about clients.
type panics struct{ log *slog.Logger }

func (p panics) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("http: panic")) {
		p.log.Error("a request to the load balancer was not served", "cause", string(line))
	}
	return len(line), nil
}

func (s *socket) admits(conn net.Conn) bool {
	packet := Packet{Protocol: TCP, From: s.node.peer(conn).Addr(), To: netip.AddrPortFrom(s.node.config.Address, s.port)}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		packet.Via = s.node.config.Relays.Via(tcp.AddrPort())
	}
	return s.node.config.Firewall.Passes(packet)
}

// peer is the address of a client in the VPC, or its own if it comes from outside.
func (n *Node) peer(conn net.Conn) netip.AddrPort {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	real := tcp.AddrPort()
	return n.config.Peer(netip.AddrPortFrom(real.Addr().Unmap(), real.Port()))
}

// Addr is the real address of the port.
func (s *socket) Addr() net.Addr { return s.listener.Addr() }

// shutdown closes the port now and its connections as their requests end.
func (s *socket) shutdown() {
	defer s.cut()
	ctx, cancel := context.WithTimeout(s.node.ctx, listenerGrace)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
}

// client is what is known of a client connection.
type client struct {
	peer     netip.AddrPort
	address  string // of peer, without port
	accepted time.Time
	requests atomic.Int64
	// inspected is the connection itself, if it speaks HTTP/1.
	inspected *inspected
	// identity is what targets are told of the client's certificate. May be nil.
	identity *identity
}

type clientKey struct{}

func (s *socket) greet(ctx context.Context, conn net.Conn) context.Context {
	c := &client{accepted: time.Now(), peer: s.node.peer(conn)}
	c.address = c.peer.Addr().String()
	switch conn := conn.(type) {
	case *inspected:
		c.inspected = conn
	case secured:
		c.inspected, c.identity = conn.inspected, identityOf(conn.inspected.Conn)
	case *tls.Conn:
		c.identity = identityOf(conn)
	}
	return context.WithValue(ctx, clientKey{}, c)
}

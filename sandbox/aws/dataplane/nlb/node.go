package nlb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
)

// goneKept is how many targets that have left a node remembers for Stats.
const goneKept = 10_000

// Node is the address of one Network Load Balancer in one zone. Its methods may be called from several goroutines.
type Node struct {
	config  Config
	dropped blackhole.Hole
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	apply sync.Mutex // one Apply at a time; guards ports
	ports map[uint16]*port

	mu        sync.Mutex // guards all that follows
	version   uint64
	listeners map[uint16]*listener
	groups    map[string]*group
	gone      []dataplane.TargetStats
	flows     map[*flow]struct{} // all that are not over, forgotten ones among them
	counts    counts
	doors     []*dataplane.Door // of ports that were ever opened
	draws     uint64
	closed    bool
}

// NewNode returns a node that knows nothing yet: it listens nowhere.
func NewNode(c Config) *Node {
	n := &Node{
		config: c.withDefaults(), ports: map[uint16]*port{}, listeners: map[uint16]*listener{},
		groups: map[string]*group{}, flows: map[*flow]struct{}{}, counts: newCounts(),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.quieten()
	return n
}

// quieten takes the ports that are to drop from the beginning. One that is taken is left to whoever has it, until a listener needs it.
func (n *Node) quieten() {
	for _, number := range n.config.Quiet {
		p := &port{node: n, number: number}
		if p.listen() == nil {
			p.shut()
			n.ports[number] = p
		}
	}
}

// Apply makes c the configuration of the node, as a whole: a flow begins by what was before or by c.
//
// A configuration that makes no sense is refused and changes nothing. A port that cannot be bound is reported, the rest of c is in force,
// and the next Apply tries that port again.
func (n *Node) Apply(c dataplane.NodeConfig) error {
	n.apply.Lock()
	defer n.apply.Unlock()
	n.mu.Lock()
	stale := c.Version != 0 && c.Version <= n.version
	closed := n.closed
	n.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("node %s in %s is closed", n.config.LoadBalancer, n.config.Zone)
	case stale:
		return nil
	}
	compiled := map[uint16]*listener{}
	for _, l := range c.Listeners {
		one, err := compile(l)
		if err == nil && compiled[l.Port] != nil {
			err = errors.New("another listener has the same port")
		}
		if err != nil {
			return fmt.Errorf("cannot apply version %d to node %s in %s: listener on port %d: %w", c.Version, n.config.LoadBalancer, n.config.Zone, l.Port, err)
		}
		compiled[l.Port] = one
	}
	n.mu.Lock()
	before := n.listeners
	for number, l := range compiled {
		n.succeed(before[number], l)
	}
	n.listeners, n.version = compiled, c.Version
	n.mu.Unlock()
	failed := n.bind(before, compiled)
	n.journal(dataplane.Event{Kind: dataplane.ConfigApplied, Version: c.Version})
	return failed
}

// succeed lets a listener take the place of its former version: who sticks to a group stays, groups whose weight became 0 lose their
// flows after a while, and a listener with other groups than before may have a gap. Called with n.mu held.
func (n *Node) succeed(before, l *listener) {
	if before == nil {
		return
	}
	l.sticky, l.order, l.gap, l.changes, l.emptied = before.sticky, before.order, before.gap, before.changes+1, before.emptied
	event := fmt.Sprintf("%s:%d#%d", n.config.LoadBalancer, l.Port, l.changes)
	if !slices.Equal(before.arns(), l.arns()) {
		l.gap = later(l.gap, time.Now().Add(n.config.Delays.ListenerGap(event)))
	}
	for _, g := range l.groups {
		was, known := before.weight(g.ARN)
		if g.Weight != 0 || len(l.groups) == 1 || !known || was == 0 {
			continue
		}
		l.emptied[g.ARN] = l.changes
		time.AfterFunc(n.config.Delays.WeightZeroClose(event), func() { n.closeWeightless(l.Port, g.ARN, l.changes) })
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// closeWeightless cuts the flows of a listener to a group, if its weight is still 0, by the same change: one that was above 0 in between has
// its time anew.
func (n *Node) closeWeightless(port uint16, group string, change int) {
	n.mu.Lock()
	var doomed []*flow
	if l := n.listeners[port]; l != nil {
		if weight, known := l.weight(group); known && weight == 0 && l.emptied[group] == change {
			doomed = n.take(func(f *flow) bool { return f.port == port && f.target.group.arn == group })
		}
	}
	n.mu.Unlock()
	n.cut(doomed, dataplane.Event{Kind: dataplane.FlowsCut, Group: group, Port: port, Reason: "the weight of the group is 0"})
}

// bind opens the ports that listeners need. A port that no longer has one stays bound, so that who tries it is not refused.
func (n *Node) bind(before, now map[uint16]*listener) error {
	var failed []error
	for number, l := range now {
		p := n.ports[number]
		if p == nil {
			p = &port{node: n, number: number}
			n.ports[number] = p
		}
		if err := p.open(l.Protocol); err != nil {
			failed = append(failed, err)
			continue
		}
		if before[number] == nil {
			n.journal(dataplane.Event{Kind: dataplane.ListenerOpened, Port: number})
		}
	}
	for number := range before {
		if now[number] == nil {
			n.ports[number].shut()
			n.journal(dataplane.Event{Kind: dataplane.ListenerClosed, Port: number})
		}
	}
	return errors.Join(failed...)
}

// enter notes a door, for its counts.
func (n *Node) enter(d *dataplane.Door) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doors = append(n.doors, d)
}

// ApplyGroup makes g the settings of a target group on this node. They hold for flows that begin from now on.
func (n *Node) ApplyGroup(g dataplane.Group) {
	n.change(func() []*flow { return n.group(g.ARN).apply(g) })
}

// ApplyTargets makes set the targets of a group on this node. When it returns, no new flow goes to a target that is
// Draining or absent.
func (n *Node) ApplyTargets(groupARN string, set dataplane.TargetSet) {
	n.change(func() []*flow { return n.group(groupARN).applyTargets(set) })
}

// RemoveGroup makes the node forget a group and its targets. Their flows go on. Versions of the group begin anew.
func (n *Node) RemoveGroup(groupARN string) {
	n.change(func() []*flow {
		if g := n.groups[groupARN]; g != nil {
			g.remove()
			delete(n.groups, groupARN)
		}
		return nil
	})
}

// change runs f under the lock and ends the flows that it returns.
func (n *Node) change(f func() []*flow) {
	n.mu.Lock()
	var doomed []*flow
	if !n.closed {
		doomed = f()
	}
	n.mu.Unlock()
	n.cut(doomed, dataplane.Event{})
}

// group finds the node's record of a group, or makes one that knows nothing. Called with n.mu held.
func (n *Node) group(arn string) *group {
	g := n.groups[arn]
	if g == nil {
		g = &group{node: n, arn: arn, targets: map[dataplane.TargetKey]*target{}}
		n.groups[arn] = g
	}
	return g
}

// Health returns this node's view of the targets of a group that are registered (not draining).
func (n *Node) Health(groupARN string) map[dataplane.TargetKey]dataplane.TargetHealth {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[dataplane.TargetKey]dataplane.TargetHealth{}
	if g := n.groups[groupARN]; g != nil {
		for _, t := range g.order {
			if t.State == dataplane.Registered {
				all[t.key] = t.health
			}
		}
	}
	return all
}

// host is the Host header of health checks for a group: the node and the lowest port of its listeners that forward to it.
func (n *Node) host(group string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	port := uint16(0)
	for number, l := range n.listeners {
		if _, forwards := l.weight(group); forwards && (port == 0 || number < port) {
			port = number
		}
	}
	if port == 0 {
		return n.config.Address.String()
	}
	return netip.AddrPortFrom(n.config.Address, port).String()
}

// Close is the deletion of the load balancer: ports and flows are closed at once, checks end.
func (n *Node) Close() {
	n.apply.Lock()
	defer n.apply.Unlock()
	n.mu.Lock()
	n.closed = true
	for _, arn := range slices.Sorted(maps.Keys(n.groups)) {
		n.groups[arn].remove()
	}
	all := n.take(func(*flow) bool { return true })
	n.mu.Unlock()
	n.cancel()
	for _, p := range n.ports {
		p.close()
	}
	n.dropped.Close()
	n.cut(all, dataplane.Event{})
	n.work.Wait()
}

// take finds flows and makes sure that nobody else ends them. Called with n.mu held; who takes has to cut them afterwards.
func (n *Node) take(match func(*flow) bool) []*flow {
	var taken []*flow
	for f := range n.flows {
		if match(f) {
			taken = append(taken, f)
			n.forget(f)
		}
	}
	return taken
}

// cut ends flows that were taken, and says so if e says what.
func (n *Node) cut(flows []*flow, e dataplane.Event) {
	for _, f := range flows {
		f.cut()
	}
	if e.Kind != "" && len(flows) > 0 {
		e.Cut = len(flows)
		n.journal(e)
	}
}

// draw returns the next of the node's repeatable random numbers. Called with n.mu held.
func (n *Node) draw() uint64 {
	n.draws++
	return mix(n.config.Seed + n.draws*0x9e3779b97f4a7c15)
}

// mix spreads a number over all 64 bits (the last steps of splitmix64).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (n *Node) journal(e dataplane.Event) {
	if n.config.Journal == nil {
		return
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.LoadBalancer, e.Zone = n.config.LoadBalancer, n.config.Zone
	n.config.Journal(e)
}

// sorted lists the groups by ARN. Called with n.mu held.
func (n *Node) sorted() []*group {
	return slices.SortedFunc(maps.Values(n.groups), func(a, b *group) int { return cmp.Compare(a.arn, b.arn) })
}

package elbv2

import (
	"crypto/tls"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// node is a load balancer in one zone: what it has learned so far, and the part of the data plane that
// acts on it. All but the last fields are guarded by Service.mu.
type node struct {
	balancer         *loadBalancer
	zone             string
	subnet           string
	networkInterface string
	address          netip.Addr
	// active nodes serve. A load balancer that is being provisioned has nodes that learn but do not serve.
	active bool
	gone   bool
	// joined is true for a node of a zone that was added later. It does not make targets that are healthy
	// elsewhere initial again before it has looked at them.
	joined bool
	// lanes hold the number of the newest change that was taken, per thing that changes. A change that
	// comes later than a newer one of its lane is skipped: a node never goes back.
	lanes map[string]int
	// underway are the numbers of the changes that are on their way to the node.
	underway map[int]bool
	// remembered is how many lanes there were after the last time that some were dropped.
	remembered int
	listeners  map[string]listenerDocument
	attributes map[string]string
	groups     map[string]*nodeGroup
	trusted    map[string]trusted // trust stores, by ARN
	renewed    []string           // certificates that are to be asked for again
	stale      bool               // listeners, attributes, trust stores or certificates have changed since the last flush
	removed    []string

	// pushing serialises the calls to the data plane and guards what follows.
	pushing sync.Mutex
	traffic Node
	version uint64
	closed  bool
	shown   map[string]tls.Certificate // by ARN
}

// nodeGroup is a target group as one node knows it.
type nodeGroup struct {
	settings        groupDocument
	targets         map[dataplane.TargetKey]dataplane.Target
	settingsChanged bool
	targetsChanged  bool
}

func (s *Service) addNode(lb *loadBalancer, v types.LoadBalancer, p placement) error {
	id, address, err := s.config.Network.AddBalancer(ec2.BalancerInterface{
		Description: "ELB " + tail(lb.arn), Subnet: p.subnet.ID, Groups: v.SecurityGroups, Network: v.Type == types.LoadBalancerTypeEnumNetwork,
		Address: p.address, Allocation: p.allocation,
	})
	if err != nil {
		return err
	}
	lb.nodes = append(lb.nodes, &node{
		balancer: lb, zone: p.subnet.Zone, subnet: p.subnet.ID, networkInterface: id, address: address,
		lanes: map[string]int{}, listeners: map[string]listenerDocument{}, groups: map[string]*nodeGroup{}, trusted: map[string]trusted{},
		attributes: maps.Clone(lb.attributes), stale: true,
	})
	return nil
}

func (s *Service) dropInterfaces(nodes []*node) {
	for _, n := range nodes {
		s.config.Network.DropBalancerInterface(n.networkInterface)
	}
}

// catchUp gives a node that has just been made everything that the load balancer has.
func (s *Service) catchUp(n *node) {
	for arn, l := range n.balancer.listeners {
		n.listeners[arn] = s.listenerDocument(l)
		n.lanes[arn] = n.balancer.changes
	}
	for _, g := range s.targetGroups {
		if g.balancer != n.balancer {
			continue
		}
		known := n.group(s, g.arn)
		for _, t := range g.targets {
			if !t.draining {
				known.targets[t.key] = t.registration(dataplane.Registered)
				n.lanes[targetLane(g.arn, t.key)] = n.balancer.changes
			}
		}
	}
	n.stale = true
}

// group is the group as the node knows it. A node that hears of a group for the first time learns its
// present settings.
func (n *node) group(s *Service, arn string) *nodeGroup {
	known := n.groups[arn]
	if known == nil {
		known = &nodeGroup{targets: map[dataplane.TargetKey]dataplane.Target{}, settingsChanged: true, targetsChanged: true}
		if g := s.targetGroups[arn]; g != nil {
			known.settings = settingsOf(g)
		}
		n.groups[arn] = known
	}
	return known
}

// needs says whether the load balancer uses a group, in the API or still on this node. What arrives late for
// another group is not worth knowing.
func (n *node) needs(s *Service, arn string) bool {
	if g := s.targetGroups[arn]; g != nil && g.balancer == n.balancer {
		return true
	}
	for _, l := range n.listeners {
		if slices.Contains(l.groups(), arn) {
			return true
		}
	}
	return false
}

// forget drops the groups that the node no longer needs.
func (n *node) forget(s *Service) {
	for _, l := range n.listeners {
		for _, arn := range l.groups() {
			n.group(s, arn)
		}
	}
	for arn := range n.groups {
		if n.needs(s, arn) {
			continue
		}
		delete(n.groups, arn)
		n.removed = append(n.removed, arn)
		for lane := range n.lanes {
			if len(lane) > len(arn) && lane[:len(arn)] == arn {
				delete(n.lanes, lane)
			}
		}
	}
}

// flush brings the data plane up to what the node has learned. It must be called without the lock: the
// data plane reports health from within.
func (n *node) flush(s *Service) {
	n.pushing.Lock()
	defer n.pushing.Unlock()
	s.mu.Lock()
	calls := n.calls(s)
	s.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// calls are the calls to the data plane that are due: groups before the listeners that refer to them,
// removals last.
func (n *node) calls(s *Service) []func() {
	if !n.active || n.gone || n.closed || s.closed || s.config.NewNode == nil {
		return nil
	}
	if n.traffic == nil {
		n.traffic = s.config.NewNode(NodeSpec{
			LoadBalancer: n.balancer.arn, Zone: n.zone, Address: n.address, Network: !n.balancer.application(),
			Health: func(h dataplane.HealthChange) { s.report(n, h) },
			Draw:   func(key profile.Key, event string) time.Duration { return s.config.Draws.PerNode(key, event, n.zone) },
		})
	}
	var calls []func()
	for _, arn := range slices.Sorted(maps.Keys(n.groups)) {
		calls = append(calls, n.groupCalls(s, arn, n.groups[arn])...)
	}
	if n.stale {
		n.stale = false
		n.version++
		config, certificates := s.nodeConfig(n)
		renewed := n.renewed
		n.renewed = nil
		calls = append(calls, func() {
			n.show(s, &config, certificates, renewed)
			if err := n.traffic.Apply(config); err != nil {
				s.config.Log.Error("a load balancer node cannot serve what it was told", "loadBalancer", n.balancer.name, "zone", n.zone, "error", err)
			}
		})
	}
	for _, arn := range n.removed {
		if n.groups[arn] == nil {
			calls = append(calls, func() { n.traffic.RemoveGroup(arn) })
		}
	}
	n.removed = nil
	return calls
}

// show gives the listeners their certificates: those that the node has shown before, unless they are renewed.
func (n *node) show(s *Service, config *dataplane.NodeConfig, certificates map[string][]string, renewed []string) {
	before := n.shown
	n.shown = map[string]tls.Certificate{}
	for i, l := range config.Listeners {
		for _, arn := range certificates[l.ARN] {
			c, ok := before[arn]
			if again, done := n.shown[arn]; done {
				c, ok = again, true
			} else if !ok || slices.Contains(renewed, arn) {
				c, ok = s.certificate(arn)
			}
			if ok {
				n.shown[arn] = c
				config.Listeners[i].Certificates = append(config.Listeners[i].Certificates, c)
			}
		}
	}
}

func (n *node) groupCalls(s *Service, arn string, g *nodeGroup) (calls []func()) {
	if g.settingsChanged {
		g.settingsChanged = false
		n.version++
		document := g.settings.dataplane(arn, n.version, n.attributes)
		calls = append(calls, func() { n.traffic.ApplyGroup(document) })
	}
	if g.targetsChanged {
		g.targetsChanged = false
		n.version++
		set := dataplane.TargetSet{Version: n.version}
		for _, t := range g.targets {
			if alb := s.balancers[t.ID]; alb != nil {
				t.Address = alb.entrance(n.zone)
			}
			if n.balancer.serves(t.Zone) && t.Address.IsValid() { // a function has none
				set.Targets = append(set.Targets, t)
			}
		}
		calls = append(calls, func() { n.traffic.ApplyTargets(arn, set) })
	}
	return calls
}

// serves says whether the load balancer is in a zone; targets elsewhere get no traffic.
func (lb *loadBalancer) serves(zone string) bool {
	return zone == "all" || slices.ContainsFunc(lb.nodes, func(n *node) bool { return n.zone == zone })
}

// entrance is the address at which a node of a zone reaches a load balancer that is its target: that of the same zone, if there is one.
func (lb *loadBalancer) entrance(zone string) netip.Addr {
	for _, n := range lb.nodes {
		if n.zone == zone {
			return n.address
		}
	}
	return lb.nodes[0].address
}

// close ends the node, after the requests in flight. It must be called without the lock.
func (n *node) close() {
	n.pushing.Lock()
	defer n.pushing.Unlock()
	n.closed = true
	if n.traffic != nil {
		n.traffic.Close()
	}
}

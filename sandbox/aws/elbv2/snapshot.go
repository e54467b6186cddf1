package elbv2

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk. What nodes know is not: after a restart each begins with what is true.
type kept struct {
	Balancers    []keptBalancer `json:"balancers"`
	TargetGroups []keptGroup    `json:"targetGroups"`
	Secrets      []keptSecret   `json:"secrets"`
	TrustStores  []keptStore    `json:"trustStores,omitempty"`
}

type keptBalancer struct {
	LoadBalancer types.LoadBalancer `json:"loadBalancer"`
	Attributes   map[string]string  `json:"attributes"`
	Tags         map[string]string  `json:"tags"`
	// Changes goes on to name the draws of changes.
	Changes    int            `json:"changes"`
	DNSVisible time.Time      `json:"dnsVisible"`
	Capacity   *keptCapacity  `json:"capacity,omitempty"`
	Nodes      []keptNode     `json:"nodes"`
	Listeners  []keptListener `json:"listeners"`
}

type keptNode struct {
	Zone      string     `json:"zone"`
	Subnet    string     `json:"subnet"`
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
}

type keptListener struct {
	Listener     types.Listener    `json:"listener"`
	Attributes   map[string]string `json:"attributes"`
	Tags         map[string]string `json:"tags"`
	Certificates []string          `json:"certificates,omitempty"`
	Rules        []keptRule        `json:"rules"`
}

type keptRule struct {
	Rule types.Rule        `json:"rule"`
	Tags map[string]string `json:"tags"`
}

type keptGroup struct {
	TargetGroup types.TargetGroup `json:"targetGroup"`
	Attributes  map[string]string `json:"attributes"`
	Tags        map[string]string `json:"tags"`
	Lingers     time.Time         `json:"lingers,omitzero"`
	Targets     []keptTarget      `json:"targets"`
}

type keptTarget struct {
	ID      string     `json:"id"`
	Port    uint16     `json:"port"`
	Address netip.Addr `json:"address,omitzero"`
	Zone    string     `json:"zone"`
	Server  string     `json:"server,omitempty"`
	// Leaves is when a draining target leaves. Zero: it does not drain.
	Leaves time.Time `json:"leaves,omitzero"`
}

// keptSecret is the secret of a client of an issuer.
type keptSecret struct {
	Endpoint string `json:"endpoint"`
	Client   string `json:"client"`
	Secret   string `json:"secret"`
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var k kept
	for _, arn := range slices.Sorted(maps.Keys(s.balancers)) {
		lb := s.balancers[arn]
		one := keptBalancer{LoadBalancer: lb.value.Get(), Attributes: lb.attributes, Tags: lb.tags, Changes: lb.changes, DNSVisible: lb.dnsVisible, Capacity: lb.capacity.kept()}
		for _, n := range lb.nodes {
			one.Nodes = append(one.Nodes, keptNode{n.zone, n.subnet, n.networkInterface, n.address})
		}
		for _, arn := range slices.Sorted(maps.Keys(lb.listeners)) {
			one.Listeners = append(one.Listeners, lb.listeners[arn].kept())
		}
		k.Balancers = append(k.Balancers, one)
	}
	for _, arn := range slices.Sorted(maps.Keys(s.targetGroups)) {
		g := s.targetGroups[arn]
		one := keptGroup{TargetGroup: g.value.Get(), Attributes: g.attributes, Tags: g.tags, Lingers: g.lingers}
		for key, t := range g.targets {
			one.Targets = append(one.Targets, keptTarget{key.ID, key.Port, t.address, t.zone, t.server, t.leaves})
		}
		slices.SortFunc(one.Targets, func(a, b keptTarget) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port)) })
		k.TargetGroups = append(k.TargetGroups, one)
	}
	for _, arn := range slices.Sorted(maps.Keys(s.trustStores)) {
		k.TrustStores = append(k.TrustStores, s.trustStores[arn].kept())
	}
	for client, secret := range s.secrets {
		k.Secrets = append(k.Secrets, keptSecret{client.endpoint, client.id, secret})
	}
	slices.SortFunc(k.Secrets, func(a, b keptSecret) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Client, b.Client))
	})
	return json.Marshal(k)
}

func (l *listener) kept() keptListener {
	k := keptListener{Listener: l.value.Get(), Attributes: l.attributes, Tags: l.tags, Certificates: l.certificates}
	for _, arn := range slices.Sorted(maps.Keys(l.rules)) {
		one := l.rules[arn]
		k.Rules = append(k.Rules, keptRule{one.value.Get(), one.tags})
	}
	return k
}

// Import takes over what another service of the same configuration has exported; the network must have been imported before. This one
// must be new. Load balancers go on to be provisioned and targets to drain for as long as they still had to. Their nodes begin with what the API
// says, with the first health check of every target before them; interfaces of load balancers that are gone are given back when the profile says.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var k kept
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	for _, one := range k.Secrets {
		s.secrets[clientOf{one.Endpoint, one.Client}] = one.Secret
	}
	for _, one := range k.TrustStores {
		if err := s.restoreTrustStore(one); err != nil {
			return err
		}
	}
	for _, one := range k.TargetGroups {
		s.restoreGroup(one)
	}
	for _, one := range k.Balancers {
		lb := s.restoreBalancer(one)
		for _, l := range one.Listeners {
			if err := s.restoreListener(lb, l); err != nil {
				return err
			}
		}
	}
	s.releaseOrphans()
	for _, g := range s.targetGroups {
		for _, t := range g.targets {
			s.show(g, t)
			if t.draining {
				s.after(time.Until(t.leaves), func() []*node {
					if g.targets[t.key] == t {
						delete(g.targets, t.key)
					}
					return nil
				})
			}
		}
	}
	for _, lb := range s.balancers {
		s.resume(lb)
	}
	return nil
}

func (s *Service) restoreGroup(one keptGroup) {
	v := one.TargetGroup
	g := &targetGroup{
		arn: deref(v.TargetGroupArn), name: deref(v.TargetGroupName), attributes: one.Attributes, tags: one.Tags, lingers: one.Lingers,
		targets: map[dataplane.TargetKey]*target{}, references: map[string]bool{},
	}
	g.value = eventual.Settled(s.model, "tg/"+g.name, v)
	for _, t := range one.Targets {
		key := dataplane.TargetKey{ID: t.ID, Port: t.Port}
		g.targets[key] = &target{
			key: key, address: t.Address, zone: t.Zone, server: t.Server, draining: !t.Leaves.IsZero(), leaves: t.Leaves, reports: map[string]dataplane.TargetHealth{},
		}
	}
	s.targetGroups[g.arn] = g
}

func (s *Service) restoreBalancer(one keptBalancer) *loadBalancer {
	v := one.LoadBalancer
	lb := &loadBalancer{
		arn: deref(v.LoadBalancerArn), name: deref(v.LoadBalancerName), attributes: one.Attributes, tags: one.Tags,
		listeners: map[string]*listener{}, changes: one.Changes, dnsVisible: one.DNSVisible,
	}
	lb.value = eventual.Settled(s.model, "lb/"+lb.name, v)
	s.restoreCapacity(lb, one.Capacity)
	for _, n := range one.Nodes {
		lb.nodes = append(lb.nodes, &node{
			balancer: lb, zone: n.Zone, subnet: n.Subnet, networkInterface: n.Interface, address: n.Address,
			lanes: map[string]int{}, listeners: map[string]listenerDocument{}, groups: map[string]*nodeGroup{}, trusted: map[string]trusted{},
			attributes: maps.Clone(lb.attributes), stale: true,
		})
	}
	s.balancers[lb.arn] = lb
	return lb
}

func (s *Service) restoreListener(lb *loadBalancer, one keptListener) error {
	l := &listener{
		arn: deref(one.Listener.ListenerArn), balancer: lb, attributes: one.Attributes, tags: one.Tags,
		certificates: one.Certificates, rules: map[string]*rule{},
	}
	l.value = eventual.Settled(s.model, "listener/"+l.arn, one.Listener)
	for _, r := range one.Rules {
		arn := deref(r.Rule.RuleArn)
		restored := &rule{arn: arn, listener: l, tags: r.Tags, value: eventual.Settled(s.model, "rule/"+arn, r.Rule)}
		l.rules[arn], s.rules[arn] = restored, restored
		if deref(r.Rule.IsDefault) {
			l.byDefault = restored
		}
		for _, group := range groupsOf(r.Rule.Actions) {
			g := s.targetGroups[group]
			if g == nil {
				return fmt.Errorf("rule %s forwards to target group %s, which is not there", arn, group)
			}
			g.balancer, g.references[arn] = lb, true
		}
	}
	if l.byDefault == nil {
		return fmt.Errorf("listener %s has no default rule", l.arn)
	}
	lb.listeners[l.arn], s.listeners[l.arn] = l, l
	return nil
}

// releaseOrphans gives back the interfaces of load balancers and zones that are gone.
func (s *Service) releaseOrphans() {
	owned := map[string]bool{}
	for _, lb := range s.balancers {
		for _, n := range lb.nodes {
			owned[n.networkInterface] = true
		}
	}
	for _, id := range s.config.Network.BalancerInterfaces() {
		if !owned[id] {
			s.after(s.config.Draws.Once(profile.InterfaceRelease, "interface/"+id), func() []*node {
				s.config.Network.DropBalancerInterface(id)
				return nil
			})
		}
	}
}

// resume lets the nodes of a restored load balancer begin, at once or when its provisioning is over.
func (s *Service) resume(lb *loadBalancer) {
	for _, n := range lb.nodes {
		s.catchUp(n)
		for _, g := range s.targetGroups {
			if g.balancer == lb {
				s.resumeDraining(n, g)
			}
		}
	}
	v := lb.value.Get()
	if v.State.Code == types.LoadBalancerStateEnumProvisioning {
		left := s.config.Draws.Once(lb.either(profile.ProvisionALB, profile.ProvisionNLB), "lb/"+lb.name) - time.Since(deref(v.CreatedTime))
		s.after(max(0, left), func() []*node { return s.activate(lb) })
		return
	}
	for _, n := range lb.nodes {
		n.active = true
	}
	nodes := slices.Clone(lb.nodes)
	s.after(0, func() []*node { return nodes })
}

// resumeDraining lets a node drain the targets of a group that are about to leave.
func (s *Service) resumeDraining(n *node, g *targetGroup) {
	known := n.group(s, g.arn)
	for _, t := range g.targets {
		if !t.draining || !t.leaves.After(time.Now()) {
			continue
		}
		leaving := t.registration(dataplane.Draining)
		leaving.DrainUntil = t.leaves
		known.targets[t.key] = leaving
		number := n.balancer.changes
		n.lanes[targetLane(g.arn, t.key)] = number
		s.endDraining(n, g.arn, leaving, number)
	}
}

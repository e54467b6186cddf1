package elbv2

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// This file is what the sandbox may know and no AWS API tells.

// Balancer is a load balancer with the addresses of its nodes.
type Balancer struct {
	ARN, Name, DNSName string
	Active             bool
	Nodes              []Address
	// Ports of its listeners, sorted.
	Ports []uint16
	// ClientRouting is the attribute dns_record.client_routing_policy of a Network Load Balancer.
	ClientRouting string
}

// Address is where a node is in the VPC.
type Address struct {
	Zone    string
	Address netip.Addr
}

// Balancers lists all load balancers, sorted by name.
func (s *Service) Balancers() []Balancer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Balancer
	for _, lb := range s.balancers {
		v := lb.value.Get()
		b := Balancer{
			ARN: lb.arn, Name: lb.name, DNSName: *v.DNSName, Active: v.State.Code == types.LoadBalancerStateEnumActive,
			ClientRouting: lb.attributes["dns_record.client_routing_policy"],
		}
		for _, n := range lb.nodes {
			b.Nodes = append(b.Nodes, Address{Zone: n.zone, Address: n.address})
		}
		for _, l := range lb.listeners {
			b.Ports = append(b.Ports, uint16(*l.value.Get().Port))
		}
		slices.Sort(b.Ports)
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b Balancer) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Resolve answers for the DNS name of a load balancer: the addresses of its active nodes in zones with enough healthy
// targets, those of all zones if there is no such zone, nothing before the name is visible.
func (s *Service) Resolve(name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lb := range s.balancers {
		if !strings.EqualFold(*lb.value.Get().DNSName, strings.TrimSuffix(name, ".")) || time.Now().Before(lb.dnsVisible) {
			continue
		}
		var all, healthy []netip.Addr
		for _, n := range lb.nodes {
			if !n.active {
				continue
			}
			all = append(all, n.address)
			if s.zoneHealthy(lb, n.zone) {
				healthy = append(healthy, n.address)
			}
		}
		if len(healthy) == 0 {
			return all
		}
		return healthy
	}
	return nil
}

// zoneHealthy says whether a zone belongs into the answers of DNS: every group has enough healthy targets for it, those of
// all zones if the group uses them across zones.
func (s *Service) zoneHealthy(lb *loadBalancer, zone string) bool {
	for _, g := range s.targetGroups {
		if g.balancer != lb {
			continue
		}
		across := crossZone(g.attributes, lb.attributes)
		registered, healthy := 0, 0
		for _, t := range g.targets {
			if t.draining || t.zone != zone && t.zone != "all" && !across {
				continue
			}
			registered++
			if t.shown.State == types.TargetHealthStateEnumHealthy {
				healthy++
			}
		}
		const minimum = "target_group_health.dns_failover.minimum_healthy_targets."
		if registered == 0 || healthy < number(g.attributes[minimum+"count"]) || healthy*100 < registered*number(g.attributes[minimum+"percentage"]) {
			return false
		}
	}
	return true
}

// AppliedNode is what one node acts on at the moment.
type AppliedNode struct {
	LoadBalancer, Zone string
	Active             bool
	Listeners          []AppliedListener
	// Targets by target group, those that drain among them.
	Targets map[string][]dataplane.TargetKey
}

// AppliedListener is a listener as a node knows it.
type AppliedListener struct {
	ARN     string
	Port    uint16
	Actions map[string]dataplane.Action // by rule ARN; the listener's own action under its own ARN
}

// Applied says what each node of each load balancer has taken so far.
func (s *Service) Applied() []AppliedNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []AppliedNode
	for _, lb := range s.balancers {
		for _, n := range lb.everyNode() {
			list = append(list, n.applied())
		}
	}
	slices.SortFunc(list, func(a, b AppliedNode) int {
		return cmp.Or(cmp.Compare(a.LoadBalancer, b.LoadBalancer), cmp.Compare(a.Zone, b.Zone))
	})
	return list
}

func (n *node) applied() AppliedNode {
	out := AppliedNode{LoadBalancer: n.balancer.arn, Zone: n.zone, Active: n.active, Targets: map[string][]dataplane.TargetKey{}}
	for _, d := range n.listeners {
		l := AppliedListener{ARN: d.arn, Port: d.port, Actions: map[string]dataplane.Action{d.arn: dataplaneAction(d.actions)}}
		for _, r := range d.rules {
			l.Actions[*r.RuleArn] = dataplaneAction(r.Actions)
		}
		out.Listeners = append(out.Listeners, l)
	}
	slices.SortFunc(out.Listeners, func(a, b AppliedListener) int { return cmp.Compare(a.Port, b.Port) })
	for arn, g := range n.groups {
		for key := range g.targets {
			out.Targets[arn] = append(out.Targets[arn], key)
		}
		slices.SortFunc(out.Targets[arn], func(a, b dataplane.TargetKey) int {
			return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
		})
	}
	return out
}

// Stats are the counts of all nodes that carry traffic.
func (s *Service) Stats() []dataplane.Stats {
	s.mu.Lock()
	var nodes []*node
	for _, lb := range s.balancers {
		nodes = append(nodes, lb.everyNode()...)
	}
	s.mu.Unlock()
	var list []dataplane.Stats
	for _, n := range nodes {
		n.pushing.Lock()
		traffic := n.traffic
		n.pushing.Unlock()
		if traffic != nil {
			list = append(list, traffic.Stats())
		}
	}
	slices.SortFunc(list, func(a, b dataplane.Stats) int {
		return cmp.Or(cmp.Compare(a.LoadBalancer, b.LoadBalancer), cmp.Compare(a.Zone, b.Zone))
	})
	return list
}

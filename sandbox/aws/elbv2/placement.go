package elbv2

import (
	"cmp"
	"maps"
	"slices"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// SetSecurityGroups replaces the security groups of a load balancer.
func (s *Service) SetSecurityGroups(r eventual.Reader, in *elb.SetSecurityGroupsInput) (*elb.SetSecurityGroupsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	v := lb.value.Get()
	if !lb.application() {
		if len(v.SecurityGroups) == 0 && len(in.SecurityGroups) > 0 {
			return nil, wire.Errorf("InvalidConfigurationRequest", "Network load balancer '%s' was created without security groups, and cannot be given any", lb.name)
		}
		if len(v.SecurityGroups) > 0 && len(in.SecurityGroups) == 0 {
			return nil, wire.Errorf("InvalidConfigurationRequest", "Network load balancer '%s' has security groups, and cannot be left without", lb.name)
		}
	} else if len(in.SecurityGroups) == 0 {
		return nil, wire.Errorf("ValidationError", "At least one security group must be specified")
	}
	v.SecurityGroups = slices.Clone(in.SecurityGroups)
	if err := s.checkSecurityGroups(r, v); err != nil {
		return nil, err
	}
	out := &elb.SetSecurityGroupsOutput{SecurityGroupIds: v.SecurityGroups}
	if e := in.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic; e != "" && !slices.Contains(e.Values(), e) {
		return nil, invalidEnum("enforceSecurityGroupInboundRulesOnPrivateLinkTraffic", e)
	}
	if e := in.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic; e != "" {
		v.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic = new(string(e))
		out.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic = e
	}
	lb.value.Put(v)
	groups := v.SecurityGroups
	s.propagate(lb, change{key: profile.SetSecurityGroups, what: "SetSecurityGroups", lane: "security-groups", apply: func(n *node) {
		s.config.Network.SetBalancerGroups(n.networkInterface, groups)
	}})
	return out, nil
}

// SetSubnets replaces the zones of a load balancer. A new zone serves, and one that left ends, when the
// change has reached it.
func (s *Service) SetSubnets(r eventual.Reader, in *elb.SetSubnetsInput) (*elb.SetSubnetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	if lb.capacity.pending() {
		return nil, wire.Errorf("CapacityReservationPending", "The zones of load balancer '%s' cannot be changed while a capacity reservation is pending", lb.name)
	}
	v := lb.value.Get()
	placements, err := s.placements(r, v, in.Subnets, in.SubnetMappings)
	if err != nil {
		return nil, err
	}
	v.AvailabilityZones = shownZones(v.Type, placements)
	v.IpAddressType = cmp.Or(in.IpAddressType, v.IpAddressType)
	if err := s.checkAddressType(v, v.IpAddressType); err != nil {
		return nil, err
	}
	if v.EnablePrefixForIpv6SourceNat, err = checkSourceNAT(v, in.EnablePrefixForIpv6SourceNat); err != nil {
		return nil, err
	}
	if err := s.move(lb, v, placements); err != nil {
		return nil, err
	}
	lb.value.Put(v)
	if lb.capacity.units > 0 {
		s.reserve(lb, types.CapacityReservationStateEnumRebalancing)
	}
	return &elb.SetSubnetsOutput{AvailabilityZones: v.AvailabilityZones, IpAddressType: v.IpAddressType, EnablePrefixForIpv6SourceNat: v.EnablePrefixForIpv6SourceNat}, nil
}

// move makes nodes for subnets that are new and ends those of subnets that have left.
func (s *Service) move(lb *loadBalancer, v types.LoadBalancer, placements []placement) error {
	before := lb.nodes
	var kept, gone []*node
	for _, n := range lb.nodes {
		if slices.ContainsFunc(placements, func(p placement) bool { return p.subnet.ID == n.subnet }) {
			kept = append(kept, n)
		} else {
			gone = append(gone, n)
		}
	}
	lb.nodes = kept
	var added []*node
	for _, p := range placements {
		if slices.ContainsFunc(kept, func(n *node) bool { return n.subnet == p.subnet.ID }) {
			continue
		}
		if err := s.addNode(lb, v, p); err != nil {
			s.dropInterfaces(added)
			lb.nodes = before
			return unplaced(p, lb.name, err)
		}
		added = append(added, lb.nodes[len(lb.nodes)-1])
	}
	slices.SortFunc(lb.nodes, func(a, b *node) int { return cmp.Compare(a.zone, b.zone) })
	lb.leaving = append(lb.leaving, gone...)
	lb.changes++
	for _, n := range added {
		n.joined = true
		s.catchUp(n)
		s.after(s.config.Draws.PerNode(profile.SetSubnets, lb.event(), n.zone), func() []*node {
			n.active = !lb.deleted && lb.value.Get().State.Code == types.LoadBalancerStateEnumActive
			return []*node{n}
		})
	}
	for _, n := range gone {
		s.after(s.config.Draws.PerNode(profile.SetSubnets, lb.event(), n.zone), func() []*node {
			n.gone = true
			lb.leaving = slices.DeleteFunc(lb.leaving, func(other *node) bool { return other == n })
			go n.close()
			s.dropInterfaces([]*node{n})
			return nil
		})
	}
	var left []string
	for _, n := range gone {
		left = append(left, n.zone)
	}
	s.rezone(lb, left)
	return nil
}

// rezone looks again at which targets are in a zone of the load balancer, and forgets what the nodes of
// zones that were left have said of them.
func (s *Service) rezone(lb *loadBalancer, left []string) {
	for _, g := range s.targetGroups {
		if g.balancer != lb {
			continue
		}
		for _, t := range g.targets {
			maps.DeleteFunc(t.reports, func(zone string, _ dataplane.TargetHealth) bool { return slices.Contains(left, zone) })
			s.show(g, t)
		}
	}
	for _, n := range lb.nodes {
		for _, g := range n.groups {
			g.targetsChanged = true
		}
	}
	s.after(0, func() []*node { return lb.nodes })
	s.moveFront(lb)
}

// SetIpAddressType changes the address type. Nodes answer on IPv4 whatever it is.
func (s *Service) SetIpAddressType(r eventual.Reader, in *elb.SetIpAddressTypeInput) (*elb.SetIpAddressTypeOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	v := lb.value.Get()
	if err := s.checkAddressType(v, in.IpAddressType); err != nil {
		return nil, err
	}
	v.IpAddressType = in.IpAddressType
	lb.value.Put(v)
	return &elb.SetIpAddressTypeOutput{IpAddressType: v.IpAddressType}, nil
}

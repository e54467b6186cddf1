package elbv2

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// This file is where a load balancer can be: subnets, addresses in them, security groups.

// placement is one zone of a load balancer: a subnet and, for NLBs, the addresses that were asked for.
type placement struct {
	subnet  ec2.Subnet
	address netip.Addr
	// allocation is the id of an Elastic IP address, which is public.
	allocation string
	public     netip.Addr
	address6   netip.Addr
}

// placements validates subnets: one per zone, of one VPC (that of the load balancer, if it has one yet), at least two for an ALB.
func (s *Service) placements(r eventual.Reader, lb types.LoadBalancer, subnets []string, mappings []types.SubnetMapping) ([]placement, error) {
	if (len(subnets) == 0) == (len(mappings) == 0) {
		return nil, wire.Errorf("ValidationError", "Exactly one of 'subnets' and 'subnetMappings' must be specified")
	}
	for _, id := range subnets {
		mappings = append(mappings, types.SubnetMapping{SubnetId: new(id)})
	}
	zones, vpc := map[string]string{}, deref(lb.VpcId)
	var list []placement
	for _, m := range mappings {
		p, err := s.placement(r, lb, m)
		if err != nil {
			return nil, err
		}
		if other, taken := zones[p.subnet.Zone]; taken {
			return nil, wire.Errorf("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone: %s and %s", other, p.subnet.ID)
		}
		zones[p.subnet.Zone] = p.subnet.ID
		if vpc = cmp.Or(vpc, p.subnet.VPC); p.subnet.VPC != vpc {
			return nil, wire.Errorf("InvalidSubnet", "Subnet %s is in VPC %s, not %s: all subnets of a load balancer are in one VPC", p.subnet.ID, p.subnet.VPC, vpc)
		}
		list = append(list, p)
	}
	if lb.Type == types.LoadBalancerTypeEnumApplication && len(list) < 2 {
		return nil, wire.Errorf("ValidationError", "At least two subnets in two different Availability Zones must be specified")
	}
	if lb.Scheme == types.LoadBalancerSchemeEnumInternetFacing && !s.config.Network.HasGateway(vpc) {
		return nil, wire.Errorf("InvalidSubnet", "VPC %s has no internet gateway", vpc)
	}
	slices.SortFunc(list, func(a, b placement) int { return cmp.Compare(a.subnet.Zone, b.subnet.Zone) })
	return list, nil
}

func (s *Service) placement(r eventual.Reader, lb types.LoadBalancer, m types.SubnetMapping) (placement, error) {
	found, ok := s.config.Network.SubnetByID(deref(m.SubnetId))
	network, facing := lb.Type == types.LoadBalancerTypeEnumNetwork, lb.Scheme == types.LoadBalancerSchemeEnumInternetFacing
	switch {
	case !ok:
		return placement{}, wire.Errorf("SubnetNotFound", "The subnet ID '%s' does not exist", deref(m.SubnetId))
	case !network && (found.Prefix.Bits() > 27 || found.Free < 8):
		return placement{}, wire.Errorf("InvalidSubnet", "Not enough IP space available in %s. ELB requires at least 8 free IP addresses in each subnet.", found.ID)
	case m.AllocationId != nil && !(network && facing):
		return placement{}, wire.Errorf("InvalidConfigurationRequest", "AllocationId is for internet-facing network load balancers only")
	case m.PrivateIPv4Address != nil && (!network || facing):
		return placement{}, wire.Errorf("InvalidConfigurationRequest", "PrivateIPv4Address is for internal network load balancers only")
	case m.IPv6Address != nil && !network:
		return placement{}, wire.Errorf("InvalidConfigurationRequest", "IPv6Address is for network load balancers only")
	}
	p := placement{subnet: found, allocation: deref(m.AllocationId)}
	var err error
	if m.AllocationId != nil {
		elastic, ok := s.config.Network.AllocationByID(r, *m.AllocationId)
		if !ok {
			return placement{}, wire.Errorf("AllocationIdNotFound", "The allocation ID '%.60s' does not exist", *m.AllocationId)
		}
		p.public = elastic.Public
	}
	if m.PrivateIPv4Address != nil {
		if p.address, err = netip.ParseAddr(*m.PrivateIPv4Address); err != nil || !found.Prefix.Contains(p.address) {
			return placement{}, wire.Errorf("InvalidConfigurationRequest", "The private address '%.40s' is not in subnet %s", *m.PrivateIPv4Address, found.ID)
		}
	}
	if m.IPv6Address != nil {
		if p.address6, err = netip.ParseAddr(*m.IPv6Address); err != nil || !found.Prefix6.IsValid() || !found.Prefix6.Contains(p.address6) {
			return placement{}, wire.Errorf("InvalidConfigurationRequest", "The IPv6 address '%.60s' is not in subnet %s", *m.IPv6Address, found.ID)
		}
	}
	return p, nil
}

func shownZones(kind types.LoadBalancerTypeEnum, placements []placement) []types.AvailabilityZone {
	var zones []types.AvailabilityZone
	for _, p := range placements {
		z := types.AvailabilityZone{SubnetId: new(p.subnet.ID), ZoneName: new(p.subnet.Zone), LoadBalancerAddresses: []types.LoadBalancerAddress{}}
		one := types.LoadBalancerAddress{}
		if p.address.IsValid() {
			one.PrivateIPv4Address = new(p.address.String())
		}
		if p.allocation != "" {
			one.AllocationId, one.IpAddress = new(p.allocation), new(p.public.String())
		}
		if p.address6.IsValid() {
			one.IPv6Address = new(p.address6.String())
		}
		if kind == types.LoadBalancerTypeEnumNetwork && one != (types.LoadBalancerAddress{}) {
			z.LoadBalancerAddresses = append(z.LoadBalancerAddresses, one)
		}
		zones = append(zones, z)
	}
	return zones
}

// checkSecurityGroups says whether a load balancer can have its security groups.
func (s *Service) checkSecurityGroups(r eventual.Reader, lb types.LoadBalancer) error {
	if len(lb.SecurityGroups) > maxSecurityGroups {
		return wire.Errorf("InvalidConfigurationRequest", "A load balancer can have at most %d security groups, not %d", maxSecurityGroups, len(lb.SecurityGroups))
	}
	for _, id := range lb.SecurityGroups {
		if !s.config.Network.SecurityGroupExists(r, id) {
			return wire.Errorf("InvalidSecurityGroup", "Security group '%s' does not exist", id)
		}
		if !s.config.Network.SecurityGroupIn(r, *lb.VpcId, id) {
			return wire.Errorf("InvalidConfigurationRequest", "Security group '%s' is not in VPC '%s'", id, *lb.VpcId)
		}
	}
	return nil
}

package ec2

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// This file is what the load balancing service asks of the network.

// Subnet is a subnet as load balancing needs it.
type Subnet struct {
	ID, VPC, Zone string
	Prefix        netip.Prefix
	// Free is the number of addresses that are left.
	Free int
	// Public is true when its route table leads to an internet gateway.
	Public bool
}

// SubnetByID finds a subnet.
func (s *Service) SubnetByID(id string) (Subnet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.subnets[id]
	if n == nil {
		return Subnet{}, false
	}
	return Subnet{ID: id, VPC: *n.VpcId, Zone: *n.AvailabilityZone, Prefix: n.prefix, Free: int(n.free()), Public: n.public}, true
}

// SubnetOf finds the subnet to which an address belongs, used or not.
func (s *Service) SubnetOf(a netip.Addr) (Subnet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.subnets {
		if n.prefix.Contains(a) {
			return Subnet{ID: id, VPC: *n.VpcId, Zone: *n.AvailabilityZone, Prefix: n.prefix, Public: n.public}, true
		}
	}
	return Subnet{}, false
}

// VPC is the id of the only VPC, CIDR its block.
func (s *Service) VPC() string        { return *s.vpc.VpcId }
func (s *Service) CIDR() netip.Prefix { return s.config.CIDR }

// NodeSecurityGroup is the security group of all instances, DefaultSecurityGroup that of the VPC.
func (s *Service) NodeSecurityGroup() string    { return s.nodeGroup }
func (s *Service) DefaultSecurityGroup() string { return s.defaultGroup }

// SecurityGroupExists says whether r sees a security group.
func (s *Service) SecurityGroupExists(r eventual.Reader, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[id]
	return g != nil && g.Found(r)
}

// AddBalancerInterface makes the interface of a load balancer in a subnet, with a private address that
// the caller chooses or any. Kind network is that of NLBs.
func (s *Service) AddBalancerInterface(description, subnetID string, groups []string, network bool, address netip.Addr) (id string, a netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	home := s.subnets[subnetID]
	if home == nil {
		return "", netip.Addr{}, fmt.Errorf("there is no subnet %s", subnetID)
	}
	kind := types.NetworkInterfaceTypeInterface
	if network {
		kind = types.NetworkInterfaceTypeNetworkLoadBalancer
	}
	n, err := s.addInterface(interfaceSpec{name: description, description: description, subnet: home, groups: slices.Clone(groups), kind: kind, address: address})
	if err != nil {
		return "", netip.Addr{}, err
	}
	n.balancer, n.attachment = true, s.config.IDs.EC2("eni-attach", description)
	return n.id, n.primary, nil
}

// SetBalancerGroups replaces the security groups of a load balancer's interface.
func (s *Service) SetBalancerGroups(id string, groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.interfaces[id]; n != nil {
		n.groups = slices.Clone(groups)
		s.tellAll()
	}
}

// DropBalancerInterface ends a load balancer's interface.
func (s *Service) DropBalancerInterface(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.interfaces[id]; n != nil && n.balancer {
		s.dropInterface(n)
	}
}

// OwnedByBalancer says whether an address is a load balancer's own, which can be no target.
func (s *Service) OwnedByBalancer(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.byAddress[a]
	return n != nil && n.balancer
}

// SubnetHasIPv6 says whether a subnet has an IPv6 block.
func (s *Service) SubnetHasIPv6(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.subnets[id]
	return n != nil && slices.ContainsFunc(n.Ipv6CidrBlockAssociationSet, func(a types.SubnetIpv6CidrBlockAssociation) bool {
		return a.Ipv6CidrBlockState == nil || a.Ipv6CidrBlockState.State == types.SubnetCidrBlockStateCodeAssociated
	})
}

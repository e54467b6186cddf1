package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// This file is what the load balancing service asks of the network.

// Subnet is a subnet as load balancing needs it.
type Subnet struct {
	ID, VPC, Zone string
	Prefix        netip.Prefix
	// Prefix6 is the IPv6 block. Not valid: there is none.
	Prefix6 netip.Prefix
	// Free is the number of addresses that are left.
	Free int
	// Public is true when its route table leads to an internet gateway.
	Public bool
}

// SubnetByID finds a subnet.
func (s *Service) SubnetByID(id string) (Subnet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.subnets.get(id)
	if !ok {
		return Subnet{}, false
	}
	return s.forBalancing(n), true
}

func (s *Service) forBalancing(n *subnet) Subnet {
	return Subnet{
		ID: *n.SubnetId, VPC: *n.VpcId, Zone: *n.AvailabilityZone, Prefix: n.prefix, Prefix6: n.prefix6, Free: max(0, n.free()), Public: s.public(n),
	}
}

// SubnetOf finds the subnet to which an address belongs: that in which it is used, or else the VPC's that the service began with, or any other's.
func (s *Service) SubnetOf(a netip.Addr) (Subnet, bool) {
	s.mu.Lock()
	owner := s.owner(a)
	s.mu.Unlock()
	if owner != nil {
		return s.SubnetByID(owner.subnet)
	}
	if n, ok := s.SubnetIn(s.vpc, a); ok {
		return n, true
	}
	return s.subnetThat(func(n *subnet) bool { return n.contains(a) })
}

// SubnetIn finds the subnet of a VPC to which an address belongs, used or not.
func (s *Service) SubnetIn(vpc string, a netip.Addr) (Subnet, bool) {
	return s.subnetThat(func(n *subnet) bool { return *n.VpcId == vpc && n.contains(a) })
}

func (s *Service) subnetThat(is func(*subnet) bool) (Subnet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.subnets.first(is)
	if !ok {
		return Subnet{}, false
	}
	return s.forBalancing(n), true
}

func (n *subnet) contains(a netip.Addr) bool {
	return n.prefix.Contains(a) || n.prefix6.IsValid() && n.prefix6.Contains(a)
}

// VPC is the id of the VPC that the service began with, CIDR its block.
func (s *Service) VPC() string        { return s.vpc }
func (s *Service) CIDR() netip.Prefix { return s.config.CIDR }

// VPCExists says whether r sees a VPC.
func (s *Service) VPCExists(r eventual.Reader, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.vpcs.found(r, id)
	return ok
}

// HasGateway says whether a VPC has an internet gateway.
func (s *Service) HasGateway(vpc string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.gatewayOf(vpc)
	return ok
}

// NodeSecurityGroup is the security group of all instances, DefaultSecurityGroup that of the VPC.
func (s *Service) NodeSecurityGroup() string    { return s.nodeGroup }
func (s *Service) DefaultSecurityGroup() string { return s.defaultGroup }

// DefaultSecurityGroupOf is the default security group of a VPC; empty if there is no such VPC.
func (s *Service) DefaultSecurityGroupOf(vpc string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.vpcs.get(vpc)
	if !ok {
		return ""
	}
	return v.defaultGroup
}

// SecurityGroupExists says whether r sees a security group.
func (s *Service) SecurityGroupExists(r eventual.Reader, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.groups.found(r, id)
	return ok
}

// SecurityGroupIn says whether r sees a security group in a VPC.
func (s *Service) SecurityGroupIn(r eventual.Reader, vpc, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups.found(r, id)
	return ok && g.vpc == vpc
}

// Allocation is an Elastic IP address.
type Allocation struct {
	Public netip.Addr
	InUse  bool
}

// AllocationByID finds an Elastic IP address that r sees.
func (s *Service) AllocationByID(r eventual.Reader, id string) (Allocation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.addresses.found(r, id)
	if !ok {
		return Allocation{}, false
	}
	return Allocation{Public: a.public, InUse: a.association != ""}, true
}

// BalancerInterface is the interface of a load balancer in a subnet.
type BalancerInterface struct {
	Description, Subnet string
	Groups              []string
	// Network is true for NLBs.
	Network bool
	// Address is a private address that the caller chooses. Not valid: any.
	Address netip.Addr
	// Allocation is the id of an Elastic IP address that leads to it. May be empty.
	Allocation string
}

// AddBalancerInterface makes the interface of a load balancer. It fails if an address is not free.
func (s *Service) AddBalancerInterface(description, subnetID string, groups []string, network bool, address netip.Addr) (id string, a netip.Addr, err error) {
	return s.AddBalancer(BalancerInterface{Description: description, Subnet: subnetID, Groups: groups, Network: network, Address: address})
}

// AddBalancer makes the interface of a load balancer. It fails if an address is not free.
func (s *Service) AddBalancer(b BalancerInterface) (id string, a netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	home, ok := s.subnets.get(b.Subnet)
	if !ok {
		return "", netip.Addr{}, fmt.Errorf("there is no subnet %s", b.Subnet)
	}
	kind := types.NetworkInterfaceTypeInterface
	if b.Network {
		kind = types.NetworkInterfaceTypeNetworkLoadBalancer
	}
	spec := interfaceSpec{name: b.Description, description: b.Description, subnet: home, groups: slices.Clone(b.Groups), kind: kind, primary: b.Address}
	if err := spec.check(); err != nil {
		return "", netip.Addr{}, err
	}
	var elastic *address
	if b.Allocation != "" {
		if elastic, ok = s.addresses.get(b.Allocation); !ok || elastic.association != "" {
			return "", netip.Addr{}, fmt.Errorf("the Elastic IP address %s is not free", b.Allocation)
		}
	}
	n := s.newInterface(spec)
	n.balancer, n.check = true, false
	n.attachment = &attachment{id: s.config.IDs.EC2("eni-attach", b.Description), device: 1, since: time.Now().UTC()}
	s.interfaces.settle(n.id, n)
	if elastic != nil {
		s.associate(elastic, n.id, n.primary)
	}
	return n.id, n.primary, nil
}

// SetBalancerGroups replaces the security groups of a load balancer's interface.
func (s *Service) SetBalancerGroups(id string, groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.interfaces.get(id); ok {
		s.interfaces.settle(id, changed(n, func(n *networkInterface) { n.groups = slices.Clone(groups) }))
	}
}

// DropBalancerInterface ends a load balancer's interface. An Elastic IP address that led to it is free again.
func (s *Service) DropBalancerInterface(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.interfaces.get(id); ok && n.balancer {
		s.dropInterface(n)
	}
}

// SubnetHasIPv6 says whether a subnet has an IPv6 block.
func (s *Service) SubnetHasIPv6(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.subnets.get(id)
	return ok && n.prefix6.IsValid()
}

// OwnedByBalancer says whether an address is a load balancer's own, which can be no target.
func (s *Service) OwnedByBalancer(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.owner(a)
	return n != nil && n.balancer
}

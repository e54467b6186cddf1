package ec2

import (
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// publicBlock is where public addresses come from: a range for tests of devices, which leads nowhere.
var publicBlock = netip.MustParsePrefix("198.18.0.0/15")

// address is an Elastic IP address.
type address struct {
	id     string
	public netip.Addr
	// association is the id of that with a private address of an interface. Empty: it is free.
	association, networkInterface string
	private                       netip.Addr
}

// associatedWith is an Elastic IP address of an interface; nil if it has none.
func (s *Service) associatedWith(networkInterface string) *address {
	a, _ := s.addresses.first(func(a *address) bool { return a.networkInterface == networkInterface })
	return a
}

func (s *Service) associationFor(networkInterface string, private netip.Addr) *address {
	for _, a := range s.addresses.all {
		if a.networkInterface == networkInterface && a.private == private {
			return a
		}
	}
	return nil
}

// publicAddresses are those of an interface.
func (s *Service) publicAddresses(n *networkInterface) []string {
	var list []string
	for _, a := range n.all() {
		if shown := s.shownAssociation(n, a); shown != nil {
			list = append(list, *shown.PublicIp)
		}
	}
	return list
}

var addressKind = kind[*address]{
	id: func(a *address) string { return a.id }, ids: allocationID,
	filters: filters[*address]{
		"allocation-id":        func(_ *Service, a *address) []string { return given(a.id) },
		"association-id":       func(_ *Service, a *address) []string { return given(a.association) },
		"domain":               func(*Service, *address) []string { return []string{"vpc"} },
		"instance-id":          func(s *Service, a *address) []string { return one(s.shownAddress(a).InstanceId) },
		"network-border-group": func(s *Service, _ *address) []string { return given(s.config.Region) },
		"network-interface-id": func(_ *Service, a *address) []string { return given(a.networkInterface) },
		"network-interface-owner-id": func(s *Service, a *address) []string {
			return one(s.shownAddress(a).NetworkInterfaceOwnerId)
		},
		"private-ip-address": func(s *Service, a *address) []string { return one(s.shownAddress(a).PrivateIpAddress) },
		"public-ip":          func(_ *Service, a *address) []string { return given(a.public.String()) },
	},
}

// DescribeAddresses lists Elastic IP addresses.
func (s *Service) DescribeAddresses(r eventual.Reader, in *ec2.DescribeAddressesInput) (*ec2.DescribeAddressesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.addresses.visible(r)
	for _, public := range in.PublicIps {
		if !slices.ContainsFunc(all, func(a *address) bool { return a.public.String() == public }) {
			return nil, wire.Errorf("InvalidAddress.NotFound", "Address '%.40s' not found.", public)
		}
	}
	if len(in.PublicIps) > 0 {
		all = slices.DeleteFunc(all, func(a *address) bool { return !slices.Contains(in.PublicIps, a.public.String()) })
	}
	found, _, err := list(s, r, addressKind, all, query{ids: in.AllocationIds, filters: in.Filters})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeAddressesOutput{Addresses: []types.Address{}}
	for _, a := range found {
		shown := s.shownAddress(a)
		shown.Tags = s.tagList(r, a.id)
		out.Addresses = append(out.Addresses, shown)
	}
	return out, nil
}

func (s *Service) shownAddress(a *address) types.Address {
	out := types.Address{
		AllocationId: new(a.id), PublicIp: new(a.public.String()), Domain: types.DomainTypeVpc, PublicIpv4Pool: new("amazon"), NetworkBorderGroup: new(s.config.Region),
	}
	if a.association == "" {
		return out
	}
	out.AssociationId, out.NetworkInterfaceId, out.PrivateIpAddress = new(a.association), new(a.networkInterface), new(a.private.String())
	out.NetworkInterfaceOwnerId = new(s.config.AccountID)
	if n, ok := s.interfaces.get(a.networkInterface); ok {
		out.InstanceId, out.SubnetId = optional(n.attachedTo().instance), new(n.subnet)
	}
	return out
}

func (s *Service) allocateAddress(_ eventual.Reader, in *ec2.AllocateAddressInput) (func() *ec2.AllocateAddressOutput, error) {
	if in.Domain != "" && in.Domain != types.DomainTypeVpc {
		return nil, invalidValue("Value (%.20s) for parameter domain is invalid: only vpc is left", in.Domain)
	}
	var wanted netip.Addr
	if in.Address != nil {
		var err error
		if wanted, err = parseAddress(*in.Address); err != nil {
			return nil, err
		}
		if !s.publicPool.gives(wanted) || s.publicPool.used[wanted] {
			return nil, wire.Errorf("InvalidAddress.NotFound", "Address '%s' cannot be had", wanted)
		}
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeElasticIp)
	if err != nil {
		return nil, err
	}
	if s.addresses.count() >= s.config.Quotas.Addresses {
		return nil, exceeded("AddressLimitExceeded", "addresses", s.config.Quotas.Addresses)
	}
	return func() *ec2.AllocateAddressOutput {
		a := &address{id: s.config.IDs.EC2("eipalloc", ""), public: wanted}
		if wanted.IsValid() {
			s.publicPool.used[wanted] = true
		} else {
			a.public, _ = s.publicPool.take()
		}
		s.addresses.put(a.id, a)
		s.tags.settle(a.id, tags)
		return &ec2.AllocateAddressOutput{
			AllocationId: new(a.id), PublicIp: new(a.public.String()), Domain: types.DomainTypeVpc, PublicIpv4Pool: new("amazon"), NetworkBorderGroup: new(s.config.Region),
		}
	}, nil
}

// addressNamed finds an Elastic IP address by its allocation, or by itself.
func (s *Service) addressNamed(r eventual.Reader, allocation, public *string) (*address, error) {
	switch {
	case allocation != nil && public != nil:
		return nil, invalidCombination("You may specify public IP or allocation id, but not both in the same call")
	case public != nil:
		if a, ok := s.addresses.first(func(a *address) bool { return a.public.String() == *public }); ok {
			return a, nil
		}
		return nil, wire.Errorf("InvalidAddress.NotFound", "Address '%.40s' not found.", *public)
	}
	return find(r, allocationID, s.addresses, allocation, "allocationId")
}

func (s *Service) releaseAddress(r eventual.Reader, in *ec2.ReleaseAddressInput) (func() *ec2.ReleaseAddressOutput, error) {
	a, err := s.addressNamed(r, in.AllocationId, in.PublicIp)
	if err != nil {
		return nil, err
	}
	if a.association != "" {
		return nil, wire.Errorf("InvalidIPAddress.InUse", "Address %s is in use.", a.public)
	}
	return func() *ec2.ReleaseAddressOutput {
		s.publicPool.give(a.public)
		s.addresses.drop(a.id)
		s.tags.drop(a.id)
		return &ec2.ReleaseAddressOutput{}
	}, nil
}

func (s *Service) associateAddress(r eventual.Reader, in *ec2.AssociateAddressInput) (func() *ec2.AssociateAddressOutput, error) {
	a, err := s.addressNamed(r, in.AllocationId, in.PublicIp)
	if err != nil {
		return nil, err
	}
	n, err := s.toAssociate(r, in.InstanceId, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	private := n.primary
	if in.PrivateIpAddress != nil {
		if private, err = parseAddress(*in.PrivateIpAddress); err != nil {
			return nil, err
		}
		if !slices.Contains(n.all(), private) {
			return nil, invalidValue("Invalid value '%s' for privateIpAddress: it is not assigned to interface %s", private, n.id)
		}
	}
	if _, ok := s.gatewayOf(n.vpc); !ok {
		return nil, wire.Errorf("Gateway.NotAttached", "Network %s is not attached to any internet gateway", n.vpc)
	}
	other := s.associationFor(n.id, private)
	if !deref(in.AllowReassociation) && (a.association != "" && (a.networkInterface != n.id || a.private != private) || other != nil && other.id != a.id) {
		return nil, wire.Errorf("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", a.id, a.association)
	}
	return func() *ec2.AssociateAddressOutput {
		if other != nil && other.id != a.id {
			s.disassociate(other)
		}
		return &ec2.AssociateAddressOutput{AssociationId: new(s.associate(a, n.id, private))}
	}, nil
}

// toAssociate is the interface that an address is to lead to: one that is named, or the first of an instance.
func (s *Service) toAssociate(r eventual.Reader, instance, networkInterface *string) (*networkInterface, error) {
	switch {
	case networkInterface != nil && instance != nil:
		return nil, invalidCombination("You may specify instance ID or network interface ID, but not both")
	case networkInterface != nil:
		return s.mine(r, networkInterface)
	}
	m, err := find(r, instanceID, s.instances, instance, "instanceId")
	if err != nil {
		return nil, err
	}
	if len(m.interfaces) == 0 {
		return nil, wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a valid state for this operation.", *m.InstanceId)
	}
	n, _ := s.interfaces.get(m.interfaces[0])
	return n, nil
}

func (s *Service) associate(a *address, networkInterface string, private netip.Addr) string {
	association := s.config.IDs.EC2("eipassoc", "")
	s.addresses.put(a.id, changed(a, func(a *address) {
		a.association, a.networkInterface, a.private = association, networkInterface, private
	}))
	return association
}

func (s *Service) disassociate(a *address) {
	s.addresses.put(a.id, changed(a, func(a *address) { a.association, a.networkInterface, a.private = "", "", netip.Addr{} }))
}

func (s *Service) disassociateAddress(_ eventual.Reader, in *ec2.DisassociateAddressInput) (func() *ec2.DisassociateAddressOutput, error) {
	var a *address
	var ok bool
	switch {
	case in.AssociationId != nil:
		if a, ok = s.addresses.first(func(a *address) bool { return a.association == *in.AssociationId }); !ok || a.association == "" {
			return nil, wire.Errorf("InvalidAssociationID.NotFound", "The association ID '%.60s' does not exist", *in.AssociationId)
		}
	case in.PublicIp != nil:
		if a, ok = s.addresses.first(func(a *address) bool { return a.public.String() == *in.PublicIp }); !ok {
			return nil, wire.Errorf("InvalidAddress.NotFound", "Address '%.40s' not found.", *in.PublicIp)
		}
	default:
		return nil, missingParameter("associationId")
	}
	if n, ok := s.interfaces.get(a.networkInterface); ok && n.balancer {
		return nil, wire.Errorf("OperationNotPermitted", "You do not have permission to disassociate address %s, which %s uses", a.public, requester)
	}
	return func() *ec2.DisassociateAddressOutput {
		if a.association != "" {
			s.disassociate(a)
		}
		return &ec2.DisassociateAddressOutput{}
	}, nil
}

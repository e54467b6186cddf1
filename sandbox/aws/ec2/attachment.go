package ec2

import (
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

func (s *Service) attachNetworkInterface(r eventual.Reader, in *ec2.AttachNetworkInterfaceInput) (func() *ec2.AttachNetworkInterfaceOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	m, err := find(r, instanceID, s.instances, in.InstanceId, "instanceId")
	if err != nil {
		return nil, err
	}
	if in.DeviceIndex == nil {
		return nil, missingParameter("deviceIndex")
	}
	home := ""
	for _, id := range m.interfaces {
		other, _ := s.interfaces.get(id)
		home = other.zone
		if other.attachment.device == *in.DeviceIndex {
			return nil, invalidValue("Instance '%s' already has an interface attached at device index '%d'.", *m.InstanceId, *in.DeviceIndex)
		}
	}
	switch {
	case n.attachment != nil:
		return nil, wire.Errorf("InvalidNetworkInterface.InUse", "The network interface '%s' is in use: attachment %s.", n.id, n.attachment.id)
	case m.State.Name != types.InstanceStateNameRunning && m.State.Name != types.InstanceStateNameStopped:
		return nil, wire.Errorf("IncorrectState", "Instance '%s' is %s: interfaces can be attached to running and stopped ones", *m.InstanceId, m.State.Name)
	case n.zone != home || n.vpc != *m.VpcId:
		return nil, invalidCombination("You may not attach a network interface to an instance if they are not in the same availability zone and VPC")
	case len(m.interfaces) >= maxInterfaces:
		return nil, exceeded("AttachmentLimitExceeded", "interfaces of an instance", maxInterfaces)
	}
	return func() *ec2.AttachNetworkInterfaceOutput {
		a := &attachment{id: s.config.IDs.EC2("eni-attach", ""), instance: *m.InstanceId, device: *in.DeviceIndex, since: time.Now().UTC()}
		s.interfaces.put(n.id, changed(n, func(n *networkInterface) { n.attachment = a }))
		s.instances.put(*m.InstanceId, changed(m, func(m *instance) { m.interfaces = append(slices.Clip(m.interfaces), n.id) }))
		return &ec2.AttachNetworkInterfaceOutput{AttachmentId: new(a.id), NetworkCardIndex: new(int32(0))}
	}, nil
}

func (s *Service) detachNetworkInterface(_ eventual.Reader, in *ec2.DetachNetworkInterfaceInput) (func() *ec2.DetachNetworkInterfaceOutput, error) {
	id := deref(in.AttachmentId)
	if id == "" {
		return nil, missingParameter("attachmentId")
	}
	n, ok := s.interfaces.first(func(n *networkInterface) bool { return n.attachedTo().id == id })
	switch {
	case !ok:
		return nil, attachmentID.missing(id)
	case n.balancer:
		return nil, wire.Errorf("OperationNotPermitted", "You are not allowed to manage '%s', an attachment of %s", id, requester)
	case n.attachment.device == 0:
		return nil, wire.Errorf("OperationNotPermitted", "The network interface at device index 0 cannot be detached.")
	}
	return func() *ec2.DetachNetworkInterfaceOutput {
		s.detach(n)
		return &ec2.DetachNetworkInterfaceOutput{}
	}, nil
}

func (s *Service) detach(n *networkInterface) {
	m, _ := s.instances.get(n.attachment.instance)
	s.instances.put(*m.InstanceId, changed(m, func(m *instance) {
		m.interfaces = slices.DeleteFunc(slices.Clone(m.interfaces), func(id string) bool { return id == n.id })
	}))
	s.interfaces.put(n.id, changed(n, func(n *networkInterface) { n.attachment = nil }))
}

func (s *Service) assignPrivateIPAddresses(r eventual.Reader, in *ec2.AssignPrivateIpAddressesInput) (func() *ec2.AssignPrivateIpAddressesOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	count := int(deref(in.SecondaryPrivateIpAddressCount))
	switch {
	case len(in.Ipv4Prefixes) > 0 || in.Ipv4PrefixCount != nil:
		return nil, wire.Errorf("UnsupportedOperation", "The sandbox does not model prefixes of network interfaces")
	case (len(in.PrivateIpAddresses) > 0) == (count > 0) || count < 0:
		return nil, invalidCombination("Exactly one of PrivateIpAddresses and SecondaryPrivateIpAddressCount must be given")
	case len(n.all())+len(in.PrivateIpAddresses)+count > maxAddresses && !s.external(n):
		return nil, exceeded("PrivateIpAddressLimitExceeded", "private addresses of an interface", maxAddresses)
	}
	home, _ := s.subnets.get(n.subnet)
	var named []netip.Addr
	for _, text := range in.PrivateIpAddresses {
		a, err := parseAddress(text)
		if err != nil {
			return nil, err
		}
		owner, owned := s.interfaces.get(s.byAddress[place{n.vpc, a}])
		switch {
		case slices.Contains(n.secondary, a) || slices.Contains(named, a):
			continue // it is there already
		case owned && deref(in.AllowReassignment) && owner.primary != a && !owner.balancer && owner.subnet == n.subnet:
		default:
			if err := home.checkFree(a); err != nil {
				return nil, err
			}
		}
		named = append(named, a)
	}
	if home.free() < count {
		return nil, wire.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the request.", n.subnet)
	}
	return func() *ec2.AssignPrivateIpAddressesOutput {
		for _, a := range named {
			if owner, owned := s.interfaces.get(s.byAddress[place{n.vpc, a}]); owned {
				s.unassign(owner, []netip.Addr{a})
			}
			home.used[a] = true
		}
		added := append(named, s.taken(home, count)...)
		out := &ec2.AssignPrivateIpAddressesOutput{NetworkInterfaceId: new(n.id), AssignedPrivateIpAddresses: []types.AssignedPrivateIpAddress{}}
		for _, a := range added {
			s.byAddress[place{n.vpc, a}] = n.id
			out.AssignedPrivateIpAddresses = append(out.AssignedPrivateIpAddresses, types.AssignedPrivateIpAddress{PrivateIpAddress: new(a.String())})
		}
		s.interfaces.put(n.id, changed(n, func(n *networkInterface) { n.secondary = append(n.secondary, added...) }))
		return out
	}, nil
}

// external says whether an interface is that of an instance that a cluster runs, which may have more addresses than AWS would give it.
func (s *Service) external(n *networkInterface) bool {
	m, ok := s.instances.get(n.attachedTo().instance)
	return ok && m.external
}

// unassign takes secondary addresses from an interface.
func (s *Service) unassign(n *networkInterface, gone []netip.Addr) {
	home, _ := s.subnets.get(n.subnet)
	for _, a := range gone {
		home.give(a)
		delete(s.byAddress, place{n.vpc, a})
		if e := s.associationFor(n.id, a); e != nil {
			s.disassociate(e)
		}
	}
	s.interfaces.put(n.id, changed(n, func(n *networkInterface) {
		n.secondary = slices.DeleteFunc(slices.Clone(n.secondary), func(a netip.Addr) bool { return slices.Contains(gone, a) })
	}))
}

func (s *Service) unassignPrivateIPAddresses(r eventual.Reader, in *ec2.UnassignPrivateIpAddressesInput) (func() *ec2.UnassignPrivateIpAddressesOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if len(in.PrivateIpAddresses) == 0 {
		return nil, missingParameter("privateIpAddress")
	}
	var gone []netip.Addr
	for _, text := range in.PrivateIpAddresses {
		a, err := parseAddress(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(n.secondary, a) {
			return nil, invalidValue("Some of %v are not assigned to interface %s as secondary addresses", in.PrivateIpAddresses, n.id)
		}
		gone = append(gone, a)
	}
	return func() *ec2.UnassignPrivateIpAddressesOutput {
		s.unassign(n, gone)
		return &ec2.UnassignPrivateIpAddressesOutput{}
	}, nil
}

func (s *Service) assignIPv6Addresses(r eventual.Reader, in *ec2.AssignIpv6AddressesInput) (func() *ec2.AssignIpv6AddressesOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	count := int(deref(in.Ipv6AddressCount))
	if (len(in.Ipv6Addresses) > 0) == (count > 0) || count < 0 {
		return nil, invalidCombination("Exactly one of Ipv6Addresses and Ipv6AddressCount must be given")
	}
	home, _ := s.subnets.get(n.subnet)
	var named []netip.Addr
	for _, text := range in.Ipv6Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is6() {
			return nil, invalidValue("invalid value for parameter ipv6Address: '%.60s'", text)
		}
		named = append(named, a)
	}
	if err := home.check6(named); err != nil {
		return nil, err
	}
	if len(n.six)+len(named)+count > maxAddresses {
		return nil, exceeded("PrivateIpAddressLimitExceeded", "IPv6 addresses of an interface", maxAddresses)
	}
	return func() *ec2.AssignIpv6AddressesOutput {
		for _, a := range named {
			home.pool6.used[a] = true
		}
		added := append(named, taken(count, home.pool6.take)...)
		out := &ec2.AssignIpv6AddressesOutput{NetworkInterfaceId: new(n.id), AssignedIpv6Addresses: []string{}}
		for _, a := range added {
			out.AssignedIpv6Addresses = append(out.AssignedIpv6Addresses, a.String())
		}
		s.interfaces.put(n.id, changed(n, func(n *networkInterface) { n.six = append(slices.Clip(n.six), added...) }))
		return out
	}, nil
}

func (s *Service) unassignIPv6Addresses(r eventual.Reader, in *ec2.UnassignIpv6AddressesInput) (func() *ec2.UnassignIpv6AddressesOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if len(in.Ipv6Addresses) == 0 {
		return nil, missingParameter("ipv6Addresses")
	}
	var gone []netip.Addr
	for _, text := range in.Ipv6Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || !slices.Contains(n.six, a) {
			return nil, invalidValue("'%.60s' is not assigned to interface %s", text, n.id)
		}
		gone = append(gone, a)
	}
	return func() *ec2.UnassignIpv6AddressesOutput {
		home, _ := s.subnets.get(n.subnet)
		out := &ec2.UnassignIpv6AddressesOutput{NetworkInterfaceId: new(n.id), UnassignedIpv6Addresses: []string{}}
		for _, a := range gone {
			home.pool6.give(a)
			out.UnassignedIpv6Addresses = append(out.UnassignedIpv6Addresses, a.String())
		}
		s.interfaces.put(n.id, changed(n, func(n *networkInterface) {
			n.six = slices.DeleteFunc(slices.Clone(n.six), func(a netip.Addr) bool { return slices.Contains(gone, a) })
		}))
		return out
	}, nil
}

package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// networkInterface owns addresses and carries security groups. It is never changed in place.
type networkInterface struct {
	id, description, mac string
	vpc, subnet, zone    string
	groups               []string
	kind                 types.NetworkInterfaceType
	primary              netip.Addr
	secondary            []netip.Addr // only ever the newest version is appended to
	six                  []netip.Addr
	public               netip.Addr  // given at launch, ends with the instance. Not valid: none
	attachment           *attachment // nil: it is available
	balancer             bool        // owned by a load balancer
	check                bool        // of source and destination
}

// attachment is what an interface belongs to: an instance, or a load balancer, which has none.
type attachment struct {
	id, instance        string
	device              int32
	deleteOnTermination bool
	since               time.Time
}

func (n *networkInterface) addresses() []string {
	list := []string{n.primary.String()}
	for _, a := range n.secondary {
		list = append(list, a.String())
	}
	return list
}

func (n *networkInterface) all() []netip.Addr { return append([]netip.Addr{n.primary}, n.secondary...) }

func (n *networkInterface) attachedTo() attachment {
	if n.attachment == nil {
		return attachment{}
	}
	return *n.attachment
}

func (n *networkInterface) status() types.NetworkInterfaceStatus {
	if n.attachment == nil {
		return types.NetworkInterfaceStatusAvailable
	}
	return types.NetworkInterfaceStatusInUse
}

// interfaceSpec is an interface that is to be made.
type interfaceSpec struct {
	// name is that of the draw for its id.
	name, description string
	subnet            *subnet
	groups            []string
	kind              types.NetworkInterfaceType
	primary           netip.Addr // not valid: any
	secondary         []netip.Addr
	more, more6       int // of any addresses, besides those that are named
	six               []netip.Addr
	public            bool
}

// named are all addresses that the interface is to have and no others would do.
func (spec *interfaceSpec) named() []netip.Addr {
	named := slices.Concat(spec.secondary, spec.six)
	if spec.primary.IsValid() {
		named = append(named, spec.primary)
	}
	return named
}

// reserve takes the named addresses, so that none of them is given out as any.
func (spec *interfaceSpec) reserve() {
	for _, a := range spec.named() {
		if a.Is6() {
			spec.subnet.pool6.used[a] = true
		} else {
			spec.subnet.used[a] = true
		}
	}
}

// check says whether the subnet can give the addresses.
func (spec *interfaceSpec) check() error {
	named := spec.named()
	for i, a := range named {
		if slices.Contains(named[:i], a) {
			return invalidValue("Address %s is given twice", a)
		}
		if a.Is6() {
			continue // check6 looks at these
		}
		if err := spec.subnet.checkFree(a); err != nil {
			return err
		}
	}
	if spec.subnet.free() < 1+len(spec.secondary)+spec.more {
		return wire.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the request.", *spec.subnet.SubnetId)
	}
	if len(spec.six)+spec.more6 > 0 {
		return spec.subnet.check6(spec.six)
	}
	return nil
}

// checkFree says whether an address is one that the subnet can give.
func (n *subnet) checkFree(a netip.Addr) error {
	switch {
	case !n.gives(a):
		return invalidValue("Address %s does not fall within the subnet's address range", a)
	case n.used[a]:
		return wire.Errorf("InvalidIPAddress.InUse", "Address %s is in use.", a)
	}
	return nil
}

func (n *subnet) check6(named []netip.Addr) error {
	if !n.prefix6.IsValid() {
		return invalidCombination("Subnet '%s' has no IPv6 CIDR block", *n.SubnetId)
	}
	for _, a := range named {
		switch {
		case !n.pool6.gives(a):
			return invalidValue("Address %s does not fall within the subnet's address range", a)
		case n.pool6.used[a]:
			return wire.Errorf("InvalidIPAddress.InUse", "Address %s is in use.", a)
		}
	}
	return nil
}

// newInterface makes an interface that check has found possible. Somebody else puts it into the table.
func (s *Service) newInterface(spec interfaceSpec) *networkInterface {
	n := &networkInterface{
		id: s.config.IDs.EC2("eni", spec.name), description: spec.description, vpc: *spec.subnet.VpcId, subnet: *spec.subnet.SubnetId,
		zone: *spec.subnet.AvailabilityZone, groups: spec.groups, kind: spec.kind, check: true,
	}
	spec.reserve()
	if n.primary = spec.primary; !n.primary.IsValid() {
		n.primary, _ = s.take(spec.subnet)
	}
	n.secondary = append(slices.Clone(spec.secondary), s.taken(spec.subnet, spec.more)...)
	n.six = append(slices.Clone(spec.six), taken(spec.more6, spec.subnet.pool6.take)...)
	b := n.primary.As4()
	n.mac = fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
	if spec.public {
		n.public, _ = s.publicPool.take()
	}
	for _, a := range n.all() {
		s.byAddress[place{n.vpc, a}] = n.id
	}
	return n
}

// take gives out an address of a subnet. Where VPCs have the same blocks it is one that none of the others has, while there is one: packets are told
// apart by their addresses alone, and so are the places at which addresses are really served.
func (s *Service) take(home *subnet) (netip.Addr, bool) {
	if s.vpcs.count() == 1 {
		return home.pool.take()
	}
	return home.takeBut(func(a netip.Addr) bool { return s.owner(a) != nil })
}

// taken are some addresses of a subnet that has enough.
func (s *Service) taken(home *subnet, count int) []netip.Addr {
	return taken(count, func() (netip.Addr, bool) { return s.take(home) })
}

func taken(count int, take func() (netip.Addr, bool)) []netip.Addr {
	var list []netip.Addr
	for range count {
		if a, ok := take(); ok {
			list = append(list, a)
		}
	}
	return list
}

// dropInterface ends an interface, and frees its addresses.
func (s *Service) dropInterface(n *networkInterface) {
	home, _ := s.subnets.get(n.subnet)
	for _, a := range n.all() {
		home.give(a)
		delete(s.byAddress, place{n.vpc, a})
	}
	for _, a := range n.six {
		home.pool6.give(a)
	}
	s.publicPool.give(n.public)
	for _, a := range s.addresses.all {
		if a.networkInterface == n.id {
			s.disassociate(a)
		}
	}
	s.interfaces.drop(n.id)
	s.tags.drop(n.id)
	s.markRoutes(n.vpc, n.id, types.RouteStateBlackhole)
}

func (s *Service) createNetworkInterface(r eventual.Reader, in *ec2.CreateNetworkInterfaceInput) (func() *ec2.CreateNetworkInterfaceOutput, error) {
	home, err := find(r, subnetID, s.subnets, in.SubnetId, "subnetId")
	if err != nil {
		return nil, err
	}
	v, _ := s.vpcs.get(*home.VpcId)
	groups, err := s.groupsFor(r, v, in.Groups)
	if err != nil {
		return nil, err
	}
	kind := types.NetworkInterfaceTypeInterface
	if t := in.InterfaceType; t != "" && t != "interface" {
		if !slices.Contains(t.Values(), t) {
			return nil, invalidValue("Value (%.40s) for parameter InterfaceType is invalid", t)
		}
		kind = types.NetworkInterfaceType(t)
	}
	if len(in.Ipv4Prefixes)+len(in.Ipv6Prefixes) > 0 || in.Ipv4PrefixCount != nil || in.Ipv6PrefixCount != nil {
		return nil, wire.Errorf("UnsupportedOperation", "The sandbox does not model prefixes of network interfaces")
	}
	spec := interfaceSpec{description: deref(in.Description), subnet: home, groups: groups, kind: kind}
	if err := spec.addresses(addressRequest{in.PrivateIpAddress, in.PrivateIpAddresses, in.SecondaryPrivateIpAddressCount, in.Ipv6Addresses, in.Ipv6AddressCount}); err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeNetworkInterface)
	if err != nil {
		return nil, err
	}
	if s.interfaces.count() >= s.config.Quotas.NetworkInterfaces {
		return nil, exceeded("NetworkInterfaceLimitExceeded", "network interfaces", s.config.Quotas.NetworkInterfaces)
	}
	return func() *ec2.CreateNetworkInterfaceOutput {
		n := s.newInterface(spec)
		s.interfaces.put(n.id, n)
		s.tags.settle(n.id, tags)
		shown := s.shownInterface(n, tags)
		shown.Status = "pending"
		return &ec2.CreateNetworkInterfaceOutput{NetworkInterface: &shown, ClientToken: in.ClientToken}
	}, nil
}

// addressRequest is what requests say of the addresses of an interface.
type addressRequest struct {
	primary *string
	listed  []types.PrivateIpAddressSpecification
	more    *int32
	six     []types.InstanceIpv6Address
	more6   *int32
}

// addresses reads what addresses an interface is to have.
func (spec *interfaceSpec) addresses(q addressRequest) error {
	if q.primary != nil {
		a, err := parseAddress(*q.primary)
		if err != nil {
			return err
		}
		spec.primary = a
	}
	for _, one := range q.listed {
		a, err := parseAddress(deref(one.PrivateIpAddress))
		switch {
		case err != nil:
			return err
		case !deref(one.Primary):
			spec.secondary = append(spec.secondary, a)
		case spec.primary.IsValid() && spec.primary != a:
			return invalidCombination("Only one primary private IP address can be specified")
		default:
			spec.primary = a
		}
	}
	if q.more != nil && len(spec.secondary) > 0 {
		return invalidCombination("Secondary addresses can be named or counted, not both")
	}
	if q.more6 != nil && len(q.six) > 0 {
		return invalidCombination("IPv6 addresses can be named or counted, not both")
	}
	spec.more, spec.more6 = int(deref(q.more)), int(deref(q.more6))
	if spec.more < 0 || spec.more6 < 0 {
		return invalidValue("A number of addresses cannot be negative")
	}
	for _, one := range q.six {
		a, err := netip.ParseAddr(deref(one.Ipv6Address))
		if err != nil || !a.Is6() {
			return invalidValue("invalid value for parameter ipv6Address: '%.60s'", deref(one.Ipv6Address))
		}
		spec.six = append(spec.six, a)
	}
	if 1+len(spec.secondary)+spec.more > maxAddresses {
		return exceeded("PrivateIpAddressLimitExceeded", "private addresses of an interface", maxAddresses)
	}
	return spec.check()
}

func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return a, invalidValue("invalid value for parameter address: '%.60s'", text)
	}
	return a, nil
}

// Most that the largest instances have; how many a type has is not modelled.
const (
	maxAddresses  = 50 // of an interface
	maxInterfaces = 15 // of an instance
)

// mine finds an interface that its user may change: not one of a load balancer.
func (s *Service) mine(r eventual.Reader, id *string) (*networkInterface, error) {
	n, err := find(r, interfaceID, s.interfaces, id, "networkInterfaceId")
	if err != nil {
		return nil, err
	}
	if n.balancer {
		return nil, wire.Errorf("OperationNotPermitted", "You are not allowed to manage '%s', an interface of %s", n.id, requester)
	}
	return n, nil
}

func (s *Service) deleteNetworkInterface(r eventual.Reader, in *ec2.DeleteNetworkInterfaceInput) (func() *ec2.DeleteNetworkInterfaceOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if n.attachment != nil {
		return nil, wire.Errorf("InvalidNetworkInterface.InUse", "The network interface '%s' is in use: attachment %s.", n.id, n.attachment.id)
	}
	return func() *ec2.DeleteNetworkInterfaceOutput {
		s.dropInterface(n)
		return &ec2.DeleteNetworkInterfaceOutput{}
	}, nil
}

func (s *Service) modifyNetworkInterfaceAttribute(r eventual.Reader, in *ec2.ModifyNetworkInterfaceAttributeInput) (func() *ec2.ModifyNetworkInterfaceAttributeOutput, error) {
	n, err := s.mine(r, in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	asked := 0
	for _, given := range []bool{in.Description != nil, in.Groups != nil, in.SourceDestCheck != nil, in.Attachment != nil} {
		if given {
			asked++
		}
	}
	if asked != 1 {
		return nil, invalidCombination("Exactly one attribute can be changed: description, groups, sourceDestCheck or attachment")
	}
	next := *n
	switch {
	case in.Description != nil:
		next.description = deref(in.Description.Value)
	case in.SourceDestCheck != nil:
		next.check = deref(in.SourceDestCheck.Value)
	case in.Groups != nil:
		v, _ := s.vpcs.get(n.vpc)
		if next.groups, err = s.groupsFor(r, v, in.Groups); err != nil {
			return nil, err
		}
	default:
		if n.attachment == nil || deref(in.Attachment.AttachmentId) != n.attachment.id {
			return nil, attachmentID.missing(deref(in.Attachment.AttachmentId))
		}
		next.attachment = changed(n.attachment, func(a *attachment) { a.deleteOnTermination = deref(in.Attachment.DeleteOnTermination) })
	}
	return func() *ec2.ModifyNetworkInterfaceAttributeOutput {
		s.interfaces.put(n.id, &next)
		return &ec2.ModifyNetworkInterfaceAttributeOutput{}
	}, nil
}

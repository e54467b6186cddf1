package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// networkInterface owns addresses and carries security groups.
type networkInterface struct {
	id, description, mac string
	subnet               *subnet
	groups               []string
	kind                 types.NetworkInterfaceType
	primary              netip.Addr
	secondary            []netip.Addr
	instance, attachment string
	balancer             bool // owned by a load balancer
}

type interfaceSpec struct {
	name, description string
	subnet            *subnet
	groups            []string
	kind              types.NetworkInterfaceType
	address           netip.Addr // zero: any
}

func (s *Service) addInterface(spec interfaceSpec) (*networkInterface, error) {
	a := spec.address
	if a.IsValid() {
		if !spec.subnet.prefix.Contains(a) || spec.subnet.used[a] {
			return nil, fmt.Errorf("address %s is not free in subnet %s", a, *spec.subnet.SubnetId)
		}
		spec.subnet.used[a] = true
	} else {
		var ok bool
		if a, ok = spec.subnet.take(); !ok {
			return nil, fmt.Errorf("subnet %s has no free address", *spec.subnet.SubnetId)
		}
	}
	b := a.As4()
	n := &networkInterface{
		id: s.config.IDs.EC2("eni", spec.name), description: spec.description, subnet: spec.subnet, groups: spec.groups,
		kind: spec.kind, primary: a, mac: fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]),
	}
	s.interfaces[n.id] = n
	s.byAddress[a] = n
	s.readdressed(n)
	return n, nil
}

func (s *Service) dropInterface(n *networkInterface) {
	for _, a := range append([]netip.Addr{n.primary}, n.secondary...) {
		n.subnet.give(a)
		delete(s.byAddress, a)
	}
	delete(s.interfaces, n.id)
	delete(s.tags, n.id)
	s.readdressed(n)
}

func (s *Service) interfacesOf(instance string) []*networkInterface {
	// An instance has one interface: the one that owns its private address.
	machine := s.instances[instance]
	if machine == nil {
		return nil
	}
	a, err := netip.ParseAddr(deref(machine.PrivateIpAddress))
	if err != nil || s.byAddress[a] == nil {
		return nil
	}
	return []*networkInterface{s.byAddress[a]}
}

func (n *networkInterface) addresses() []string {
	list := []string{n.primary.String()}
	for _, a := range n.secondary {
		list = append(list, a.String())
	}
	return list
}

// DescribeNetworkInterfaces lists interfaces, those of load balancers among them.
func (s *Service) DescribeNetworkInterfaces(_ eventual.Reader, in *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := find(s.interfaceKind(), s.candidates(in.Filters), s.tags, query{in.NetworkInterfaceIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeNetworkInterfacesOutput{NextToken: next, NetworkInterfaces: []types.NetworkInterface{}}
	for _, n := range found {
		out.NetworkInterfaces = append(out.NetworkInterfaces, s.shownInterface(n))
	}
	return out, nil
}

// candidates are the interfaces to be filtered. A search for addresses, which controllers make for many pods at
// a time, looks only at the interfaces that own them.
func (s *Service) candidates(filters []types.Filter) []*networkInterface {
	var all []*networkInterface
	for _, f := range filters {
		if deref(f.Name) != "addresses.private-ip-address" || strings.ContainsAny(strings.Join(f.Values, ""), "*?") {
			continue
		}
		for _, v := range f.Values {
			if a, err := netip.ParseAddr(v); err == nil && s.byAddress[a] != nil && !slices.Contains(all, s.byAddress[a]) {
				all = append(all, s.byAddress[a])
			}
		}
		return all
	}
	for _, n := range s.interfaces {
		all = append(all, n)
	}
	return all
}

func (s *Service) shownInterface(n *networkInterface) types.NetworkInterface {
	out := types.NetworkInterface{
		NetworkInterfaceId: new(n.id), Description: new(n.description), MacAddress: new(n.mac), InterfaceType: n.kind,
		SubnetId: n.subnet.SubnetId, VpcId: s.vpc.VpcId, AvailabilityZone: n.subnet.AvailabilityZone, OwnerId: new(s.config.AccountID),
		Groups: s.groupIdentifiers(n.groups), PrivateIpAddress: new(n.primary.String()), PrivateDnsName: new(s.privateName(n.primary)),
		PrivateIpAddresses: s.privateAddresses(n), Ipv6Addresses: []types.NetworkInterfaceIpv6Address{},
		RequesterManaged: new(n.balancer), SourceDestCheck: new(!n.balancer), Status: types.NetworkInterfaceStatusInUse, TagSet: s.tagList(n.id),
	}
	if n.balancer {
		out.RequesterId = new("amazon-elb")
	}
	out.Attachment = &types.NetworkInterfaceAttachment{Status: types.AttachmentStatusAttached, AttachmentId: new(n.attachment), DeviceIndex: new(int32(0))}
	if n.instance != "" {
		out.Attachment.InstanceId, out.Attachment.InstanceOwnerId = new(n.instance), new(s.config.AccountID)
	} else {
		out.Attachment.InstanceOwnerId = new("amazon-elb")
	}
	return out
}

func (s *Service) privateAddresses(n *networkInterface) []types.NetworkInterfacePrivateIpAddress {
	list := []types.NetworkInterfacePrivateIpAddress{}
	for i, text := range n.addresses() {
		list = append(list, types.NetworkInterfacePrivateIpAddress{Primary: new(i == 0), PrivateIpAddress: new(text)})
	}
	return list
}

// instanceInterface is the interface as DescribeInstances shows it.
func (s *Service) instanceInterface(n *networkInterface) types.InstanceNetworkInterface {
	out := types.InstanceNetworkInterface{
		NetworkInterfaceId: new(n.id), Description: new(n.description), MacAddress: new(n.mac), InterfaceType: new(string(n.kind)),
		SubnetId: n.subnet.SubnetId, VpcId: s.vpc.VpcId, OwnerId: new(s.config.AccountID), Groups: s.groupIdentifiers(n.groups),
		PrivateIpAddress: new(n.primary.String()), Status: types.NetworkInterfaceStatusInUse, Ipv6Addresses: []types.InstanceIpv6Address{},
		Attachment: &types.InstanceNetworkInterfaceAttachment{AttachmentId: new(n.attachment), DeviceIndex: new(int32(0)), Status: types.AttachmentStatusAttached},
	}
	for i, text := range n.addresses() {
		out.PrivateIpAddresses = append(out.PrivateIpAddresses, types.InstancePrivateIpAddress{Primary: new(i == 0), PrivateIpAddress: new(text)})
	}
	return out
}

func (s *Service) groupIdentifiers(ids []string) []types.GroupIdentifier {
	list := []types.GroupIdentifier{}
	for _, id := range ids {
		if g := s.groups[id]; g != nil {
			list = append(list, types.GroupIdentifier{GroupId: new(id), GroupName: new(g.Get().name)})
		}
	}
	return list
}

func (s *Service) interfaceKind() kind[*networkInterface] {
	return kind[*networkInterface]{
		id:       func(n *networkInterface) string { return n.id },
		notFound: "InvalidNetworkInterfaceID.NotFound", malformed: "InvalidNetworkInterfaceId.Malformed", prefix: "eni-", idsExcludePages: true,
		filters: map[string]func(*networkInterface) []string{
			"addresses.private-ip-address": (*networkInterface).addresses,
			"addresses.primary": func(n *networkInterface) []string {
				if len(n.secondary) > 0 {
					return []string{"true", "false"}
				}
				return []string{"true"}
			},
			"ipv6-addresses.ipv6-address": func(*networkInterface) []string { return nil },
			"attachment.instance-id":      func(n *networkInterface) []string { return []string{n.instance} },
			"attachment.status":           func(*networkInterface) []string { return []string{"attached"} },
			"availability-zone":           func(n *networkInterface) []string { return one(n.subnet.AvailabilityZone) },
			"description":                 func(n *networkInterface) []string { return []string{n.description} },
			"group-id":                    func(n *networkInterface) []string { return n.groups },
			"interface-type":              func(n *networkInterface) []string { return []string{string(n.kind)} },
			"mac-address":                 func(n *networkInterface) []string { return []string{n.mac} },
			"network-interface-id":        func(n *networkInterface) []string { return []string{n.id} },
			"owner-id":                    func(*networkInterface) []string { return []string{s.config.AccountID} },
			"private-dns-name":            func(n *networkInterface) []string { return []string{s.privateName(n.primary)} },
			"private-ip-address":          func(n *networkInterface) []string { return []string{n.primary.String()} },
			"requester-id": func(n *networkInterface) []string {
				if n.balancer {
					return []string{"amazon-elb"}
				}
				return nil
			},
			"requester-managed": func(n *networkInterface) []string { return []string{strconv.FormatBool(n.balancer)} },
			"status":            func(*networkInterface) []string { return []string{"in-use"} },
			"subnet-id":         func(n *networkInterface) []string { return one(n.subnet.SubnetId) },
			"vpc-id":            func(*networkInterface) []string { return one(s.vpc.VpcId) },
		},
	}
}

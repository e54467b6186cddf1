package ec2

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// This file is what the API shows of network interfaces.

var interfaceKind = kind[*networkInterface]{
	id: func(n *networkInterface) string { return n.id }, ids: interfaceID, idsExcludePages: true,
	filters: filters[*networkInterface]{
		"addresses.private-ip-address": func(_ *Service, n *networkInterface) []string { return n.addresses() },
		"addresses.primary": func(_ *Service, n *networkInterface) []string {
			if len(n.secondary) > 0 {
				return []string{"true", "false"}
			}
			return []string{"true"}
		},
		"addresses.association.public-ip": func(s *Service, n *networkInterface) []string { return s.publicAddresses(n) },
		"association.public-ip":           func(s *Service, n *networkInterface) []string { return s.publicAddresses(n) },
		"association.allocation-id": func(s *Service, n *networkInterface) []string {
			if a := s.associatedWith(n.id); a != nil {
				return given(a.id)
			}
			return nil
		},
		"ipv6-addresses.ipv6-address": func(_ *Service, n *networkInterface) []string {
			return each(n.six, func(a netip.Addr) []string { return given(a.String()) })
		},
		"attachment.attachment-id": func(_ *Service, n *networkInterface) []string { return given(n.attachedTo().id) },
		"attachment.instance-id":   func(_ *Service, n *networkInterface) []string { return given(n.attachedTo().instance) },
		"attachment.device-index": func(_ *Service, n *networkInterface) []string {
			if n.attachment == nil {
				return nil
			}
			return given(strconv.Itoa(int(n.attachment.device)))
		},
		"attachment.status": func(_ *Service, n *networkInterface) []string {
			if n.attachment == nil {
				return nil
			}
			return []string{"attached"}
		},
		"availability-zone":    func(_ *Service, n *networkInterface) []string { return given(n.zone) },
		"description":          func(_ *Service, n *networkInterface) []string { return given(n.description) },
		"group-id":             func(_ *Service, n *networkInterface) []string { return n.groups },
		"interface-type":       func(_ *Service, n *networkInterface) []string { return given(string(n.kind)) },
		"mac-address":          func(_ *Service, n *networkInterface) []string { return given(n.mac) },
		"network-interface-id": func(_ *Service, n *networkInterface) []string { return given(n.id) },
		"owner-id":             func(s *Service, _ *networkInterface) []string { return given(s.config.AccountID) },
		"private-dns-name":     func(s *Service, n *networkInterface) []string { return given(s.privateName(n.primary)) },
		"private-ip-address":   func(_ *Service, n *networkInterface) []string { return given(n.primary.String()) },
		"requester-id": func(_ *Service, n *networkInterface) []string {
			if n.balancer {
				return []string{requester}
			}
			return nil
		},
		"requester-managed": func(_ *Service, n *networkInterface) []string { return given(strconv.FormatBool(n.balancer)) },
		"source-dest-check": func(_ *Service, n *networkInterface) []string { return given(strconv.FormatBool(n.check)) },
		"status":            func(_ *Service, n *networkInterface) []string { return given(string(n.status())) },
		"subnet-id":         func(_ *Service, n *networkInterface) []string { return given(n.subnet) },
		"vpc-id":            func(_ *Service, n *networkInterface) []string { return given(n.vpc) },
	},
}

// requester makes the interfaces of load balancers.
const requester = "amazon-elb"

// DescribeNetworkInterfaces lists interfaces, those of load balancers among them.
func (s *Service) DescribeNetworkInterfaces(r eventual.Reader, in *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := list(s, r, interfaceKind, s.candidates(r, in.Filters), query{in.NetworkInterfaceIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeNetworkInterfacesOutput{NextToken: next, NetworkInterfaces: []types.NetworkInterface{}}
	for _, n := range found {
		out.NetworkInterfaces = append(out.NetworkInterfaces, s.shownInterface(n, s.tagsOf(r, n.id)))
	}
	return out, nil
}

// candidates are the interfaces to be filtered. A search for addresses, which controllers make for many pods at
// a time, looks only at the interfaces that own them.
func (s *Service) candidates(r eventual.Reader, filters []types.Filter) []*networkInterface {
	for _, f := range filters {
		if deref(f.Name) != "addresses.private-ip-address" || strings.ContainsAny(strings.Join(f.Values, ""), `*?\`) {
			continue
		}
		var all []*networkInterface
		taken := map[string]bool{}
		for _, v := range f.Values {
			a, err := netip.ParseAddr(v)
			if err != nil {
				continue
			}
			for vpc := range s.vpcs.all {
				id := s.byAddress[place{vpc, a}]
				if value := s.interfaces.values[id]; value != nil && !taken[id] {
					taken[id] = true
					if n, ok := value.Read(r); ok {
						all = append(all, n)
					}
				}
			}
		}
		return all
	}
	return s.interfaces.visible(r)
}

func (s *Service) shownInterface(n *networkInterface, tags map[string]string) types.NetworkInterface {
	out := types.NetworkInterface{
		NetworkInterfaceId: new(n.id), Description: new(n.description), MacAddress: new(n.mac), InterfaceType: n.kind,
		SubnetId: new(n.subnet), VpcId: new(n.vpc), AvailabilityZone: new(n.zone), AvailabilityZoneId: new(s.zoneIDOf(n.zone)), OwnerId: new(s.config.AccountID),
		Groups: s.groupIdentifiers(n.groups), PrivateIpAddress: new(n.primary.String()), PrivateDnsName: new(s.privateName(n.primary)),
		PrivateIpAddresses: []types.NetworkInterfacePrivateIpAddress{}, Ipv6Addresses: []types.NetworkInterfaceIpv6Address{},
		RequesterManaged: new(n.balancer), SourceDestCheck: new(n.check), Status: n.status(), TagSet: tagList(tags), Association: s.shownAssociation(n, n.primary),
	}
	for i, a := range n.all() {
		out.PrivateIpAddresses = append(out.PrivateIpAddresses, types.NetworkInterfacePrivateIpAddress{
			Primary: new(i == 0), PrivateIpAddress: new(a.String()), PrivateDnsName: new(s.privateName(a)), Association: s.shownAssociation(n, a),
		})
	}
	for _, a := range n.six {
		out.Ipv6Addresses = append(out.Ipv6Addresses, types.NetworkInterfaceIpv6Address{Ipv6Address: new(a.String())})
	}
	if n.balancer {
		out.RequesterId = new(requester)
	}
	if a := n.attachment; a != nil {
		out.Attachment = &types.NetworkInterfaceAttachment{
			AttachmentId: new(a.id), Status: types.AttachmentStatusAttached, DeviceIndex: new(a.device), NetworkCardIndex: new(int32(0)),
			DeleteOnTermination: new(a.deleteOnTermination), AttachTime: new(a.since), InstanceId: optional(a.instance), InstanceOwnerId: new(s.config.AccountID),
		}
		if n.balancer {
			out.Attachment.InstanceOwnerId = new(requester)
		}
	}
	return out
}

func (s *Service) shownAssociation(n *networkInterface, private netip.Addr) *types.NetworkInterfaceAssociation {
	if a := s.associationFor(n.id, private); a != nil {
		return &types.NetworkInterfaceAssociation{
			AllocationId: new(a.id), AssociationId: new(a.association), PublicIp: new(a.public.String()), PublicDnsName: new(s.publicName(a.public)),
			IpOwnerId: new(s.config.AccountID),
		}
	}
	if n.public.IsValid() && private == n.primary {
		return &types.NetworkInterfaceAssociation{PublicIp: new(n.public.String()), PublicDnsName: new(s.publicName(n.public)), IpOwnerId: new("amazon")}
	}
	return nil
}

func (s *Service) groupIdentifiers(ids []string) []types.GroupIdentifier {
	list := []types.GroupIdentifier{}
	for _, id := range ids {
		if g, ok := s.groups.get(id); ok {
			list = append(list, types.GroupIdentifier{GroupId: new(id), GroupName: new(g.name)})
		}
	}
	return list
}

func (s *Service) privateName(a netip.Addr) string {
	return "ip-" + strings.ReplaceAll(a.String(), ".", "-") + "." + s.config.Region + ".compute.internal"
}

func (s *Service) publicName(a netip.Addr) string {
	return "ec2-" + strings.ReplaceAll(a.String(), ".", "-") + "." + s.config.Region + ".compute.amazonaws.com"
}

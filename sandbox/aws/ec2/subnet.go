package ec2

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// subnet is a subnet and who has which of its addresses.
type subnet struct {
	types.Subnet
	prefix  netip.Prefix
	prefix6 netip.Prefix // not valid: none
	*pool                // shared by all versions of the subnet, like pool6
	pool6   *pool
}

var subnetKind = kind[*subnet]{
	id: func(n *subnet) string { return *n.SubnetId }, ids: subnetID,
	filters: filters[*subnet]{
		"availability-zone":          func(_ *Service, n *subnet) []string { return one(n.AvailabilityZone) },
		"availabilityZone":           func(_ *Service, n *subnet) []string { return one(n.AvailabilityZone) },
		"availability-zone-id":       func(_ *Service, n *subnet) []string { return one(n.AvailabilityZoneId) },
		"availabilityZoneId":         func(_ *Service, n *subnet) []string { return one(n.AvailabilityZoneId) },
		"available-ip-address-count": func(_ *Service, n *subnet) []string { return given(strconv.Itoa(n.free())) },
		"cidr-block":                 func(_ *Service, n *subnet) []string { return one(n.CidrBlock) },
		"cidr":                       func(_ *Service, n *subnet) []string { return one(n.CidrBlock) },
		"cidrBlock":                  func(_ *Service, n *subnet) []string { return one(n.CidrBlock) },
		"default-for-az":             func(_ *Service, n *subnet) []string { return given(strconv.FormatBool(*n.DefaultForAz)) },
		"defaultForAz":               func(_ *Service, n *subnet) []string { return given(strconv.FormatBool(*n.DefaultForAz)) },
		"ipv6-cidr-block-association.ipv6-cidr-block": func(_ *Service, n *subnet) []string {
			return each(n.Ipv6CidrBlockAssociationSet, func(a types.SubnetIpv6CidrBlockAssociation) []string { return one(a.Ipv6CidrBlock) })
		},
		"ipv6-cidr-block-association.association-id": func(_ *Service, n *subnet) []string {
			return each(n.Ipv6CidrBlockAssociationSet, func(a types.SubnetIpv6CidrBlockAssociation) []string { return one(a.AssociationId) })
		},
		"ipv6-cidr-block-association.state": func(_ *Service, n *subnet) []string {
			return each(n.Ipv6CidrBlockAssociationSet, func(a types.SubnetIpv6CidrBlockAssociation) []string {
				return given(string(a.Ipv6CidrBlockState.State))
			})
		},
		"ipv6-native":             func(_ *Service, n *subnet) []string { return given(strconv.FormatBool(*n.Ipv6Native)) },
		"map-public-ip-on-launch": func(_ *Service, n *subnet) []string { return given(strconv.FormatBool(*n.MapPublicIpOnLaunch)) },
		"outpost-arn":             func(_ *Service, n *subnet) []string { return one(n.OutpostArn) },
		"owner-id":                func(_ *Service, n *subnet) []string { return one(n.OwnerId) },
		"state":                   func(_ *Service, n *subnet) []string { return given(string(n.State)) },
		"subnet-arn":              func(_ *Service, n *subnet) []string { return one(n.SubnetArn) },
		"subnet-id":               func(_ *Service, n *subnet) []string { return one(n.SubnetId) },
		"vpc-id":                  func(_ *Service, n *subnet) []string { return one(n.VpcId) },
	},
}

// DescribeSubnets lists subnets.
func (s *Service) DescribeSubnets(r eventual.Reader, in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := list(s, r, subnetKind, s.subnets.visible(r), query{in.SubnetIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeSubnetsOutput{NextToken: next, Subnets: []types.Subnet{}}
	for _, n := range found {
		out.Subnets = append(out.Subnets, n.shown(s.tagsOf(r, *n.SubnetId)))
	}
	return out, nil
}

func (n *subnet) shown(tags map[string]string) types.Subnet {
	shown := n.Subnet
	shown.AvailableIpAddressCount = new(int32(n.free()))
	shown.Tags = tagList(tags)
	return shown
}

// newSubnet makes a subnet without tags. The name is that of the draw for its id.
func (s *Service) newSubnet(name string, v *vpc, zone string, block netip.Prefix) *subnet {
	id := s.config.IDs.EC2("subnet", name)
	return &subnet{
		Subnet: types.Subnet{
			SubnetId: new(id), VpcId: v.VpcId, CidrBlock: new(block.String()), OwnerId: new(s.config.AccountID), State: types.SubnetStateAvailable,
			AvailabilityZone: new(zone), AvailabilityZoneId: new(s.zoneIDOf(zone)), SubnetArn: new(s.arn("subnet", id)),
			MapPublicIpOnLaunch: new(false), DefaultForAz: new(false), Ipv6Native: new(false), EnableDns64: new(false),
			MapCustomerOwnedIpOnLaunch: new(false), AssignIpv6AddressOnCreation: new(false), Ipv6CidrBlockAssociationSet: []types.SubnetIpv6CidrBlockAssociation{},
			PrivateDnsNameOptionsOnLaunch: &types.PrivateDnsNameOptionsOnLaunch{
				HostnameType: types.HostnameTypeIpName, EnableResourceNameDnsARecord: new(false), EnableResourceNameDnsAAAARecord: new(false),
			},
		},
		prefix: block, pool: newPool(block),
	}
}

func (s *Service) createSubnet(r eventual.Reader, in *ec2.CreateSubnetInput) (func() *ec2.CreateSubnetOutput, error) {
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	if in.CidrBlock == nil {
		return nil, missingParameter("cidrBlock")
	}
	block, err := networkBlock(*in.CidrBlock, 16, 28, "InvalidSubnet.Range")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(v.prefixes, func(p netip.Prefix) bool { return p.Bits() <= block.Bits() && p.Contains(block.Addr()) }) {
		return nil, wire.Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid: it is not within the blocks of VPC '%s'.", block, *v.VpcId)
	}
	others := 0
	for _, n := range s.subnets.all {
		if *n.VpcId != *v.VpcId {
			continue
		}
		others++
		if n.prefix.Overlaps(block) {
			return nil, wire.Errorf("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", block)
		}
	}
	if others >= s.config.Quotas.SubnetsPerVPC {
		return nil, exceeded("SubnetLimitExceeded", "subnets of a VPC", s.config.Quotas.SubnetsPerVPC)
	}
	zone, err := s.zoneNamed(in.AvailabilityZone, in.AvailabilityZoneId)
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeSubnet)
	if err != nil {
		return nil, err
	}
	var block6 netip.Prefix
	if in.Ipv6CidrBlock != nil {
		if block6, err = s.subnetBlock6(v, *in.Ipv6CidrBlock); err != nil {
			return nil, err
		}
	}
	return func() *ec2.CreateSubnetOutput {
		n := s.newSubnet("", v, zone, block)
		if block6.IsValid() {
			s.addSubnetBlock6(n, block6)
		}
		s.subnets.put(*n.SubnetId, n)
		s.tags.settle(*n.SubnetId, tags)
		shown := n.shown(tags)
		return &ec2.CreateSubnetOutput{Subnet: &shown}
	}, nil
}

// zoneNamed is the zone that a request names, or the first.
func (s *Service) zoneNamed(name, id *string) (string, error) {
	switch {
	case name != nil && id != nil:
		return "", invalidCombination("The parameters availabilityZone and availabilityZoneId exclude each other")
	case name != nil:
		if !slices.Contains(s.config.Zones, *name) {
			return "", invalidValue("Value (%.40s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %v.", *name, s.config.Zones)
		}
		return *name, nil
	case id != nil:
		for _, zone := range s.config.Zones {
			if s.zoneIDOf(zone) == *id {
				return zone, nil
			}
		}
		return "", invalidValue("Value (%.40s) for parameter availabilityZoneId is invalid.", *id)
	}
	return s.config.Zones[0], nil
}

// subnetBlock6 checks an IPv6 block: AWS gives a /44 to a /64 of a block of the VPC.
func (s *Service) subnetBlock6(v *vpc, text string) (netip.Prefix, error) {
	block, err := netip.ParsePrefix(text)
	if err != nil || !block.Addr().Is6() || block.Bits() > 64 || block.Bits()%4 != 0 {
		return block, invalidValue("Value (%.60s) for parameter ipv6CidrBlock is invalid. It must be a block of /64 or a larger one in steps of 4 bits", text)
	}
	block = block.Masked()
	if !slices.ContainsFunc(v.prefixes6, func(p netip.Prefix) bool { return p.Bits() <= block.Bits() && p.Contains(block.Addr()) }) {
		return block, wire.Errorf("InvalidSubnet.Range", "The IPv6 CIDR '%s' is not within the blocks of VPC '%s'", block, *v.VpcId)
	}
	for _, n := range s.subnets.all {
		if *n.VpcId == *v.VpcId && n.prefix6.IsValid() && n.prefix6.Overlaps(block) {
			return block, wire.Errorf("InvalidSubnet.Conflict", "The IPv6 CIDR '%s' conflicts with another subnet", block)
		}
	}
	return block, nil
}

func (s *Service) addSubnetBlock6(n *subnet, block netip.Prefix) types.SubnetIpv6CidrBlockAssociation {
	a := types.SubnetIpv6CidrBlockAssociation{
		AssociationId: new(s.config.IDs.EC2("subnet-cidr-assoc", "")), Ipv6CidrBlock: new(block.String()),
		Ipv6CidrBlockState: &types.SubnetCidrBlockState{State: types.SubnetCidrBlockStateCodeAssociated},
	}
	n.Ipv6CidrBlockAssociationSet = append(slices.Clip(n.Ipv6CidrBlockAssociationSet), a)
	n.prefix6, n.pool6 = block, newPool(block)
	return a
}

func (s *Service) associateSubnetCidrBlock(r eventual.Reader, in *ec2.AssociateSubnetCidrBlockInput) (func() *ec2.AssociateSubnetCidrBlockOutput, error) {
	n, err := find(r, subnetID, s.subnets, in.SubnetId, "subnetId")
	if err != nil {
		return nil, err
	}
	if in.Ipv6CidrBlock == nil {
		return nil, missingParameter("ipv6CidrBlock")
	}
	if n.prefix6.IsValid() {
		return nil, wire.Errorf("CidrLimitExceeded", "Subnet '%s' has an IPv6 CIDR block already", *n.SubnetId)
	}
	v, _ := s.vpcs.get(*n.VpcId)
	block, err := s.subnetBlock6(v, *in.Ipv6CidrBlock)
	if err != nil {
		return nil, err
	}
	return func() *ec2.AssociateSubnetCidrBlockOutput {
		var a types.SubnetIpv6CidrBlockAssociation
		s.subnets.put(*n.SubnetId, changed(n, func(n *subnet) { a = s.addSubnetBlock6(n, block) }))
		return &ec2.AssociateSubnetCidrBlockOutput{SubnetId: n.SubnetId, Ipv6CidrBlockAssociation: &a}
	}, nil
}

func (s *Service) disassociateSubnetCidrBlock(_ eventual.Reader, in *ec2.DisassociateSubnetCidrBlockInput) (func() *ec2.DisassociateSubnetCidrBlockOutput, error) {
	for _, n := range s.subnets.all {
		if len(n.Ipv6CidrBlockAssociationSet) == 0 || *n.Ipv6CidrBlockAssociationSet[0].AssociationId != deref(in.AssociationId) {
			continue
		}
		if len(n.pool6.used) > 0 {
			return nil, wire.Errorf("InvalidCidr.InUse", "Addresses of the block of association '%s' are in use", *in.AssociationId)
		}
		return func() *ec2.DisassociateSubnetCidrBlockOutput {
			a := n.Ipv6CidrBlockAssociationSet[0]
			s.subnets.put(*n.SubnetId, changed(n, func(n *subnet) {
				n.Ipv6CidrBlockAssociationSet, n.prefix6, n.pool6 = []types.SubnetIpv6CidrBlockAssociation{}, netip.Prefix{}, nil
			}))
			return &ec2.DisassociateSubnetCidrBlockOutput{SubnetId: n.SubnetId, Ipv6CidrBlockAssociation: &a}
		}, nil
	}
	return nil, wire.Errorf("InvalidSubnetCidrBlockAssociationID.NotFound", "The subnet CIDR block association ID '%.60s' does not exist", deref(in.AssociationId))
}

func (s *Service) modifySubnetAttribute(r eventual.Reader, in *ec2.ModifySubnetAttributeInput) (func() *ec2.ModifySubnetAttributeOutput, error) {
	n, err := find(r, subnetID, s.subnets, in.SubnetId, "subnetId")
	if err != nil {
		return nil, err
	}
	if in.AssignIpv6AddressOnCreation != nil && deref(in.AssignIpv6AddressOnCreation.Value) && !n.prefix6.IsValid() {
		return nil, invalidValue("Invalid value 'true' for assignIpv6AddressOnCreation. The subnet has no IPv6 block")
	}
	return func() *ec2.ModifySubnetAttributeOutput {
		s.subnets.put(*n.SubnetId, changed(n, func(n *subnet) {
			for _, one := range []struct {
				asked *types.AttributeBooleanValue
				into  **bool
			}{
				{in.MapPublicIpOnLaunch, &n.MapPublicIpOnLaunch}, {in.AssignIpv6AddressOnCreation, &n.AssignIpv6AddressOnCreation},
				{in.EnableDns64, &n.EnableDns64},
			} {
				if one.asked != nil {
					*one.into = new(deref(one.asked.Value))
				}
			}
		}))
		return &ec2.ModifySubnetAttributeOutput{}
	}, nil
}

func (s *Service) deleteSubnet(r eventual.Reader, in *ec2.DeleteSubnetInput) (func() *ec2.DeleteSubnetOutput, error) {
	n, err := find(r, subnetID, s.subnets, in.SubnetId, "subnetId")
	if err != nil {
		return nil, err
	}
	id := *n.SubnetId
	for _, i := range s.interfaces.all {
		if i.subnet == id {
			return nil, depends("subnet", id, "network interface "+i.id)
		}
	}
	return func() *ec2.DeleteSubnetOutput {
		if t, i := s.associationOf(id); t != nil {
			s.routeTables.put(*t.RouteTableId, changed(t, func(t *types.RouteTable) {
				t.Associations = slices.Delete(slices.Clone(t.Associations), i, i+1)
			}))
		}
		s.subnets.drop(id)
		s.tags.drop(id)
		return &ec2.DeleteSubnetOutput{}
	}, nil
}

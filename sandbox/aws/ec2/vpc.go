package ec2

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// vpc is a VPC.
type vpc struct {
	types.Vpc
	// prefixes are its IPv4 blocks, blocks6 its IPv6 ones.
	prefixes, prefixes6     []netip.Prefix
	mainTable, defaultGroup string
	dnsSupport, dnsNames    bool
}

var vpcKind = kind[*vpc]{
	id: func(v *vpc) string { return *v.VpcId }, ids: vpcID,
	filters: filters[*vpc]{
		"cidr":       func(_ *Service, v *vpc) []string { return one(v.CidrBlock) },
		"cidr-block": func(_ *Service, v *vpc) []string { return one(v.CidrBlock) },
		"cidr-block-association.cidr-block": func(_ *Service, v *vpc) []string {
			return each(v.CidrBlockAssociationSet, func(a types.VpcCidrBlockAssociation) []string { return one(a.CidrBlock) })
		},
		"cidr-block-association.association-id": func(_ *Service, v *vpc) []string {
			return each(v.CidrBlockAssociationSet, func(a types.VpcCidrBlockAssociation) []string { return one(a.AssociationId) })
		},
		"cidr-block-association.state": func(_ *Service, v *vpc) []string {
			return each(v.CidrBlockAssociationSet, func(a types.VpcCidrBlockAssociation) []string { return given(string(a.CidrBlockState.State)) })
		},
		"ipv6-cidr-block-association.ipv6-cidr-block": func(_ *Service, v *vpc) []string {
			return each(v.Ipv6CidrBlockAssociationSet, func(a types.VpcIpv6CidrBlockAssociation) []string { return one(a.Ipv6CidrBlock) })
		},
		"ipv6-cidr-block-association.ipv6-pool": func(_ *Service, v *vpc) []string {
			return each(v.Ipv6CidrBlockAssociationSet, func(a types.VpcIpv6CidrBlockAssociation) []string { return one(a.Ipv6Pool) })
		},
		"ipv6-cidr-block-association.association-id": func(_ *Service, v *vpc) []string {
			return each(v.Ipv6CidrBlockAssociationSet, func(a types.VpcIpv6CidrBlockAssociation) []string { return one(a.AssociationId) })
		},
		"ipv6-cidr-block-association.state": func(_ *Service, v *vpc) []string {
			return each(v.Ipv6CidrBlockAssociationSet, func(a types.VpcIpv6CidrBlockAssociation) []string {
				return given(string(a.Ipv6CidrBlockState.State))
			})
		},
		"dhcp-options-id": func(_ *Service, v *vpc) []string { return one(v.DhcpOptionsId) },
		"is-default":      func(_ *Service, v *vpc) []string { return given(strconv.FormatBool(*v.IsDefault)) },
		"owner-id":        func(_ *Service, v *vpc) []string { return one(v.OwnerId) },
		"state":           func(_ *Service, v *vpc) []string { return given(string(v.State)) },
		"vpc-id":          func(_ *Service, v *vpc) []string { return one(v.VpcId) },
	},
}

// DescribeVpcs lists VPCs.
func (s *Service) DescribeVpcs(r eventual.Reader, in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := list(s, r, vpcKind, s.vpcs.visible(r), query{in.VpcIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeVpcsOutput{NextToken: next, Vpcs: []types.Vpc{}}
	for _, v := range found {
		shown := v.Vpc
		shown.Tags = s.tagList(r, *v.VpcId)
		out.Vpcs = append(out.Vpcs, shown)
	}
	return out, nil
}

// addVPC makes a VPC with its main route table and its default security group. The names are those of the draws for ids.
func (s *Service) addVPC(block netip.Prefix, name, routes string, put func(*table[*vpc], string, *vpc)) *vpc {
	c := s.config
	id := c.IDs.EC2("vpc", name)
	v := &vpc{
		Vpc: types.Vpc{
			VpcId: new(id), CidrBlock: new(block.String()), State: types.VpcStateAvailable, OwnerId: new(c.AccountID), IsDefault: new(false),
			InstanceTenancy: types.TenancyDefault, DhcpOptionsId: new(c.IDs.EC2("dopt", name)), Ipv6CidrBlockAssociationSet: []types.VpcIpv6CidrBlockAssociation{},
			CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{{
				AssociationId: new(c.IDs.EC2("vpc-cidr-assoc", name)), CidrBlock: new(block.String()),
				CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated},
			}},
		},
		prefixes: []netip.Prefix{block}, dnsSupport: true, dnsNames: id == s.vpc || s.vpc == "",
		defaultGroup: c.IDs.EC2("sg", "default"), mainTable: c.IDs.EC2("rtb", routes),
	}
	self := rule{protocol: "-1", from: -1, to: -1, group: v.defaultGroup}
	g := &securityGroup{
		id: v.defaultGroup, vpc: id, name: "default", description: "default VPC security group",
		ingress: s.withIDs(self), egress: s.withIDs(everything),
	}
	s.groups.settle(g.id, g)
	s.groupsInForce[g.id] = begin(g.name, g)
	t := s.newRouteTable(v.mainTable, v)
	t.Associations = []types.RouteTableAssociation{{
		RouteTableAssociationId: new(c.IDs.EC2("rtbassoc", "main")), RouteTableId: t.RouteTableId, Main: new(true),
		AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated},
	}}
	s.routeTables.settle(v.mainTable, t)
	put(s.vpcs, id, v)
	return v
}

func (s *Service) createVpc(_ eventual.Reader, in *ec2.CreateVpcInput) (func() *ec2.CreateVpcOutput, error) {
	if in.CidrBlock == nil {
		return nil, missingParameter("cidrBlock")
	}
	block, err := networkBlock(*in.CidrBlock, 16, 28, "InvalidVpc.Range")
	if err != nil {
		return nil, err
	}
	if in.Ipv6CidrBlock != nil && deref(in.AmazonProvidedIpv6CidrBlock) {
		return nil, invalidCombination("Ipv6CidrBlock and AmazonProvidedIpv6CidrBlock exclude each other")
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeVpc)
	if err != nil {
		return nil, err
	}
	if in.InstanceTenancy != "" && !slices.Contains(in.InstanceTenancy.Values(), in.InstanceTenancy) {
		return nil, invalidValue("Value (%.40s) for parameter instanceTenancy is invalid", in.InstanceTenancy)
	}
	if s.vpcs.count() >= s.config.Quotas.VPCs {
		return nil, exceeded("VpcLimitExceeded", "VPCs", s.config.Quotas.VPCs)
	}
	return func() *ec2.CreateVpcOutput {
		v := s.addVPC(block, "", "main", func(*table[*vpc], string, *vpc) {})
		if in.InstanceTenancy != "" {
			v.InstanceTenancy = in.InstanceTenancy
		}
		if deref(in.AmazonProvidedIpv6CidrBlock) {
			s.addBlock6(v, s.nextBlock6())
		}
		s.vpcs.put(*v.VpcId, v)
		s.tags.settle(*v.VpcId, tags)
		shown := v.Vpc
		shown.State, shown.Tags = types.VpcStatePending, tagList(tags)
		return &ec2.CreateVpcOutput{Vpc: &shown}
	}, nil
}

// networkBlock reads a block of a VPC or a subnet.
func networkBlock(text string, largest, smallest int, code string) (netip.Prefix, error) {
	block, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !block.Addr().Is4():
		return block, invalidValue("Value (%.60s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", text)
	case block.Bits() < largest || block.Bits() > smallest:
		return block, wire.Errorf(code, "The CIDR '%s' is invalid: it must be between /%d and /%d.", text, largest, smallest)
	}
	return block.Masked(), nil
}

// The blocks that Amazon gives to VPCs, each a /56, from the range for documentation.
const firstBlock6 = "2001:db8:1200::/56"

func (s *Service) nextBlock6() netip.Prefix {
	raw := netip.MustParsePrefix(firstBlock6).Addr().As16()
	binary.BigEndian.PutUint16(raw[5:], s.blocks6)
	s.blocks6++
	return netip.PrefixFrom(netip.AddrFrom16(raw), 56)
}

func (s *Service) addBlock6(v *vpc, block netip.Prefix) types.VpcIpv6CidrBlockAssociation {
	a := types.VpcIpv6CidrBlockAssociation{
		AssociationId: new(s.config.IDs.EC2("vpc-cidr-assoc", "6")), Ipv6CidrBlock: new(block.String()), Ipv6Pool: new("Amazon"),
		NetworkBorderGroup: new(s.config.Region), Ipv6CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated},
	}
	v.Ipv6CidrBlockAssociationSet = append(slices.Clip(v.Ipv6CidrBlockAssociationSet), a)
	v.prefixes6 = append(slices.Clip(v.prefixes6), block)
	s.addLocalRoutes(*v.VpcId, block)
	return a
}

// createDefaultVpc makes what requests that name no VPC mean: 172.31.0.0/16 with a subnet per zone and the way to the internet.
func (s *Service) createDefaultVpc(_ eventual.Reader, _ *ec2.CreateDefaultVpcInput) (func() *ec2.CreateDefaultVpcOutput, error) {
	if v, ok := s.defaultVPC(); ok {
		return nil, wire.Errorf("DefaultVpcAlreadyExists", "A default VPC already exists for this account in this region: %s", *v.VpcId)
	}
	if s.vpcs.count() >= s.config.Quotas.VPCs {
		return nil, exceeded("VpcLimitExceeded", "VPCs", s.config.Quotas.VPCs)
	}
	return func() *ec2.CreateDefaultVpcOutput {
		c := s.config
		v := s.addVPC(netip.MustParsePrefix("172.31.0.0/16"), "default", "main", (*table[*vpc]).settle)
		v.IsDefault, v.dnsNames = new(true), true
		gateway := c.IDs.EC2("igw", "")
		s.gateways.settle(gateway, &types.InternetGateway{
			InternetGatewayId: new(gateway), OwnerId: new(c.AccountID), Attachments: []types.InternetGatewayAttachment{{VpcId: v.VpcId, State: attached}},
		})
		t, _ := s.routeTables.get(v.mainTable)
		t.Routes = append(t.Routes, types.Route{
			DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: new(gateway), Origin: types.RouteOriginCreateRoute, State: types.RouteStateActive,
		})
		for i, zone := range c.Zones {
			n := s.newSubnet("", v, zone, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(16 * i), 0}), 20))
			n.DefaultForAz, n.MapPublicIpOnLaunch = new(true), new(true)
			s.subnets.settle(*n.SubnetId, n)
		}
		shown := v.Vpc
		return &ec2.CreateDefaultVpcOutput{Vpc: &shown}
	}, nil
}

func (s *Service) defaultVPC() (*vpc, bool) {
	return s.vpcs.first(func(v *vpc) bool { return *v.IsDefault })
}

// vpcNamed is the VPC that a request names, or the default one.
func (s *Service) vpcNamed(r eventual.Reader, id *string) (*vpc, error) {
	if deref(id) != "" {
		return find(r, vpcID, s.vpcs, id, "vpcId")
	}
	if v, ok := s.defaultVPC(); ok {
		return v, nil
	}
	return nil, wire.Errorf("VPCIdNotSpecified", "No default VPC for this user: specify a VPC ID or a subnet ID")
}

func (s *Service) deleteVpc(r eventual.Reader, in *ec2.DeleteVpcInput) (func() *ec2.DeleteVpcOutput, error) {
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	id := *v.VpcId
	for subnet, n := range s.subnets.all {
		if *n.VpcId == id {
			return nil, depends("vpc", id, "subnet "+subnet)
		}
	}
	for _, n := range s.interfaces.all {
		if n.vpc == id {
			return nil, depends("vpc", id, "network interface "+n.id)
		}
	}
	for _, g := range s.groups.all {
		if g.vpc == id && g.id != v.defaultGroup {
			return nil, depends("vpc", id, "security group "+g.id)
		}
	}
	for t, routes := range s.routeTables.all {
		if *routes.VpcId == id && t != v.mainTable {
			return nil, depends("vpc", id, "route table "+t)
		}
	}
	if g, ok := s.gatewayOf(id); ok {
		return nil, depends("vpc", id, "internet gateway "+*g.InternetGatewayId)
	}
	return func() *ec2.DeleteVpcOutput {
		s.dropGroup(v.defaultGroup)
		s.routeTables.drop(v.mainTable)
		s.vpcs.drop(id)
		s.tags.drop(v.mainTable)
		s.tags.drop(id)
		return &ec2.DeleteVpcOutput{}
	}, nil
}

func (s *Service) modifyVpcAttribute(r eventual.Reader, in *ec2.ModifyVpcAttributeInput) (func() *ec2.ModifyVpcAttributeOutput, error) {
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	if in.EnableDnsHostnames == nil && in.EnableDnsSupport == nil && in.EnableNetworkAddressUsageMetrics == nil {
		return nil, invalidCombination("No attributes specified.")
	}
	if in.EnableDnsHostnames != nil && in.EnableDnsSupport != nil {
		return nil, invalidCombination("Fields for multiple attribute types specified")
	}
	return func() *ec2.ModifyVpcAttributeOutput {
		s.vpcs.put(*v.VpcId, changed(v, func(v *vpc) {
			if a := in.EnableDnsHostnames; a != nil {
				v.dnsNames = deref(a.Value)
			}
			if a := in.EnableDnsSupport; a != nil {
				v.dnsSupport = deref(a.Value)
			}
		}))
		return &ec2.ModifyVpcAttributeOutput{}
	}, nil
}

// DescribeVpcAttribute tells one attribute of a VPC.
func (s *Service) DescribeVpcAttribute(r eventual.Reader, in *ec2.DescribeVpcAttributeInput) (*ec2.DescribeVpcAttributeOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeVpcAttributeOutput{VpcId: v.VpcId}
	switch in.Attribute {
	case types.VpcAttributeNameEnableDnsSupport:
		out.EnableDnsSupport = &types.AttributeBooleanValue{Value: new(v.dnsSupport)}
	case types.VpcAttributeNameEnableDnsHostnames:
		out.EnableDnsHostnames = &types.AttributeBooleanValue{Value: new(v.dnsNames)}
	case types.VpcAttributeNameEnableNetworkAddressUsageMetrics:
		out.EnableNetworkAddressUsageMetrics = &types.AttributeBooleanValue{Value: new(false)}
	case "":
		return nil, missingParameter("attribute")
	default:
		return nil, invalidValue("Value (%.40s) for parameter attribute is invalid", in.Attribute)
	}
	return out, nil
}

// maxBlocks is how many blocks a VPC can have of each IP version.
const maxBlocks = 5

func (s *Service) associateVpcCidrBlock(r eventual.Reader, in *ec2.AssociateVpcCidrBlockInput) (func() *ec2.AssociateVpcCidrBlockOutput, error) {
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	if deref(in.AmazonProvidedIpv6CidrBlock) == (in.CidrBlock != nil) {
		return nil, invalidCombination("Exactly one of CidrBlock and AmazonProvidedIpv6CidrBlock must be given")
	}
	if in.CidrBlock == nil {
		if len(v.prefixes6) >= maxBlocks {
			return nil, wire.Errorf("CidrLimitExceeded", "This network '%s' has met its maximum number of allowed IPv6 CIDRs: %d", *v.VpcId, maxBlocks)
		}
		return func() *ec2.AssociateVpcCidrBlockOutput {
			v = changed(v, func(*vpc) {})
			a := s.addBlock6(v, s.nextBlock6())
			s.vpcs.put(*v.VpcId, v)
			return &ec2.AssociateVpcCidrBlockOutput{VpcId: v.VpcId, Ipv6CidrBlockAssociation: &a}
		}, nil
	}
	block, err := networkBlock(*in.CidrBlock, 16, 28, "InvalidVpc.Range")
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(v.prefixes, block.Overlaps) {
		return nil, wire.Errorf("InvalidVpc.Range", "The CIDR '%s' overlaps with one of VPC '%s'", block, *v.VpcId)
	}
	if len(v.prefixes) >= maxBlocks {
		return nil, wire.Errorf("CidrLimitExceeded", "This network '%s' has met its maximum number of allowed CIDRs: %d", *v.VpcId, maxBlocks)
	}
	return func() *ec2.AssociateVpcCidrBlockOutput {
		a := types.VpcCidrBlockAssociation{
			AssociationId: new(s.config.IDs.EC2("vpc-cidr-assoc", "")), CidrBlock: new(block.String()),
			CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated},
		}
		s.vpcs.put(*v.VpcId, changed(v, func(v *vpc) {
			v.CidrBlockAssociationSet = append(slices.Clip(v.CidrBlockAssociationSet), a)
			v.prefixes = append(slices.Clip(v.prefixes), block)
		}))
		s.addLocalRoutes(*v.VpcId, block)
		return &ec2.AssociateVpcCidrBlockOutput{VpcId: v.VpcId, CidrBlockAssociation: &a}
	}, nil
}

func (s *Service) disassociateVpcCidrBlock(_ eventual.Reader, in *ec2.DisassociateVpcCidrBlockInput) (func() *ec2.DisassociateVpcCidrBlockOutput, error) {
	id := deref(in.AssociationId)
	for _, v := range s.vpcs.all {
		i := slices.IndexFunc(v.CidrBlockAssociationSet, func(a types.VpcCidrBlockAssociation) bool { return *a.AssociationId == id })
		j := slices.IndexFunc(v.Ipv6CidrBlockAssociationSet, func(a types.VpcIpv6CidrBlockAssociation) bool { return *a.AssociationId == id })
		switch {
		case i == 0:
			return nil, wire.Errorf("OperationNotPermitted", "The vpc CIDR block with association ID %s may not be disassociated. It is the primary IPv4 CIDR block of the VPC", id)
		case i < 0 && j < 0:
			continue
		}
		for subnet, n := range s.subnets.all {
			if *n.VpcId == *v.VpcId && (i > 0 && v.prefixes[i].Overlaps(n.prefix) || j >= 0 && n.prefix6.IsValid() && v.prefixes6[j].Overlaps(n.prefix6)) {
				return nil, wire.Errorf("InvalidCidr.InUse", "The block of association '%s' is in use by subnet %s", id, subnet)
			}
		}
		return func() *ec2.DisassociateVpcCidrBlockOutput {
			out := &ec2.DisassociateVpcCidrBlockOutput{VpcId: v.VpcId}
			if i > 0 {
				s.dropLocalRoutes(*v.VpcId, v.prefixes[i])
			} else {
				s.dropLocalRoutes(*v.VpcId, v.prefixes6[j])
			}
			s.vpcs.put(*v.VpcId, changed(v, func(v *vpc) {
				if i > 0 {
					gone := v.CidrBlockAssociationSet[i]
					out.CidrBlockAssociation = &gone
					v.CidrBlockAssociationSet = slices.Delete(slices.Clone(v.CidrBlockAssociationSet), i, i+1)
					v.prefixes = slices.Delete(slices.Clone(v.prefixes), i, i+1)
					return
				}
				gone := v.Ipv6CidrBlockAssociationSet[j]
				out.Ipv6CidrBlockAssociation = &gone
				v.Ipv6CidrBlockAssociationSet = slices.Delete(slices.Clone(v.Ipv6CidrBlockAssociationSet), j, j+1)
				v.prefixes6 = slices.Delete(slices.Clone(v.prefixes6), j, j+1)
			}))
			return out
		}, nil
	}
	return nil, wire.Errorf("InvalidVpcCidrBlockAssociationID.NotFound", "The vpc CIDR block association ID '%.60s' does not exist", id)
}

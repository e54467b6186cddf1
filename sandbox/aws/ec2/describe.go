package ec2

import (
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// DescribeVpcs lists the VPC.
func (s *Service) DescribeVpcs(_ eventual.Reader, in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	associations := func(of func(types.VpcCidrBlockAssociation) *string) func(*types.Vpc) []string {
		return func(v *types.Vpc) []string {
			var values []string
			for _, a := range v.CidrBlockAssociationSet {
				values = append(values, one(of(a))...)
			}
			return values
		}
	}
	none := func(*types.Vpc) []string { return nil }
	k := kind[*types.Vpc]{
		id:       func(v *types.Vpc) string { return *v.VpcId },
		notFound: "InvalidVpcID.NotFound", malformed: "InvalidVpcID.Malformed", prefix: "vpc-",
		filters: map[string]func(*types.Vpc) []string{
			"cidr":                                  func(v *types.Vpc) []string { return one(v.CidrBlock) },
			"cidr-block":                            func(v *types.Vpc) []string { return one(v.CidrBlock) },
			"cidr-block-association.cidr-block":     associations(func(a types.VpcCidrBlockAssociation) *string { return a.CidrBlock }),
			"cidr-block-association.association-id": associations(func(a types.VpcCidrBlockAssociation) *string { return a.AssociationId }),
			"cidr-block-association.state": associations(func(a types.VpcCidrBlockAssociation) *string {
				return new(string(a.CidrBlockState.State))
			}),
			"ipv6-cidr-block-association.ipv6-cidr-block": none,
			"ipv6-cidr-block-association.association-id":  none,
			"ipv6-cidr-block-association.state":           none,
			"dhcp-options-id":                             func(v *types.Vpc) []string { return one(v.DhcpOptionsId) },
			"is-default":                                  func(v *types.Vpc) []string { return []string{strconv.FormatBool(*v.IsDefault)} },
			"owner-id":                                    func(v *types.Vpc) []string { return one(v.OwnerId) },
			"state":                                       func(v *types.Vpc) []string { return []string{string(v.State)} },
			"vpc-id":                                      func(v *types.Vpc) []string { return one(v.VpcId) },
		},
	}
	found, next, err := find(k, []*types.Vpc{s.vpc}, s.tags, query{in.VpcIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeVpcsOutput{NextToken: next, Vpcs: []types.Vpc{}}
	for _, v := range found {
		shown := *v
		shown.Tags = s.tagList(*v.VpcId)
		out.Vpcs = append(out.Vpcs, shown)
	}
	return out, nil
}

// DescribeSubnets lists subnets.
func (s *Service) DescribeSubnets(_ eventual.Reader, in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	none := func(*subnet) []string { return nil }
	text := func(of func(*subnet) *string) func(*subnet) []string {
		return func(n *subnet) []string { return one(of(n)) }
	}
	k := kind[*subnet]{
		id:       func(n *subnet) string { return *n.SubnetId },
		notFound: "InvalidSubnetID.NotFound", malformed: "InvalidSubnetID.Malformed", prefix: "subnet-",
		filters: map[string]func(*subnet) []string{
			"availability-zone":          text(func(n *subnet) *string { return n.AvailabilityZone }),
			"availability-zone-id":       text(func(n *subnet) *string { return n.AvailabilityZoneId }),
			"available-ip-address-count": func(n *subnet) []string { return []string{strconv.Itoa(int(n.free()))} },
			"cidr-block":                 text(func(n *subnet) *string { return n.CidrBlock }),
			"cidr":                       text(func(n *subnet) *string { return n.CidrBlock }),
			"default-for-az":             func(n *subnet) []string { return []string{strconv.FormatBool(*n.DefaultForAz)} },
			"ipv6-cidr-block-association.ipv6-cidr-block": none,
			"ipv6-cidr-block-association.association-id":  none,
			"ipv6-cidr-block-association.state":           none,
			"ipv6-native":                                 func(n *subnet) []string { return []string{strconv.FormatBool(*n.Ipv6Native)} },
			"map-public-ip-on-launch":                     func(n *subnet) []string { return []string{strconv.FormatBool(*n.MapPublicIpOnLaunch)} },
			"outpost-arn":                                 none,
			"owner-id":                                    text(func(n *subnet) *string { return n.OwnerId }),
			"state":                                       func(n *subnet) []string { return []string{string(n.State)} },
			"subnet-arn":                                  text(func(n *subnet) *string { return n.SubnetArn }),
			"subnet-id":                                   text(func(n *subnet) *string { return n.SubnetId }),
			"vpc-id":                                      text(func(n *subnet) *string { return n.VpcId }),
		},
	}
	var all []*subnet
	for _, n := range s.subnets {
		all = append(all, n)
	}
	found, next, err := find(k, all, s.tags, query{in.SubnetIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeSubnetsOutput{NextToken: next, Subnets: []types.Subnet{}}
	for _, n := range found {
		shown := n.Subnet
		shown.AvailableIpAddressCount = new(n.free())
		shown.Tags = s.tagList(*n.SubnetId)
		out.Subnets = append(out.Subnets, shown)
	}
	return out, nil
}

// DescribeRouteTables lists route tables.
func (s *Service) DescribeRouteTables(_ eventual.Reader, in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	associations := func(of func(types.RouteTableAssociation) []string) func(*types.RouteTable) []string {
		return func(t *types.RouteTable) []string {
			var values []string
			for _, a := range t.Associations {
				values = append(values, of(a)...)
			}
			return values
		}
	}
	routes := func(of func(types.Route) []string) func(*types.RouteTable) []string {
		return func(t *types.RouteTable) []string {
			var values []string
			for _, r := range t.Routes {
				values = append(values, of(r)...)
			}
			return values
		}
	}
	k := kind[*types.RouteTable]{
		id:       func(t *types.RouteTable) string { return *t.RouteTableId },
		notFound: "InvalidRouteTableID.NotFound", malformed: "InvalidRouteTableId.Malformed", prefix: "rtb-",
		filters: map[string]func(*types.RouteTable) []string{
			"association.main":                       associations(func(a types.RouteTableAssociation) []string { return []string{strconv.FormatBool(*a.Main)} }),
			"association.subnet-id":                  associations(func(a types.RouteTableAssociation) []string { return one(a.SubnetId) }),
			"association.route-table-id":             associations(func(a types.RouteTableAssociation) []string { return one(a.RouteTableId) }),
			"association.route-table-association-id": associations(func(a types.RouteTableAssociation) []string { return one(a.RouteTableAssociationId) }),
			"route.gateway-id":                       routes(func(r types.Route) []string { return one(r.GatewayId) }),
			"route.destination-cidr-block":           routes(func(r types.Route) []string { return one(r.DestinationCidrBlock) }),
			"route.state":                            routes(func(r types.Route) []string { return []string{string(r.State)} }),
			"route-table-id":                         func(t *types.RouteTable) []string { return one(t.RouteTableId) },
			"owner-id":                               func(t *types.RouteTable) []string { return one(t.OwnerId) },
			"vpc-id":                                 func(t *types.RouteTable) []string { return one(t.VpcId) },
		},
	}
	var all []*types.RouteTable
	for _, t := range s.routeTables {
		all = append(all, t)
	}
	found, next, err := find(k, all, s.tags, query{in.RouteTableIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeRouteTablesOutput{NextToken: next, RouteTables: []types.RouteTable{}}
	for _, t := range found {
		shown := *t
		shown.Tags = s.tagList(*t.RouteTableId)
		out.RouteTables = append(out.RouteTables, shown)
	}
	return out, nil
}

// DescribeInternetGateways lists the gateway of the VPC.
func (s *Service) DescribeInternetGateways(_ eventual.Reader, in *ec2.DescribeInternetGatewaysInput) (*ec2.DescribeInternetGatewaysOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kind[*types.InternetGateway]{
		id:       func(g *types.InternetGateway) string { return *g.InternetGatewayId },
		notFound: "InvalidInternetGatewayID.NotFound", malformed: "InvalidInternetGatewayId.Malformed", prefix: "igw-",
		filters: map[string]func(*types.InternetGateway) []string{
			"attachment.state":    func(g *types.InternetGateway) []string { return []string{string(g.Attachments[0].State)} },
			"attachment.vpc-id":   func(g *types.InternetGateway) []string { return one(g.Attachments[0].VpcId) },
			"internet-gateway-id": func(g *types.InternetGateway) []string { return one(g.InternetGatewayId) },
			"owner-id":            func(g *types.InternetGateway) []string { return one(g.OwnerId) },
		},
	}
	found, next, err := find(k, []*types.InternetGateway{s.gateway}, s.tags, query{in.InternetGatewayIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInternetGatewaysOutput{NextToken: next, InternetGateways: []types.InternetGateway{}}
	for _, g := range found {
		shown := *g
		shown.Tags = s.tagList(*g.InternetGatewayId)
		out.InternetGateways = append(out.InternetGateways, shown)
	}
	return out, nil
}

// DescribeAvailabilityZones lists the zones of the configuration.
func (s *Service) DescribeAvailabilityZones(_ eventual.Reader, in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	var all []types.AvailabilityZone
	for i, zone := range s.config.Zones {
		all = append(all, types.AvailabilityZone{
			ZoneName: new(zone), ZoneId: new(zoneID(s.config.Region, i)), ZoneType: new("availability-zone"), RegionName: new(s.config.Region),
			GroupName: new(s.config.Region), NetworkBorderGroup: new(s.config.Region), State: types.AvailabilityZoneStateAvailable,
			OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired, Messages: []types.AvailabilityZoneMessage{},
		})
	}
	byName := func(z types.AvailabilityZone) string { return *z.ZoneName }
	k := kind[types.AvailabilityZone]{
		id: byName, notFound: "InvalidParameterValue", malformed: "InvalidParameterValue",
		filters: map[string]func(types.AvailabilityZone) []string{
			"group-name":    func(z types.AvailabilityZone) []string { return one(z.GroupName) },
			"region-name":   func(z types.AvailabilityZone) []string { return one(z.RegionName) },
			"state":         func(z types.AvailabilityZone) []string { return []string{string(z.State)} },
			"zone-id":       func(z types.AvailabilityZone) []string { return one(z.ZoneId) },
			"zone-name":     func(z types.AvailabilityZone) []string { return one(z.ZoneName) },
			"zone-type":     func(z types.AvailabilityZone) []string { return one(z.ZoneType) },
			"opt-in-status": func(z types.AvailabilityZone) []string { return []string{string(z.OptInStatus)} },
		},
	}
	ids := in.ZoneNames
	for _, id := range in.ZoneIds {
		i := slices.IndexFunc(all, func(z types.AvailabilityZone) bool { return *z.ZoneId == id })
		if i < 0 {
			return nil, wire.Errorf("InvalidParameterValue", "Invalid availability zone-id: [%s]", id)
		}
		ids = append(slices.Clip(ids), *all[i].ZoneName)
	}
	found, _, err := find(k, all, nil, query{ids: ids, filters: in.Filters})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: found}, nil
}

// DescribeRegions lists the one region.
func (s *Service) DescribeRegions(_ eventual.Reader, in *ec2.DescribeRegionsInput) (*ec2.DescribeRegionsOutput, error) {
	all := []types.Region{{
		RegionName: new(s.config.Region), Endpoint: new("ec2." + s.config.Region + ".amazonaws.com"), OptInStatus: new("opt-in-not-required"),
	}}
	k := kind[types.Region]{
		id: func(r types.Region) string { return *r.RegionName }, notFound: "InvalidParameterValue", malformed: "InvalidParameterValue",
		filters: map[string]func(types.Region) []string{
			"endpoint":      func(r types.Region) []string { return one(r.Endpoint) },
			"region-name":   func(r types.Region) []string { return one(r.RegionName) },
			"opt-in-status": func(r types.Region) []string { return one(r.OptInStatus) },
		},
	}
	found, _, err := find(k, all, nil, query{ids: in.RegionNames, filters: in.Filters})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeRegionsOutput{Regions: found}, nil
}

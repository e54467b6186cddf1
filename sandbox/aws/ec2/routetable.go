package ec2

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

func ofAssociations(of func(types.RouteTableAssociation) []string) func(*Service, *types.RouteTable) []string {
	return func(_ *Service, t *types.RouteTable) []string { return each(t.Associations, of) }
}

func ofRoutes(of func(types.Route) []string) func(*Service, *types.RouteTable) []string {
	return func(_ *Service, t *types.RouteTable) []string { return each(t.Routes, of) }
}

var routeTableKind = kind[*types.RouteTable]{
	id: func(t *types.RouteTable) string { return *t.RouteTableId }, ids: routeTableID, largest: 100,
	filters: filters[*types.RouteTable]{
		"association.gateway-id":                 ofAssociations(func(a types.RouteTableAssociation) []string { return one(a.GatewayId) }),
		"association.main":                       ofAssociations(func(a types.RouteTableAssociation) []string { return given(strconv.FormatBool(*a.Main)) }),
		"association.subnet-id":                  ofAssociations(func(a types.RouteTableAssociation) []string { return one(a.SubnetId) }),
		"association.route-table-id":             ofAssociations(func(a types.RouteTableAssociation) []string { return one(a.RouteTableId) }),
		"association.route-table-association-id": ofAssociations(func(a types.RouteTableAssociation) []string { return one(a.RouteTableAssociationId) }),
		"route.gateway-id":                       ofRoutes(func(r types.Route) []string { return one(r.GatewayId) }),
		"route.destination-cidr-block":           ofRoutes(func(r types.Route) []string { return one(r.DestinationCidrBlock) }),
		"route.destination-ipv6-cidr-block":      ofRoutes(func(r types.Route) []string { return one(r.DestinationIpv6CidrBlock) }),
		"route.destination-prefix-list-id":       ofRoutes(func(r types.Route) []string { return one(r.DestinationPrefixListId) }),
		"route.instance-id":                      ofRoutes(func(r types.Route) []string { return one(r.InstanceId) }),
		"route.origin":                           ofRoutes(func(r types.Route) []string { return given(string(r.Origin)) }),
		"route.state":                            ofRoutes(func(r types.Route) []string { return given(string(r.State)) }),
		"route-table-id":                         func(_ *Service, t *types.RouteTable) []string { return one(t.RouteTableId) },
		"owner-id":                               func(_ *Service, t *types.RouteTable) []string { return one(t.OwnerId) },
		"vpc-id":                                 func(_ *Service, t *types.RouteTable) []string { return one(t.VpcId) },
	},
}

// DescribeRouteTables lists route tables.
func (s *Service) DescribeRouteTables(r eventual.Reader, in *ec2.DescribeRouteTablesInput) (*ec2.DescribeRouteTablesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := list(s, r, routeTableKind, s.routeTables.visible(r), query{in.RouteTableIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeRouteTablesOutput{NextToken: next, RouteTables: []types.RouteTable{}}
	for _, t := range found {
		shown := *t
		shown.Tags = s.tagList(r, *t.RouteTableId)
		out.RouteTables = append(out.RouteTables, shown)
	}
	return out, nil
}

// newRouteTable makes a table with the routes within the VPC and some more.
func (s *Service) newRouteTable(id string, v *vpc, more ...types.Route) *types.RouteTable {
	t := &types.RouteTable{
		RouteTableId: new(id), VpcId: v.VpcId, OwnerId: new(s.config.AccountID),
		Associations: []types.RouteTableAssociation{}, PropagatingVgws: []types.PropagatingVgw{},
	}
	for _, p := range slices.Concat(v.prefixes, v.prefixes6) {
		t.Routes = append(t.Routes, localRoute(p))
	}
	t.Routes = append(t.Routes, more...)
	return t
}

// localRoute is the route within a VPC for one of its blocks.
func localRoute(block netip.Prefix) types.Route {
	r := types.Route{GatewayId: new("local"), Origin: types.RouteOriginCreateRouteTable, State: types.RouteStateActive}
	if block.Addr().Is4() {
		r.DestinationCidrBlock = new(block.String())
	} else {
		r.DestinationIpv6CidrBlock = new(block.String())
	}
	return r
}

// addLocalRoutes lets all tables of a VPC have the route within it for a new block, dropLocalRoutes takes that of a block away.
func (s *Service) addLocalRoutes(vpc string, block netip.Prefix) {
	for id, t := range s.routeTables.all {
		if *t.VpcId == vpc {
			s.routeTables.put(id, changed(t, func(t *types.RouteTable) { t.Routes = append(slices.Clip(t.Routes), localRoute(block)) }))
		}
	}
}

func (s *Service) dropLocalRoutes(vpc string, block netip.Prefix) {
	ends := func(r types.Route) bool {
		return deref(r.GatewayId) == "local" && cmp.Or(deref(r.DestinationCidrBlock), deref(r.DestinationIpv6CidrBlock)) == block.String()
	}
	for id, t := range s.routeTables.all {
		if *t.VpcId == vpc {
			s.routeTables.put(id, changed(t, func(t *types.RouteTable) { t.Routes = slices.DeleteFunc(slices.Clone(t.Routes), ends) }))
		}
	}
}

func (s *Service) newAssociation(t *types.RouteTable, subnet string) types.RouteTableAssociation {
	return types.RouteTableAssociation{
		RouteTableAssociationId: new(s.config.IDs.EC2("rtbassoc", subnet)), RouteTableId: t.RouteTableId,
		SubnetId: new(subnet), Main: new(false),
		AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated},
	}
}

// associated is a table with one more association.
func associated(t *types.RouteTable, a types.RouteTableAssociation) *types.RouteTable {
	return changed(t, func(t *types.RouteTable) { t.Associations = append(slices.Clip(t.Associations), a) })
}

// associationOf is the table that is associated with a subnet, and where in it; nil: the subnet goes by the main table.
func (s *Service) associationOf(subnet string) (*types.RouteTable, int) {
	return s.association(func(a types.RouteTableAssociation) bool { return deref(a.SubnetId) == subnet })
}

func (s *Service) association(fits func(types.RouteTableAssociation) bool) (*types.RouteTable, int) {
	for _, t := range s.routeTables.all {
		if i := slices.IndexFunc(t.Associations, fits); i >= 0 {
			return t, i
		}
	}
	return nil, 0
}

// public says whether the routes of a subnet lead to an internet gateway.
func (s *Service) public(n *subnet) bool {
	t, _ := s.associationOf(*n.SubnetId)
	if t == nil {
		v, ok := s.vpcs.get(*n.VpcId)
		if !ok {
			return false
		}
		if t, ok = s.routeTables.get(v.mainTable); !ok {
			return false
		}
	}
	return slices.ContainsFunc(t.Routes, func(r types.Route) bool {
		return r.State == types.RouteStateActive && strings.HasPrefix(deref(r.GatewayId), "igw-") &&
			(deref(r.DestinationCidrBlock) == "0.0.0.0/0" || deref(r.DestinationIpv6CidrBlock) == "::/0")
	})
}

func (s *Service) createRouteTable(r eventual.Reader, in *ec2.CreateRouteTableInput) (func() *ec2.CreateRouteTableOutput, error) {
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeRouteTable)
	if err != nil {
		return nil, err
	}
	if s.routeTables.countOf(func(t *types.RouteTable) bool { return *t.VpcId == *v.VpcId }) >= s.config.Quotas.RouteTablesPerVPC {
		return nil, exceeded("RouteTableLimitExceeded", "route tables of a VPC", s.config.Quotas.RouteTablesPerVPC)
	}
	return func() *ec2.CreateRouteTableOutput {
		t := s.newRouteTable(s.config.IDs.EC2("rtb", ""), v)
		s.routeTables.put(*t.RouteTableId, t)
		s.tags.settle(*t.RouteTableId, tags)
		shown := *t
		shown.Tags = tagList(tags)
		return &ec2.CreateRouteTableOutput{RouteTable: &shown}
	}, nil
}

func (s *Service) deleteRouteTable(r eventual.Reader, in *ec2.DeleteRouteTableInput) (func() *ec2.DeleteRouteTableOutput, error) {
	t, err := find(r, routeTableID, s.routeTables, in.RouteTableId, "routeTableId")
	if err != nil {
		return nil, err
	}
	if len(t.Associations) > 0 {
		return nil, depends("routeTable", *t.RouteTableId, "association "+*t.Associations[0].RouteTableAssociationId)
	}
	return func() *ec2.DeleteRouteTableOutput {
		s.routeTables.drop(*t.RouteTableId)
		s.tags.drop(*t.RouteTableId)
		return &ec2.DeleteRouteTableOutput{}
	}, nil
}

// destination of a route: one of its three forms.
type destination struct{ v4, v6, list *string }

func (d destination) check() (destination, error) {
	count := 0
	for _, one := range []*string{d.v4, d.v6, d.list} {
		if one != nil {
			count++
		}
	}
	switch {
	case count == 0:
		return d, missingParameter("destinationCidrBlock")
	case count > 1:
		return d, invalidCombination("A route has exactly one destination")
	case d.list != nil:
		return d, prefixListID.check(*d.list)
	}
	text := cmp.Or(deref(d.v4), deref(d.v6))
	block, err := netip.ParsePrefix(text)
	if err != nil || block.Addr().Is4() != (d.v4 != nil) {
		return d, invalidValue("Value (%.60s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", text)
	}
	if d.v4 != nil {
		return destination{v4: new(block.Masked().String())}, nil
	}
	return destination{v6: new(block.Masked().String())}, nil
}

func (d destination) of(r types.Route) bool {
	return deref(d.v4) == deref(r.DestinationCidrBlock) && deref(d.v6) == deref(r.DestinationIpv6CidrBlock) && deref(d.list) == deref(r.DestinationPrefixListId)
}

func (d destination) text() string { return cmp.Or(deref(d.v4), deref(d.v6), deref(d.list)) }

// way is where a route leads.
type way struct{ gateway, instance, networkInterface, unknown *string }

// route checks a route. Of the things that a route can lead to, the sandbox has internet gateways, instances and network interfaces.
func (s *Service) route(r eventual.Reader, vpc string, d destination, w way) (types.Route, error) {
	route := types.Route{
		DestinationCidrBlock: d.v4, DestinationIpv6CidrBlock: d.v6, DestinationPrefixListId: d.list, Origin: types.RouteOriginCreateRoute, State: types.RouteStateActive,
	}
	switch {
	case w.gateway != nil && w.instance == nil && w.networkInterface == nil:
		if deref(w.gateway) == "local" {
			return route, invalidValue("A route to 'local' is made with the VPC")
		}
		g, err := find(r, gatewayID, s.gateways, w.gateway, "gatewayId")
		if err != nil {
			return route, err
		}
		if len(g.Attachments) == 0 || *g.Attachments[0].VpcId != vpc {
			return route, invalidValue("route table and network gateway %s belong to different networks", *w.gateway)
		}
		route.GatewayId = w.gateway
	case w.instance != nil && w.gateway == nil && w.networkInterface == nil:
		m, err := find(r, instanceID, s.instances, w.instance, "instanceId")
		if err != nil {
			return route, err
		}
		if len(m.interfaces) != 1 {
			return route, wire.Errorf("InvalidInstanceID", "There are %d interfaces attached to instance '%s': name one", len(m.interfaces), *w.instance)
		}
		route.InstanceId, route.InstanceOwnerId, route.NetworkInterfaceId = w.instance, new(s.config.AccountID), new(m.interfaces[0])
	case w.networkInterface != nil && w.gateway == nil && w.instance == nil:
		n, err := find(r, interfaceID, s.interfaces, w.networkInterface, "networkInterfaceId")
		if err != nil {
			return route, err
		}
		route.NetworkInterfaceId = w.networkInterface
		if n.attachment != nil {
			route.InstanceId, route.InstanceOwnerId = new(n.attachment.instance), new(s.config.AccountID)
		}
	case w.unknown != nil && w.gateway == nil && w.instance == nil:
		return route, invalidValue("'%.60s' does not exist: routes of the sandbox lead to internet gateways, instances and network interfaces", *w.unknown)
	case w.gateway == nil && w.instance == nil && w.networkInterface == nil:
		return route, missingParameter("gatewayId")
	default:
		return route, invalidCombination("A route leads to exactly one thing")
	}
	return route, nil
}

func firstOf(texts ...*string) *string {
	for _, t := range texts {
		if t != nil {
			return t
		}
	}
	return nil
}

func (s *Service) createRoute(r eventual.Reader, in *ec2.CreateRouteInput) (func() *ec2.CreateRouteOutput, error) {
	t, err := find(r, routeTableID, s.routeTables, in.RouteTableId, "routeTableId")
	if err != nil {
		return nil, err
	}
	d, err := destination{in.DestinationCidrBlock, in.DestinationIpv6CidrBlock, in.DestinationPrefixListId}.check()
	if err != nil {
		return nil, err
	}
	route, err := s.route(r, *t.VpcId, d, way{in.GatewayId, in.InstanceId, in.NetworkInterfaceId, firstOf(
		in.NatGatewayId, in.TransitGatewayId, in.VpcEndpointId, in.VpcPeeringConnectionId, in.EgressOnlyInternetGatewayId, in.CarrierGatewayId, in.LocalGatewayId, in.CoreNetworkArn)})
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(t.Routes, d.of) {
		return nil, wire.Errorf("RouteAlreadyExists", "The route identified by %s already exists.", d.text())
	}
	if len(t.Routes) >= s.config.Quotas.RoutesPerTable {
		return nil, exceeded("RouteLimitExceeded", "routes of a table", s.config.Quotas.RoutesPerTable)
	}
	return func() *ec2.CreateRouteOutput {
		s.routeTables.put(*t.RouteTableId, changed(t, func(t *types.RouteTable) { t.Routes = append(slices.Clip(t.Routes), route) }))
		return &ec2.CreateRouteOutput{Return: new(true)}
	}, nil
}

func noRoute(d destination, t *types.RouteTable) error {
	return wire.Errorf("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", d.text(), *t.RouteTableId)
}

func (s *Service) replaceRoute(r eventual.Reader, in *ec2.ReplaceRouteInput) (func() *ec2.ReplaceRouteOutput, error) {
	t, err := find(r, routeTableID, s.routeTables, in.RouteTableId, "routeTableId")
	if err != nil {
		return nil, err
	}
	d, err := destination{in.DestinationCidrBlock, in.DestinationIpv6CidrBlock, in.DestinationPrefixListId}.check()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(t.Routes, d.of)
	if i < 0 {
		return nil, noRoute(d, t)
	}
	route, err := s.route(r, *t.VpcId, d, way{in.GatewayId, in.InstanceId, in.NetworkInterfaceId, firstOf(
		in.NatGatewayId, in.TransitGatewayId, in.VpcEndpointId, in.VpcPeeringConnectionId, in.EgressOnlyInternetGatewayId, in.CarrierGatewayId, in.LocalGatewayId, in.CoreNetworkArn)})
	if err != nil {
		return nil, err
	}
	return func() *ec2.ReplaceRouteOutput {
		s.routeTables.put(*t.RouteTableId, changed(t, func(t *types.RouteTable) {
			t.Routes = slices.Clone(t.Routes)
			t.Routes[i] = route
		}))
		return &ec2.ReplaceRouteOutput{}
	}, nil
}

func (s *Service) deleteRoute(r eventual.Reader, in *ec2.DeleteRouteInput) (func() *ec2.DeleteRouteOutput, error) {
	t, err := find(r, routeTableID, s.routeTables, in.RouteTableId, "routeTableId")
	if err != nil {
		return nil, err
	}
	d, err := destination{in.DestinationCidrBlock, in.DestinationIpv6CidrBlock, in.DestinationPrefixListId}.check()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(t.Routes, d.of)
	switch {
	case i < 0:
		return nil, noRoute(d, t)
	case deref(t.Routes[i].GatewayId) == "local":
		return nil, invalidValue("cannot remove local route %s in route table %s", d.text(), *t.RouteTableId)
	}
	return func() *ec2.DeleteRouteOutput {
		s.routeTables.put(*t.RouteTableId, changed(t, func(t *types.RouteTable) { t.Routes = slices.Delete(slices.Clone(t.Routes), i, i+1) }))
		return &ec2.DeleteRouteOutput{}
	}, nil
}

// markRoutes says of all routes of a VPC to a gateway or network interface in which state they are.
func (s *Service) markRoutes(vpc, to string, state types.RouteState) {
	leads := func(r types.Route) bool { return deref(r.GatewayId) == to || deref(r.NetworkInterfaceId) == to }
	for id, t := range s.routeTables.all {
		if *t.VpcId != vpc || !slices.ContainsFunc(t.Routes, leads) {
			continue
		}
		s.routeTables.put(id, changed(t, func(t *types.RouteTable) {
			t.Routes = slices.Clone(t.Routes)
			for i := range t.Routes {
				if leads(t.Routes[i]) {
					t.Routes[i].State = state
				}
			}
		}))
	}
}

func (s *Service) associateRouteTable(r eventual.Reader, in *ec2.AssociateRouteTableInput) (func() *ec2.AssociateRouteTableOutput, error) {
	t, err := find(r, routeTableID, s.routeTables, in.RouteTableId, "routeTableId")
	if err != nil {
		return nil, err
	}
	if in.GatewayId != nil {
		return nil, invalidCombination("Route tables of gateways are not modelled: name a subnet")
	}
	n, err := find(r, subnetID, s.subnets, in.SubnetId, "subnetId")
	if err != nil {
		return nil, err
	}
	if *n.VpcId != *t.VpcId {
		return nil, invalidValue("route table %s and subnet %s belong to different networks", *t.RouteTableId, *n.SubnetId)
	}
	if other, _ := s.associationOf(*n.SubnetId); other != nil {
		return nil, wire.Errorf("Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", *t.RouteTableId)
	}
	return func() *ec2.AssociateRouteTableOutput {
		a := s.newAssociation(t, *n.SubnetId)
		s.routeTables.put(*t.RouteTableId, associated(t, a))
		return &ec2.AssociateRouteTableOutput{AssociationId: a.RouteTableAssociationId, AssociationState: a.AssociationState}
	}, nil
}

// associationNamed is the table with an association, and where in it.
func (s *Service) associationNamed(id *string) (*types.RouteTable, int, error) {
	if deref(id) == "" {
		return nil, 0, missingParameter("associationId")
	}
	t, i := s.association(func(a types.RouteTableAssociation) bool { return *a.RouteTableAssociationId == *id })
	if t == nil {
		return nil, 0, associationID.missing(*id)
	}
	return t, i, nil
}

func (s *Service) disassociateRouteTable(_ eventual.Reader, in *ec2.DisassociateRouteTableInput) (func() *ec2.DisassociateRouteTableOutput, error) {
	t, i, err := s.associationNamed(in.AssociationId)
	if err != nil {
		return nil, err
	}
	if *t.Associations[i].Main {
		return nil, invalidValue("cannot disassociate the main route table association %s", *in.AssociationId)
	}
	return func() *ec2.DisassociateRouteTableOutput {
		s.routeTables.put(*t.RouteTableId, without(t, i))
		return &ec2.DisassociateRouteTableOutput{}
	}, nil
}

func without(t *types.RouteTable, association int) *types.RouteTable {
	return changed(t, func(t *types.RouteTable) {
		t.Associations = slices.Delete(slices.Clone(t.Associations), association, association+1)
	})
}

// replaceRouteTableAssociation gives a subnet, or the VPC as its main table, another table.
func (s *Service) replaceRouteTableAssociation(r eventual.Reader, in *ec2.ReplaceRouteTableAssociationInput) (func() *ec2.ReplaceRouteTableAssociationOutput, error) {
	from, i, err := s.associationNamed(in.AssociationId)
	if err != nil {
		return nil, err
	}
	to, err := find(r, routeTableID, s.routeTables, in.RouteTableId, "routeTableId")
	if err != nil {
		return nil, err
	}
	if *from.VpcId != *to.VpcId {
		return nil, invalidValue("route tables %s and %s belong to different networks", *from.RouteTableId, *to.RouteTableId)
	}
	return func() *ec2.ReplaceRouteTableAssociationOutput {
		a := from.Associations[i]
		a.RouteTableId, a.RouteTableAssociationId = to.RouteTableId, new(s.config.IDs.EC2("rtbassoc", deref(a.SubnetId)))
		s.routeTables.put(*from.RouteTableId, without(from, i))
		to, _ := s.routeTables.get(*to.RouteTableId)
		s.routeTables.put(*to.RouteTableId, associated(to, a))
		if *a.Main {
			v, _ := s.vpcs.get(*to.VpcId)
			s.vpcs.put(*v.VpcId, changed(v, func(v *vpc) { v.mainTable = *to.RouteTableId }))
		}
		return &ec2.ReplaceRouteTableAssociationOutput{NewAssociationId: a.RouteTableAssociationId, AssociationState: a.AssociationState}
	}, nil
}

package ec2

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// subnet is a subnet and who has which of its addresses.
type subnet struct {
	types.Subnet
	prefix netip.Prefix
	public bool
	// cursor is the address given out last. It only moves forward (and wraps), so that a released
	// address is not soon another pod's.
	cursor netip.Addr
	used   map[netip.Addr]bool
}

// build makes the VPC: for each zone a private subnet of a quarter of the VPC and a public one of a
// sixteenth, tagged as Kubernetes load balancer controllers expect.
func (s *Service) build() {
	c := s.config
	s.vpc = &types.Vpc{
		VpcId: new(c.IDs.EC2("vpc", c.Cluster)), CidrBlock: new(c.CIDR.String()), State: types.VpcStateAvailable,
		OwnerId: new(c.AccountID), IsDefault: new(false), InstanceTenancy: types.TenancyDefault,
		DhcpOptionsId: new(c.IDs.EC2("dopt", c.Cluster)),
		CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{{
			AssociationId: new(c.IDs.EC2("vpc-cidr-assoc", c.Cluster)), CidrBlock: new(c.CIDR.String()),
			CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated},
		}},
	}
	s.setTags(*s.vpc.VpcId, "Name", c.Cluster, s.clusterTag(), "owned")
	s.gateway = &types.InternetGateway{
		InternetGatewayId: new(c.IDs.EC2("igw", c.Cluster)), OwnerId: new(c.AccountID),
		Attachments: []types.InternetGatewayAttachment{{VpcId: s.vpc.VpcId, State: "available"}},
	}
	s.buildGroups()

	base := c.CIDR.Addr().As4()
	private, public := s.routeTable("private", ""), s.routeTable("public", *s.gateway.InternetGatewayId)
	for i, zone := range c.Zones {
		block := netip.AddrFrom4([4]byte{base[0], base[1], byte(i * 64), 0})
		s.associate(private, s.addSubnet(zone, i, "private", netip.PrefixFrom(block, 18)))
	}
	for i, zone := range c.Zones {
		block := netip.AddrFrom4([4]byte{base[0], base[1], byte(192 + i*16), 0})
		s.associate(public, s.addSubnet(zone, i, "public", netip.PrefixFrom(block, 20)))
	}
}

func (s *Service) clusterTag() string { return "kubernetes.io/cluster/" + s.config.Cluster }

func (s *Service) addSubnet(zone string, index int, kind string, block netip.Prefix) string {
	c := s.config
	name := fmt.Sprintf("%s-%s-%s", c.Cluster, kind, zone)
	id := c.IDs.EC2("subnet", name)
	n := &subnet{
		Subnet: types.Subnet{
			SubnetId: new(id), VpcId: s.vpc.VpcId, CidrBlock: new(block.String()), OwnerId: new(c.AccountID),
			AvailabilityZone: new(zone), AvailabilityZoneId: new(zoneID(c.Region, index)), State: types.SubnetStateAvailable,
			SubnetArn:           new(fmt.Sprintf("arn:aws:ec2:%s:%s:subnet/%s", c.Region, c.AccountID, id)),
			MapPublicIpOnLaunch: new(kind == "public"), DefaultForAz: new(false), Ipv6Native: new(false),
			AssignIpv6AddressOnCreation: new(false), Ipv6CidrBlockAssociationSet: []types.SubnetIpv6CidrBlockAssociation{},
		},
		prefix: block, public: kind == "public", cursor: block.Addr(), used: map[netip.Addr]bool{},
	}
	for range 3 { // AWS keeps the first four addresses of each subnet for itself
		n.cursor = n.cursor.Next()
	}
	role := "kubernetes.io/role/internal-elb"
	if n.public {
		role = "kubernetes.io/role/elb"
	}
	s.subnets[id] = n
	s.setTags(id, "Name", name, role, "1", s.clusterTag(), "shared")
	return id
}

func (s *Service) routeTable(kind, gateway string) *types.RouteTable {
	c := s.config
	t := &types.RouteTable{
		RouteTableId: new(c.IDs.EC2("rtb", kind)), VpcId: s.vpc.VpcId, OwnerId: new(c.AccountID),
		Routes: []types.Route{{
			DestinationCidrBlock: new(c.CIDR.String()), GatewayId: new("local"),
			Origin: types.RouteOriginCreateRouteTable, State: types.RouteStateActive,
		}},
		Associations: []types.RouteTableAssociation{}, PropagatingVgws: []types.PropagatingVgw{},
	}
	if gateway != "" {
		t.Routes = append(t.Routes, types.Route{
			DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: new(gateway),
			Origin: types.RouteOriginCreateRoute, State: types.RouteStateActive,
		})
	} else {
		t.Associations = append(t.Associations, types.RouteTableAssociation{
			RouteTableAssociationId: new(c.IDs.EC2("rtbassoc", "main")), RouteTableId: t.RouteTableId, Main: new(true),
		})
	}
	s.routeTables[*t.RouteTableId] = t
	s.setTags(*t.RouteTableId, "Name", c.Cluster+"-"+kind)
	return t
}

func (s *Service) associate(t *types.RouteTable, subnetID string) {
	t.Associations = append(t.Associations, types.RouteTableAssociation{
		RouteTableAssociationId: new(s.config.IDs.EC2("rtbassoc", subnetID)), RouteTableId: t.RouteTableId,
		SubnetId: new(subnetID), Main: new(false),
		AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated},
	})
}

// buildGroups makes the VPC's default security group and that of the nodes.
func (s *Service) buildGroups() {
	c := s.config
	all := rule{protocol: "-1", from: -1, to: -1, cidr4: "0.0.0.0/0"}
	s.defaultGroup = c.IDs.EC2("sg", "default")
	self := rule{protocol: "-1", from: -1, to: -1, group: s.defaultGroup}
	s.nodeGroup = c.IDs.EC2("sg", c.Cluster+"-nodes")
	amongNodes := rule{protocol: "-1", from: -1, to: -1, group: s.nodeGroup}
	for _, g := range []*securityGroup{
		{id: s.defaultGroup, name: "default", description: "default VPC security group", ingress: s.withIDs(self), egress: s.withIDs(all)},
		{id: s.nodeGroup, name: c.Cluster + "-nodes", description: "nodes of cluster " + c.Cluster, ingress: s.withIDs(amongNodes), egress: s.withIDs(all)},
	} {
		s.groups[g.id] = eventual.Settled(s.model, g.id, g)
		s.inForce[g.id] = newInForce(g)
	}
	s.setTags(s.nodeGroup, "Name", c.Cluster+"-nodes", s.clusterTag(), "owned")
}

// take gives out an address of the subnet; ok is false when it is full.
func (n *subnet) take() (a netip.Addr, ok bool) {
	for range 1 << (32 - n.prefix.Bits()) {
		n.cursor = n.cursor.Next()
		if last := n.cursor.Next(); !n.prefix.Contains(n.cursor) || !n.prefix.Contains(last) {
			n.cursor = n.prefix.Addr()
			for range 4 {
				n.cursor = n.cursor.Next()
			}
		}
		if !n.used[n.cursor] {
			n.used[n.cursor] = true
			return n.cursor, true
		}
	}
	return netip.Addr{}, false
}

func (n *subnet) give(a netip.Addr) { delete(n.used, a) }

// free is the number of addresses that are left; AWS keeps five of each subnet.
func (n *subnet) free() int32 {
	return int32(1<<(32-n.prefix.Bits()) - 5 - len(n.used))
}

// zoneID is the id of the index-th zone, such as euw1-az1 for eu-west-1.
func zoneID(region string, index int) string {
	short := ""
	for _, part := range strings.Split(region, "-") {
		switch part {
		case "north", "south", "east", "west", "central":
			part = part[:1]
		case "northeast", "northwest", "southeast", "southwest":
			part = part[:1] + part[5:6]
		}
		short += part
	}
	return short + "-az" + strconv.Itoa(index+1)
}

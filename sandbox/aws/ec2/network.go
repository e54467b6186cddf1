package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// build makes the VPC: for each zone a private subnet of a quarter of the VPC and a public one of a
// sixteenth, tagged as Kubernetes load balancer controllers expect.
func (s *Service) build() {
	c := s.config
	v := s.addVPC(c.CIDR, c.Cluster, "private", (*table[*vpc]).settle)
	s.vpc, s.defaultGroup = *v.VpcId, v.defaultGroup
	s.setTags(s.vpc, "Name", c.Cluster, clusterTag(c.Cluster), "owned")
	gateway := c.IDs.EC2("igw", c.Cluster)
	s.gateways.settle(gateway, &types.InternetGateway{
		InternetGatewayId: new(gateway), OwnerId: new(c.AccountID),
		Attachments: []types.InternetGatewayAttachment{{VpcId: v.VpcId, State: attached}},
	})
	s.nodeGroup = s.addNodeGroup(c.Cluster)

	private, public := v.mainTable, c.IDs.EC2("rtb", "public")
	s.routeTables.settle(public, s.newRouteTable(public, v, types.Route{
		DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: new(gateway), Origin: types.RouteOriginCreateRoute, State: types.RouteStateActive,
	}))
	s.setTags(private, "Name", c.Cluster+"-private")
	s.setTags(public, "Name", c.Cluster+"-public")

	base := c.CIDR.Addr().As4()
	for i, zone := range c.Zones {
		block := netip.AddrFrom4([4]byte{base[0], base[1], byte(i * 64), 0})
		s.buildSubnet(zone, "private", netip.PrefixFrom(block, 18), private)
	}
	for i, zone := range c.Zones {
		block := netip.AddrFrom4([4]byte{base[0], base[1], byte(192 + i*16), 0})
		s.buildSubnet(zone, "public", netip.PrefixFrom(block, 20), public)
	}
}

func clusterTag(cluster string) string { return "kubernetes.io/cluster/" + cluster }

func (s *Service) buildSubnet(zone, kind string, block netip.Prefix, routes string) {
	name := fmt.Sprintf("%s-%s-%s", s.config.Cluster, kind, zone)
	v, _ := s.vpcs.get(s.vpc)
	n := s.newSubnet(name, v, zone, block)
	role := "kubernetes.io/role/internal-elb"
	if kind == "public" {
		n.MapPublicIpOnLaunch = new(true)
		role = "kubernetes.io/role/elb"
	}
	s.subnets.settle(*n.SubnetId, n)
	s.setTags(*n.SubnetId, "Name", name, role, "1", clusterTag(s.config.Cluster), "shared")
	t, _ := s.routeTables.get(routes)
	s.routeTables.settle(routes, associated(t, s.newAssociation(t, *n.SubnetId)))
}

// addNodeGroup makes the security group of the nodes of a cluster in the VPC.
func (s *Service) addNodeGroup(cluster string) string {
	name := cluster + "-nodes"
	id := s.config.IDs.EC2("sg", name)
	among := rule{protocol: "-1", from: -1, to: -1, group: id}
	g := &securityGroup{id: id, vpc: s.vpc, name: name, description: "nodes of cluster " + cluster, ingress: s.withIDs(among), egress: s.withIDs(everything)}
	s.groups.settle(id, g)
	s.groupsInForce[id] = begin(g.name, g)
	s.setTags(id, "Name", name, clusterTag(cluster), "owned")
	return id
}

// zoneIDs are the ids of the zones, such as euw1-az1 for eu-west-1a.
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

func (s *Service) zoneIDOf(zone string) string {
	return zoneID(s.config.Region, slices.Index(s.config.Zones, zone))
}

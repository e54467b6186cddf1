package ec2

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// routes are those of the main table of the VPC that the service began with: destination, way and state.
func (s *Service) routes() (list []string) {
	v, _ := s.vpcs.get(s.vpc)
	t, _ := s.routeTables.get(v.mainTable)
	for _, r := range t.Routes {
		list = append(list, strings.Join([]string{deref(r.DestinationCidrBlock) + deref(r.DestinationIpv6CidrBlock), *r.GatewayId, string(r.State)}, " "))
	}
	return list
}

// A block of a VPC has a route in each table as long as the VPC has the block, and a VPC cannot have any number of them.
func TestLocalRoutesComeAndGoWithBlocks(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	before := s.routes()
	four := called(t, s, s.associateVpcCidrBlock, &ec2.AssociateVpcCidrBlockInput{VpcId: &s.vpc, CidrBlock: new("100.64.0.0/16")}).CidrBlockAssociation
	six := called(t, s, s.associateVpcCidrBlock, &ec2.AssociateVpcCidrBlockInput{VpcId: &s.vpc, AmazonProvidedIpv6CidrBlock: new(true)}).Ipv6CidrBlockAssociation
	if got, want := s.routes(), append(slices.Clip(before), "100.64.0.0/16 local active", *six.Ipv6CidrBlock+" local active"); !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
	for _, id := range []*string{four.AssociationId, six.AssociationId} {
		called(t, s, s.disassociateVpcCidrBlock, &ec2.DisassociateVpcCidrBlockInput{AssociationId: id})
	}
	if got := s.routes(); !slices.Equal(got, before) {
		t.Errorf("routes %q after the blocks are gone, want %q", got, before)
	}
	for range maxBlocks {
		called(t, s, s.associateVpcCidrBlock, &ec2.AssociateVpcCidrBlockInput{VpcId: &s.vpc, AmazonProvidedIpv6CidrBlock: new(true)})
	}
	in := &ec2.AssociateVpcCidrBlockInput{VpcId: &s.vpc, AmazonProvidedIpv6CidrBlock: new(true)}
	if _, err := change(s, s.associateVpcCidrBlock, eventual.Reader{}, in); err == nil || !strings.Contains(err.Error(), "CidrLimitExceeded") {
		t.Errorf("one IPv6 block more than there may be: %v", err)
	}
}

// Routes to an internet gateway lead nowhere while it is detached, and lead there again when it is back.
func TestRoutesFollowTheirGateway(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	vpc := called(t, s, s.createVpc, &ec2.CreateVpcInput{CidrBlock: new("10.99.0.0/16")}).Vpc.VpcId
	gateway := called(t, s, s.createInternetGateway, &ec2.CreateInternetGatewayInput{}).InternetGateway.InternetGatewayId
	attach := func() {
		called(t, s, s.attachInternetGateway, &ec2.AttachInternetGatewayInput{VpcId: vpc, InternetGatewayId: gateway})
	}
	attach()
	v, _ := s.vpcs.get(*vpc)
	called(t, s, s.createRoute, &ec2.CreateRouteInput{RouteTableId: &v.mainTable, DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: gateway})
	subnet := called(t, s, s.createSubnet, &ec2.CreateSubnetInput{VpcId: vpc, CidrBlock: new("10.99.0.0/24")}).Subnet.SubnetId
	public := func() bool { one, _ := s.SubnetByID(*subnet); return one.Public }
	if !public() {
		t.Error("the subnet has no way to the internet")
	}
	called(t, s, s.detachInternetGateway, &ec2.DetachInternetGatewayInput{VpcId: vpc, InternetGatewayId: gateway})
	if public() {
		t.Error("the subnet has a way to the internet without a gateway")
	}
	if attach(); !public() {
		t.Error("the way to the internet is not back with the gateway")
	}
}

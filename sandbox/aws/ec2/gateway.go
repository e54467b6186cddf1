package ec2

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// attached is the state of an attachment of an internet gateway, for which the API has another word than for others.
const attached types.AttachmentStatus = "available"

var gatewayKind = kind[*types.InternetGateway]{
	id: func(g *types.InternetGateway) string { return *g.InternetGatewayId }, ids: gatewayID,
	filters: filters[*types.InternetGateway]{
		"attachment.state": func(_ *Service, g *types.InternetGateway) []string {
			return each(g.Attachments, func(a types.InternetGatewayAttachment) []string { return given(string(a.State)) })
		},
		"attachment.vpc-id": func(_ *Service, g *types.InternetGateway) []string {
			return each(g.Attachments, func(a types.InternetGatewayAttachment) []string { return one(a.VpcId) })
		},
		"internet-gateway-id": func(_ *Service, g *types.InternetGateway) []string { return one(g.InternetGatewayId) },
		"owner-id":            func(_ *Service, g *types.InternetGateway) []string { return one(g.OwnerId) },
	},
}

// DescribeInternetGateways lists internet gateways.
func (s *Service) DescribeInternetGateways(r eventual.Reader, in *ec2.DescribeInternetGatewaysInput) (*ec2.DescribeInternetGatewaysOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := list(s, r, gatewayKind, s.gateways.visible(r), query{in.InternetGatewayIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInternetGatewaysOutput{NextToken: next, InternetGateways: []types.InternetGateway{}}
	for _, g := range found {
		shown := *g
		shown.Tags = s.tagList(r, *g.InternetGatewayId)
		out.InternetGateways = append(out.InternetGateways, shown)
	}
	return out, nil
}

func (s *Service) createInternetGateway(_ eventual.Reader, in *ec2.CreateInternetGatewayInput) (func() *ec2.CreateInternetGatewayOutput, error) {
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeInternetGateway)
	if err != nil {
		return nil, err
	}
	if s.gateways.count() >= s.config.Quotas.InternetGateways {
		return nil, exceeded("InternetGatewayLimitExceeded", "internet gateways", s.config.Quotas.InternetGateways)
	}
	return func() *ec2.CreateInternetGatewayOutput {
		g := &types.InternetGateway{
			InternetGatewayId: new(s.config.IDs.EC2("igw", "")), OwnerId: new(s.config.AccountID), Attachments: []types.InternetGatewayAttachment{},
		}
		s.gateways.put(*g.InternetGatewayId, g)
		s.tags.settle(*g.InternetGatewayId, tags)
		shown := *g
		shown.Tags = tagList(tags)
		return &ec2.CreateInternetGatewayOutput{InternetGateway: &shown}
	}, nil
}

// gatewayOf is the internet gateway of a VPC.
func (s *Service) gatewayOf(vpc string) (*types.InternetGateway, bool) {
	return s.gateways.first(func(g *types.InternetGateway) bool { return len(g.Attachments) > 0 && *g.Attachments[0].VpcId == vpc })
}

func (s *Service) attachInternetGateway(r eventual.Reader, in *ec2.AttachInternetGatewayInput) (func() *ec2.AttachInternetGatewayOutput, error) {
	g, err := find(r, gatewayID, s.gateways, in.InternetGatewayId, "internetGatewayId")
	if err != nil {
		return nil, err
	}
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	if len(g.Attachments) > 0 {
		return nil, wire.Errorf("Resource.AlreadyAssociated", "resource %s is already attached to network %s", *g.InternetGatewayId, *g.Attachments[0].VpcId)
	}
	if other, ok := s.gatewayOf(*v.VpcId); ok {
		return nil, invalidValue("Network %s already has an internet gateway attached: %s", *v.VpcId, *other.InternetGatewayId)
	}
	return func() *ec2.AttachInternetGatewayOutput {
		s.gateways.put(*g.InternetGatewayId, changed(g, func(g *types.InternetGateway) {
			g.Attachments = []types.InternetGatewayAttachment{{VpcId: v.VpcId, State: attached}}
		}))
		s.markRoutes(*v.VpcId, *g.InternetGatewayId, types.RouteStateActive)
		return &ec2.AttachInternetGatewayOutput{}
	}, nil
}

func (s *Service) detachInternetGateway(r eventual.Reader, in *ec2.DetachInternetGatewayInput) (func() *ec2.DetachInternetGatewayOutput, error) {
	g, err := find(r, gatewayID, s.gateways, in.InternetGatewayId, "internetGatewayId")
	if err != nil {
		return nil, err
	}
	v, err := find(r, vpcID, s.vpcs, in.VpcId, "vpcId")
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(g.Attachments, func(a types.InternetGatewayAttachment) bool { return *a.VpcId == *v.VpcId }) {
		return nil, wire.Errorf("Gateway.NotAttached", "resource %s is not attached to network %s", *g.InternetGatewayId, *v.VpcId)
	}
	for _, n := range s.interfaces.all {
		if n.vpc == *v.VpcId && (n.public.IsValid() || s.associatedWith(n.id) != nil) {
			return nil, wire.Errorf("DependencyViolation", "Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", *v.VpcId)
		}
	}
	return func() *ec2.DetachInternetGatewayOutput {
		s.gateways.put(*g.InternetGatewayId, changed(g, func(g *types.InternetGateway) { g.Attachments = []types.InternetGatewayAttachment{} }))
		s.markRoutes(*v.VpcId, *g.InternetGatewayId, types.RouteStateBlackhole)
		return &ec2.DetachInternetGatewayOutput{}
	}, nil
}

func (s *Service) deleteInternetGateway(r eventual.Reader, in *ec2.DeleteInternetGatewayInput) (func() *ec2.DeleteInternetGatewayOutput, error) {
	g, err := find(r, gatewayID, s.gateways, in.InternetGatewayId, "internetGatewayId")
	if err != nil {
		return nil, err
	}
	if len(g.Attachments) > 0 {
		return nil, depends("internetGateway", *g.InternetGatewayId, "it is attached to "+*g.Attachments[0].VpcId)
	}
	return func() *ec2.DeleteInternetGatewayOutput {
		s.gateways.drop(*g.InternetGatewayId)
		s.tags.drop(*g.InternetGatewayId)
		return &ec2.DeleteInternetGatewayOutput{}
	}, nil
}

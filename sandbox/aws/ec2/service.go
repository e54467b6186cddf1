package ec2

import (
	"net/netip"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is the account and the network that the service begins with.
type Config struct {
	Region    string
	AccountID string
	// Zones are the availability zones, at most four.
	Zones []string
	// CIDR of the VPC, a /16.
	CIDR netip.Prefix
	// Cluster is the name in the tags kubernetes.io/cluster/<name>.
	Cluster string
	// IDs and Draws make runs repeatable.
	IDs   *resourceid.Source
	Draws *profile.Draws
}

// Service is EC2 of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	config Config
	model  *eventual.Model

	mu          sync.Mutex
	vpc         *types.Vpc
	gateway     *types.InternetGateway
	subnets     map[string]*subnet
	routeTables map[string]*types.RouteTable
	groups      map[string]*eventual.Value[*securityGroup]
	// inForce is what packets feel of the groups: rules reach the network a little later than the API.
	inForce      map[string]*inForce
	instances    map[string]*types.Instance
	interfaces   map[string]*networkInterface
	byAddress    map[netip.Addr]*networkInterface
	watches      map[*watch]struct{}
	tags         map[string]map[string]string // by resource id
	nodeGroup    string
	defaultGroup string
	built        built // for Reset
}

// New makes the network of the configuration.
func New(config Config) *Service {
	s := &Service{
		config:      config,
		model:       eventual.NewModel(config.Draws),
		subnets:     map[string]*subnet{},
		routeTables: map[string]*types.RouteTable{},
		groups:      map[string]*eventual.Value[*securityGroup]{},
		inForce:     map[string]*inForce{},
		instances:   map[string]*types.Instance{},
		interfaces:  map[string]*networkInterface{},
		byAddress:   map[netip.Addr]*networkInterface{},
		watches:     map[*watch]struct{}{},
		tags:        map[string]map[string]string{},
	}
	s.build()
	s.built = s.remember()
	return s
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.DescribeVpcs),
		wire.Of(s.DescribeSubnets),
		wire.Of(s.DescribeRouteTables),
		wire.Of(s.DescribeInternetGateways),
		wire.Of(s.DescribeAvailabilityZones),
		wire.Of(s.DescribeRegions),
		wire.Of(s.DescribeInstances),
		wire.Of(s.DescribeNetworkInterfaces),
		wire.Of(s.DescribeSecurityGroups),
		wire.Of(s.DescribeSecurityGroupRules),
		wire.Of(s.CreateSecurityGroup),
		wire.Of(s.DeleteSecurityGroup),
		wire.Of(s.AuthorizeSecurityGroupIngress),
		wire.Of(s.AuthorizeSecurityGroupEgress),
		wire.Of(s.RevokeSecurityGroupIngress),
		wire.Of(s.RevokeSecurityGroupEgress),
		wire.Of(s.CreateTags),
		wire.Of(s.DeleteTags),
		wire.Of(s.DescribeTags),
	)
}

// dryRun answers a request that only asks whether it would be allowed.
func dryRun(asked *bool) error {
	if asked != nil && *asked {
		return wire.Errorf("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").WithStatus(412)
	}
	return nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

package ec2

import (
	"net/netip"
	"sync"
	"time"

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
	Quotas  Quotas
	// IDs and Draws make runs repeatable.
	IDs   *resourceid.Source
	Draws *profile.Draws
	// Changed, if it is not nil, is told of each instance that begins to run, stops or ends, after that. It is called
	// without locks.
	Changed func(Machine)
}

// Service is EC2 of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu            sync.Mutex
	vpcs          *table[*vpc]
	subnets       *table[*subnet]
	routeTables   *table[*types.RouteTable]
	gateways      *table[*types.InternetGateway]
	groups        *table[*securityGroup]
	instances     *table[*instance]
	interfaces    *table[*networkInterface]
	addresses     *table[*address]
	prefixLists   *table[*prefixList]
	tags          *table[map[string]string] // by id of the resource
	byAddress     map[place]string          // interfaces by private address
	publicPool    *pool
	blocks6       uint16 // of those that Amazon gives to VPCs, how many are given
	tokens        tokens
	groupsInForce map[string]*inForce[*securityGroup]
	listsInForce  map[string]*inForce[*prefixList]
	// held says until when a security group counts as used, though what used it is gone.
	held     map[string]time.Time
	releases int
	watches  map[*watch]struct{}
	untold   []Machine // for Config.Changed

	// the network that the service begins with
	vpc, nodeGroup, defaultGroup string
	built                        built
}

// place is an address of a VPC. Two VPCs may have the same addresses.
type place struct {
	vpc     string
	address netip.Addr
}

// New makes the network of the configuration.
func New(config Config) *Service {
	config.Quotas.complete()
	model := eventual.NewModel(config.Draws)
	s := &Service{
		config: config,
		vpcs:   newTable[*vpc](model, "vpc"), subnets: newTable[*subnet](model, "subnet"),
		routeTables: newTable[*types.RouteTable](model, "rtb"), gateways: newTable[*types.InternetGateway](model, "igw"),
		groups: newTable[*securityGroup](model, "sg"), instances: newTable[*instance](model, "i"),
		interfaces: newTable[*networkInterface](model, "eni"), addresses: newTable[*address](model, "eipalloc"),
		prefixLists: newTable[*prefixList](model, "pl"), tags: newTable[map[string]string](model, "tags"),
		byAddress: map[place]string{}, publicPool: newPool(publicBlock), tokens: newTokens(),
		held: map[string]time.Time{}, watches: map[*watch]struct{}{}, groupsInForce: map[string]*inForce[*securityGroup]{}, listsInForce: map[string]*inForce[*prefixList]{},
	}
	s.interfaces.changed = s.interfaceChanged
	s.build()
	s.built = s.remember()
	return s
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		reading(s.DescribeVpcs), reading(s.DescribeVpcAttribute), changing(s, s.createVpc), changing(s, s.createDefaultVpc), changing(s, s.deleteVpc),
		changing(s, s.modifyVpcAttribute), changing(s, s.associateVpcCidrBlock), changing(s, s.disassociateVpcCidrBlock),

		reading(s.DescribeSubnets), changing(s, s.createSubnet), changing(s, s.deleteSubnet), changing(s, s.modifySubnetAttribute),
		changing(s, s.associateSubnetCidrBlock), changing(s, s.disassociateSubnetCidrBlock),

		reading(s.DescribeInternetGateways), changing(s, s.createInternetGateway), changing(s, s.deleteInternetGateway),
		changing(s, s.attachInternetGateway), changing(s, s.detachInternetGateway),

		reading(s.DescribeRouteTables), changing(s, s.createRouteTable), changing(s, s.deleteRouteTable), changing(s, s.createRoute),
		changing(s, s.replaceRoute), changing(s, s.deleteRoute), changing(s, s.associateRouteTable), changing(s, s.disassociateRouteTable),
		changing(s, s.replaceRouteTableAssociation),

		reading(s.DescribeAvailabilityZones), reading(s.DescribeRegions), reading(s.DescribeAccountAttributes),

		reading(s.DescribeInstances), reading(s.DescribeInstanceStatus), changing(s, s.runInstances), changing(s, s.startInstances),
		changing(s, s.stopInstances), changing(s, s.rebootInstances), changing(s, s.terminateInstances),

		reading(s.DescribeNetworkInterfaces), changing(s, s.createNetworkInterface), changing(s, s.deleteNetworkInterface),
		changing(s, s.attachNetworkInterface), changing(s, s.detachNetworkInterface), changing(s, s.modifyNetworkInterfaceAttribute),
		changing(s, s.assignPrivateIPAddresses), changing(s, s.unassignPrivateIPAddresses),
		changing(s, s.assignIPv6Addresses), changing(s, s.unassignIPv6Addresses),

		reading(s.DescribeAddresses), changing(s, s.allocateAddress), changing(s, s.associateAddress), changing(s, s.disassociateAddress),
		changing(s, s.releaseAddress),

		reading(s.DescribeManagedPrefixLists), reading(s.GetManagedPrefixListEntries), changing(s, s.createManagedPrefixList),
		changing(s, s.modifyManagedPrefixList), changing(s, s.deleteManagedPrefixList),

		reading(s.DescribeSecurityGroups), reading(s.DescribeSecurityGroupRules), changing(s, s.createSecurityGroup), changing(s, s.deleteSecurityGroup),
		changing(s, s.authorizeSecurityGroupIngress), changing(s, s.authorizeSecurityGroupEgress),
		changing(s, s.revokeSecurityGroupIngress), changing(s, s.revokeSecurityGroupEgress), changing(s, s.modifySecurityGroupRules),
		changing(s, s.updateSecurityGroupRuleDescriptionsIngress), changing(s, s.updateSecurityGroupRuleDescriptionsEgress),

		reading(s.DescribeTags), changing(s, s.createTags), changing(s, s.deleteTags),
	)
}

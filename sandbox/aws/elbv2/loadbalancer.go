package elbv2

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Quotas per region.
const (
	maxApplicationBalancers = 50
	maxNetworkBalancers     = 50
	maxSecurityGroups       = 5 // per network interface
)

var resourceName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?$`)

func checkBalancerName(name string) error {
	if !resourceName.MatchString(name) {
		return wire.Errorf("ValidationError", "The load balancer name '%.40s' must have 1 to 32 letters, digits and hyphens and no hyphen at either end", name)
	}
	if strings.HasPrefix(name, "internal-") {
		return wire.Errorf("ValidationError", "The load balancer name '%s' must not begin with 'internal-'", name)
	}
	return nil
}

// CreateLoadBalancer makes a load balancer in state provisioning. A second call with the same name and
// settings returns the first one's result.
func (s *Service) CreateLoadBalancer(r eventual.Reader, in *elb.CreateLoadBalancerInput) (*elb.CreateLoadBalancerOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted, placements, err := s.newBalancer(r, in)
	if err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, lb := range s.balancers {
		if lb.name != deref(in.Name) {
			continue
		}
		if !sameBalancer(lb.value.Get(), wanted) || len(in.Tags) > 0 && !equalTags(lb.tags, tags) {
			return nil, wire.Errorf("DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", lb.name)
		}
		return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{lb.value.Get()}}, nil
	}
	if err := s.balancerQuota(wanted.Type); err != nil {
		return nil, err
	}
	lb, err := s.addBalancer(*in.Name, wanted, placements, tags)
	if err != nil {
		return nil, err
	}
	return &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{lb.value.Get()}}, nil
}

// newBalancer validates a request and fills in defaults.
func (s *Service) newBalancer(r eventual.Reader, in *elb.CreateLoadBalancerInput) (types.LoadBalancer, []placement, error) {
	none := types.LoadBalancer{}
	if err := checkBalancerName(deref(in.Name)); err != nil {
		return none, nil, err
	}
	lb := types.LoadBalancer{
		LoadBalancerName: in.Name,
		Type:             cmp.Or(in.Type, types.LoadBalancerTypeEnumApplication),
		Scheme:           cmp.Or(in.Scheme, types.LoadBalancerSchemeEnumInternetFacing),
		IpAddressType:    cmp.Or(in.IpAddressType, types.IpAddressTypeIpv4),
	}
	switch lb.Type {
	case types.LoadBalancerTypeEnumApplication, types.LoadBalancerTypeEnumNetwork:
	case types.LoadBalancerTypeEnumGateway:
		return none, nil, wire.Errorf("InvalidConfigurationRequest", "Gateway load balancers are not modelled")
	default:
		return none, nil, invalidEnum("type", lb.Type)
	}
	if !slices.Contains(lb.Scheme.Values(), lb.Scheme) {
		return none, nil, wire.Errorf("InvalidScheme", "'%s' is not a valid scheme", lb.Scheme)
	}
	placements, err := s.placements(r, lb, in.Subnets, in.SubnetMappings)
	if err != nil {
		return none, nil, err
	}
	lb.VpcId = new(placements[0].subnet.VPC)
	lb.AvailabilityZones = shownZones(lb.Type, placements)
	if err := s.checkAddressType(lb, lb.IpAddressType); err != nil {
		return none, nil, err
	}
	if lb.EnablePrefixForIpv6SourceNat, err = checkSourceNAT(lb, in.EnablePrefixForIpv6SourceNat); err != nil {
		return none, nil, err
	}
	if lb.IpamPools, err = checkPools(lb, in.IpamPools); err != nil {
		return none, nil, err
	}
	if in.CustomerOwnedIpv4Pool != nil && lb.Type != types.LoadBalancerTypeEnumApplication {
		return none, nil, wire.Errorf("InvalidConfigurationRequest", "A customer-owned address pool is for application load balancers on Outposts only")
	}
	lb.CustomerOwnedIpv4Pool = in.CustomerOwnedIpv4Pool
	lb.SecurityGroups = in.SecurityGroups
	if len(lb.SecurityGroups) == 0 && lb.Type == types.LoadBalancerTypeEnumApplication {
		lb.SecurityGroups = []string{s.config.Network.DefaultSecurityGroupOf(*lb.VpcId)}
	}
	if err := s.checkSecurityGroups(r, lb); err != nil {
		return none, nil, err
	}
	if lb.Type == types.LoadBalancerTypeEnumNetwork && len(lb.SecurityGroups) > 0 {
		lb.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic = new("on")
	}
	return lb, placements, nil
}

func invalidEnum[T ~string](name string, value T) error {
	return wire.Errorf("ValidationError", "1 validation error detected: Value '%.80s' at '%s' failed to satisfy constraint: Member must satisfy enum value set", string(value), name)
}

// checkAddressType says whether a load balancer in some subnets can have a type of addresses. For
// subnets without IPv6 AWS's pages name two codes, and users have seen ValidationError with this text; this is the one that every operation has.
func (s *Service) checkAddressType(lb types.LoadBalancer, t types.IpAddressType) error {
	switch t {
	case types.IpAddressTypeIpv4:
		return nil
	case types.IpAddressTypeDualstack:
	case types.IpAddressTypeDualstackWithoutPublicIpv4:
		if lb.Type != types.LoadBalancerTypeEnumApplication || lb.Scheme != types.LoadBalancerSchemeEnumInternetFacing {
			return wire.Errorf("InvalidConfigurationRequest", "IP address type %s is for internet-facing application load balancers only", t)
		}
	default:
		return invalidEnum("ipAddressType", t)
	}
	for _, z := range lb.AvailabilityZones {
		if !s.config.Network.SubnetHasIPv6(*z.SubnetId) {
			return wire.Errorf("InvalidSubnet", "You must specify subnets with an associated IPv6 CIDR block: %s has none", *z.SubnetId)
		}
	}
	return nil
}

// sameBalancer says whether a request describes a load balancer that exists.
func sameBalancer(have, want types.LoadBalancer) bool {
	pool := func(lb types.LoadBalancer) string {
		return deref(deref(lb.IpamPools).Ipv4IpamPoolId) + deref(lb.CustomerOwnedIpv4Pool)
	}
	return pool(have) == pool(want) && have.Type == want.Type && have.Scheme == want.Scheme && have.IpAddressType == want.IpAddressType &&
		have.EnablePrefixForIpv6SourceNat == want.EnablePrefixForIpv6SourceNat && reflect.DeepEqual(have.AvailabilityZones, want.AvailabilityZones) &&
		slices.Equal(slices.Sorted(slices.Values(have.SecurityGroups)), slices.Sorted(slices.Values(want.SecurityGroups)))
}

func (s *Service) balancerQuota(kind types.LoadBalancerTypeEnum) error {
	count, limit := 0, maxApplicationBalancers
	if kind == types.LoadBalancerTypeEnumNetwork {
		limit = maxNetworkBalancers
	}
	for _, lb := range s.balancers {
		if lb.value.Get().Type == kind {
			count++
		}
	}
	if count >= limit {
		return wire.Errorf("TooManyLoadBalancers", "The maximum number of %s load balancers, %d, has been reached", kind, limit)
	}
	return nil
}

// addBalancer makes the load balancer and its interfaces, and lets it become active when its
// provisioning is over.
func (s *Service) addBalancer(name string, v types.LoadBalancer, placements []placement, tags map[string]string) (*loadBalancer, error) {
	arn := s.newBalancerARN(name, v.Type)
	v.LoadBalancerArn = new(arn)
	v.DNSName = new(s.dnsName(name, arn, v.Type, v.Scheme))
	v.CanonicalHostedZoneId = new(hostedZone(s.config.Region, v.Type))
	v.CreatedTime = new(time.Now().UTC().Truncate(time.Millisecond))
	v.State = &types.LoadBalancerState{Code: types.LoadBalancerStateEnumProvisioning}
	lb := &loadBalancer{
		arn: arn, name: name, tags: tags, listeners: map[string]*listener{},
		attributes: balancerDefaults(v.Type, v.Scheme),
	}
	for _, p := range placements {
		if err := s.addNode(lb, v, p); err != nil {
			s.dropInterfaces(lb.nodes)
			return nil, unplaced(p, name, err)
		}
	}
	lb.value = eventual.New(s.model, "lb/"+name, v)
	s.balancers[arn] = lb
	key := profile.ProvisionALB
	if !lb.application() {
		key = profile.ProvisionNLB
	}
	lb.dnsVisible = time.Now().Add(s.config.Draws.Once(profile.DNSVisible, "lb/"+arn))
	s.after(s.config.Draws.Once(key, "lb/"+name), func() []*node { return s.activate(lb) })
	return lb, nil
}

// unplaced is why a load balancer cannot be in a subnet: somebody has the address that was asked for, or there is none left.
func unplaced(p placement, name string, err error) error {
	if p.address.IsValid() || p.allocation != "" {
		return wire.Errorf("ResourceInUse", "An address that was asked for is in use: %v", err)
	}
	return wire.Errorf("InvalidSubnet", "cannot place %s: %v", name, err)
}

// checkSourceNAT validates whether a load balancer sends UDP over IPv6 from a prefix of each subnet.
func checkSourceNAT(lb types.LoadBalancer, given types.EnablePrefixForIpv6SourceNatEnum) (types.EnablePrefixForIpv6SourceNatEnum, error) {
	switch {
	case given == "":
		return lb.EnablePrefixForIpv6SourceNat, nil
	case !slices.Contains(given.Values(), given):
		return "", invalidEnum("enablePrefixForIpv6SourceNat", given)
	case given == types.EnablePrefixForIpv6SourceNatEnumOn && (lb.Type != types.LoadBalancerTypeEnumNetwork || lb.IpAddressType != types.IpAddressTypeDualstack):
		return "", wire.Errorf("InvalidConfigurationRequest", "A prefix for source NAT is for network load balancers of IP address type dualstack only")
	}
	return given, nil
}

// activate ends the provisioning of a load balancer: its nodes begin to serve.
func (s *Service) activate(lb *loadBalancer) []*node {
	if lb.deleted {
		return nil
	}
	v := lb.value.Get()
	v.State = &types.LoadBalancerState{Code: types.LoadBalancerStateEnumActive}
	lb.value.Put(v)
	for _, n := range lb.nodes {
		n.active = true
	}
	return lb.nodes
}

// DescribeLoadBalancers lists load balancers, all or by name or ARN.
func (s *Service) DescribeLoadBalancers(r eventual.Reader, in *elb.DescribeLoadBalancersInput) (*elb.DescribeLoadBalancersOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(in.LoadBalancerArns) > 0 && len(in.Names) > 0 {
		return nil, wire.Errorf("ValidationError", "Load balancer names and load balancer ARNs cannot be specified at the same time")
	}
	var all []types.LoadBalancer
	byName := map[string]types.LoadBalancer{}
	for _, lb := range s.balancers {
		if v, ok := lb.value.Read(r); ok {
			all = append(all, v)
			byName[lb.name], byName[lb.arn] = v, v
		}
	}
	if wanted := slices.Concat(in.LoadBalancerArns, in.Names); len(wanted) > 0 {
		all = nil
		for _, id := range wanted {
			v, ok := byName[id]
			if !ok {
				return nil, wire.Errorf("LoadBalancerNotFound", "One or more load balancers not found: '%s'", id)
			}
			all = append(all, v)
		}
	}
	key := func(v types.LoadBalancer) string { return *v.LoadBalancerArn }
	slices.SortFunc(all, func(a, b types.LoadBalancer) int { return cmp.Compare(key(a), key(b)) })
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	if found == nil {
		found = []types.LoadBalancer{}
	}
	return &elb.DescribeLoadBalancersOutput{LoadBalancers: found, NextMarker: next}, nil
}

// balancer finds the load balancer that a request is about.
func (s *Service) balancer(r eventual.Reader, arn *string) (*loadBalancer, error) {
	lb := s.balancers[deref(arn)]
	switch {
	case deref(arn) == "":
		return nil, wire.Errorf("ValidationError", "A load balancer ARN must be specified")
	case !strings.Contains(*arn, ":loadbalancer/"):
		return nil, wire.Errorf("ValidationError", "'%s' is not a valid load balancer ARN", *arn)
	case lb == nil || !lb.value.Found(r):
		return nil, wire.Errorf("LoadBalancerNotFound", "Load balancer '%s' not found", *arn)
	}
	return lb, nil
}

// DeleteLoadBalancer deletes a load balancer with its listeners and rules. One that does not exist is
// deleted already.
func (s *Service) DeleteLoadBalancer(_ eventual.Reader, in *elb.DeleteLoadBalancerInput) (*elb.DeleteLoadBalancerOutput, error) {
	s.mu.Lock()
	arn := deref(in.LoadBalancerArn)
	lb := s.balancers[arn]
	if lb == nil {
		s.mu.Unlock()
		if !strings.Contains(arn, ":loadbalancer/") {
			return nil, wire.Errorf("LoadBalancerNotFound", "'%s' is not the ARN of a load balancer", arn)
		}
		return &elb.DeleteLoadBalancerOutput{}, nil
	}
	if lb.attributes["deletion_protection.enabled"] == "true" {
		s.mu.Unlock()
		return nil, wire.Errorf("OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", arn)
	}
	if g := s.front(lb, 0); g != nil {
		s.mu.Unlock()
		return nil, wire.Errorf("ResourceInUse", "Load balancer '%s' cannot be deleted, because it is a target of group '%s'", arn, g.arn)
	}
	for _, l := range lb.listeners {
		s.dropListener(l)
	}
	lb.deleted = true
	delete(s.balancers, arn)
	nodes := lb.everyNode()
	s.after(s.config.Draws.Once(profile.InterfaceRelease, "lb/"+lb.name), func() []*node {
		s.dropInterfaces(nodes)
		return nil
	})
	s.mu.Unlock()
	// Waiting for requests in flight must hold nobody up.
	for _, n := range nodes {
		go n.close()
	}
	return &elb.DeleteLoadBalancerOutput{}, nil
}

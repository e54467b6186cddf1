package elbv2

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const maxTargetGroups = 3000

// CreateTargetGroup makes a target group. An identical second call returns the first one's result.
func (s *Service) CreateTargetGroup(r eventual.Reader, in *elb.CreateTargetGroupInput) (*elb.CreateTargetGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.newTargetGroup(r, in)
	if err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, g := range s.targetGroups {
		if g.name != *v.TargetGroupName {
			continue
		}
		have := g.value.Get()
		v.TargetGroupArn, v.LoadBalancerArns = have.TargetGroupArn, have.LoadBalancerArns
		if !reflect.DeepEqual(have, v) || len(in.Tags) > 0 && !equalTags(g.tags, tags) {
			return nil, wire.Errorf("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", g.name)
		}
		return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{have}}, nil
	}
	if len(s.targetGroups) >= maxTargetGroups {
		return nil, wire.Errorf("TooManyTargetGroups", "The maximum number of target groups, %d, has been reached", maxTargetGroups)
	}
	g := &targetGroup{
		arn: s.newTargetGroupARN(*v.TargetGroupName), name: *v.TargetGroupName, tags: tags,
		targets: map[dataplane.TargetKey]*target{}, references: map[string]bool{},
		attributes: groupDefaults(v),
	}
	v.TargetGroupArn = new(g.arn)
	g.value = eventual.New(s.model, "tg/"+g.name, v)
	s.targetGroups[g.arn] = g
	return &elb.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{v}}, nil
}

// newTargetGroup validates a request and fills in defaults.
func (s *Service) newTargetGroup(r eventual.Reader, in *elb.CreateTargetGroupInput) (types.TargetGroup, error) {
	name := deref(in.Name)
	v := types.TargetGroup{
		TargetGroupName: in.Name, TargetType: cmp.Or(in.TargetType, types.TargetTypeEnumInstance),
		IpAddressType:    cmp.Or(in.IpAddressType, types.TargetGroupIpAddressTypeEnumIpv4),
		LoadBalancerArns: []string{}, TargetControlPort: in.TargetControlPort,
	}
	if !resourceName.MatchString(name) || strings.Contains(name, "--") {
		return v, wire.Errorf("ValidationError", "The target group name '%.40s' must have 1 to 32 letters, digits and single hyphens and no hyphen at either end", name)
	}
	switch v.TargetType {
	case types.TargetTypeEnumInstance, types.TargetTypeEnumIp, types.TargetTypeEnumAlb:
	case types.TargetTypeEnumLambda:
		return newFunctionGroup(in, v)
	default:
		return v, invalidEnum("targetType", v.TargetType)
	}
	if v.IpAddressType != types.TargetGroupIpAddressTypeEnumIpv4 {
		return v, wire.Errorf("InvalidConfigurationRequest", "IP address type %s needs a VPC with an IPv6 CIDR block", v.IpAddressType)
	}
	switch {
	case in.Protocol == "":
		return v, wire.Errorf("ValidationError", "A protocol must be specified")
	case !slices.Contains(in.Protocol.Values(), in.Protocol):
		return v, invalidEnum("protocol", in.Protocol)
	case in.Protocol == types.ProtocolEnumGeneve:
		return v, wire.Errorf("InvalidConfigurationRequest", "Gateway load balancers are not modelled")
	case in.Port == nil:
		return v, wire.Errorf("ValidationError", "A port must be specified")
	case *in.Port < 1 || *in.Port > 65535:
		return v, wire.Errorf("ValidationError", "Port '%d' must be between 1 and 65535", *in.Port)
	case deref(in.VpcId) == "":
		return v, wire.Errorf("ValidationError", "A VPC ID must be specified")
	case !s.config.Network.VPCExists(r, *in.VpcId):
		return v, wire.Errorf("ValidationError", "The VPC ID '%s' is not found", *in.VpcId)
	case v.TargetType == types.TargetTypeEnumAlb && in.Protocol != types.ProtocolEnumTcp:
		return v, wire.Errorf("InvalidConfigurationRequest", "Target groups of type alb have protocol TCP")
	}
	v.Protocol, v.Port, v.VpcId = in.Protocol, in.Port, in.VpcId
	if layer7(v.Protocol) {
		v.ProtocolVersion = new(strings.ToUpper(cmp.Or(deref(in.ProtocolVersion), "HTTP1")))
		if !slices.Contains([]string{"HTTP1", "HTTP2", "GRPC"}, *v.ProtocolVersion) {
			return v, wire.Errorf("ValidationError", "Protocol version '%.20s' must be HTTP1, HTTP2 or GRPC", *v.ProtocolVersion)
		}
	} else if in.ProtocolVersion != nil {
		return v, wire.Errorf("InvalidConfigurationRequest", "A protocol version can be specified for HTTP and HTTPS only")
	}
	return v, healthCheckOf(in).create(&v)
}

func healthCheckOf(in *elb.CreateTargetGroupInput) healthCheck {
	return healthCheck{
		enabled: in.HealthCheckEnabled, protocol: in.HealthCheckProtocol, port: in.HealthCheckPort, path: in.HealthCheckPath,
		interval: in.HealthCheckIntervalSeconds, timeout: in.HealthCheckTimeoutSeconds,
		healthy: in.HealthyThresholdCount, unhealthy: in.UnhealthyThresholdCount, matcher: in.Matcher,
	}
}

func layer7(p types.ProtocolEnum) bool {
	return p == types.ProtocolEnumHttp || p == types.ProtocolEnumHttps
}

// ModifyTargetGroup changes the health check of a target group.
func (s *Service) ModifyTargetGroup(r eventual.Reader, in *elb.ModifyTargetGroupInput) (*elb.ModifyTargetGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.targetGroup(r, in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	v := g.value.Get()
	check := healthCheck{
		enabled: in.HealthCheckEnabled, protocol: in.HealthCheckProtocol, port: in.HealthCheckPort, path: in.HealthCheckPath,
		interval: in.HealthCheckIntervalSeconds, timeout: in.HealthCheckTimeoutSeconds,
		healthy: in.HealthyThresholdCount, unhealthy: in.UnhealthyThresholdCount, matcher: in.Matcher,
	}
	if err := check.modify(&v); err != nil {
		return nil, err
	}
	g.value.Put(v)
	s.changeSettings(g, "ModifyTargetGroup "+g.arn)
	if g.lambda() {
		for _, t := range g.targets {
			s.show(g, t)
		}
	}
	return &elb.ModifyTargetGroupOutput{TargetGroups: []types.TargetGroup{v}}, nil
}

// changeSettings lets the nodes learn the settings of a group.
func (s *Service) changeSettings(g *targetGroup, what string) {
	if g.balancer == nil {
		return
	}
	document := settingsOf(g)
	s.propagate(g.balancer, change{key: g.balancer.attributeChange(), what: what, lane: g.arn + "/settings", apply: func(n *node) {
		if n.needs(s, g.arn) {
			known := n.group(s, g.arn)
			known.settings, known.settingsChanged = document, true
		}
	}})
}

// targetGroup finds the target group that a request is about.
func (s *Service) targetGroup(r eventual.Reader, arn *string) (*targetGroup, error) {
	g := s.targetGroups[deref(arn)]
	switch {
	case deref(arn) == "":
		return nil, wire.Errorf("ValidationError", "A target group ARN must be specified")
	case !strings.Contains(*arn, ":targetgroup/"):
		return nil, wire.Errorf("ValidationError", "'%s' is not a valid target group ARN", *arn)
	case g == nil || !g.value.Found(r):
		return nil, wire.Errorf("TargetGroupNotFound", "Target group '%s' not found", *arn)
	}
	return g, nil
}

// DescribeTargetGroups lists target groups: all, by name, by ARN, or those that a load balancer uses.
func (s *Service) DescribeTargetGroups(r eventual.Reader, in *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := 0
	for _, given := range []bool{len(in.TargetGroupArns) > 0, len(in.Names) > 0, deref(in.LoadBalancerArn) != ""} {
		if given {
			asked++
		}
	}
	if asked > 1 {
		return nil, wire.Errorf("ValidationError", "Target group names, target group ARNs and a load balancer ARN cannot be specified at the same time")
	}
	if deref(in.LoadBalancerArn) != "" {
		if _, err := s.balancer(r, in.LoadBalancerArn); err != nil {
			return nil, err
		}
	}
	all := []types.TargetGroup{}
	byName := map[string]types.TargetGroup{}
	for _, g := range s.targetGroups {
		v, ok := g.value.Read(r)
		if !ok || deref(in.LoadBalancerArn) != "" && !slices.Contains(v.LoadBalancerArns, *in.LoadBalancerArn) {
			continue
		}
		all = append(all, v)
		byName[g.name], byName[g.arn] = v, v
	}
	if wanted := slices.Concat(in.TargetGroupArns, in.Names); len(wanted) > 0 {
		all = nil
		for _, id := range wanted {
			v, ok := byName[id]
			if !ok {
				return nil, wire.Errorf("TargetGroupNotFound", "One or more target groups not found: '%s'", id)
			}
			all = append(all, v)
		}
	}
	key := func(v types.TargetGroup) string { return *v.TargetGroupArn }
	slices.SortFunc(all, func(a, b types.TargetGroup) int { return cmp.Compare(key(a), key(b)) })
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeTargetGroupsOutput{TargetGroups: found, NextMarker: next}, nil
}

// DeleteTargetGroup deletes a group to which no listener or rule refers. One that does not exist is
// deleted already.
func (s *Service) DeleteTargetGroup(_ eventual.Reader, in *elb.DeleteTargetGroupInput) (*elb.DeleteTargetGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.targetGroups[deref(in.TargetGroupArn)]
	if g == nil {
		if !strings.Contains(deref(in.TargetGroupArn), ":targetgroup/") {
			return nil, wire.Errorf("ValidationError", "'%s' is not a valid target group ARN", deref(in.TargetGroupArn))
		}
		return &elb.DeleteTargetGroupOutput{}, nil
	}
	if g.inUse() || time.Now().Before(g.lingers) {
		return nil, wire.Errorf("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", g.arn)
	}
	delete(s.targetGroups, g.arn)
	return &elb.DeleteTargetGroupOutput{}, nil
}

// refer notes that a rule (or listener, by its default rule) no longer refers to the groups in before
// but to those in after. With its first reference a group's targets begin to be checked; with its last
// they become unused.
func (s *Service) refer(lb *loadBalancer, rule string, before, after []string) {
	for _, arn := range after {
		g := s.targetGroups[arn]
		first := !g.inUse()
		g.references[rule] = true
		if first {
			s.attach(g, lb)
		}
	}
	for _, arn := range before {
		g := s.targetGroups[arn]
		if g == nil || slices.Contains(after, arn) {
			continue
		}
		delete(g.references, rule)
		if !g.inUse() {
			s.detach(g)
		}
	}
}

func (s *Service) attach(g *targetGroup, lb *loadBalancer) {
	g.balancer = lb
	v := g.value.Get()
	v.LoadBalancerArns = []string{lb.arn}
	g.value.Put(v)
	for _, t := range g.targets {
		t.reports = map[string]dataplane.TargetHealth{}
		s.show(g, t)
	}
	s.changeSettings(g, "attach "+g.arn)
	s.announce(g)
}

func (s *Service) detach(g *targetGroup) {
	g.lingers = time.Now().Add(s.config.Draws.Once(profile.ReferenceRelease, g.balancer.event()+"/"+g.name))
	g.balancer = nil
	v := g.value.Get()
	v.LoadBalancerArns = []string{}
	g.value.Put(v)
	for key, t := range g.targets {
		if t.draining {
			delete(g.targets, key)
			continue
		}
		t.reports = map[string]dataplane.TargetHealth{}
		s.show(g, t)
	}
}

package elbv2

import (
	"cmp"
	"net/netip"
	"regexp"
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

const maxTargetsPerCall = 200

// target is one registration.
type target struct {
	key     dataplane.TargetKey
	address netip.Addr
	zone    string // of the address, or all
	server  string // its server ID, in groups with a QUIC protocol
	// draining targets leave when the deregistration delay is over.
	draining bool
	// leaves is when a draining target is taken away.
	leaves time.Time
	// reports are what the nodes say of its health, by zone; shown is what the API says.
	reports map[string]dataplane.TargetHealth
	shown   types.TargetHealth
	// anomalies are the zones whose nodes find that it fails more often than others; mitigated those whose nodes send it less for that.
	anomalies, mitigated map[string]bool
	// changes numbers the changes of its health, for the draws.
	changes int
	// unhealthySince is when the API began to show it as unhealthy. Zero: it does not.
	unhealthySince time.Time
	// awaited is true while the end of its interval as unhealthy.draining is waited for.
	awaited bool
}

func (t *target) registration(state dataplane.TargetState) dataplane.Target {
	return dataplane.Target{ID: t.key.ID, Address: t.address, Port: t.key.Port, Zone: t.zone, State: state}
}

// RegisterTargets adds targets to a group: all of them, or none if one cannot be.
func (s *Service) RegisterTargets(r eventual.Reader, in *elb.RegisterTargetsInput) (*elb.RegisterTargetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.targetGroup(r, in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) == 0 || len(in.Targets) > maxTargetsPerCall {
		return nil, wire.Errorf("ValidationError", "Between 1 and %d targets must be specified, not %d", maxTargetsPerCall, len(in.Targets))
	}
	var added []*target
	for _, d := range in.Targets {
		t, err := s.newTarget(g, d)
		if err != nil {
			return nil, err
		}
		known := g.targets[t.key]
		if known != nil && !known.draining || slices.ContainsFunc(added, func(o *target) bool { return o.key == t.key }) {
			continue
		}
		added = append(added, t)
	}
	if err := checkTogether(g, added); err != nil {
		return nil, err
	}
	if err := s.targetQuota(g, added); err != nil {
		return nil, err
	}
	for _, t := range added {
		g.targets[t.key] = t
		s.show(g, t)
	}
	if g.inUse() && len(added) > 0 {
		s.changeTargets(g, "RegisterTargets "+g.arn, g.balancer.either(profile.ALBRegister, profile.NLBRegister), added, dataplane.Registered)
	}
	return &elb.RegisterTargetsOutput{}, nil
}

// newTarget validates a target.
func (s *Service) newTarget(g *targetGroup, d types.TargetDescription) (*target, error) {
	v := g.value.Get()
	if g.lambda() {
		t := &target{key: dataplane.TargetKey{ID: deref(d.Id)}, reports: map[string]dataplane.TargetHealth{}}
		return t, functionTarget(g, t, d)
	}
	port := *v.Port
	if d.Port != nil {
		port = *d.Port
	}
	if port < 1 || port > 65535 {
		return nil, wire.Errorf("ValidationError", "Port '%d' must be between 1 and 65535", port)
	}
	t := &target{key: dataplane.TargetKey{ID: deref(d.Id), Port: uint16(port)}, reports: map[string]dataplane.TargetHealth{}, server: deref(d.QuicServerId)}
	if err := checkServer(g, t); err != nil {
		return nil, err
	}
	switch v.TargetType {
	case types.TargetTypeEnumInstance:
		return t, s.instanceTarget(*v.VpcId, t)
	case types.TargetTypeEnumAlb:
		return t, s.balancerTarget(g, t)
	}
	if err := s.addressTarget(*v.VpcId, t, deref(d.AvailabilityZone)); err != nil {
		return nil, err
	}
	if t.zone == "all" && g.attributes["preserve_client_ip.enabled"] == "true" {
		return nil, wire.Errorf("InvalidTarget", "Target '%s' is outside VPC '%s', which a target group with client IP preservation cannot use", t.key.ID, *v.VpcId)
	}
	return t, nil
}

var serverID = regexp.MustCompile(`^0x[0-9a-f]{16}$`)

// checkServer validates the server ID of a target: each has its own in a group with a QUIC protocol, and none elsewhere.
func checkServer(g *targetGroup, t *target) error {
	p := g.value.Get().Protocol
	quic := p == types.ProtocolEnumQuic || p == types.ProtocolEnumTcpQuic
	switch {
	case !quic && t.server == "":
		return nil
	case !quic:
		return wire.Errorf("ValidationError", "A server ID cannot be specified for target group '%s' with protocol %s", g.name, p)
	case !serverID.MatchString(t.server):
		return wire.Errorf("ValidationError", "The server ID '%.40s' of target '%s' must be 0x and 16 hexadecimal digits in lower case", t.server, t.key.ID)
	}
	for _, other := range g.targets {
		if other.key != t.key && other.server == t.server && !other.draining {
			return wire.Errorf("InvalidTarget", "The server ID '%s' is that of target '%s'", t.server, other.key.ID)
		}
	}
	if known := g.targets[t.key]; known != nil && !known.draining && known.server != t.server {
		return wire.Errorf("InvalidTarget", "The server ID of target '%s' cannot be changed while it is registered", t.key.ID)
	}
	return nil
}

// checkTogether validates what the targets of one call are to each other.
func checkTogether(g *targetGroup, added []*target) error {
	kind := g.value.Get().TargetType
	if len(added) > 1 && (kind == types.TargetTypeEnumAlb || kind == types.TargetTypeEnumLambda) {
		return wire.Errorf("TooManyTargets", "Target group '%s' of type %s can have one target only, not %d", g.name, kind, len(added))
	}
	servers := map[string]string{}
	for _, t := range added {
		if other, taken := servers[t.server]; taken && t.server != "" {
			return wire.Errorf("InvalidTarget", "The server ID '%s' is given to targets '%s' and '%s'", t.server, other, t.key.ID)
		}
		servers[t.server] = t.key.ID
	}
	return nil
}

func (s *Service) instanceTarget(vpc string, t *target) error {
	if !strings.HasPrefix(t.key.ID, "i-") {
		return wire.Errorf("ValidationError", "Instance ID '%.40s' is not valid", t.key.ID)
	}
	machine, ok := s.config.Network.InstanceByID(t.key.ID)
	if !ok || !machine.Running {
		return wire.Errorf("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", t.key.ID)
	}
	if machine.VPC != vpc {
		return wire.Errorf("InvalidTarget", "The following targets are not in the target group VPC '%s': '%s'", vpc, t.key.ID)
	}
	t.address, t.zone = machine.Address, machine.Zone
	return nil
}

var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
}

// addressTarget compares an address with the subnets of the VPC, as AWS does: inside them the zone is
// known, outside it must be given as all.
func (s *Service) addressTarget(vpc string, t *target, zone string) error {
	a, err := netip.ParseAddr(t.key.ID)
	if err != nil || !a.Is4() {
		return wire.Errorf("ValidationError", "The IP address '%.60s' is not a valid IPv4 address", t.key.ID)
	}
	t.address = a
	home, inside := s.config.Network.SubnetIn(vpc, a)
	switch {
	case !inside && !slices.ContainsFunc(privateRanges, func(p netip.Prefix) bool { return p.Contains(a) }):
		return wire.Errorf("ValidationError", "The IP address '%s' is not within a private range: it must be from the subnets of the VPC, RFC 1918 or RFC 6598", a)
	case !inside && zone != "all":
		return wire.Errorf("ValidationError", "You must specify an Availability Zone ('all') for target '%s', which is not within the subnets of VPC '%s'", a, vpc)
	case !inside:
		t.zone = "all"
	case zone == "all":
		return wire.Errorf("ValidationError", "You cannot specify an Availability Zone of 'all' for target '%s', which is within the subnets of VPC '%s'", a, vpc)
	case zone != "" && zone != home.Zone:
		return wire.Errorf("ValidationError", "Target '%s' is in Availability Zone %s, not %s", a, home.Zone, zone)
	default:
		t.zone = home.Zone
	}
	return nil
}

// delay is the deregistration delay.
func (g *targetGroup) delay() time.Duration {
	return seconds(g.attributes["deregistration_delay.timeout_seconds"])
}

// DeregisterTargets lets targets drain, or removes them if no load balancer uses the group. What is
// not registered is deregistered already.
func (s *Service) DeregisterTargets(r eventual.Reader, in *elb.DeregisterTargetsInput) (*elb.DeregisterTargetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.targetGroup(r, in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) == 0 || len(in.Targets) > maxTargetsPerCall {
		return nil, wire.Errorf("ValidationError", "Between 1 and %d targets must be specified, not %d", maxTargetsPerCall, len(in.Targets))
	}
	var leaving []*target
	for _, d := range in.Targets {
		if err := checkTargetID(g, d); err != nil {
			return nil, err
		}
		for key, t := range g.targets {
			if key.ID == *d.Id && (d.Port == nil || *d.Port == int32(key.Port)) && !t.draining {
				leaving = append(leaving, t)
			}
		}
	}
	s.drain(g, leaving)
	return &elb.DeregisterTargetsOutput{}, nil
}

func checkTargetID(g *targetGroup, d types.TargetDescription) error {
	id, kind := deref(d.Id), g.value.Get().TargetType
	fits := map[types.TargetTypeEnum]bool{
		types.TargetTypeEnumInstance: strings.HasPrefix(id, "i-"),
		types.TargetTypeEnumIp:       id != "" && !strings.HasPrefix(id, "i-") && !strings.HasPrefix(id, "arn:"),
		types.TargetTypeEnumAlb:      strings.Contains(id, ":loadbalancer/app/"),
		types.TargetTypeEnumLambda:   functionARN.MatchString(id),
	}
	if !fits[kind] {
		return wire.Errorf("InvalidTarget", "'%.60s' cannot be a target of group '%s'", deref(d.Id), g.arn)
	}
	return nil
}

func (s *Service) drain(g *targetGroup, leaving []*target) {
	if len(leaving) == 0 {
		return
	}
	if !g.inUse() {
		for _, t := range leaving {
			delete(g.targets, t.key)
		}
		return
	}
	for _, t := range leaving {
		t.draining, t.leaves = true, time.Now().Add(g.delay())
		s.show(g, t)
	}
	s.changeTargets(g, "DeregisterTargets "+g.arn, g.balancer.either(profile.ALBDeregister, profile.NLBDeregister), leaving, dataplane.Draining)
	s.after(g.delay(), func() []*node {
		for _, t := range leaving {
			if g.targets[t.key] == t {
				delete(g.targets, t.key)
			}
		}
		return nil
	})
}

// DescribeTargetHealth tells the health of all targets of a group, or of the given ones.
func (s *Service) DescribeTargetHealth(r eventual.Reader, in *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.targetGroup(r, in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	for _, extra := range in.Include {
		if !slices.Contains(extra.Values(), extra) {
			return nil, invalidEnum("include", extra)
		}
	}
	s.followInstances(g)
	v := g.value.Get()
	shown := func(t *target) types.TargetHealthDescription {
		d := described(v, t)
		g.extras(&d, t, in.Include)
		return d
	}
	out := &elb.DescribeTargetHealthOutput{TargetHealthDescriptions: []types.TargetHealthDescription{}}
	if len(in.Targets) == 0 {
		all := make([]*target, 0, len(g.targets))
		for _, t := range g.targets {
			all = append(all, t)
		}
		slices.SortFunc(all, func(a, b *target) int {
			return cmp.Or(cmp.Compare(a.key.ID, b.key.ID), cmp.Compare(a.key.Port, b.key.Port))
		})
		for _, t := range all {
			out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, shown(t))
		}
		return out, nil
	}
	for _, d := range in.Targets {
		if err := checkTargetID(g, d); err != nil {
			return nil, err
		}
		port := deref(v.Port)
		if d.Port != nil {
			if port = *d.Port; port < 1 || port > 65535 {
				return nil, wire.Errorf("ValidationError", "Port '%d' must be between 1 and 65535", port)
			}
		}
		t := g.targets[dataplane.TargetKey{ID: *d.Id, Port: uint16(port)}]
		if t == nil {
			out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, unregistered(v, *d.Id, port))
			continue
		}
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, shown(t))
	}
	return out, nil
}

// extras are what is told of a target besides its health: whether a node finds an anomaly, if that is asked for; and that nobody has
// shifted traffic away, for network load balancers and those for which that is enabled.
func (g *targetGroup) extras(d *types.TargetHealthDescription, t *target, include []types.DescribeTargetHealthInputIncludeEnum) {
	if layer7(g.value.Get().Protocol) && len(include) > 0 {
		d.AnomalyDetection = &types.AnomalyDetection{Result: types.AnomalyResultEnumNormal, MitigationInEffect: types.MitigationInEffectEnumNo}
		if len(t.anomalies) > 0 {
			d.AnomalyDetection.Result = types.AnomalyResultEnumAnomalous
		}
		if len(t.mitigated) > 0 {
			d.AnomalyDetection.MitigationInEffect = types.MitigationInEffectEnumYes
		}
	}
	if g.balancer != nil && (!g.balancer.application() || g.balancer.attributes["zonal_shift.config.enabled"] == "true") {
		d.AdministrativeOverride = &types.AdministrativeOverride{
			State: types.TargetAdministrativeOverrideStateEnumNoOverride, Reason: types.TargetAdministrativeOverrideReasonEnumNoOverrideEngaged,
			Description: new("No override is currently active on target"),
		}
	}
}

func described(v types.TargetGroup, t *target) types.TargetHealthDescription {
	shown := t.shown
	d := types.TargetHealthDescription{
		Target:          &types.TargetDescription{Id: new(t.key.ID), Port: new(int32(t.key.Port))},
		HealthCheckPort: new(healthCheckPort(v, int32(t.key.Port))), TargetHealth: &shown,
	}
	if v.TargetType == types.TargetTypeEnumLambda {
		d.Target.Port, d.HealthCheckPort = nil, nil
	}
	if v.TargetType == types.TargetTypeEnumIp {
		d.Target.AvailabilityZone = new(t.zone)
	}
	if t.server != "" {
		d.Target.QuicServerId = new(t.server)
	}
	return d
}

func unregistered(v types.TargetGroup, id string, port int32) types.TargetHealthDescription {
	d := types.TargetHealthDescription{
		Target: &types.TargetDescription{Id: new(id), Port: new(port)}, HealthCheckPort: new(healthCheckPort(v, port)),
		TargetHealth: &types.TargetHealth{
			State: types.TargetHealthStateEnumUnused, Reason: types.TargetHealthReasonEnumNotRegistered,
			Description: new("Target is not registered to the target group"),
		},
	}
	if v.TargetType == types.TargetTypeEnumLambda {
		d.Target.Port, d.HealthCheckPort = nil, nil
	}
	return d
}

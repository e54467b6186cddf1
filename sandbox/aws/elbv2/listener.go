package elbv2

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxListeners     = 50
	maxGroups        = 100 // per application load balancer
	defaultSSLPolicy = "ELBSecurityPolicy-2016-08"
)

// CreateListener opens a port of a load balancer. An identical second call returns the first one's
// listener.
func (s *Service) CreateListener(r eventual.Reader, in *elb.CreateListenerInput) (*elb.CreateListenerOutput, error) {
	found := s.lookUp(in.Certificates)
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	v := types.Listener{
		LoadBalancerArn: new(lb.arn), Port: in.Port, Protocol: in.Protocol, SslPolicy: in.SslPolicy,
		Certificates: in.Certificates, AlpnPolicy: in.AlpnPolicy, MutualAuthentication: in.MutualAuthentication,
	}
	if err := s.checkListener(lb, &v, found); err != nil {
		return nil, err
	}
	if err := s.checkMutual(r, &v); err != nil {
		return nil, err
	}
	if v.DefaultActions, err = s.actions(r, lb, in.DefaultActions); err != nil {
		return nil, err
	}
	if err := s.fit(v, v.DefaultActions); err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, other := range lb.listeners {
		have := other.value.Get()
		if *have.Port != *v.Port {
			continue
		}
		v.ListenerArn = have.ListenerArn
		if reflect.DeepEqual(have, v) {
			return &elb.CreateListenerOutput{Listeners: []types.Listener{have}}, nil
		}
		return nil, wire.Errorf("DuplicateListener", "A listener already exists on port %d of load balancer '%s'", *v.Port, lb.name)
	}
	if len(lb.listeners) >= maxListeners {
		return nil, wire.Errorf("TooManyListeners", "The maximum number of listeners of a load balancer, %d, has been reached", maxListeners)
	}
	if err := s.groupQuota(lb, v.DefaultActions); err != nil {
		return nil, err
	}
	s.keepSecrets(in.DefaultActions)
	l := s.addListener(lb, v, tags)
	return &elb.CreateListenerOutput{Listeners: []types.Listener{l.value.Get()}}, nil
}

func (s *Service) addListener(lb *loadBalancer, v types.Listener, tags map[string]string) *listener {
	l := &listener{arn: s.newListenerARN(lb, *v.Port), balancer: lb, tags: tags, rules: map[string]*rule{}}
	v.ListenerArn = new(l.arn)
	l.attributes = listenerDefaults(v.Protocol)
	l.value = eventual.New(s.model, "listener/"+l.arn, v)
	l.byDefault = &rule{arn: s.newRuleARN(l, "default"), listener: l, tags: map[string]string{}}
	l.byDefault.value = eventual.New(s.model, "rule/"+l.byDefault.arn, types.Rule{
		RuleArn: new(l.byDefault.arn), Priority: new("default"), IsDefault: new(true), Actions: v.DefaultActions, Conditions: []types.RuleCondition{},
	})
	l.rules[l.byDefault.arn] = l.byDefault
	lb.listeners[l.arn], s.listeners[l.arn], s.rules[l.byDefault.arn] = l, l, l.byDefault
	s.refer(lb, l.byDefault.arn, nil, groupsOf(v.DefaultActions))
	s.changeListener(l, "CreateListener "+l.arn)
	return l
}

var protocolsOf = map[types.LoadBalancerTypeEnum][]types.ProtocolEnum{
	types.LoadBalancerTypeEnumApplication: {types.ProtocolEnumHttp, types.ProtocolEnumHttps},
	types.LoadBalancerTypeEnumNetwork:     {types.ProtocolEnumTcp, types.ProtocolEnumTls, types.ProtocolEnumUdp, types.ProtocolEnumTcpUdp, types.ProtocolEnumQuic, types.ProtocolEnumTcpQuic},
}

// checkListener validates port, protocol and certificates, and fills in defaults. Found says of each certificate that the request
// gives what is wrong with it.
func (s *Service) checkListener(lb *loadBalancer, v *types.Listener, found map[string]error) error {
	kind := lb.value.Get().Type
	switch {
	case v.Port == nil || *v.Port < 1 || *v.Port > 65535:
		return wire.Errorf("ValidationError", "A listener port must be between 1 and 65535")
	case v.Protocol == "":
		return wire.Errorf("ValidationError", "A listener protocol must be specified")
	case !slices.Contains(v.Protocol.Values(), v.Protocol):
		return invalidEnum("protocol", v.Protocol)
	case !slices.Contains(protocolsOf[kind], v.Protocol):
		return wire.Errorf("UnsupportedProtocol", "Protocol %s is not supported by %s load balancers", v.Protocol, kind)
	}
	if err := checkALPN(*v); err != nil {
		return err
	}
	if v.Protocol != types.ProtocolEnumHttps && v.Protocol != types.ProtocolEnumTls {
		if len(v.Certificates) > 0 {
			return wire.Errorf("ValidationError", "Certificates cannot be specified for %s listeners", v.Protocol)
		}
		return nil
	}
	switch {
	case len(v.Certificates) == 0:
		return wire.Errorf("ValidationError", "A certificate must be specified for %s listeners", v.Protocol)
	case len(v.Certificates) > 1:
		return wire.Errorf("TooManyCertificates", "Exactly one certificate can be specified for %s listeners, which is the default one", v.Protocol)
	}
	if err := found[deref(v.Certificates[0].CertificateArn)]; err != nil {
		return err
	}
	v.Certificates = []types.Certificate{{CertificateArn: v.Certificates[0].CertificateArn}}
	v.SslPolicy = new(cmp.Or(deref(v.SslPolicy), defaultSSLPolicy))
	if !slices.ContainsFunc(sslPolicies, func(p types.SslPolicy) bool { return *p.Name == *v.SslPolicy }) {
		return wire.Errorf("SSLPolicyNotFound", "SSL policy '%s' not found", *v.SslPolicy)
	}
	return nil
}

// ModifyListener replaces what is given of a listener and leaves the rest alone.
func (s *Service) ModifyListener(r eventual.Reader, in *elb.ModifyListenerInput) (*elb.ModifyListenerOutput, error) {
	found := s.lookUp(in.Certificates)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	v := l.value.Get()
	before := v.DefaultActions
	if in.Port != nil {
		v.Port = in.Port
	}
	if in.Protocol != "" && in.Protocol != v.Protocol {
		v.Protocol = in.Protocol
		if in.Protocol != types.ProtocolEnumHttps && in.Protocol != types.ProtocolEnumTls {
			v.Certificates, v.SslPolicy, v.MutualAuthentication, v.AlpnPolicy = nil, nil, nil, nil
		}
	}
	if len(in.Certificates) > 0 {
		v.Certificates = in.Certificates
	}
	if in.SslPolicy != nil {
		v.SslPolicy = in.SslPolicy
	}
	if in.AlpnPolicy != nil {
		v.AlpnPolicy = in.AlpnPolicy
	}
	if in.MutualAuthentication != nil {
		v.MutualAuthentication = in.MutualAuthentication
	}
	if err := s.checkListener(l.balancer, &v, found); err != nil {
		return nil, err
	}
	if in.MutualAuthentication != nil || v.MutualAuthentication == nil {
		if err := s.checkMutual(r, &v); err != nil {
			return nil, err
		}
	}
	for _, other := range l.balancer.listeners {
		if other != l && *other.value.Get().Port == *v.Port {
			return nil, wire.Errorf("DuplicateListener", "A listener already exists on port %d of load balancer '%s'", *v.Port, l.balancer.name)
		}
	}
	if len(in.DefaultActions) > 0 {
		if v.DefaultActions, err = s.actions(r, l.balancer, in.DefaultActions); err != nil {
			return nil, err
		}
		if err := s.groupQuota(l.balancer, v.DefaultActions); err != nil {
			return nil, err
		}
	}
	if err := s.fit(v, v.DefaultActions); err != nil {
		return nil, err
	}
	if err := s.fitRules(l, v); err != nil {
		return nil, err
	}
	if protocol := l.value.Get().Protocol; protocol != v.Protocol {
		l.attributes, l.formerly.attributes = listenerDefaults(v.Protocol), earlier{}
	}
	if v.Protocol != types.ProtocolEnumHttps && v.Protocol != types.ProtocolEnumTls {
		l.certificates = nil
	}
	pace := l.balancer.listenerChange(l.value.Get(), v)
	l.value.Put(v)
	s.keepSecrets(in.DefaultActions)
	byDefault := l.byDefault.value.Get()
	byDefault.Actions = v.DefaultActions
	l.byDefault.value.Put(byDefault)
	s.refer(l.balancer, l.byDefault.arn, groupsOf(before), groupsOf(v.DefaultActions))
	s.changeListenerAt(pace, l, "ModifyListener "+l.arn)
	return &elb.ModifyListenerOutput{Listeners: []types.Listener{v}}, nil
}

// listener finds the listener that a request is about.
func (s *Service) listener(r eventual.Reader, arn *string) (*listener, error) {
	l := s.listeners[deref(arn)]
	switch {
	case deref(arn) == "":
		return nil, wire.Errorf("ValidationError", "A listener ARN must be specified")
	case !strings.Contains(*arn, ":listener/"):
		return nil, wire.Errorf("ValidationError", "'%s' is not a valid listener ARN", *arn)
	case l == nil || !l.value.Found(r):
		return nil, wire.Errorf("ListenerNotFound", "One or more listeners not found: '%s'", *arn)
	}
	return l, nil
}

// DescribeListeners lists the listeners of a load balancer, or those of the given ARNs.
func (s *Service) DescribeListeners(r eventual.Reader, in *elb.DescribeListenersInput) (*elb.DescribeListenersOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (deref(in.LoadBalancerArn) == "") == (len(in.ListenerArns) == 0) {
		return nil, wire.Errorf("ValidationError", "You must specify either listener ARNs or a load balancer ARN")
	}
	all := []types.Listener{}
	for _, arn := range in.ListenerArns {
		l := s.listeners[arn]
		if l != nil {
			if v, ok := l.value.Read(r); ok {
				all = append(all, v)
				continue
			}
		}
		return nil, wire.Errorf("ListenerNotFound", "One or more listeners not found: '%s'", arn)
	}
	if len(in.ListenerArns) == 0 {
		lb, err := s.balancer(r, in.LoadBalancerArn)
		if err != nil {
			return nil, err
		}
		for _, l := range lb.listeners {
			if v, ok := l.value.Read(r); ok {
				all = append(all, v)
			}
		}
	}
	key := func(v types.Listener) string { return *v.ListenerArn }
	slices.SortFunc(all, func(a, b types.Listener) int { return cmp.Compare(key(a), key(b)) })
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeListenersOutput{Listeners: found, NextMarker: next}, nil
}

// DeleteListener closes a port and deletes its rules.
func (s *Service) DeleteListener(r eventual.Reader, in *elb.DeleteListenerInput) (*elb.DeleteListenerOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if g := s.front(l.balancer, deref(l.value.Get().Port)); g != nil {
		return nil, wire.Errorf("ResourceInUse", "Listener '%s' cannot be deleted, because its load balancer is a target of group '%s' on this port", l.arn, g.arn)
	}
	s.dropListener(l)
	s.changeListener(l, "DeleteListener "+l.arn)
	return &elb.DeleteListenerOutput{}, nil
}

// dropListener takes a listener and its rules out of the API. The nodes are not told.
func (s *Service) dropListener(l *listener) {
	for arn, one := range l.rules {
		s.refer(l.balancer, arn, groupsOf(one.value.Get().Actions), nil)
		delete(s.rules, arn)
	}
	delete(l.balancer.listeners, l.arn)
	delete(s.listeners, l.arn)
}

// groupQuota refuses actions that would give a load balancer too many target groups, or with them too many targets.
func (s *Service) groupQuota(lb *loadBalancer, actions []types.Action) error {
	count := 0
	for _, g := range s.targetGroups {
		if g.balancer == lb {
			count++
		}
	}
	var joining []*targetGroup
	for _, arn := range groupsOf(actions) {
		if g := s.targetGroups[arn]; g.balancer != lb {
			joining = append(joining, g)
		}
	}
	count += len(joining)
	if count > maxGroups {
		return wire.Errorf("TooManyUniqueTargetGroupsPerLoadBalancer", "The maximum number of target groups of a load balancer, %d, has been reached", maxGroups)
	}
	return s.balancerQuotas(lb, joining, nil, nil)
}

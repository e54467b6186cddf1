package elbv2

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// This file is what actions and rules may be on a listener of a protocol.

// fit says whether actions can be those of a listener, as its own or of one of its rules.
func (s *Service) fit(v types.Listener, actions []types.Action) error {
	if err := checkGates(v.Protocol, actions); err != nil {
		return err
	}
	for _, a := range actions {
		if c := a.RedirectConfig; v.Protocol == types.ProtocolEnumHttps && c != nil && deref(c.Protocol) == "HTTP" {
			return wire.Errorf("InvalidLoadBalancerAction", "A request over HTTPS cannot be redirected to HTTP")
		}
	}
	if v.Protocol == types.ProtocolEnumHttp {
		// Clients speak HTTP/2 over TLS only. The text is AWS's, as users report it; the code is not reported.
		for _, arn := range groupsOf(actions) {
			if version := deref(s.targetGroups[arn].value.Get().ProtocolVersion); version == "GRPC" || version == "HTTP2" {
				return wire.Errorf("UnsupportedProtocol", "Listener protocol 'HTTP' is not supported with a target group with the protocol-version '%s'", version)
			}
		}
	}
	v.DefaultActions = actions
	return s.checkProtocols(v)
}

// fitRules says whether the rules of a listener fit what it becomes.
func (s *Service) fitRules(l *listener, v types.Listener) error {
	for _, one := range l.rules {
		if one == l.byDefault {
			continue
		}
		if err := s.fit(v, one.value.Get().Actions); err != nil {
			return err
		}
	}
	return nil
}

// bothFamilies are the conditions that a rule of a Network Load Balancer can have: all clients of a family of addresses.
var bothFamilies = []string{"0.0.0.0/0", "::/0"}

// networkRule says whether a Network Load Balancer can have a rule. Only one for both families of addresses takes rules, and they choose
// by the family.
func networkRule(lb types.LoadBalancer, given []types.RuleCondition, transforms []types.RuleTransform) error {
	if lb.Type != types.LoadBalancerTypeEnumNetwork {
		return nil
	}
	if lb.IpAddressType != types.IpAddressTypeDualstack {
		return wire.Errorf("UnsupportedProtocol", "Rules are supported for network load balancers of IP address type dualstack only")
	}
	if len(transforms) > 0 {
		return wire.Errorf("InvalidConfigurationRequest", "Transforms are not supported for network load balancers")
	}
	for _, c := range given {
		if deref(c.Field) != "source-ip" || c.SourceIpConfig == nil || len(c.SourceIpConfig.Values) != 1 || !slices.Contains(bothFamilies, c.SourceIpConfig.Values[0]) {
			return wire.Errorf("InvalidConfigurationRequest", "A rule of a network load balancer has one source-ip condition, 0.0.0.0/0 or ::/0")
		}
	}
	return nil
}

// networkActions are the actions that count for clients with IPv4 addresses, which are all that nodes of Network Load Balancers have.
func (d listenerDocument) networkActions() []types.Action {
	rules := slices.Clone(d.rules)
	priority := func(r types.Rule) int {
		n, _ := strconv.Atoi(deref(r.Priority))
		return n
	}
	slices.SortFunc(rules, func(a, b types.Rule) int { return cmp.Compare(priority(a), priority(b)) })
	for _, r := range rules {
		if c := r.Conditions[0].SourceIpConfig; c != nil && slices.Contains(c.Values, bothFamilies[0]) {
			return r.Actions
		}
	}
	return d.actions
}

package elbv2

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// This file is what only Network Load Balancers have.

// groupProtocols are the protocols of the groups that a listener of a Network Load Balancer can forward to.
var groupProtocols = map[types.ProtocolEnum][]types.ProtocolEnum{
	types.ProtocolEnumTcp:     {types.ProtocolEnumTcp, types.ProtocolEnumTcpUdp, types.ProtocolEnumTcpQuic},
	types.ProtocolEnumTls:     {types.ProtocolEnumTcp, types.ProtocolEnumTls},
	types.ProtocolEnumUdp:     {types.ProtocolEnumUdp, types.ProtocolEnumTcpUdp},
	types.ProtocolEnumTcpUdp:  {types.ProtocolEnumTcpUdp},
	types.ProtocolEnumQuic:    {types.ProtocolEnumQuic, types.ProtocolEnumTcpQuic},
	types.ProtocolEnumTcpQuic: {types.ProtocolEnumTcpQuic},
}

// checkProtocols says whether the groups of a listener can be served over its protocol. Application load balancers have no such rule.
func (s *Service) checkProtocols(v types.Listener) error {
	fitting, network := groupProtocols[v.Protocol]
	if !network {
		return nil
	}
	var protocols []types.ProtocolEnum
	for _, arn := range groupsOf(v.DefaultActions) {
		g := s.targetGroups[arn].value.Get()
		switch {
		case !slices.Contains(fitting, g.Protocol):
			return wire.Errorf("IncompatibleProtocols", "Target group '%s' with protocol %s cannot be used by a listener with protocol %s", arn, g.Protocol, v.Protocol)
		case g.TargetType == types.TargetTypeEnumAlb && v.Protocol != types.ProtocolEnumTcp:
			return wire.Errorf("IncompatibleProtocols", "Target group '%s' of type alb cannot be used by a listener with protocol %s", arn, v.Protocol)
		}
		protocols = append(protocols, g.Protocol)
	}
	forward := v.DefaultActions[len(v.DefaultActions)-1].ForwardConfig
	switch {
	case len(slices.Compact(slices.Sorted(slices.Values(protocols)))) > 1 && v.Protocol == types.ProtocolEnumTls:
		return wire.Errorf("InvalidConfigurationRequest", "A TLS listener cannot forward to TCP and TLS target groups at the same time")
	case deref(forward.TargetGroupStickinessConfig.Enabled) && v.Protocol == types.ProtocolEnumTls:
		return wire.Errorf("InvalidConfigurationRequest", "Target group stickiness cannot be used by TLS listeners")
	case len(protocols) > 1 && (v.Protocol == types.ProtocolEnumQuic || v.Protocol == types.ProtocolEnumTcpQuic):
		return wire.Errorf("InvalidConfigurationRequest", "Weighted target groups cannot be used by listeners with protocol %s", v.Protocol)
	}
	return nil
}

// alpnProtocols are what each policy agrees to, the preferred protocol first.
var alpnProtocols = map[string][]string{
	"None":           nil,
	"HTTP1Only":      {"http/1.1", "http/1.0"},
	"HTTP2Only":      {"h2"},
	"HTTP2Optional":  {"http/1.1", "http/1.0", "h2"},
	"HTTP2Preferred": {"h2", "http/1.1", "http/1.0"},
}

func alpnPolicy(v types.Listener) string {
	if len(v.AlpnPolicy) == 0 {
		return "None"
	}
	return v.AlpnPolicy[0]
}

func checkALPN(v types.Listener) error {
	switch _, known := alpnProtocols[alpnPolicy(v)]; {
	case len(v.AlpnPolicy) > 1:
		return wire.Errorf("ValidationError", "Only one ALPN policy can be specified")
	case !known:
		return wire.Errorf("ALPNPolicyNotFound", "ALPN policy '%.60s' is not supported", alpnPolicy(v))
	case len(v.AlpnPolicy) > 0 && v.Protocol != types.ProtocolEnumTls:
		return wire.Errorf("InvalidConfigurationRequest", "An ALPN policy can be specified for TLS listeners only, not for %s", v.Protocol)
	}
	return nil
}

// listenerChange is the pace at which the nodes learn of a changed listener: that of weights if nothing else differs.
func (lb *loadBalancer) listenerChange(before, after types.Listener) profile.Key {
	if lb.application() {
		return profile.ALBRuleChange
	}
	was, is := groupsOf(before.DefaultActions), groupsOf(after.DefaultActions)
	if len(is) > 1 && slices.Equal(slices.Sorted(slices.Values(was)), slices.Sorted(slices.Values(is))) &&
		*before.Port == *after.Port && before.Protocol == after.Protocol {
		return profile.NLBWeightChange
	}
	return profile.NLBListenerChange
}

// balancerTarget makes an application load balancer a target: one per group, with a listener on the port of the group.
func (s *Service) balancerTarget(g *targetGroup, t *target) error {
	alb, port := s.balancers[t.key.ID], *g.value.Get().Port
	switch {
	case alb == nil || !alb.application():
		return wire.Errorf("InvalidTarget", "'%.200s' is not the ARN of an application load balancer", t.key.ID)
	case int32(t.key.Port) != port:
		return wire.Errorf("InvalidTarget", "The port of load balancer '%s' as a target must be %d, that of the target group", alb.name, port)
	case !alb.listens(port):
		return wire.Errorf("InvalidTarget", "Load balancer '%s' has no listener on port %d", alb.name, port)
	}
	for _, other := range g.targets {
		if other.key != t.key && !other.draining {
			return wire.Errorf("TooManyTargets", "Target group '%s' has a load balancer as its target, and can have one only", g.name)
		}
	}
	t.zone = "all"
	return nil
}

func (lb *loadBalancer) listens(port int32) bool {
	for _, l := range lb.listeners {
		if *l.value.Get().Port == port {
			return true
		}
	}
	return false
}

// front finds a group in which a load balancer is a target, on a port or (0) on any.
func (s *Service) front(lb *loadBalancer, port int32) *targetGroup {
	for _, g := range s.targetGroups {
		for key, t := range g.targets {
			if key.ID == lb.arn && !t.draining && (port == 0 || int32(key.Port) == port) {
				return g
			}
		}
	}
	return nil
}

// moveFront tells the nodes that have a load balancer as a target that its addresses have changed: in each group of which it is a
// target, for it can be one on several ports.
func (s *Service) moveFront(lb *loadBalancer) {
	for _, g := range s.targetGroups {
		if g.balancer == nil || g.value.Get().TargetType != types.TargetTypeEnumAlb || !g.has(lb.arn) {
			continue
		}
		nodes := g.balancer.everyNode()
		for _, n := range nodes {
			if known := n.groups[g.arn]; known != nil {
				known.targetsChanged = true
			}
		}
		s.after(0, func() []*node { return nodes })
	}
}

// has says whether an id is registered in the group and does not drain.
func (g *targetGroup) has(id string) bool {
	for key, t := range g.targets {
		if key.ID == id && !t.draining {
			return true
		}
	}
	return false
}

package elbv2

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// What other services ask of this one: nothing here is stale.

// Tagged are the tags of all load balancers, target groups, listeners, rules and trust stores by ARN.
func (s *Service) Tagged() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]string{}
	for arn, lb := range s.balancers {
		if !lb.deleted {
			all[arn] = maps.Clone(lb.tags)
		}
	}
	for arn, g := range s.targetGroups {
		all[arn] = maps.Clone(g.tags)
	}
	for arn, t := range s.trustStores {
		all[arn] = maps.Clone(t.tags)
	}
	for arn, l := range s.listeners {
		all[arn] = maps.Clone(l.tags)
	}
	for arn, one := range s.rules {
		all[arn] = maps.Clone(one.tags)
	}
	return all
}

// CertificateUsers lists the ARNs of the load balancers that show a certificate, sorted.
func (s *Service) CertificateUsers(certificate string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	users := map[string]bool{}
	for _, l := range s.listeners {
		shown := slices.ContainsFunc(l.value.Get().Certificates, func(c types.Certificate) bool { return deref(c.CertificateArn) == certificate })
		if shown || slices.Contains(l.certificates, certificate) {
			users[l.balancer.arn] = true
		}
	}
	return slices.Sorted(maps.Keys(users))
}

// BalancerType is application or network, and false for an ARN of no load balancer.
func (s *Service) BalancerType(arn string) (types.LoadBalancerTypeEnum, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb := s.balancers[arn]
	if lb == nil || lb.deleted {
		return "", false
	}
	return lb.value.Get().Type, true
}

// Named finds a load balancer by its DNS name: the hosted zone of that name, and whether Route 53 finds it healthy when
// an alias evaluates its health.
func (s *Service) Named(name string) (hostedZone string, healthy, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lb := range s.balancers {
		v := lb.value.Get()
		if lb.deleted || !strings.EqualFold(deref(v.DNSName), strings.TrimSuffix(name, ".")) {
			continue
		}
		return deref(v.CanonicalHostedZoneId), s.healthyTargets(lb), true
	}
	return "", false, false
}

// healthyTargets is true if every target group that has targets has a healthy one, and there is such a group. The guide does not
// say what a load balancer without target groups is: healthy, here.
func (s *Service) healthyTargets(lb *loadBalancer) bool {
	groups, filled := 0, 0
	for _, g := range s.targetGroups {
		if g.balancer != lb {
			continue
		}
		groups++
		registered, healthy := 0, 0
		for _, t := range g.targets {
			if t.draining {
				continue
			}
			registered++
			if t.shown.State == types.TargetHealthStateEnumHealthy {
				healthy++
			}
		}
		if registered > 0 && healthy == 0 {
			return false
		}
		if registered > 0 {
			filled++
		}
	}
	return groups == 0 || filled > 0
}

package elbv2

import (
	"slices"
	"strconv"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// limits are the quotas by the names of DescribeAccountLimits, sorted.
var limits = map[string]int{
	"application-load-balancers":                              maxApplicationBalancers,
	"certificates-per-application-load-balancer":              maxCertificates,
	"certificates-per-network-load-balancer":                  25,
	"gateway-load-balancers":                                  100,
	"gateway-load-balancers-per-vpc":                          100,
	"geneve-target-groups":                                    100,
	"targets-per-availability-zone-per-gateway-load-balancer": 300,
	"condition-values-per-alb-rule":                           maxConditionValues,
	"condition-wildcards-per-alb-rule":                        maxWildcards,
	"listeners-per-application-load-balancer":                 maxListeners,
	"listeners-per-network-load-balancer":                     50,
	"network-load-balancer-enis-per-vpc":                      1200,
	"network-load-balancers":                                  maxNetworkBalancers,
	"rules-per-application-load-balancer":                     maxRules,
	"target-groups":                                           maxTargetGroups,
	"target-groups-per-action-on-application-load-balancer":   maxGroupsPerAction,
	"target-groups-per-action-on-network-load-balancer":       maxGroupsPerAction,
	"target-groups-per-application-load-balancer":             maxGroups,
	"target-id-registrations-per-application-load-balancer":   1000,
	"targets-per-application-load-balancer":                   maxTargetsPerBalancer,
	"targets-per-availability-zone-per-network-load-balancer": maxTargetsPerZoneNetworkBalancer,
	"targets-per-network-load-balancer":                       maxTargetsPerNetworkBalancer,
	"targets-per-target-group":                                maxTargetsPerGroup,
}

// DescribeAccountLimits lists the quotas.
func (s *Service) DescribeAccountLimits(_ eventual.Reader, in *elb.DescribeAccountLimitsInput) (*elb.DescribeAccountLimitsOutput, error) {
	var all []types.Limit
	for name, value := range limits {
		all = append(all, types.Limit{Name: new(name), Max: new(strconv.Itoa(value))})
	}
	key := func(l types.Limit) string { return *l.Name }
	slices.SortFunc(all, func(a, b types.Limit) int {
		if key(a) < key(b) {
			return -1
		}
		return 1
	})
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeAccountLimitsOutput{Limits: found, NextMarker: next}, nil
}

// sslPolicies are the names of security policies. The local TLS library decides what they mean.
var sslPolicies = func() []types.SslPolicy {
	var list []types.SslPolicy
	modern, old := []string{"TLSv1.2", "TLSv1.3"}, []string{"TLSv1", "TLSv1.1", "TLSv1.2"}
	for name, protocols := range map[string][]string{
		"ELBSecurityPolicy-2016-08":                     old,
		"ELBSecurityPolicy-TLS-1-1-2017-01":             {"TLSv1.1", "TLSv1.2"},
		"ELBSecurityPolicy-TLS-1-2-2017-01":             {"TLSv1.2"},
		"ELBSecurityPolicy-TLS-1-2-Ext-2018-06":         {"TLSv1.2"},
		"ELBSecurityPolicy-FS-2018-06":                  old,
		"ELBSecurityPolicy-FS-1-1-2019-08":              {"TLSv1.1", "TLSv1.2"},
		"ELBSecurityPolicy-FS-1-2-2019-08":              {"TLSv1.2"},
		"ELBSecurityPolicy-FS-1-2-Res-2019-08":          {"TLSv1.2"},
		"ELBSecurityPolicy-FS-1-2-Res-2020-10":          {"TLSv1.2"},
		"ELBSecurityPolicy-TLS13-1-0-2021-06":           {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
		"ELBSecurityPolicy-TLS13-1-1-2021-06":           {"TLSv1.1", "TLSv1.2", "TLSv1.3"},
		"ELBSecurityPolicy-TLS13-1-2-2021-06":           modern,
		"ELBSecurityPolicy-TLS13-1-2-Res-2021-06":       modern,
		"ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06":      modern,
		"ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06":      modern,
		"ELBSecurityPolicy-TLS13-1-3-2021-06":           {"TLSv1.3"},
		"ELBSecurityPolicy-TLS13-1-2-FIPS-2023-04":      modern,
		"ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04":      {"TLSv1.3"},
		"ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09":    modern,
		"ELBSecurityPolicy-TLS13-1-2-Res-FIPS-2023-04":  modern,
		"ELBSecurityPolicy-TLS13-1-2-Ext0-FIPS-2023-04": modern,
	} {
		list = append(list, types.SslPolicy{
			Name: new(name), SslProtocols: protocols, Ciphers: []types.Cipher{}, SupportedLoadBalancerTypes: []string{"application", "network"},
		})
	}
	slices.SortFunc(list, func(a, b types.SslPolicy) int {
		if *a.Name < *b.Name {
			return -1
		}
		return 1
	})
	return list
}()

// DescribeSSLPolicies lists security policies by name.
func (s *Service) DescribeSSLPolicies(_ eventual.Reader, in *elb.DescribeSSLPoliciesInput) (*elb.DescribeSSLPoliciesOutput, error) {
	all := slices.Clone(sslPolicies)
	for _, name := range in.Names {
		if !slices.ContainsFunc(all, func(p types.SslPolicy) bool { return *p.Name == name }) {
			return nil, wire.Errorf("SSLPolicyNotFound", "SSL policy '%s' not found", name)
		}
	}
	if len(in.Names) > 0 {
		all = slices.DeleteFunc(all, func(p types.SslPolicy) bool { return !slices.Contains(in.Names, *p.Name) })
	}
	found, next, err := page(all, func(p types.SslPolicy) string { return *p.Name }, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeSSLPoliciesOutput{SslPolicies: found, NextMarker: next}, nil
}

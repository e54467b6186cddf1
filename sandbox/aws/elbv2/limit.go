package elbv2

import (
	"slices"
	"strconv"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
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

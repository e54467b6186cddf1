package elbv2

import (
	"regexp"
	"slices"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Pools of addresses are kept and shown by their ids. The account has no IPAM, so no address comes from one, and every id of the
// right form is taken.

var poolID = regexp.MustCompile(`^ipam-pool-[0-9a-f]{1,32}$`)

// checkPools validates the pools of a load balancer; nil and none are the same.
func checkPools(v types.LoadBalancer, pools *types.IpamPools) (*types.IpamPools, error) {
	if pools == nil || deref(pools.Ipv4IpamPoolId) == "" {
		return nil, nil
	}
	switch {
	case v.Type != types.LoadBalancerTypeEnumApplication || v.Scheme != types.LoadBalancerSchemeEnumInternetFacing:
		return nil, wire.Errorf("InvalidConfigurationRequest", "IPAM pools are for internet-facing application load balancers only")
	case !poolID.MatchString(*pools.Ipv4IpamPoolId):
		return nil, wire.Errorf("ValidationError", "'%.60s' is not the ID of an IPAM pool", *pools.Ipv4IpamPoolId)
	}
	return &types.IpamPools{Ipv4IpamPoolId: pools.Ipv4IpamPoolId}, nil
}

// ModifyIpPools gives a load balancer pools of addresses, or takes them away.
func (s *Service) ModifyIpPools(r eventual.Reader, in *elb.ModifyIpPoolsInput) (*elb.ModifyIpPoolsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	v := lb.value.Get()
	given, err := checkPools(v, in.IpamPools)
	if err != nil {
		return nil, err
	}
	for _, kind := range in.RemoveIpamPools {
		if !slices.Contains(kind.Values(), kind) {
			return nil, invalidEnum("removeIpamPools", kind)
		}
	}
	remove := len(in.RemoveIpamPools) > 0
	switch {
	case given == nil && !remove:
		return nil, wire.Errorf("ValidationError", "Either IPAM pools or those to remove must be specified")
	case given != nil && remove:
		return nil, wire.Errorf("ValidationError", "IPAM pools cannot be specified and removed at the same time")
	}
	v.IpamPools = given
	lb.value.Put(v)
	return &elb.ModifyIpPoolsOutput{IpamPools: given}, nil
}

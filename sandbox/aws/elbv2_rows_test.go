package aws_test

import (
	"fmt"
	"slices"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// rows are all ways to errors. Those that fill something up to its quota come last.
func (s *scene) rows() []provoked {
	return slices.Concat(
		s.balancerRows(), s.placementRows(), s.capacityRows(), s.createListenerRows(), s.modifyListenerRows(), s.listenerRows(),
		s.createRuleRows(), s.modifyRuleRows(), s.ruleRows(), s.groupRows(), s.targetRows(), s.tagRows(), s.trustRows(), s.quotaRows(),
	)
}

const (
	everyZone  = "load balancers can be in every zone of the account"
	protocols  = "no listener that can be made has a protocol that cannot be described"
	allowed    = "the account may make load balancers; AWS refuses some new accounts"
	unlimited  = "nothing limits the capacity of the emulator"
	neverFails = "the emulator always knows the health of targets"
)

func (s *scene) createBalancer(change func(*elb.CreateLoadBalancerInput)) *elb.CreateLoadBalancerInput {
	in := &elb.CreateLoadBalancerInput{Name: new("new"), Subnets: s.subnets, Scheme: types.LoadBalancerSchemeEnumInternal}
	change(in)
	return in
}

func (s *scene) balancerRows() []provoked {
	create := func(code string, change func(*elb.CreateLoadBalancerInput)) provoked {
		return refused(code, s.elb.CreateLoadBalancer, s.createBalancer(change))
	}
	right := func(code, why string) provoked { // the name is that of a load balancer that is there, so it is made only once
		return faulted(code, why, s.elb.CreateLoadBalancer, s.createBalancer(func(in *elb.CreateLoadBalancerInput) { in.Name = new("alb") }))
	}
	return []provoked{
		create("AllocationIdNotFound", func(in *elb.CreateLoadBalancerInput) {
			in.Type, in.Scheme, in.Subnets = types.LoadBalancerTypeEnumNetwork, types.LoadBalancerSchemeEnumInternetFacing, nil
			in.SubnetMappings = []types.SubnetMapping{{SubnetId: &s.subnets[0], AllocationId: new("eipalloc-0123456789abcdef0")}}
		}),
		right("AvailabilityZoneNotSupported", everyZone),
		create("DuplicateLoadBalancerName", func(in *elb.CreateLoadBalancerInput) { in.Name, in.Subnets = new("alb"), s.subnets[:2] }),
		create("DuplicateTagKeys", func(in *elb.CreateLoadBalancerInput) { in.Tags = append(manyTags(1), manyTags(1)...) }),
		create("InvalidConfigurationRequest", func(in *elb.CreateLoadBalancerInput) { in.Subnets = []string{s.subnets[0], s.subnets[0]} }),
		create("InvalidScheme", func(in *elb.CreateLoadBalancerInput) { in.Scheme = "outside" }),
		create("InvalidSecurityGroup", func(in *elb.CreateLoadBalancerInput) { in.SecurityGroups = []string{"sg-0123456789abcdef0"} }),
		create("InvalidSubnet", func(in *elb.CreateLoadBalancerInput) { in.IpAddressType = types.IpAddressTypeDualstack }),
		right("OperationNotPermitted", allowed),
		create("ResourceInUse", func(in *elb.CreateLoadBalancerInput) {
			in.Type, in.Subnets = types.LoadBalancerTypeEnumNetwork, nil
			in.SubnetMappings = []types.SubnetMapping{{SubnetId: &s.subnets[0], PrivateIPv4Address: &s.address}}
		}),
		create("SubnetNotFound", func(in *elb.CreateLoadBalancerInput) { in.Subnets = []string{s.subnets[0], "subnet-0123456789abcdef0"} }),
		create("TooManyTags", func(in *elb.CreateLoadBalancerInput) { in.Tags = manyTags(51) }),
		refused("LoadBalancerNotFound", s.elb.DeleteLoadBalancer, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &s.used}),
		refused("OperationNotPermitted", s.elb.DeleteLoadBalancer, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &s.protected}),
		refused("ResourceInUse", s.elb.DeleteLoadBalancer, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &s.front}),
		refused("LoadBalancerNotFound", s.elb.DescribeLoadBalancers, &elb.DescribeLoadBalancersInput{Names: []string{"nobody"}}),
		refused("LoadBalancerNotFound", s.elb.DescribeLoadBalancerAttributes, &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: gone(s.alb)}),
		refused("LoadBalancerNotFound", s.elb.ModifyLoadBalancerAttributes, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: gone(s.alb), Attributes: lbAttribute("routing.http2.enabled", "true")}),
		refused("InvalidConfigurationRequest", s.elb.ModifyLoadBalancerAttributes, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &s.alb, Attributes: lbAttribute("idle_timeout.timeout_seconds", "4001")}),
		refused("LoadBalancerNotFound", s.elb.ModifyIpPools, &elb.ModifyIpPoolsInput{LoadBalancerArn: gone(s.alb), RemoveIpamPools: []types.RemoveIpamPoolEnum{types.RemoveIpamPoolEnumIpv4}}),
	}
}

func (s *scene) placementRows() []provoked {
	set := func(code, lb string, change func(*elb.SetSubnetsInput)) provoked {
		in := &elb.SetSubnetsInput{LoadBalancerArn: &lb, Subnets: s.subnets}
		change(in)
		return refused(code, s.elb.SetSubnets, in)
	}
	groups := func(code, lb string, ids ...string) provoked {
		return refused(code, s.elb.SetSecurityGroups, &elb.SetSecurityGroupsInput{LoadBalancerArn: &lb, SecurityGroups: ids})
	}
	address := func(code, lb string, t types.IpAddressType) provoked {
		return refused(code, s.elb.SetIpAddressType, &elb.SetIpAddressTypeInput{LoadBalancerArn: &lb, IpAddressType: t})
	}
	byDefault := s.emulator.EC2().DefaultSecurityGroup()
	facing := *must(s.elb.CreateLoadBalancer(ctx, s.createBalancer(func(in *elb.CreateLoadBalancerInput) {
		in.Name, in.Type, in.Scheme, in.Subnets = new("facing"), types.LoadBalancerTypeEnumNetwork, types.LoadBalancerSchemeEnumInternetFacing, s.subnets[:1]
	})))(s.world).LoadBalancers[0].LoadBalancerArn
	return []provoked{
		set("AllocationIdNotFound", facing, func(in *elb.SetSubnetsInput) {
			in.Subnets, in.SubnetMappings = nil, []types.SubnetMapping{{SubnetId: &s.subnets[0], AllocationId: new("eipalloc-0123456789abcdef0")}}
		}),
		faulted("AvailabilityZoneNotSupported", everyZone, s.elb.SetSubnets, &elb.SetSubnetsInput{LoadBalancerArn: &s.alb, Subnets: s.subnets}),
		set("CapacityReservationPending", s.busy, func(*elb.SetSubnetsInput) {}),
		set("InvalidConfigurationRequest", s.alb, func(in *elb.SetSubnetsInput) { in.Subnets = []string{s.subnets[0], s.subnets[0]} }),
		set("InvalidSubnet", s.alb, func(in *elb.SetSubnetsInput) { in.IpAddressType = types.IpAddressTypeDualstack }),
		set("LoadBalancerNotFound", *gone(s.alb), func(*elb.SetSubnetsInput) {}),
		set("SubnetNotFound", s.alb, func(in *elb.SetSubnetsInput) { in.Subnets = []string{"subnet-0123456789abcdef0", s.subnets[1]} }),
		groups("InvalidConfigurationRequest", s.nlb, byDefault),
		groups("InvalidSecurityGroup", s.alb, "sg-0123456789abcdef0"),
		groups("LoadBalancerNotFound", *gone(s.alb), byDefault),
		address("InvalidConfigurationRequest", s.alb, types.IpAddressTypeDualstackWithoutPublicIpv4),
		address("InvalidSubnet", s.alb, types.IpAddressTypeDualstack),
		address("LoadBalancerNotFound", *gone(s.alb), types.IpAddressTypeIpv4),
	}
}

func (s *scene) capacityRows() []provoked {
	units := func(lb string, n int32) *elb.ModifyCapacityReservationInput {
		return &elb.ModifyCapacityReservationInput{LoadBalancerArn: &lb, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: &n}}
	}
	modify := s.elb.ModifyCapacityReservation
	return []provoked{
		refused("CapacityDecreaseRequestLimitExceeded", modify, units(s.tired, 200)),
		refused("CapacityReservationPending", modify, units(s.busy, 700)),
		refused("CapacityUnitsLimitExceeded", modify, units(s.alb, 1_000_000)),
		faulted("InsufficientCapacity", unlimited, modify, units(s.tired, 300)),
		refused("InvalidConfigurationRequest", modify, units(s.alb, 1)),
		refused("LoadBalancerNotFound", modify, units(*gone(s.alb), 500)),
		refused("OperationNotPermitted", modify, units(s.young, 500)),
		refused("PriorRequestNotComplete", modify, &elb.ModifyCapacityReservationInput{LoadBalancerArn: &s.busy, ResetCapacityReservation: new(true)}),
		refused("LoadBalancerNotFound", s.elb.DescribeCapacityReservation, &elb.DescribeCapacityReservationInput{LoadBalancerArn: gone(s.alb)}),
	}
}

// wrongActions are lists of actions by the code with which listeners and rules of the Application Load Balancer refuse them.
func (s *scene) wrongActions() map[string][]types.Action {
	return map[string][]types.Action{
		"IncompatibleProtocols":                    forward(s.loose),
		"InvalidLoadBalancerAction":                {fixed("200")[0], fixed("201")[0]},
		"TargetGroupAssociationLimit":              forward(s.elsewhere),
		"TargetGroupNotFound":                      forward(*gone(s.used)),
		"TooManyActions":                           slices.Repeat(fixed("200"), 6),
		"TooManyRegistrationsForTargetId":          forward(s.ports[:]...),
		"TooManyTargets":                           forward(s.addresses[:]...),
		"TooManyUniqueTargetGroupsPerLoadBalancer": forward(s.used, s.spare, s.grpc, s.sticky, s.ports[0], s.ports[1]),
		"UnsupportedProtocol":                      forward(s.grpc),
	}
}

func verify(store *string) *types.MutualAuthenticationAttributes {
	return &types.MutualAuthenticationAttributes{Mode: new("verify"), TrustStoreArn: store}
}

func (s *scene) createListenerRows() []provoked {
	create := func(code string, change func(*elb.CreateListenerInput)) provoked {
		in := &elb.CreateListenerInput{LoadBalancerArn: &s.alb, Port: new(int32(81)), Protocol: types.ProtocolEnumHttp, DefaultActions: fixed("200")}
		change(in)
		return refused(code, s.elb.CreateListener, in)
	}
	secure := func(code string, change func(*elb.CreateListenerInput)) provoked {
		return create(code, func(in *elb.CreateListenerInput) {
			in.Protocol, in.Certificates = types.ProtocolEnumHttps, []types.Certificate{{CertificateArn: &s.certificate}}
			change(in)
		})
	}
	rows := []provoked{
		create("ALPNPolicyNotFound", func(in *elb.CreateListenerInput) {
			in.LoadBalancerArn, in.Protocol, in.DefaultActions = &s.nlb, types.ProtocolEnumTls, forward(s.tcp)
			in.Certificates, in.AlpnPolicy = []types.Certificate{{CertificateArn: &s.certificate}}, []string{"HTTP3Only"}
		}),
		secure("CertificateNotFound", func(in *elb.CreateListenerInput) { in.Certificates[0].CertificateArn = new(noCertificate) }),
		create("DuplicateListener", func(in *elb.CreateListenerInput) { in.Port = new(int32(80)) }),
		create("InvalidConfigurationRequest", func(in *elb.CreateListenerInput) { in.DefaultActions = forward(s.used, s.sticky) }),
		create("LoadBalancerNotFound", func(in *elb.CreateListenerInput) { in.LoadBalancerArn = gone(s.alb) }),
		secure("SSLPolicyNotFound", func(in *elb.CreateListenerInput) { in.SslPolicy = new("ELBSecurityPolicy-1999-01") }),
		secure("TooManyCertificates", func(in *elb.CreateListenerInput) { in.Certificates = slices.Repeat(in.Certificates, 2) }),
		create("TooManyTags", func(in *elb.CreateListenerInput) { in.Tags = manyTags(51) }),
		secure("TrustStoreNotFound", func(in *elb.CreateListenerInput) { in.MutualAuthentication = verify(gone(s.trust)) }),
		secure("TrustStoreNotReady", func(in *elb.CreateListenerInput) { in.MutualAuthentication = verify(&s.unready) }),
	}
	for code, actions := range s.wrongActions() {
		rows = append(rows, create(code, func(in *elb.CreateListenerInput) { in.DefaultActions = actions }))
	}
	return rows
}

func (s *scene) modifyListenerRows() []provoked {
	modify := func(code, listener string, change func(*elb.ModifyListenerInput)) provoked {
		in := &elb.ModifyListenerInput{ListenerArn: &listener}
		change(in)
		return refused(code, s.elb.ModifyListener, in)
	}
	certificates := func(arns ...string) func(*elb.ModifyListenerInput) {
		return func(in *elb.ModifyListenerInput) {
			for _, arn := range arns {
				in.Certificates = append(in.Certificates, types.Certificate{CertificateArn: &arn})
			}
		}
	}
	rows := []provoked{
		modify("ALPNPolicyNotFound", s.tls, func(in *elb.ModifyListenerInput) { in.AlpnPolicy = []string{"HTTP3Only"} }),
		modify("CertificateNotFound", s.https, certificates(noCertificate)),
		modify("DuplicateListener", s.http, func(in *elb.ModifyListenerInput) { in.Port = new(int32(443)) }),
		modify("InvalidConfigurationRequest", s.http, func(in *elb.ModifyListenerInput) { in.DefaultActions = forward(s.used, s.sticky) }),
		modify("ListenerNotFound", *gone(s.http), func(*elb.ModifyListenerInput) {}),
		modify("SSLPolicyNotFound", s.https, func(in *elb.ModifyListenerInput) { in.SslPolicy = new("ELBSecurityPolicy-1999-01") }),
		modify("TooManyCertificates", s.https, certificates(s.certificate, s.certificate)),
		faulted("TooManyListeners", "a change makes no listener", s.elb.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &s.http}),
		modify("TrustStoreNotFound", s.https, func(in *elb.ModifyListenerInput) { in.MutualAuthentication = verify(gone(s.trust)) }),
		modify("TrustStoreNotReady", s.https, func(in *elb.ModifyListenerInput) { in.MutualAuthentication = verify(&s.unready) }),
	}
	for code, actions := range s.wrongActions() {
		rows = append(rows, modify(code, s.http, func(in *elb.ModifyListenerInput) { in.DefaultActions = actions }))
	}
	return rows
}

func (s *scene) listenerRows() []provoked {
	attributes := func(key string, value string) []types.ListenerAttribute {
		return []types.ListenerAttribute{{Key: &key, Value: &value}}
	}
	one := []types.Certificate{{CertificateArn: &s.certificate}}
	var many []types.Certificate
	for i := range 26 {
		many = append(many, types.Certificate{CertificateArn: new(fmt.Sprintf("arn:aws:iam::123456789012:server-certificate/%d", i))})
	}
	return []provoked{
		refused("ListenerNotFound", s.elb.DeleteListener, &elb.DeleteListenerInput{ListenerArn: gone(s.http)}),
		refused("ResourceInUse", s.elb.DeleteListener, &elb.DeleteListenerInput{ListenerArn: &s.frontPort}),
		refused("ListenerNotFound", s.elb.DescribeListeners, &elb.DescribeListenersInput{ListenerArns: []string{s.http, *gone(s.http)}}),
		refused("LoadBalancerNotFound", s.elb.DescribeListeners, &elb.DescribeListenersInput{LoadBalancerArn: gone(s.alb)}),
		faulted("UnsupportedProtocol", protocols, s.elb.DescribeListeners, &elb.DescribeListenersInput{LoadBalancerArn: &s.alb}),
		refused("ListenerNotFound", s.elb.DescribeListenerAttributes, &elb.DescribeListenerAttributesInput{ListenerArn: gone(s.http)}),
		refused("ListenerNotFound", s.elb.ModifyListenerAttributes, &elb.ModifyListenerAttributesInput{ListenerArn: gone(s.http), Attributes: attributes("routing.http.response.server.enabled", "true")}),
		refused("InvalidConfigurationRequest", s.elb.ModifyListenerAttributes, &elb.ModifyListenerAttributesInput{ListenerArn: &s.http, Attributes: attributes("routing.http.response.server.enabled", "perhaps")}),
		refused("CertificateNotFound", s.elb.AddListenerCertificates, &elb.AddListenerCertificatesInput{ListenerArn: &s.https, Certificates: []types.Certificate{{CertificateArn: new(noCertificate)}}}),
		refused("ListenerNotFound", s.elb.AddListenerCertificates, &elb.AddListenerCertificatesInput{ListenerArn: gone(s.https), Certificates: one}),
		refused("TooManyCertificates", s.elb.AddListenerCertificates, &elb.AddListenerCertificatesInput{ListenerArn: &s.https, Certificates: many}),
		refused("ListenerNotFound", s.elb.RemoveListenerCertificates, &elb.RemoveListenerCertificatesInput{ListenerArn: gone(s.https), Certificates: one}),
		refused("OperationNotPermitted", s.elb.RemoveListenerCertificates, &elb.RemoveListenerCertificatesInput{ListenerArn: &s.https, Certificates: one}),
		refused("ListenerNotFound", s.elb.DescribeListenerCertificates, &elb.DescribeListenerCertificatesInput{ListenerArn: gone(s.https)}),
		refused("SSLPolicyNotFound", s.elb.DescribeSSLPolicies, &elb.DescribeSSLPoliciesInput{Names: []string{"ELBSecurityPolicy-1999-01"}}),
	}
}

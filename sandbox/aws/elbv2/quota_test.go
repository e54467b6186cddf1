package elbv2

import (
	"fmt"
	"testing"
	"testing/synctest"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// fill registers n addresses outside of the VPC, all of them from first on.
func (a *account) fill(group string, first, n int) error {
	for n > 0 {
		in := &elb.RegisterTargetsInput{TargetGroupArn: &group}
		for range min(n, maxTargetsPerCall) {
			in.Targets = append(in.Targets, types.TargetDescription{Id: new(fmt.Sprintf("192.168.%d.%d", first/250, first%250+1)), AvailabilityZone: new("all")})
			first++
		}
		n -= len(in.Targets)
		if _, err := a.RegisterTargets(eventual.Reader{Caller: "test"}, in); err != nil {
			return err
		}
	}
	return nil
}

// A Network Load Balancer has 3000 targets, 500 for each zone: those that all zones use count for each. Groups bring theirs along.
func TestTargetsPerNetworkBalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		me := eventual.Reader{Caller: "test"}
		lb := a.networkBalancer()
		one, two := a.networkGroup("one", types.ProtocolEnumTcp, types.TargetTypeEnumIp), a.networkGroup("two", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		listener := a.networkListener(lb, types.ProtocolEnumTcp, split([]string{one}, 1))
		if err := a.fill(one, 0, 500); err != nil {
			t.Fatal(err)
		}
		if got := code(a.fill(one, 500, 1)); got != "TooManyTargets" {
			t.Errorf("target 501 of a zone: %q", got)
		}
		if err := a.fill(two, 0, 1); err != nil {
			t.Fatal(err)
		}
		both := &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: split([]string{one, two}, 1, 1)}
		_, err := a.ModifyListener(me, both)
		if got := code(err); got != "TooManyTargets" {
			t.Errorf("a group that brings target 501 along: %q", got)
		}
		if _, err := a.DeregisterTargets(me, &elb.DeregisterTargetsInput{TargetGroupArn: &two, Targets: []types.TargetDescription{{Id: new("192.168.0.1")}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ModifyListener(me, both); err != nil {
			t.Errorf("an empty group: %v", err)
		}
		home := a.balancers[lb].nodes[0]
		machine, err := a.network.AddInstance(home.zone, "pod")
		if err != nil {
			t.Fatal(err)
		}
		inside := func() error {
			_, err := a.RegisterTargets(me, &elb.RegisterTargetsInput{TargetGroupArn: &two, Targets: []types.TargetDescription{{Id: new(machine.Address.String())}}})
			return err
		}
		if err := a.setAttribute(one, "load_balancing.cross_zone.enabled", "true"); err != nil {
			t.Fatal(err)
		}
		if got := code(inside()); got != "TooManyTargets" {
			t.Errorf("target of a zone whose node has 500 from everywhere: %q", got)
		}
		if err := a.setAttribute(one, "load_balancing.cross_zone.enabled", "false"); err != nil {
			t.Fatal(err)
		}
		if err := inside(); err != nil {
			t.Errorf("target of another zone: %v", err)
		}
	})
}

// What an Application Load Balancer cannot have more of, it cannot have by attaching groups either.
func TestTargetsThatGroupsBringAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		lb := a.balancerARN()
		groups := []string{a.groupARN("one"), a.groupARN("two")}
		for i, group := range groups {
			if err := a.fill(group, i*600, 500+i); err != nil {
				t.Fatal(err)
			}
		}
		attach := func(groups ...string) error {
			_, err := a.CreateListener(eventual.Reader{Caller: "test"}, &elb.CreateListenerInput{
				LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, DefaultActions: split(groups, 1, 1),
			})
			return err
		}
		if got := code(attach(groups...)); got != "TooManyTargets" {
			t.Errorf("1001 targets: %q", got)
		}
		if len(a.targetGroups[groups[0]].references) > 0 {
			t.Error("a listener that was refused has left a reference")
		}
	})
}

// What is told besides health, if it is asked for.
func TestExtrasOfTargetHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		me := eventual.Reader{Caller: "test"}
		lb, group := a.balancerARN(), a.groupARN("web")
		a.listenerARN(lb, split([]string{group}, 1))
		if err := a.fill(group, 0, 1); err != nil {
			t.Fatal(err)
		}
		describe := func(include ...types.DescribeTargetHealthInputIncludeEnum) types.TargetHealthDescription {
			out, err := a.DescribeTargetHealth(me, &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Include: include})
			if err != nil {
				t.Fatal(err)
			}
			return out.TargetHealthDescriptions[0]
		}
		if d := describe(); d.AnomalyDetection != nil || d.AdministrativeOverride != nil {
			t.Errorf("not asked for: %+v", d)
		}
		if d := describe(types.DescribeTargetHealthInputIncludeEnumAnomaly); d.AnomalyDetection == nil || d.AnomalyDetection.Result != types.AnomalyResultEnumNormal || d.AnomalyDetection.MitigationInEffect != types.MitigationInEffectEnumNo {
			t.Errorf("anomalies: %+v", d.AnomalyDetection)
		}
		shift := &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &lb, Attributes: []types.LoadBalancerAttribute{{Key: new("zonal_shift.config.enabled"), Value: new("true")}}}
		if _, err := a.ModifyLoadBalancerAttributes(me, shift); err != nil {
			t.Fatal(err)
		}
		if d := describe(); d.AdministrativeOverride == nil || d.AdministrativeOverride.State != types.TargetAdministrativeOverrideStateEnumNoOverride {
			t.Errorf("override: %+v", d.AdministrativeOverride)
		}
		_, err := a.DescribeTargetHealth(me, &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Include: []types.DescribeTargetHealthInputIncludeEnum{"Weather"}})
		if got := code(err); got != "ValidationError" {
			t.Errorf("unknown extra: %q", got)
		}
	})
}

// Security policies tell their protocols and ciphers in the order of preference, and can be chosen by type of load balancer.
func TestSecurityPolicies(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	out, err := s.DescribeSSLPolicies(eventual.Reader{}, &elb.DescribeSSLPoliciesInput{Names: []string{defaultSSLPolicy, "ELBSecurityPolicy-TLS13-1-3-2021-06"}, LoadBalancerType: types.LoadBalancerTypeEnumNetwork})
	if err != nil || len(out.SslPolicies) != 2 {
		t.Fatalf("%+v %v", out, err)
	}
	old, modern := out.SslPolicies[0], out.SslPolicies[1]
	if *old.Name != defaultSSLPolicy || len(old.SslProtocols) != 3 || *old.Ciphers[0].Priority != 1 || *old.Ciphers[0].Name != "ECDHE-ECDSA-AES128-GCM-SHA256" {
		t.Errorf("default policy: %+v", old)
	}
	if len(modern.SslProtocols) != 1 || modern.SslProtocols[0] != "TLSv1.3" || len(modern.Ciphers) != 3 {
		t.Errorf("policy for TLS 1.3: %+v", modern)
	}
	none, err := s.DescribeSSLPolicies(eventual.Reader{}, &elb.DescribeSSLPoliciesInput{LoadBalancerType: types.LoadBalancerTypeEnumGateway})
	if err != nil || len(none.SslPolicies) != 0 {
		t.Errorf("of gateway load balancers: %+v %v", none, err)
	}
}

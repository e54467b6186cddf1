package elbv2

import (
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

const function = "arn:aws:lambda:eu-west-1:123456789012:function:shop"

// A group of a function: its defaults, its one target, and its health with and without checks.
func TestGroupsOfFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		me := eventual.Reader{Caller: "test"}
		create := func(change func(*elb.CreateTargetGroupInput)) (*elb.CreateTargetGroupOutput, error) {
			in := &elb.CreateTargetGroupInput{Name: new("function"), TargetType: types.TargetTypeEnumLambda}
			change(in)
			return a.CreateTargetGroup(me, in)
		}
		_, err := create(func(in *elb.CreateTargetGroupInput) { in.Port = new(int32(80)) })
		if got := code(err); got != "ValidationError" {
			t.Errorf("a port: %q", got)
		}
		made, err := create(func(*elb.CreateTargetGroupInput) {})
		if err != nil {
			t.Fatal(err)
		}
		v := made.TargetGroups[0]
		if *v.HealthCheckEnabled || *v.HealthCheckIntervalSeconds != 35 || *v.HealthCheckTimeoutSeconds != 30 || *v.UnhealthyThresholdCount != 5 || v.Protocol != "" || v.Port != nil || v.VpcId != nil {
			t.Errorf("new group: %+v", v)
		}
		group := *v.TargetGroupArn
		register := func(id string) error {
			_, err := a.RegisterTargets(me, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: &id}}})
			return err
		}
		if err := register(function); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]string{function: "", function + "2": "TooManyTargets", "10.0.0.1": "InvalidTarget"} {
			if got := code(register(id)); got != want {
				t.Errorf("registration of %s: %q, want %q", id, got, want)
			}
		}
		health := func() types.TargetHealthDescription {
			out, err := a.DescribeTargetHealth(me, &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: new(function)}}})
			if err != nil {
				t.Fatal(err)
			}
			return out.TargetHealthDescriptions[0]
		}
		if h := health(); h.TargetHealth.Reason != types.TargetHealthReasonEnumNotInUse || h.Target.Port != nil || h.HealthCheckPort != nil {
			t.Errorf("of a group without a listener: %+v", h)
		}
		lb := a.balancerARN()
		a.listenerARN(lb, split([]string{group}, 1))
		if h := health().TargetHealth; h.State != types.TargetHealthStateEnumUnavailable || h.Reason != types.TargetHealthReasonEnumHealthCheckDisabled {
			t.Errorf("without checks: %+v", h)
		}
		if _, err := a.ModifyTargetGroup(me, &elb.ModifyTargetGroupInput{TargetGroupArn: &group, HealthCheckEnabled: new(true)}); err != nil {
			t.Fatal(err)
		}
		if h := health().TargetHealth; h.State != types.TargetHealthStateEnumUnhealthy {
			t.Errorf("with checks: %+v", h)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := a.node(zones[0]).known(group); len(told.Targets) > 0 {
			t.Errorf("a node was told of %+v", told)
		}
		_, err = a.CreateListener(me, &elb.CreateListenerInput{LoadBalancerArn: new(a.networkBalancer()), Port: new(int32(80)), Protocol: types.ProtocolEnumTcp, DefaultActions: split([]string{group}, 1)})
		if got := code(err); got != "TargetGroupAssociationLimit" && got != "IncompatibleProtocols" {
			t.Errorf("behind a network load balancer: %q", got)
		}
	})
}

// A Network Load Balancer for both families of addresses has rules that choose by family; its nodes have IPv4 clients only.
func TestRulesOfNetworkBalancersChooseTheFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		me := eventual.Reader{Caller: "test"}
		lb := a.networkBalancer()
		old, fresh, six := a.networkGroup("old", types.ProtocolEnumTcp, types.TargetTypeEnumIp), a.networkGroup("new", types.ProtocolEnumTcp, types.TargetTypeEnumIp), a.networkGroup("six", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		listener := a.networkListener(lb, types.ProtocolEnumTcp, split([]string{old}, 1))
		rule := func(priority int32, family, group string) error {
			_, err := a.CreateRule(me, &elb.CreateRuleInput{ListenerArn: &listener, Priority: &priority, Actions: split([]string{group}, 1), Conditions: []types.RuleCondition{
				{Field: new("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{family}}},
			}})
			return err
		}
		if got := code(rule(1, "0.0.0.0/0", fresh)); got != "UnsupportedProtocol" {
			t.Errorf("on one for IPv4 only: %q", got)
		}
		// The network has no IPv6 to ask for.
		value := a.balancers[lb].value
		v := value.Get()
		v.IpAddressType = types.IpAddressTypeDualstack
		value.Put(v)
		for family, want := range map[string]string{"10.0.0.0/8": "InvalidConfigurationRequest", "::/0": ""} {
			if got := code(rule(1, family, six)); got != want {
				t.Errorf("%s: %q, want %q", family, got, want)
			}
		}
		acts := func() string {
			time.Sleep(time.Minute)
			synctest.Wait()
			config, _ := a.node(zones[0]).last()
			return config.Listeners[0].Default.Forward.Groups[0].ARN
		}
		if got := acts(); got != old {
			t.Errorf("with a rule for IPv6, IPv4 goes to %s", got)
		}
		if err := rule(2, "0.0.0.0/0", fresh); err != nil {
			t.Fatal(err)
		}
		if got := acts(); got != fresh {
			t.Errorf("with a rule for IPv4, it goes to %s", got)
		}
	})
}

// Targets with a QUIC protocol have server ids of their own, others have none. Listeners are kept, and carry nothing.
func TestServerIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		quic, tcp := a.networkGroup("quic", types.ProtocolEnumQuic, types.TargetTypeEnumIp), a.networkGroup("tcp", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		register := func(group, id, server string) string {
			d := types.TargetDescription{Id: &id}
			if server != "" {
				d.QuicServerId = &server
			}
			_, err := a.RegisterTargets(eventual.Reader{Caller: "test"}, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{d}})
			return code(err)
		}
		const one, other = "0x0123456789abcdef", "0x0123456789abcdee"
		for i, c := range []struct{ group, id, server, want string }{
			{quic, "10.9.0.9", "", "ValidationError"},
			{quic, "10.9.0.9", "0X0123456789ABCDEF", "ValidationError"},
			{quic, "10.9.0.9", one, ""},
			{quic, "10.9.0.9", one, ""},
			{quic, "10.9.0.9", other, "InvalidTarget"},
			{quic, "10.9.0.10", one, "InvalidTarget"},
			{quic, "10.9.0.10", other, ""},
			{tcp, "10.9.0.9", one, "ValidationError"},
		} {
			if got := register(c.group, c.id, c.server); got != c.want {
				t.Errorf("%d: %q, want %q", i, got, c.want)
			}
		}
		a.networkListener(a.networkBalancer(), types.ProtocolEnumQuic, split([]string{quic}, 1))
		out, err := a.DescribeTargetHealth(eventual.Reader{Caller: "test"}, &elb.DescribeTargetHealthInput{TargetGroupArn: &quic})
		if err != nil {
			t.Fatal(err)
		}
		first := out.TargetHealthDescriptions[0]
		if *first.Target.QuicServerId != other || first.AdministrativeOverride.State != types.TargetAdministrativeOverrideStateEnumNoOverride || first.AnomalyDetection != nil {
			t.Errorf("health: %+v", first)
		}
	})
}

package elbv2

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// code is the error code of a refusal, or empty.
func code(err error) string {
	var refused *wire.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// network makes a Network Load Balancer in all zones.
func (a *account) networkBalancer(change ...func(*elb.CreateLoadBalancerInput)) string {
	a.Helper()
	in := &elb.CreateLoadBalancerInput{Name: new("net"), Type: types.LoadBalancerTypeEnumNetwork}
	for _, zone := range zones {
		machine, err := a.network.AddInstance(zone, "net-"+zone)
		if err != nil {
			a.Fatal(err)
		}
		in.Subnets = append(in.Subnets, machine.Subnet)
	}
	for _, f := range change {
		f(in)
	}
	return *retry(a, a.CreateLoadBalancer, in).LoadBalancers[0].LoadBalancerArn
}

func (a *account) networkGroup(name string, protocol types.ProtocolEnum, kind types.TargetTypeEnum) string {
	a.Helper()
	return *retry(a, a.CreateTargetGroup, &elb.CreateTargetGroupInput{
		Name: &name, Protocol: protocol, Port: new(int32(80)), VpcId: new(a.network.VPC()), TargetType: kind,
	}).TargetGroups[0].TargetGroupArn
}

func (a *account) networkListener(lb string, protocol types.ProtocolEnum, actions []types.Action) string {
	a.Helper()
	return *retry(a, a.CreateListener, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: protocol, DefaultActions: actions}).Listeners[0].ListenerArn
}

func (a *account) setAttribute(group, key, value string) error {
	_, err := a.ModifyTargetGroupAttributes(eventual.Reader{Caller: "test"}, &elb.ModifyTargetGroupAttributesInput{
		TargetGroupArn: &group, Attributes: []types.TargetGroupAttribute{{Key: &key, Value: &value}},
	})
	return err
}

// Sections 2.4 and 4.1: what a new group has, by protocol and type.
func TestDefaultsOfNetworkGroups(t *testing.T) {
	t.Parallel()
	const (
		preserve   = "preserve_client_ip.enabled"
		deregister = "deregistration_delay.connection_termination.enabled"
		unhealthy  = "target_health_state.unhealthy.connection_termination.enabled"
	)
	a := newAccount(t, "ideal", 1)
	for i, c := range []struct {
		protocol                        types.ProtocolEnum
		kind                            types.TargetTypeEnum
		preserve, deregister, unhealthy string
	}{
		{types.ProtocolEnumTcp, types.TargetTypeEnumInstance, "true", "false", "true"},
		{types.ProtocolEnumTls, types.TargetTypeEnumInstance, "true", "false", "true"},
		{types.ProtocolEnumTcp, types.TargetTypeEnumIp, "false", "false", "true"},
		{types.ProtocolEnumTls, types.TargetTypeEnumIp, "false", "false", "true"},
		{types.ProtocolEnumUdp, types.TargetTypeEnumInstance, "true", "true", "false"},
		{types.ProtocolEnumUdp, types.TargetTypeEnumIp, "true", "true", "false"},
		{types.ProtocolEnumTcpUdp, types.TargetTypeEnumIp, "true", "true", "false"},
		{types.ProtocolEnumTcp, types.TargetTypeEnumAlb, "", "false", "true"},
	} {
		arn := a.networkGroup(fmt.Sprint("g", i), c.protocol, c.kind)
		have := a.targetGroups[arn].attributes
		for key, want := range map[string]string{
			preserve: c.preserve, deregister: c.deregister, unhealthy: c.unhealthy, "proxy_protocol_v2.enabled": "false", "stickiness.type": "source_ip",
			"target_health_state.unhealthy.draining_interval_seconds": "0", "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
		} {
			if have[key] != want {
				t.Errorf("%s %s: %s = %q, want %q", c.protocol, c.kind, key, have[key], want)
			}
		}
	}
	if v := a.balancers[a.networkBalancer()].attributes["load_balancing.cross_zone.enabled"]; v != "false" {
		t.Errorf("cross-zone of a new load balancer is %s", v)
	}
}

// Each row is one way to be refused.
func TestNetworkBalancersRefuse(t *testing.T) {
	t.Parallel()
	a := newAccount(t, "ideal", 1)
	me := eventual.Reader{Caller: "test"}
	lb := a.networkBalancer()
	grouped := a.networkBalancer(func(in *elb.CreateLoadBalancerInput) {
		in.Name, in.SecurityGroups = new("grouped"), []string{a.network.DefaultSecurityGroup()}
	})
	group := map[types.ProtocolEnum]string{}
	for i, p := range []types.ProtocolEnum{types.ProtocolEnumTcp, types.ProtocolEnumTls, types.ProtocolEnumUdp, types.ProtocolEnumTcpUdp} {
		group[p] = a.networkGroup(fmt.Sprint("g", i), p, types.TargetTypeEnumIp)
	}
	other := a.networkGroup("other", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
	front := a.networkGroup("front", types.ProtocolEnumTcp, types.TargetTypeEnumAlb)
	instances := a.networkGroup("instances", types.ProtocolEnumTcp, types.TargetTypeEnumInstance)
	a.networkListener(lb, types.ProtocolEnumTcp, split([]string{group[types.ProtocolEnumTcp]}, 1))
	web := a.balancerARN()
	port80 := a.listenerARN(web, split([]string{a.groupARN("pods")}, 1))
	a.register(front, []types.TargetDescription{{Id: &web}})

	listen := func(protocol types.ProtocolEnum, actions []types.Action, change ...func(*elb.CreateListenerInput)) error {
		in := &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: protocol, DefaultActions: actions}
		if protocol == types.ProtocolEnumTls {
			in.Certificates = []types.Certificate{{CertificateArn: new("arn:aws:acm:eu-west-1:123456789012:certificate/a")}}
		}
		for _, f := range change {
			f(in)
		}
		_, err := a.CreateListener(me, in)
		return err
	}
	to := func(p types.ProtocolEnum) []types.Action { return split([]string{group[p]}, 1) }
	sticky := split([]string{group[types.ProtocolEnumTcp], other}, 1, 1)
	sticky[0].ForwardConfig.TargetGroupStickinessConfig = &types.TargetGroupStickinessConfig{Enabled: new(true)}
	alpn := func(policy ...string) func(*elb.CreateListenerInput) {
		return func(in *elb.CreateListenerInput) { in.AlpnPolicy = policy }
	}
	securityGroups := func(lb string, ids ...string) error {
		_, err := a.SetSecurityGroups(me, &elb.SetSecurityGroupsInput{LoadBalancerArn: &lb, SecurityGroups: ids})
		return err
	}
	register := func(group, id string, change ...func(*types.TargetDescription)) error {
		d := types.TargetDescription{Id: &id}
		for _, f := range change {
			f(&d)
		}
		_, err := a.RegisterTargets(me, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{d}})
		return err
	}
	everywhere := func(d *types.TargetDescription) { d.AvailabilityZone = new("all") }
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"tcp-listener-udp-group", listen(types.ProtocolEnumTcp, to(types.ProtocolEnumUdp)), "IncompatibleProtocols"},
		{"tcp-listener-tls-group", listen(types.ProtocolEnumTcp, to(types.ProtocolEnumTls)), "IncompatibleProtocols"},
		{"udp-listener-tcp-group", listen(types.ProtocolEnumUdp, to(types.ProtocolEnumTcp)), "IncompatibleProtocols"},
		{"tcp-udp-listener-tcp-group", listen(types.ProtocolEnumTcpUdp, to(types.ProtocolEnumTcp)), "IncompatibleProtocols"},
		{"tls-listener-alb-group", listen(types.ProtocolEnumTls, split([]string{front}, 1)), "IncompatibleProtocols"},
		{"http-listener", listen(types.ProtocolEnumHttp, to(types.ProtocolEnumTcp)), "UnsupportedProtocol"},
		{"tls-mixes-groups", listen(types.ProtocolEnumTls, split([]string{group[types.ProtocolEnumTcp], group[types.ProtocolEnumTls]}, 1, 1)), "InvalidConfigurationRequest"},
		{"tls-listener-sticks", listen(types.ProtocolEnumTls, sticky), "InvalidConfigurationRequest"},
		{"redirect", listen(types.ProtocolEnumTcp, []types.Action{{Type: types.ActionTypeEnumRedirect}}), "InvalidConfigurationRequest"},
		{"udp-on-the-port-of-tcp", listen(types.ProtocolEnumUdp, to(types.ProtocolEnumUdp), func(in *elb.CreateListenerInput) { in.Port = new(int32(80)) }), "DuplicateListener"},
		{"unknown-alpn-policy", listen(types.ProtocolEnumTls, to(types.ProtocolEnumTcp), alpn("HTTP3Only")), "ALPNPolicyNotFound"},
		{"two-alpn-policies", listen(types.ProtocolEnumTls, to(types.ProtocolEnumTcp), alpn("HTTP2Only", "None")), "ValidationError"},
		{"alpn-without-tls", listen(types.ProtocolEnumTcp, to(types.ProtocolEnumTcp), alpn("HTTP2Only")), "InvalidConfigurationRequest"},
		{"tls-without-certificate", listen(types.ProtocolEnumTls, to(types.ProtocolEnumTcp), func(in *elb.CreateListenerInput) { in.Certificates = nil }), "ValidationError"},
		{"certificate-without-tls", listen(types.ProtocolEnumUdp, to(types.ProtocolEnumUdp), func(in *elb.CreateListenerInput) { in.Certificates = []types.Certificate{{}} }), "ValidationError"},
		{"groups-for-one-without", securityGroups(lb, a.network.DefaultSecurityGroup()), "InvalidConfigurationRequest"},
		{"none-for-one-with", securityGroups(grouped), "InvalidConfigurationRequest"},
		{"unknown-group", securityGroups(grouped, "sg-0"), "InvalidSecurityGroup"},
		{"preservation-off-for-udp", a.setAttribute(group[types.ProtocolEnumUdp], "preserve_client_ip.enabled", "false"), "InvalidConfigurationRequest"},
		{"preservation-off-for-tcp-udp", a.setAttribute(group[types.ProtocolEnumTcpUdp], "preserve_client_ip.enabled", "false"), "InvalidConfigurationRequest"},
		{"preservation-of-alb", a.setAttribute(front, "preserve_client_ip.enabled", "false"), "ValidationError"},
		{"unhealthy-termination-for-udp", a.setAttribute(group[types.ProtocolEnumUdp], "target_health_state.unhealthy.connection_termination.enabled", "true"), "InvalidConfigurationRequest"},
		{"interval-with-termination", a.setAttribute(group[types.ProtocolEnumTcp], "target_health_state.unhealthy.draining_interval_seconds", "60"), "InvalidConfigurationRequest"},
		{"cookies", a.setAttribute(group[types.ProtocolEnumTcp], "stickiness.type", "lb_cookie"), "InvalidConfigurationRequest"},
		{"tls-group-sticks", a.setAttribute(group[types.ProtocolEnumTls], "stickiness.enabled", "true"), "InvalidConfigurationRequest"},
		{"slow-start", a.setAttribute(group[types.ProtocolEnumTcp], "slow_start.duration_seconds", "30"), "ValidationError"},
		{"not-an-alb", register(front, lb), "InvalidTarget"},
		{"alb-on-another-port", register(front, web, func(d *types.TargetDescription) { d.Port = new(int32(81)) }), "InvalidTarget"},
		{"address-for-alb-group", register(front, "10.9.0.9"), "InvalidTarget"},
		{"address-for-instances", register(instances, "10.9.0.9"), "ValidationError"},
		{"outside-with-preservation", register(group[types.ProtocolEnumUdp], "192.168.1.1", everywhere), "InvalidTarget"},
		{"outside-without", register(group[types.ProtocolEnumTcp], "192.168.1.1", everywhere), ""},
		{"listener-of-a-target", func() error {
			_, err := a.DeleteListener(me, &elb.DeleteListenerInput{ListenerArn: &port80})
			return err
		}(), "ResourceInUse"},
		{"alb-that-is-a-target", func() error {
			_, err := a.DeleteLoadBalancer(me, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &web})
			return err
		}(), "ResourceInUse"},
		{"rule", func() error {
			_, err := a.CreateRule(me, &elb.CreateRuleInput{ListenerArn: new(slices.Collect(maps.Keys(a.balancers[lb].listeners))[0]), Priority: new(int32(1))})
			return err
		}(), "UnsupportedProtocol"},
	} {
		if got := code(c.err); got != c.want {
			t.Errorf("%s: %q (%v), want %q", c.name, got, c.err, c.want)
		}
	}
}

// What the node of a Network Load Balancer is told, and that attributes of the load balancer reach its groups.
func TestNetworkNodesAreToldWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		me := eventual.Reader{Caller: "test"}
		lb := a.networkBalancer()
		one, two := a.networkGroup("one", types.ProtocolEnumTcp, types.TargetTypeEnumInstance), a.networkGroup("two", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		actions := split([]string{one, two}, 3, 0)
		actions[0].ForwardConfig.TargetGroupStickinessConfig = &types.TargetGroupStickinessConfig{Enabled: new(true)}
		arn := *retry(a, a.CreateListener, &elb.CreateListenerInput{
			LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumTcp, DefaultActions: actions,
		}).Listeners[0].ListenerArn
		retry(a, a.ModifyListenerAttributes, &elb.ModifyListenerAttributesInput{ListenerArn: &arn, Attributes: []types.ListenerAttribute{{Key: new("tcp.idle_timeout.seconds"), Value: new("60")}}})
		for key, value := range map[string]string{"proxy_protocol_v2.enabled": "true", "deregistration_delay.connection_termination.enabled": "true", "target_health_state.unhealthy.connection_termination.enabled": "false", "stickiness.enabled": "true"} {
			if err := a.setAttribute(two, key, value); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		node := a.node(zones[0])
		if !node.spec.Network {
			t.Error("the node does not know its kind")
		}
		config, _ := node.last()
		want := []dataplane.Listener{{ARN: arn, Port: 443, Protocol: dataplane.TCP, FlowIdle: time.Minute, Default: dataplane.Action{Forward: &dataplane.Forward{
			Groups: []dataplane.WeightedGroup{{ARN: one, Weight: 3}, {ARN: two, Weight: 0}}, StickySource: true,
		}}}}
		if diff := cmp.Diff(want, config.Listeners); diff != "" {
			t.Errorf("listeners (-want +got):\n%s", diff)
		}
		node.mu.Lock()
		first, second := node.groups[one], node.groups[two]
		node.mu.Unlock()
		if diff := cmp.Diff(dataplane.NetworkGroup{PreserveClient: true, TerminateUnhealthy: true}, first.Network); diff != "" || !first.SameZoneOnly || first.HealthCheck.Protocol != dataplane.TCP {
			t.Errorf("first group %+v\n%s", first, diff)
		}
		if diff := cmp.Diff(dataplane.NetworkGroup{ProxyProtocol: true, TerminateDeregistered: true, StickySource: true}, second.Network); diff != "" {
			t.Errorf("second group: %s", diff)
		}
		if _, err := a.ModifyLoadBalancerAttributes(me, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &lb, Attributes: []types.LoadBalancerAttribute{{Key: new("load_balancing.cross_zone.enabled"), Value: new("true")}}}); err != nil {
			t.Fatal(err)
		}
		if err := a.setAttribute(two, "load_balancing.cross_zone.enabled", "false"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		node.mu.Lock()
		defer node.mu.Unlock()
		if node.groups[one].SameZoneOnly || !node.groups[two].SameZoneOnly {
			t.Errorf("a group that follows the load balancer keeps to its zone: %v, one that does not: %v", node.groups[one].SameZoneOnly, node.groups[two].SameZoneOnly)
		}
	})
}

// Registration takes minutes, and so does deregistration; weights have a pace of their own. The bounds are those of the profile.
func TestPaceOfNetworkBalancers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", 3)
		lb := a.networkBalancer()
		groups := []string{a.networkGroup("one", types.ProtocolEnumTcp, types.TargetTypeEnumIp), a.networkGroup("two", types.ProtocolEnumTcp, types.TargetTypeEnumIp)}
		listener := a.networkListener(lb, types.ProtocolEnumTcp, split(groups, 1, 0))
		pod, err := a.network.AddInstance(zones[0], "pod")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		// until waits for a node and returns how long it took.
		until := func(what string, holds func(*recorder) bool) (fastest, slowest time.Duration) {
			start := time.Now()
			for _, zone := range zones {
				for !holds(a.node(zone)) {
					if time.Since(start) > time.Hour {
						t.Fatal(what)
					}
					time.Sleep(time.Second)
					synctest.Wait()
				}
				if fastest == 0 {
					fastest = time.Since(start)
				}
			}
			return fastest, time.Since(start)
		}
		state := func() types.TargetHealth {
			return *retry(a, a.DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: &groups[0]}).TargetHealthDescriptions[0].TargetHealth
		}
		a.register(groups[0], []types.TargetDescription{{Id: new(pod.Address.String())}})
		if h := state(); h.State != types.TargetHealthStateEnumInitial || h.Reason != types.TargetHealthReasonEnumRegistrationInProgress {
			t.Errorf("after registration the target is %s %s", h.State, h.Reason)
		}
		if fast, slow := until("register", func(r *recorder) bool { return len(r.known(groups[0]).Targets) == 1 }); fast < 55*time.Second || slow > 155*time.Second {
			t.Errorf("nodes know of a target after %v to %v", fast, slow)
		}
		retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: split(groups, 1, 7)})
		_, slow := until("weights", func(r *recorder) bool { row, _ := r.weights(); return row[len(row)-1] == 7 })
		if want := a.Service.config.Draws.PerNode("nlb.weight_change", a.balancers[lb].event(), zones[0]); slow > 125*time.Second || slow < want {
			t.Errorf("nodes know of a weight after %v, the first draws %v", slow, want)
		}
		retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &groups[0], Targets: []types.TargetDescription{{Id: new(pod.Address.String())}}})
		if h := state(); h.State != types.TargetHealthStateEnumDraining {
			t.Errorf("after deregistration the target is %s", h.State)
		}
		if fast, slow := until("deregister", func(r *recorder) bool { return r.known(groups[0]).Targets[0].State == dataplane.Draining }); fast < 25*time.Second || slow > 125*time.Second {
			t.Errorf("nodes know of a deregistration after %v to %v", fast, slow)
		}
	})
}

// Unhealthy targets whose flows go on are shown as draining for the interval, then as unhealthy.
func TestUnhealthyDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		lb, group := a.networkBalancer(), a.networkGroup("one", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		a.networkListener(lb, types.ProtocolEnumTcp, split([]string{group}, 1))
		for _, pair := range [][2]string{{"target_health_state.unhealthy.connection_termination.enabled", "false"}, {"target_health_state.unhealthy.draining_interval_seconds", "60"}} {
			if err := a.setAttribute(group, pair[0], pair[1]); err != nil {
				t.Fatal(err)
			}
		}
		pod, err := a.network.AddInstance(zones[0], "pod")
		if err != nil {
			t.Fatal(err)
		}
		a.register(group, []types.TargetDescription{{Id: new(pod.Address.String())}})
		time.Sleep(time.Minute)
		synctest.Wait()
		say := func(state dataplane.HealthState, reason string) {
			for _, zone := range zones {
				a.node(zone).spec.Health(dataplane.HealthChange{Group: group, Zone: zone, Target: dataplane.TargetKey{ID: pod.Address.String(), Port: 80}, TargetHealth: dataplane.TargetHealth{State: state, Reason: reason}})
			}
			synctest.Wait()
		}
		say(dataplane.Healthy, "")
		a.wantHealth(group, "healthy", "")
		say(dataplane.Unhealthy, dataplane.ReasonFailedHealthChecks)
		a.wantHealth(group, "unhealthy.draining", dataplane.ReasonFailedHealthChecks)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		a.wantHealth(group, "unhealthy", dataplane.ReasonFailedHealthChecks)
		say(dataplane.Healthy, "")
		say(dataplane.Unhealthy, dataplane.ReasonFailedHealthChecks)
		a.wantHealth(group, "unhealthy.draining", dataplane.ReasonFailedHealthChecks)
	})
}

// A load balancer as a target is reached at its address in the zone of the node that asks, and followed when it moves.
func TestApplicationBalancerAsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		web := a.balancerARN()
		a.listenerARN(web, split([]string{a.groupARN("pods")}, 1))
		behind := map[string]string{} // address of the ALB by zone
		for _, n := range a.balancers[web].nodes {
			behind[n.zone] = n.address.String()
		}
		group := a.networkGroup("front", types.ProtocolEnumTcp, types.TargetTypeEnumAlb)
		lb := a.networkBalancer()
		a.networkListener(lb, types.ProtocolEnumTcp, split([]string{group}, 1))
		a.register(group, []types.TargetDescription{{Id: &web}})
		time.Sleep(time.Minute)
		synctest.Wait()
		address := func(n *node) string { return n.traffic.(*recorder).known(group).Targets[0].Address.String() }
		for _, n := range a.balancers[lb].nodes {
			if got := address(n); got != behind[n.zone] {
				t.Errorf("the node of %s goes to %s, want %s", n.zone, got, behind[n.zone])
			}
		}
		var subnets []string
		for _, n := range a.balancers[web].nodes[1:] {
			subnets = append(subnets, n.subnet)
		}
		retry(a, a.SetSubnets, &elb.SetSubnetsInput{LoadBalancerArn: &web, Subnets: subnets})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := address(a.balancers[lb].nodes[0]); got == behind[zones[0]] || got != behind[zones[1]] {
			t.Errorf("after the ALB has left %s, its node goes to %s", zones[0], got)
		}
		retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: &web}}})
		retry(a, a.DeleteLoadBalancer, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &web})
	})
}

// DNS leaves out zones without healthy targets, where zones keep to themselves; if there are no others it names all.
func TestZonesInDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		lb, group := a.networkBalancer(), a.networkGroup("one", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		a.networkListener(lb, types.ProtocolEnumTcp, split([]string{group}, 1))
		pod, err := a.network.AddInstance(zones[1], "pod")
		if err != nil {
			t.Fatal(err)
		}
		a.register(group, []types.TargetDescription{{Id: new(pod.Address.String())}})
		time.Sleep(time.Minute)
		synctest.Wait()
		name := *a.balancers[lb].value.Get().DNSName
		if n := len(a.Resolve(name)); n != 3 {
			t.Errorf("while nobody is healthy there are %d addresses", n)
		}
		for _, zone := range zones {
			a.node(zone).spec.Health(dataplane.HealthChange{Group: group, Zone: zone, Target: dataplane.TargetKey{ID: pod.Address.String(), Port: 80}, TargetHealth: dataplane.TargetHealth{State: dataplane.Healthy}})
		}
		synctest.Wait()
		if got := a.Resolve(name); len(got) != 1 || got[0] != a.balancers[lb].nodes[1].address {
			t.Errorf("with a healthy target in %s DNS names %v", zones[1], got)
		}
		if err := a.setAttribute(group, "load_balancing.cross_zone.enabled", "true"); err != nil {
			t.Fatal(err)
		}
		if n := len(a.Resolve(name)); n != 3 {
			t.Errorf("with cross-zone on there are %d addresses", n)
		}
	})
}

// Section 5: each state with its reason, on a Network Load Balancer.
func TestStatesOfNetworkTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		lb := a.networkBalancer()
		group, machines := a.networkGroup("pods", types.ProtocolEnumTcp, types.TargetTypeEnumIp), a.networkGroup("machines", types.ProtocolEnumTcp, types.TargetTypeEnumInstance)
		pod, err := a.network.AddInstance(zones[0], "pod")
		if err != nil {
			t.Fatal(err)
		}
		ip := []types.TargetDescription{{Id: new(pod.Address.String())}}
		a.register(group, ip)
		a.wantHealth(group, "unused", "Target.NotInUse")
		listener := a.networkListener(lb, types.ProtocolEnumTcp, split([]string{group}, 1))
		a.wantHealth(group, "initial", "Elb.RegistrationInProgress")
		synctest.Wait()
		say := func(zone string, h dataplane.TargetHealth) {
			a.node(zone).spec.Health(dataplane.HealthChange{Group: group, Zone: zone, Target: dataplane.TargetKey{ID: pod.Address.String(), Port: 80}, TargetHealth: h})
			synctest.Wait()
		}
		for i, zone := range zones {
			say(zone, dataplane.TargetHealth{State: dataplane.Initial, Reason: dataplane.ReasonInitialHealthChecking})
			a.wantHealth(group, "initial", "Elb.InitialHealthChecking")
			say(zone, dataplane.TargetHealth{State: dataplane.Healthy})
			if i < len(zones)-1 {
				a.wantHealth(group, "initial", "Elb.InitialHealthChecking") // until all nodes agree
			}
		}
		a.wantHealth(group, "healthy", "")
		for _, reason := range []string{dataplane.ReasonFailedHealthChecks, dataplane.ReasonTimeout, dataplane.ReasonResponseCodeMismatch} {
			say(zones[1], dataplane.TargetHealth{State: dataplane.Unhealthy, Reason: reason})
			a.wantHealth(group, "unhealthy", reason)
		}
		say(zones[1], dataplane.TargetHealth{State: dataplane.Healthy})
		retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: ip})
		a.wantHealth(group, "draining", "Target.DeregistrationInProgress")
		a.register(group, ip)
		a.wantHealth(group, "initial", "Elb.RegistrationInProgress")
		retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: ip})
		time.Sleep(301 * time.Second)
		synctest.Wait()
		out := retry(a, a.DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: ip}).TargetHealthDescriptions
		if h := out[0].TargetHealth; h.State != types.TargetHealthStateEnumUnused || h.Reason != types.TargetHealthReasonEnumNotRegistered {
			t.Errorf("after the delay it is %s %s", h.State, h.Reason)
		}

		retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: split([]string{machines}, 1)})
		machine, err := a.network.AddInstance(zones[0], "machine")
		if err != nil {
			t.Fatal(err)
		}
		a.register(machines, []types.TargetDescription{{Id: &machine.ID}})
		a.wantHealth(machines, "initial", "Elb.RegistrationInProgress")
		if err := a.network.RemoveInstance(machine.ID); err != nil {
			t.Fatal(err)
		}
		a.wantHealth(machines, "draining", "Target.DeregistrationInProgress")
	})
}

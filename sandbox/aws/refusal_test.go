package aws_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Each row is one way to be refused, with the code that AWS answers.
func TestELBv2RefusesWithTheCodesOfAWS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := *w.loadBalancer("web").LoadBalancerArn
	other := *w.loadBalancer("other").LoadBalancerArn
	used, unused, elsewhere := w.targetGroup("used"), w.targetGroup("unused"), w.targetGroup("elsewhere")
	sticky := w.targetGroup("sticky")
	must(w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &sticky, Attributes: groupAttribute("stickiness.enabled", "true")}))(w)
	listener := w.listener(lb, 80, forward(used))
	w.listener(other, 80, forward(elsewhere))
	rule := w.rule(listener, 5, fixed("200"))
	second := w.rule(listener, 6, fixed("200"))
	protected := *w.loadBalancer("protected").LoadBalancerArn
	must(w.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &protected, Attributes: lbAttribute("deletion_protection.enabled", "true")}))(w)
	defaultRule := *must(w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener}))(w).Rules[2].RuleArn
	gone := strings.Replace(lb, "/web/", "/gone/", 1)
	subnets, vpc := w.subnets(), w.vpc()
	network := *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("net"), Subnets: subnets[:1], Type: types.LoadBalancerTypeEnumNetwork}))(w).LoadBalancers[0].LoadBalancerArn

	createLB := func(change func(*elb.CreateLoadBalancerInput)) func() error {
		in := &elb.CreateLoadBalancerInput{Name: new("new"), Subnets: subnets}
		change(in)
		return func() error { _, err := w.elb.CreateLoadBalancer(ctx, in); return err }
	}
	createTG := func(change func(*elb.CreateTargetGroupInput)) func() error {
		in := &elb.CreateTargetGroupInput{Name: new("new"), Protocol: types.ProtocolEnumHttp, Port: new(int32(80)), VpcId: &vpc, TargetType: types.TargetTypeEnumIp}
		change(in)
		return func() error { _, err := w.elb.CreateTargetGroup(ctx, in); return err }
	}
	createListener := func(change func(*elb.CreateListenerInput)) func() error {
		in := &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(81)), Protocol: types.ProtocolEnumHttp, DefaultActions: fixed("200")}
		change(in)
		return func() error { _, err := w.elb.CreateListener(ctx, in); return err }
	}
	createRule := func(change func(*elb.CreateRuleInput)) func() error {
		in := &elb.CreateRuleInput{ListenerArn: &listener, Priority: new(int32(9)), Conditions: path("/x"), Actions: fixed("200")}
		change(in)
		return func() error { _, err := w.elb.CreateRule(ctx, in); return err }
	}
	actions := func(a ...types.Action) func() error {
		return createRule(func(in *elb.CreateRuleInput) { in.Actions = a })
	}
	conditions := func(c ...types.RuleCondition) func() error {
		return createRule(func(in *elb.CreateRuleInput) { in.Conditions = c })
	}
	priorities := func(pairs ...any) func() error {
		in := &elb.SetRulePrioritiesInput{}
		for i := 0; i < len(pairs); i += 2 {
			in.RulePriorities = append(in.RulePriorities, types.RulePriorityPair{RuleArn: new(pairs[i].(string)), Priority: new(int32(pairs[i+1].(int)))})
		}
		return func() error { _, err := w.elb.SetRulePriorities(ctx, in); return err }
	}
	register := func(group string, targets ...types.TargetDescription) func() error {
		return func() error {
			_, err := w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: targets})
			return err
		}
	}
	weighted := func(weight int32) types.Action {
		a := forward(used, unused)[0]
		a.ForwardConfig.TargetGroups[0].Weight = &weight
		return a
	}
	redirect := func(c types.RedirectActionConfig) types.Action {
		c.StatusCode = types.RedirectActionStatusCodeEnumHttp302
		return types.Action{Type: types.ActionTypeEnumRedirect, RedirectConfig: &c}
	}

	for _, tt := range []struct {
		why, code string
		call      func() error
	}{
		{"name with a hyphen at its end", "ValidationError", createLB(func(in *elb.CreateLoadBalancerInput) { in.Name = new("web-") })},
		{"name that begins with internal-", "ValidationError", createLB(func(in *elb.CreateLoadBalancerInput) { in.Name = new("internal-web") })},
		{"name of 33 characters", "ValidationError", createLB(func(in *elb.CreateLoadBalancerInput) { in.Name = new(strings.Repeat("a", 33)) })},
		{"name in use with other settings", "DuplicateLoadBalancerName", createLB(func(in *elb.CreateLoadBalancerInput) { in.Name = new("web") })},
		{"one subnet for an ALB", "ValidationError", createLB(func(in *elb.CreateLoadBalancerInput) { in.Subnets = subnets[:1] })},
		{"no subnets", "ValidationError", createLB(func(in *elb.CreateLoadBalancerInput) { in.Subnets = nil })},
		{"two subnets of one zone", "InvalidConfigurationRequest", createLB(func(in *elb.CreateLoadBalancerInput) { in.Subnets = []string{subnets[0], subnets[0]} })},
		{"unknown subnet", "SubnetNotFound", createLB(func(in *elb.CreateLoadBalancerInput) { in.Subnets = []string{subnets[0], "subnet-0"} })},
		{"unknown security group", "InvalidSecurityGroup", createLB(func(in *elb.CreateLoadBalancerInput) { in.SecurityGroups = []string{"sg-0"} })},
		{"unknown scheme", "InvalidScheme", createLB(func(in *elb.CreateLoadBalancerInput) { in.Scheme = "external" })},
		{"IPv6 without an IPv6 block", "InvalidSubnet", createLB(func(in *elb.CreateLoadBalancerInput) { in.IpAddressType = "dualstack" })},
		{"tag key twice", "DuplicateTagKeys", createLB(func(in *elb.CreateLoadBalancerInput) {
			in.Tags = []types.Tag{{Key: new("a")}, {Key: new("a")}}
		})},
		{"51 tags", "TooManyTags", createLB(func(in *elb.CreateLoadBalancerInput) {
			for i := range 51 {
				in.Tags = append(in.Tags, types.Tag{Key: new(fmt.Sprint("k", i))})
			}
		})},
		{"reserved tag", "ValidationError", createLB(func(in *elb.CreateLoadBalancerInput) { in.Tags = []types.Tag{{Key: new("aws:x")}} })},
		{"deletion protection", "OperationNotPermitted", func() error {
			_, err := w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &protected})
			return err
		}},
		{"ARN of another kind", "LoadBalancerNotFound", func() error {
			_, err := w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &used})
			return err
		}},
		{"names and ARNs", "ValidationError", func() error {
			_, err := w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{lb}, Names: []string{"web"}})
			return err
		}},
		{"unknown load balancer", "LoadBalancerNotFound", func() error {
			_, err := w.elb.DescribeLoadBalancerAttributes(ctx, &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: &gone})
			return err
		}},
		{"unknown attribute", "ValidationError", func() error {
			_, err := w.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &lb, Attributes: lbAttribute("colour", "blue")})
			return err
		}},
		{"cross-zone of an ALB cannot be off", "InvalidConfigurationRequest", func() error {
			_, err := w.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &lb, Attributes: lbAttribute("load_balancing.cross_zone.enabled", "false")})
			return err
		}},
		{"NLB without groups cannot get any", "InvalidConfigurationRequest", func() error {
			_, err := w.elb.SetSecurityGroups(ctx, &elb.SetSecurityGroupsInput{LoadBalancerArn: &network, SecurityGroups: []string{w.emulator.EC2().NodeSecurityGroup()}})
			return err
		}},

		{"no VPC", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.VpcId = nil })},
		{"no port", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.Port = nil })},
		{"no protocol", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.Protocol = "" })},
		{"two hyphens in a row", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.Name = new("a--b") })},
		{"group name in use with other settings", "DuplicateTargetGroupName", createTG(func(in *elb.CreateTargetGroupInput) { in.Name = new("used") })},
		{"time-out as long as the interval", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) {
			in.HealthCheckIntervalSeconds, in.HealthCheckTimeoutSeconds = new(int32(10)), new(int32(10))
		})},
		{"interval below 5", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.HealthCheckIntervalSeconds = new(int32(4)) })},
		{"threshold of 1", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.HealthyThresholdCount = new(int32(1)) })},
		{"TCP check of an HTTP group", "InvalidConfigurationRequest", createTG(func(in *elb.CreateTargetGroupInput) { in.HealthCheckProtocol = types.ProtocolEnumTcp })},
		{"matcher above 499", "ValidationError", createTG(func(in *elb.CreateTargetGroupInput) { in.Matcher = &types.Matcher{HttpCode: new("200-599")} })},
		{"unknown group", "TargetGroupNotFound", func() error {
			_, err := w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: new(used + "0")})
			return err
		}},
		{"group in use", "ResourceInUse", func() error {
			_, err := w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &used})
			return err
		}},
		{"slow start with another algorithm", "InvalidConfigurationRequest", func() error {
			_, err := w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &used, Attributes: append(
				groupAttribute("slow_start.duration_seconds", "30"), groupAttribute("load_balancing.algorithm.type", "weighted_random")...)})
			return err
		}},
		{"deregistration delay of two hours", "InvalidConfigurationRequest", func() error {
			_, err := w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &used, Attributes: groupAttribute("deregistration_delay.timeout_seconds", "7200")})
			return err
		}},

		{"public address", "ValidationError", register(used, types.TargetDescription{Id: new("8.8.8.8")})},
		{"address outside the VPC without a zone", "ValidationError", register(used, types.TargetDescription{Id: new("192.168.0.1")})},
		{"address in the VPC with zone all", "ValidationError", register(used, types.TargetDescription{Id: new("10.77.0.9"), AvailabilityZone: new("all")})},
		{"instance in an ip group", "ValidationError", register(used, types.TargetDescription{Id: new("i-0123456789abcdef0")})},

		{"protocol of an NLB", "UnsupportedProtocol", createListener(func(in *elb.CreateListenerInput) { in.Protocol = types.ProtocolEnumTcp })},
		{"port in use", "DuplicateListener", createListener(func(in *elb.CreateListenerInput) { in.Port = new(int32(80)) })},
		{"HTTPS without certificate", "ValidationError", createListener(func(in *elb.CreateListenerInput) { in.Protocol = types.ProtocolEnumHttps })},
		{"unknown certificate", "CertificateNotFound", createListener(func(in *elb.CreateListenerInput) {
			in.Protocol, in.Certificates = types.ProtocolEnumHttps, []types.Certificate{{CertificateArn: new("mine")}}
		})},
		{"made-up certificate", "CertificateNotFound", createListener(func(in *elb.CreateListenerInput) {
			in.Protocol, in.Certificates = types.ProtocolEnumHttps, []types.Certificate{{CertificateArn: new("arn:aws:acm:eu-west-1:123456789012:certificate/1")}}
		})},
		{"unknown policy", "SSLPolicyNotFound", createListener(func(in *elb.CreateListenerInput) {
			in.Protocol, in.SslPolicy = types.ProtocolEnumHttps, new("strong")
			in.Certificates = []types.Certificate{{CertificateArn: new("arn:aws:iam::123456789012:server-certificate/web")}}
		})},
		{"listener of an unknown load balancer", "LoadBalancerNotFound", createListener(func(in *elb.CreateListenerInput) { in.LoadBalancerArn = &gone })},
		{"HTTP group on an NLB", "IncompatibleProtocols", createListener(func(in *elb.CreateListenerInput) {
			in.LoadBalancerArn, in.Protocol, in.DefaultActions = &network, types.ProtocolEnumTcp, forward(unused)
		})},

		{"priority in use", "PriorityInUse", createRule(func(in *elb.CreateRuleInput) { in.Priority = new(int32(5)) })},
		{"priority 0", "ValidationError", createRule(func(in *elb.CreateRuleInput) { in.Priority = new(int32(0)) })},
		{"no conditions", "ValidationError", conditions([]types.RuleCondition{}...)},
		{"unknown listener", "ListenerNotFound", createRule(func(in *elb.CreateRuleInput) { in.ListenerArn = new(listener + "0") })},
		{"unknown group in an action", "TargetGroupNotFound", actions(forward(used + "0")...)},
		{"group of another load balancer", "TargetGroupAssociationLimit", actions(forward(elsewhere)...)},
		{"six groups", "TooManyUniqueTargetGroupsPerLoadBalancer", actions(forward(used, used, used, used, used, used)...)},
		{"one group twice", "ValidationError", actions(forward(used, used)...)},
		{"weight 1000", "ValidationError", actions(weighted(1000))},
		{"negative weight", "ValidationError", actions(weighted(-1))},
		{"sticky targets without a sticky group", "InvalidConfigurationRequest", actions(forward(used, sticky)...)},
		{"two routing actions", "InvalidLoadBalancerAction", actions(fixed("200")[0], forward(used)[0])},
		{"redirect that changes nothing", "InvalidLoadBalancerAction", actions(redirect(types.RedirectActionConfig{Host: new("#{host}")}))},
		{"redirect path without slash", "ValidationError", actions(redirect(types.RedirectActionConfig{Path: new("x")}))},
		{"fixed response 301", "ValidationError", actions(fixed("301")...)},
		{"fixed response of 2 KB", "ValidationError", actions(types.Action{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{
			StatusCode: new("200"), MessageBody: new(strings.Repeat("x", 2048)),
		}})},
		{"two host conditions", "InvalidConfigurationRequest", conditions(host("a.example.com"), host("b.example.com"))},
		{"host without a dot", "ValidationError", conditions(host("localhost"))},
		{"digits after the last dot", "ValidationError", conditions(host("10.0.0.1"))},
		{"six values", "InvalidConfigurationRequest", conditions(host("a.b", "c.d", "e.f", "g.h", "i.j", "k.l"))},
		{"seven wildcards", "InvalidConfigurationRequest", conditions(path("/*******")...)},
		{"both forms of a condition", "ValidationError", conditions(types.RuleCondition{
			Field: new("path-pattern"), Values: []string{"/a"}, PathPatternConfig: &types.PathPatternConditionConfig{Values: []string{"/a"}},
		})},
		{"the host as an ordinary header", "ValidationError", conditions(types.RuleCondition{
			Field: new("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: new("Host"), Values: []string{"a"}},
		})},
		{"method in small letters", "ValidationError", conditions(types.RuleCondition{
			Field: new("http-request-method"), HttpRequestMethodConfig: &types.HttpRequestMethodConditionConfig{Values: []string{"get"}},
		})},
		{"source address without prefix length", "ValidationError", conditions(types.RuleCondition{
			Field: new("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{"10.0.0.1"}},
		})},
		{"unknown rule", "RuleNotFound", func() error {
			_, err := w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: new(rule + "0"), Actions: fixed("200")})
			return err
		}},
		{"default rule modified", "OperationNotPermitted", func() error {
			_, err := w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &defaultRule, Actions: fixed("200")})
			return err
		}},
		{"default rule deleted", "OperationNotPermitted", func() error {
			_, err := w.elb.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: &defaultRule})
			return err
		}},
		{"default rule given a priority", "OperationNotPermitted", priorities(defaultRule, 3)},
		{"priority given twice", "ValidationError", priorities(rule, 3, second, 3)},
		{"priority of a rule that stays", "PriorityInUse", priorities(rule, 6)},
		{"rules by listener and by ARN", "ValidationError", func() error {
			_, err := w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener, RuleArns: []string{rule}})
			return err
		}},
		{"tags of 21 resources", "ValidationError", func() error {
			_, err := w.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: make([]string, 21)})
			return err
		}},
		{"page of 500", "ValidationError", func() error {
			_, err := w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{PageSize: new(int32(500))})
			return err
		}},
		{"an operation that is not modelled", "NotImplemented", func() error {
			_, err := w.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
			return err
		}},
	} {
		t.Run(tt.why, func(t *testing.T) { (&world{T: t}).wantCode(tt.call(), tt.code) })
	}
	if w.emulator.NotModelled()["ec2:DescribeVolumes"] != 1 {
		t.Errorf("calls that are not modelled: %v", w.emulator.NotModelled())
	}

	// Nothing that was refused has left a trace, and rules can change places in one call.
	if err := priorities(rule, 6, second, 5)(); err != nil {
		t.Fatal(err)
	}
	rules := must(w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener}))(w).Rules
	if len(rules) != 3 || *rules[0].RuleArn != second || *rules[1].RuleArn != rule {
		t.Errorf("after the exchange of priorities: %+v", rules)
	}
}

func host(values ...string) types.RuleCondition {
	return types.RuleCondition{Field: new("host-header"), HostHeaderConfig: &types.HostHeaderConditionConfig{Values: values}}
}

func groupAttribute(key, value string) []types.TargetGroupAttribute {
	return []types.TargetGroupAttribute{{Key: &key, Value: &value}}
}

func lbAttribute(key, value string) []types.LoadBalancerAttribute {
	return []types.LoadBalancerAttribute{{Key: &key, Value: &value}}
}

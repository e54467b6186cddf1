package aws_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
)

func TestLoadBalancerLivesThroughCreateModifyDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := w.loadBalancer("k8s-shop-web-0123456789")
	arn := *lb.LoadBalancerArn
	if !strings.HasPrefix(arn, "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/k8s-shop-web-0123456789/") {
		t.Errorf("load balancer ARN %s", arn)
	}
	if lb.State.Code != types.LoadBalancerStateEnumProvisioning || !strings.HasPrefix(*lb.DNSName, "internal-k8s-shop-web-0123456789-") ||
		!strings.HasSuffix(*lb.DNSName, ".eu-west-1.elb.amazonaws.com") || *lb.CanonicalHostedZoneId != "Z32O12XQLNTSW2" || len(lb.AvailabilityZones) != 3 {
		t.Errorf("new load balancer: %+v", lb)
	}
	waiter := elb.NewLoadBalancerAvailableWaiter(w.elb, func(o *elb.LoadBalancerAvailableWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	})
	if err := waiter.Wait(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}}, 20*time.Second); err != nil {
		t.Fatal(err)
	}

	stable, canary := w.targetGroup("stable"), w.targetGroup("canary")
	listener := w.listener(arn, 80, fixed("404"))
	rule := w.rule(listener, 1, forward(stable))
	weighted := forward(stable, canary)
	weighted[0].ForwardConfig.TargetGroups[0].Weight = new(int32(90))
	weighted[0].ForwardConfig.TargetGroups[1].Weight = new(int32(10))
	must(w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &rule, Actions: weighted}))(w)

	rules := must(w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener}))(w).Rules
	if len(rules) != 2 || !*rules[1].IsDefault || *rules[1].Priority != "default" {
		t.Fatalf("rules: %+v", rules)
	}
	want := types.Rule{
		RuleArn: &rule, Priority: new("1"), IsDefault: new(false),
		Conditions: []types.RuleCondition{{
			Field: new("path-pattern"), Values: []string{"/b*"}, PathPatternConfig: &types.PathPatternConditionConfig{Values: []string{"/b*"}},
		}},
		Actions: []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{
			TargetGroups:                weighted[0].ForwardConfig.TargetGroups,
			TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: new(false)},
		}}},
	}
	if diff := cmp.Diff(want, rules[0], ignoreUnexported); diff != "" {
		t.Errorf("modified rule (-want +got):\n%s", diff)
	}

	groups := must(w.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{LoadBalancerArn: &arn}))(w).TargetGroups
	if len(groups) != 2 || !slices.Equal(groups[0].LoadBalancerArns, []string{arn}) {
		t.Errorf("groups of the load balancer: %+v", groups)
	}
	_, err := w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &canary})
	w.wantCode(err, "ResourceInUse")

	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &arn}))(w)
	_, err = w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}})
	w.wantCode(err, "LoadBalancerNotFound")
	_, err = w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{rule}})
	w.wantCode(err, "RuleNotFound")
	must(w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &canary}))(w)
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &arn}))(w)
}

func TestCallerIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := must(w.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))(w)
	if *out.Account != "123456789012" {
		t.Errorf("account %s", *out.Account)
	}
}

func TestPaginatorsSeeEachResourceOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := map[string]bool{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		want[w.targetGroup(name)] = true
	}
	pages := elb.NewDescribeTargetGroupsPaginator(w.elb, &elb.DescribeTargetGroupsInput{PageSize: new(int32(3))})
	got, count := map[string]bool{}, 0
	for pages.HasMorePages() {
		page := must(pages.NextPage(ctx))(w)
		count++
		for _, g := range page.TargetGroups {
			if got[*g.TargetGroupArn] {
				t.Errorf("%s is on two pages", *g.TargetGroupArn)
			}
			got[*g.TargetGroupArn] = true
		}
	}
	if count != 3 || !cmp.Equal(want, got) {
		t.Errorf("%d pages with %d groups", count, len(got))
	}
	_, err := w.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Marker: new("!")})
	w.wantCode(err, "ValidationError")
}

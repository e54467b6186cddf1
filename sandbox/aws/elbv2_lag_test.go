package aws_test

import (
	"net/http"
	"slices"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// While front ends have not heard of it, a new resource is not found: not by reads, and not by writes that need it. A changed one is shown as it
// was. When they have heard, all is well.
func TestReadsThatLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShelf(w)
	group := w.targetGroup("known")
	rule := w.rule(s.http, 1, fixed("200"))
	move := func(to int32) {
		must(w.elb.SetRulePriorities(ctx, &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: &rule, Priority: &to}}}))(w)
	}
	check := func(path string) types.TargetGroup {
		return must(w.elb.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{TargetGroupArn: &group, HealthCheckPath: &path}))(w).TargetGroups[0]
	}
	// A load balancer that has become active has changed, and is seen as it was before.
	w.admin("PUT", "profile", "base: ideal\nseconds:\n  lb.provision.nlb: F(3600)\n", http.StatusOK, nil)
	move(8) // The fault takes away the last change only: what has changed once is not missed.
	check("/old")
	var added struct{ ID string }
	w.admin("POST", "faults", `{"kind": "stale", "delay": 3600000000000}`, http.StatusOK, &added)

	lb := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("new"), Type: types.LoadBalancerTypeEnumNetwork, Subnets: s.subnets[:1]}))(w).LoadBalancers[0].LoadBalancerArn
	fresh := must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new("fresh"), Protocol: types.ProtocolEnumTcp, Port: new(int32(80)), VpcId: &s.vpcID}))(w).TargetGroups[0].TargetGroupArn
	changed := check("/new")
	must(w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &group, Attributes: groupAttribute("stickiness.enabled", "true")}))(w)
	must(w.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{group}, Tags: manyTags(1)}))(w)
	move(9)
	if *changed.HealthCheckPath != "/new" {
		t.Error("the answer to a write shows the old state")
	}

	missing := map[string]struct {
		code string
		call func() error
	}{
		"read of a load balancer": {"LoadBalancerNotFound", func() error {
			return failed(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{*lb}}))
		}},
		"listener of a load balancer": {"LoadBalancerNotFound", func() error {
			return failed(w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb, Port: new(int32(80)), Protocol: types.ProtocolEnumTcp, DefaultActions: forward(*fresh)}))
		}},
		"targets of a group": {"TargetGroupNotFound", func() error {
			return failed(w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: fresh, Targets: []types.TargetDescription{{Id: new("10.77.0.9")}}}))
		}},
		"tags of a group": {"TargetGroupNotFound", func() error {
			return failed(w.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{*fresh}, Tags: manyTags(1)}))
		}},
	}
	for why, m := range missing {
		t.Run(why, func(t *testing.T) { (&world{T: t}).wantCode(m.call(), m.code) })
	}
	shown := func() []string {
		v := must(w.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{group}}))(w).TargetGroups[0]
		attributes := must(w.elb.DescribeTargetGroupAttributes(ctx, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: &group}))(w).Attributes
		i := slices.IndexFunc(attributes, func(a types.TargetGroupAttribute) bool { return *a.Key == "stickiness.enabled" })
		tags := must(w.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{group}}))(w).TagDescriptions[0].Tags
		found := []string{*v.HealthCheckPath, *attributes[i].Value, *must(w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{rule}}))(w).Rules[0].Priority}
		for _, tag := range tags {
			found = append(found, *tag.Key)
		}
		return found
	}
	if got, want := shown(), []string{"/old", "false", "8"}; !slices.Equal(got, want) {
		t.Errorf("while reads lag: %v, want %v", got, want)
	}

	w.admin("DELETE", "faults/"+added.ID, "", http.StatusNoContent, nil)
	if got, want := shown(), []string{"/new", "true", "9", "key0"}; !slices.Equal(got, want) {
		t.Errorf("afterwards: %v, want %v", got, want)
	}
	if err := missing["read of a load balancer"].call(); err != nil {
		t.Error(err)
	}
	if err := missing["tags of a group"].call(); err != nil {
		t.Error(err)
	}
}

// AWS believes a target group to be in use for a while after the last listener that refers to it is gone.
func TestReferencesOutliveWhatRefers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.admin("PUT", "profile", "base: ideal\nseconds:\n  ref.release: F(2)\n", http.StatusOK, nil)
	lb, group := *w.loadBalancer("web").LoadBalancerArn, w.targetGroup("web")
	listener := w.listener(lb, 80, forward(group))
	remove := func() error {
		return failed(w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &group}))
	}
	w.wantCode(remove(), "ResourceInUse")
	must(w.elb.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: &listener}))(w)
	if used := must(w.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{group}}))(w).TargetGroups[0].LoadBalancerArns; len(used) > 0 {
		t.Errorf("used by %v", used)
	}
	w.wantCode(remove(), "ResourceInUse")
	w.eventually("the group can be deleted", func() bool { return remove() == nil })
}

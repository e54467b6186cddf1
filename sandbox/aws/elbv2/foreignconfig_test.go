package elbv2

import (
	"strings"
	"testing"
	"testing/synctest"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// An action or a condition has the config of its own type and no other: what stands in another would count for target groups and nodes,
// though nobody has validated it.
func TestConfigsOfOtherTypesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		listener := a.listenerARN(a.balancerARN(), fixedAction())
		path := types.RuleCondition{Field: new("path-pattern"), Values: []string{"/"}}
		create := func(c types.RuleCondition, action types.Action) string {
			_, err := a.CreateRule(eventual.Reader{Caller: "test"}, &elb.CreateRuleInput{
				ListenerArn: &listener, Priority: new(int32(1)), Conditions: []types.RuleCondition{c}, Actions: []types.Action{action},
			})
			return code(err)
		}
		for name, change := range map[string]func(*types.Action){
			"forward":      func(one *types.Action) { one.ForwardConfig = split([]string{"no-group"}, 1)[0].ForwardConfig },
			"target group": func(one *types.Action) { one.TargetGroupArn = new("no-group") },
			"redirect":     func(one *types.Action) { one.RedirectConfig = &types.RedirectActionConfig{} },
			"cognito":      func(one *types.Action) { one.AuthenticateCognitoConfig = &types.AuthenticateCognitoActionConfig{} },
			"oidc": func(one *types.Action) {
				one.AuthenticateOidcConfig = &types.AuthenticateOidcActionConfig{ClientSecret: new("s3cret")}
			},
			"tokens": func(one *types.Action) { one.JwtValidationConfig = &types.JwtValidationActionConfig{} },
		} {
			one := fixedAction()[0]
			change(&one)
			if got := create(path, one); got != "ValidationError" {
				t.Errorf("fixed-response with the config of %s: %q", name, got)
			}
		}
		for name, c := range map[string]types.RuleCondition{
			"a host":  {HostHeaderConfig: &types.HostHeaderConditionConfig{Values: []string{"shop.example.com"}}},
			"a path":  {PathPatternConfig: &types.PathPatternConditionConfig{Values: []string{"/"}}},
			"headers": {HttpHeaderConfig: &types.HttpHeaderConditionConfig{}},
			"methods": {HttpRequestMethodConfig: &types.HttpRequestMethodConditionConfig{}},
			"a query": {QueryStringConfig: &types.QueryStringConditionConfig{}},
			"values":  {Values: []string{"10.0.0.0/8"}},
			"regexes": {RegexValues: []string{"x"}},
		} {
			c.Field, c.SourceIpConfig = new("source-ip"), &types.SourceIpConditionConfig{Values: []string{"10.0.0.0/8"}}
			if got := create(c, fixedAction()[0]); got != "ValidationError" {
				t.Errorf("source-ip with %s: %q", name, got)
			}
		}
		_, err := a.CreateRule(eventual.Reader{Caller: "test"}, &elb.CreateRuleInput{
			ListenerArn: &listener, Priority: new(int32(1)), Conditions: []types.RuleCondition{path}, Actions: []types.Action{{Type: "forwards", TargetGroupArn: new("x")}},
		})
		if err == nil || !strings.Contains(err.Error(), "enum value set") {
			t.Errorf("a type that there is not: %v", err)
		}
		path.SourceIpConfig = &types.SourceIpConditionConfig{}
		if got := create(path, fixedAction()[0]); got != "ValidationError" {
			t.Errorf("path-pattern with sources: %q", got)
		}
	})
}

func fixedAction() []types.Action {
	return []types.Action{{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("200")}}}
}

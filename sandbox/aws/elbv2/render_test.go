package elbv2

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// What the API holds is what the nodes are told: every kind of action and condition.
func TestNodesAreToldWhatTheAPIHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		lb := a.balancerARN()
		groups := []string{a.groupARN("stable"), a.groupARN("canary")}
		sticky := split(groups, 90, 10)
		sticky[0].ForwardConfig.TargetGroupStickinessConfig = &types.TargetGroupStickinessConfig{Enabled: new(true), DurationSeconds: new(int32(60))}
		listener := a.listenerARN(lb, sticky)
		rule := retry(a, a.CreateRule, &elb.CreateRuleInput{
			ListenerArn: &listener, Priority: new(int32(7)),
			Conditions: []types.RuleCondition{
				{Field: new("host-header"), Values: []string{"a.example.com"}},
				{Field: new("path-pattern"), PathPatternConfig: &types.PathPatternConditionConfig{RegexValues: []string{"^/x/[a-z]*/[a-z]*/[a-z]*/[a-z]*/[a-z]*/[a-z]*/[a-z]*$"}}},
				{Field: new("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: new("X-Canary"), Values: []string{"yes"}}},
				{Field: new("query-string"), QueryStringConfig: &types.QueryStringConditionConfig{Values: []types.QueryStringKeyValuePair{{Key: new("v"), Value: new("2")}}}},
				{Field: new("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{"10.0.0.0/8"}}},
			},
			Actions: []types.Action{{Type: types.ActionTypeEnumRedirect, RedirectConfig: &types.RedirectActionConfig{
				StatusCode: types.RedirectActionStatusCodeEnumHttp301, Protocol: new("HTTPS"), Port: new("443"),
			}}},
			Transforms: []types.RuleTransform{transform(types.TransformTypeEnumUrlRewrite, "^/x/", "/y/"), transform(types.TransformTypeEnumHostHeaderRewrite, `^a\.(.*)$`, "b.$1")},
		}).Rules[0]
		retry(a, a.ModifyLoadBalancerAttributes, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &lb, Attributes: []types.LoadBalancerAttribute{
			{Key: new("idle_timeout.timeout_seconds"), Value: new("90")}, {Key: new("routing.http.preserve_host_header.enabled"), Value: new("true")},
			{Key: new("routing.http2.enabled"), Value: new("false")}, {Key: new("routing.http.desync_mitigation_mode"), Value: new("monitor")},
		}})
		retry(a, a.ModifyListenerAttributes, &elb.ModifyListenerAttributesInput{ListenerArn: &listener, Attributes: []types.ListenerAttribute{
			{Key: new("routing.http.response.x_frame_options.header_value"), Value: new("DENY")}, {Key: new("routing.http.response.server.enabled"), Value: new("false")},
		}})
		time.Sleep(time.Second)
		synctest.Wait()
		want := dataplane.NodeConfig{
			Attributes: dataplane.Attributes{IdleTimeout: 90 * time.Second, ClientKeepAlive: time.Hour, ForwardedFor: dataplane.ForwardedForAppend, PreserveHost: true, WithoutHTTP2: true, Desync: dataplane.DesyncMonitor},
			Listeners: []dataplane.Listener{{
				ARN: listener, Port: 80, Protocol: dataplane.HTTP, ResponseHeaders: map[string]string{"x-frame-options": "DENY"}, WithoutServer: true,
				Default: dataplane.Action{Forward: &dataplane.Forward{
					Groups: []dataplane.WeightedGroup{{ARN: groups[0], Weight: 90}, {ARN: groups[1], Weight: 10}}, Stickiness: time.Minute, StickySource: true,
				}},
				Rules: []dataplane.Rule{{
					ARN: *rule.RuleArn, Priority: 7,
					Conditions: []dataplane.Condition{
						{Field: dataplane.HostHeader, Values: []string{"a.example.com"}},
						{Field: dataplane.PathPattern, Regexes: []string{"^/x/[a-z]*/[a-z]*/[a-z]*/[a-z]*/[a-z]*/[a-z]*/[a-z]*$"}},
						{Field: dataplane.HTTPHeader, Name: "X-Canary", Values: []string{"yes"}},
						{Field: dataplane.QueryString, Query: []dataplane.QueryValue{{Key: "v", Value: "2"}}},
						{Field: dataplane.SourceIP, Values: []string{"10.0.0.0/8"}},
					},
					Action: dataplane.Action{Redirect: &dataplane.Redirect{
						Protocol: "HTTPS", Host: "#{host}", Port: "443", Path: "/#{path}", Query: "#{query}", Status: 301,
					}},
					Rewrites: []dataplane.Rewrite{{Kind: dataplane.RewriteURL, Regex: "^/x/", Replace: "/y/"}, {Kind: dataplane.RewriteHost, Regex: `^a\.(.*)$`, Replace: "b.$1"}},
				}},
			}},
		}
		for zone, node := range a.nodes {
			got, _ := node.last()
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(dataplane.NodeConfig{}, "Version")); diff != "" {
				t.Errorf("node of %s (-want +got):\n%s", zone, diff)
			}
		}
	})
}

func transform(t types.TransformTypeEnum, regex, replace string) types.RuleTransform {
	rewrites := []types.RewriteConfig{{Regex: &regex, Replace: &replace}}
	if t == types.TransformTypeEnumHostHeaderRewrite {
		return types.RuleTransform{Type: t, HostHeaderRewriteConfig: &types.HostHeaderRewriteConfig{Rewrites: rewrites}}
	}
	return types.RuleTransform{Type: t, UrlRewriteConfig: &types.UrlRewriteConfig{Rewrites: rewrites}}
}

func TestTransformsThatAreRefused(t *testing.T) {
	t.Parallel()
	url, host := types.TransformTypeEnumUrlRewrite, types.TransformTypeEnumHostHeaderRewrite
	mixed := transform(url, "a", "b")
	mixed.HostHeaderRewriteConfig = &types.HostHeaderRewriteConfig{}
	for name, given := range map[string][]types.RuleTransform{
		"two of one type":       {transform(url, "a", "b"), transform(url, "c", "d")},
		"unknown type":          {transform("x", "a", "b")},
		"no rewrite":            {{Type: host, HostHeaderRewriteConfig: &types.HostHeaderRewriteConfig{}}},
		"no config":             {{Type: url}},
		"config of the other":   {mixed},
		"look-ahead":            {transform(url, "a(?=b)", "b")},
		"back-reference":        {transform(url, `(a)\1`, "b")},
		"Unicode class":         {transform(url, `\p{L}`, "b")},
		"longer than the limit": {transform(url, strings.Repeat("a", 1025), "b")},
	} {
		if checkTransforms(given) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := checkTransforms([]types.RuleTransform{transform(url, "^/a/(.*)$", "/$1"), transform(host, "a", "")}); err != nil {
		t.Error(err)
	}
}

func TestRegularExpressionsInConditions(t *testing.T) {
	t.Parallel()
	host := func(values, regexes []string) types.RuleCondition {
		return types.RuleCondition{Field: new("host-header"), HostHeaderConfig: &types.HostHeaderConditionConfig{Values: values, RegexValues: regexes}}
	}
	regex := []string{`^[a-z]*\.example\.com$`}
	got, err := conditions([]types.RuleCondition{host(nil, regex), {Field: new("path-pattern"), RegexValues: []string{"^/a"}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(regex, got[0].RegexValues); diff != "" || got[1].PathPatternConfig.RegexValues[0] != "^/a" {
		t.Errorf("not shown in both forms: %+v", got)
	}
	for name, c := range map[string]types.RuleCondition{
		"with values":   host([]string{"a.example.com"}, regex),
		"not valid":     host(nil, []string{"("}),
		"too long":      host(nil, []string{strings.Repeat("a", 129)}),
		"too many":      host(nil, []string{"a", "b", "c", "d", "e", "f"}),
		"of the method": {Field: new("http-request-method"), RegexValues: []string{"GET"}},
	} {
		if _, err := conditions([]types.RuleCondition{c}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestGroupSettingsAreToldWhole(t *testing.T) {
	t.Parallel()
	d := groupDocument{group: types.TargetGroup{
		Protocol: types.ProtocolEnumHttp, ProtocolVersion: new("HTTP1"), HealthCheckProtocol: types.ProtocolEnumHttp, HealthCheckPath: new("/ready"),
		HealthCheckPort: new("9090"), HealthCheckIntervalSeconds: new(int32(15)), HealthCheckTimeoutSeconds: new(int32(3)),
		HealthyThresholdCount: new(int32(4)), UnhealthyThresholdCount: new(int32(3)), Matcher: &types.Matcher{HttpCode: new("200-299")},
	}, attributes: map[string]string{
		"deregistration_delay.timeout_seconds": "20", "load_balancing.algorithm.type": "least_outstanding_requests", "load_balancing.cross_zone.enabled": "false",
		"stickiness.enabled": "true", "stickiness.type": "lb_cookie", "stickiness.lb_cookie.duration_seconds": "30",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      "2",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
	}}
	want := dataplane.Group{
		ARN: "arn", Version: 5, Protocol: dataplane.HTTP, ProtocolVersion: "HTTP1", DeregistrationDelay: 20 * time.Second,
		HealthCheck: dataplane.HealthCheck{
			Protocol: dataplane.HTTP, Port: 9090, Path: "/ready", Interval: 15 * time.Second, Timeout: 3 * time.Second,
			HealthyThreshold: 4, UnhealthyThreshold: 3, Matcher: "200-299",
		},
		Algorithm: dataplane.LeastOutstanding, Stickiness: 30 * time.Second, SameZoneOnly: true, MinimumHealthy: 2,
	}
	if diff := cmp.Diff(want, d.dataplane("arn", 5, nil)); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
	d.group.ProtocolVersion, d.group.Matcher = new("GRPC"), &types.Matcher{GrpcCode: new("0-12")}
	d.attributes["stickiness.type"], d.attributes["stickiness.app_cookie.cookie_name"] = "app_cookie", "session"
	d.attributes["stickiness.app_cookie.duration_seconds"], d.attributes["slow_start.duration_seconds"] = "40", "60"
	want.ProtocolVersion, want.HealthCheck.Matcher = "GRPC", "0-12"
	want.Stickiness, want.AppCookie, want.SlowStart = 0, dataplane.AppCookie{Name: "session", Lasts: 40 * time.Second}, time.Minute
	if diff := cmp.Diff(want, d.dataplane("arn", 5, nil)); diff != "" {
		t.Errorf("group of gRPC (-want +got):\n%s", diff)
	}
}

package elbv2

import (
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
				{Field: new("path-pattern"), PathPatternConfig: &types.PathPatternConditionConfig{Values: []string{"/x/*"}}},
				{Field: new("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: new("X-Canary"), Values: []string{"yes"}}},
				{Field: new("query-string"), QueryStringConfig: &types.QueryStringConditionConfig{Values: []types.QueryStringKeyValuePair{{Key: new("v"), Value: new("2")}}}},
				{Field: new("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{"10.0.0.0/8"}}},
			},
			Actions: []types.Action{{Type: types.ActionTypeEnumRedirect, RedirectConfig: &types.RedirectActionConfig{
				StatusCode: types.RedirectActionStatusCodeEnumHttp301, Protocol: new("HTTPS"), Port: new("443"),
			}}},
		}).Rules[0]
		retry(a, a.ModifyLoadBalancerAttributes, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &lb, Attributes: []types.LoadBalancerAttribute{
			{Key: new("idle_timeout.timeout_seconds"), Value: new("90")}, {Key: new("routing.http.preserve_host_header.enabled"), Value: new("true")},
		}})
		time.Sleep(time.Second)
		synctest.Wait()
		want := dataplane.NodeConfig{
			Attributes: dataplane.Attributes{IdleTimeout: 90 * time.Second, ClientKeepAlive: time.Hour, ForwardedFor: dataplane.ForwardedForAppend, PreserveHost: true},
			Listeners: []dataplane.Listener{{
				ARN: listener, Port: 80, Protocol: dataplane.HTTP,
				Default: dataplane.Action{Forward: &dataplane.Forward{
					Groups: []dataplane.WeightedGroup{{ARN: groups[0], Weight: 90}, {ARN: groups[1], Weight: 10}}, Stickiness: time.Minute, StickySource: true,
				}},
				Rules: []dataplane.Rule{{
					ARN: *rule.RuleArn, Priority: 7,
					Conditions: []dataplane.Condition{
						{Field: dataplane.HostHeader, Values: []string{"a.example.com"}},
						{Field: dataplane.PathPattern, Values: []string{"/x/*"}},
						{Field: dataplane.HTTPHeader, Name: "X-Canary", Values: []string{"yes"}},
						{Field: dataplane.QueryString, Query: []dataplane.QueryValue{{Key: "v", Value: "2"}}},
						{Field: dataplane.SourceIP, Values: []string{"10.0.0.0/8"}},
					},
					Action: dataplane.Action{Redirect: &dataplane.Redirect{
						Protocol: "HTTPS", Host: "#{host}", Port: "443", Path: "/#{path}", Query: "#{query}", Status: 301,
					}},
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
}

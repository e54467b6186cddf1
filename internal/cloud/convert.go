package cloud

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// This file turns ELBv2's types into the model's and back. What is written and what is read back end in
// the same form (canonical*), so that the mirror can tell one state from another by comparing values.

func toActions(actions []model.Action) []types.Action {
	var out []types.Action
	for i, a := range actions {
		action := types.Action{Type: types.ActionTypeEnum(a.Type), Order: aws.Int32(int32(i + 1))}
		switch {
		case a.Forward != nil:
			action.ForwardConfig = toForward(*a.Forward)
		case a.Redirect != nil:
			r := a.Redirect
			action.RedirectConfig = &types.RedirectActionConfig{StatusCode: types.RedirectActionStatusCodeEnum(r.StatusCode),
				Protocol: set(r.Protocol), Host: set(r.Host), Port: set(r.Port), Path: set(r.Path), Query: aws.String(r.Query)}
		case a.FixedResponse != nil:
			f := a.FixedResponse
			action.FixedResponseConfig = &types.FixedResponseActionConfig{StatusCode: set(f.StatusCode), ContentType: set(f.ContentType), MessageBody: set(f.Body)}
		}
		out = append(out, action)
	}
	return out
}

func toForward(f model.Forward) *types.ForwardActionConfig {
	out := &types.ForwardActionConfig{}
	for _, g := range f.TargetGroups {
		out.TargetGroups = append(out.TargetGroups, types.TargetGroupTuple{TargetGroupArn: aws.String(g.ARN), Weight: aws.Int32(g.Weight)})
	}
	stickiness := &types.TargetGroupStickinessConfig{Enabled: aws.Bool(f.Stickiness > 0)}
	if f.Stickiness > 0 {
		stickiness.DurationSeconds = seconds(f.Stickiness)
	}
	if len(f.TargetGroups) > 1 || f.Stickiness > 0 {
		out.TargetGroupStickinessConfig = stickiness
	}
	return out
}

func fromActions(actions []types.Action) []model.Action {
	actions = slices.Clone(actions)
	slices.SortStableFunc(actions, func(a, b types.Action) int { return cmp.Compare(aws.ToInt32(a.Order), aws.ToInt32(b.Order)) })
	out := make([]model.Action, 0, len(actions))
	for _, a := range actions {
		action := model.Action{Type: model.ActionType(a.Type)}
		switch {
		case a.ForwardConfig != nil && len(a.ForwardConfig.TargetGroups) > 0:
			action.Forward = fromForward(*a.ForwardConfig)
		case a.Type == types.ActionTypeEnumForward && a.TargetGroupArn != nil:
			action.Forward = &model.Forward{TargetGroups: []model.WeightedTargetGroup{{ARN: *a.TargetGroupArn, Weight: 1}}}
		case a.RedirectConfig != nil:
			r := a.RedirectConfig
			action.Redirect = &model.Redirect{Protocol: aws.ToString(r.Protocol), Host: aws.ToString(r.Host), Port: aws.ToString(r.Port),
				Path: aws.ToString(r.Path), Query: aws.ToString(r.Query), StatusCode: string(r.StatusCode)}
		case a.FixedResponseConfig != nil:
			f := a.FixedResponseConfig
			action.FixedResponse = &model.FixedResponse{ContentType: aws.ToString(f.ContentType), Body: aws.ToString(f.MessageBody), StatusCode: aws.ToString(f.StatusCode)}
		}
		out = append(out, action)
	}
	return out
}

func fromForward(f types.ForwardActionConfig) *model.Forward {
	out := &model.Forward{}
	for _, g := range f.TargetGroups {
		weight := int32(1) // AWS's own default for a lone group without a weight
		if g.Weight != nil {
			weight = *g.Weight
		}
		out.TargetGroups = append(out.TargetGroups, model.WeightedTargetGroup{ARN: aws.ToString(g.TargetGroupArn), Weight: weight})
	}
	if s := f.TargetGroupStickinessConfig; s != nil && aws.ToBool(s.Enabled) {
		out.Stickiness = time.Duration(aws.ToInt32(s.DurationSeconds)) * time.Second
	}
	return out
}

// canonicalActions gives actions as AWS will show them: without the model's references, by ARN only.
func canonicalActions(actions []model.Action) []model.Action {
	return fromActions(toActions(actions))
}

func toConditions(conditions []model.Condition) []types.RuleCondition {
	var out []types.RuleCondition
	for _, c := range conditions {
		condition := types.RuleCondition{Field: aws.String(c.Field)}
		switch c.Field {
		case "host-header":
			condition.HostHeaderConfig = &types.HostHeaderConditionConfig{Values: c.Values, RegexValues: c.RegexValues}
		case "path-pattern":
			condition.PathPatternConfig = &types.PathPatternConditionConfig{Values: c.Values, RegexValues: c.RegexValues}
		case "http-header":
			condition.HttpHeaderConfig = &types.HttpHeaderConditionConfig{HttpHeaderName: aws.String(c.HeaderName), Values: c.Values, RegexValues: c.RegexValues}
		case "http-request-method":
			condition.HttpRequestMethodConfig = &types.HttpRequestMethodConditionConfig{Values: c.Values}
		case "source-ip":
			condition.SourceIpConfig = &types.SourceIpConditionConfig{Values: c.Values}
		case "query-string":
			condition.QueryStringConfig = &types.QueryStringConditionConfig{}
			for _, q := range c.Query {
				condition.QueryStringConfig.Values = append(condition.QueryStringConfig.Values, types.QueryStringKeyValuePair{Key: set(q.Key), Value: aws.String(q.Value)})
			}
		}
		out = append(out, condition)
	}
	return out
}

func fromConditions(conditions []types.RuleCondition) []model.Condition {
	out := make([]model.Condition, 0, len(conditions))
	for _, c := range conditions {
		condition := model.Condition{Field: aws.ToString(c.Field)}
		switch {
		case c.HostHeaderConfig != nil:
			condition.Values, condition.RegexValues = c.HostHeaderConfig.Values, c.HostHeaderConfig.RegexValues
		case c.PathPatternConfig != nil:
			condition.Values, condition.RegexValues = c.PathPatternConfig.Values, c.PathPatternConfig.RegexValues
		case c.HttpHeaderConfig != nil:
			condition.HeaderName = aws.ToString(c.HttpHeaderConfig.HttpHeaderName)
			condition.Values, condition.RegexValues = c.HttpHeaderConfig.Values, c.HttpHeaderConfig.RegexValues
		case c.HttpRequestMethodConfig != nil:
			condition.Values = c.HttpRequestMethodConfig.Values
		case c.SourceIpConfig != nil:
			condition.Values = c.SourceIpConfig.Values
		case c.QueryStringConfig != nil:
			for _, q := range c.QueryStringConfig.Values {
				condition.Query = append(condition.Query, model.QueryPair{Key: aws.ToString(q.Key), Value: aws.ToString(q.Value)})
			}
		default: // the old form of host-header and path-pattern
			condition.Values, condition.RegexValues = c.Values, c.RegexValues
		}
		condition.Values, condition.RegexValues = nonEmpty(condition.Values), nonEmpty(condition.RegexValues)
		out = append(out, condition)
	}
	return out
}

func canonicalConditions(conditions []model.Condition) []model.Condition {
	return fromConditions(toConditions(conditions))
}

// nonEmpty makes nil of an empty list, since AWS's answers do not tell them apart.
func nonEmpty(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// fromRules sorts AWS's rules by priority and takes the default one out.
func fromRules(rules []types.Rule) routes {
	out := routes{Rules: []model.ObservedRule{}}
	for _, r := range rules {
		if aws.ToBool(r.IsDefault) {
			out.Default = fromActions(r.Actions)
			continue
		}
		priority, _ := strconv.ParseInt(aws.ToString(r.Priority), 10, 32)
		out.Rules = append(out.Rules, model.ObservedRule{ARN: aws.ToString(r.RuleArn), Rule: model.Rule{
			Priority: int32(priority), Conditions: fromConditions(r.Conditions), Actions: fromActions(r.Actions),
		}})
	}
	sortRules(out.Rules)
	return out
}

func sortRules(rules []model.ObservedRule) {
	slices.SortFunc(rules, func(a, b model.ObservedRule) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ARN, b.ARN))
	})
}

func fromLoadBalancer(lb types.LoadBalancer) model.ObservedLoadBalancer {
	out := model.ObservedLoadBalancer{
		LoadBalancer: model.LoadBalancer{Name: aws.ToString(lb.LoadBalancerName), Scheme: model.Scheme(lb.Scheme), IPAddressType: string(lb.IpAddressType)},
		ARN:          aws.ToString(lb.LoadBalancerArn), DNSName: aws.ToString(lb.DNSName), HostedZoneID: aws.ToString(lb.CanonicalHostedZoneId),
		VPCID: aws.ToString(lb.VpcId), SecurityGroupIDs: nonEmpty(lb.SecurityGroups),
	}
	if lb.State != nil {
		out.State = string(lb.State.Code)
	}
	for _, zone := range lb.AvailabilityZones {
		out.SubnetIDs = append(out.SubnetIDs, aws.ToString(zone.SubnetId))
	}
	slices.Sort(out.SubnetIDs)
	return out
}

func fromListener(l types.Listener) model.ObservedListener {
	out := model.ObservedListener{ARN: aws.ToString(l.ListenerArn), Listener: model.Listener{
		Port: aws.ToInt32(l.Port), Protocol: string(l.Protocol), SSLPolicy: aws.ToString(l.SslPolicy), DefaultActions: fromActions(l.DefaultActions),
	}}
	out.ResourceID = strconv.Itoa(int(out.Port))
	for _, certificate := range l.Certificates {
		out.Certificates = append(out.Certificates, aws.ToString(certificate.CertificateArn))
	}
	return out
}

func fromTargetGroup(g types.TargetGroup) model.ObservedTargetGroup {
	out := model.ObservedTargetGroup{
		TargetGroup: model.TargetGroup{
			Name: aws.ToString(g.TargetGroupName), TargetType: model.TargetType(g.TargetType), Port: aws.ToInt32(g.Port), Protocol: string(g.Protocol),
			ProtocolVersion: aws.ToString(g.ProtocolVersion), IPAddressType: string(g.IpAddressType),
			HealthCheck: model.HealthCheck{
				Protocol: string(g.HealthCheckProtocol), Port: aws.ToString(g.HealthCheckPort), Path: aws.ToString(g.HealthCheckPath),
				Interval:         time.Duration(aws.ToInt32(g.HealthCheckIntervalSeconds)) * time.Second,
				Timeout:          time.Duration(aws.ToInt32(g.HealthCheckTimeoutSeconds)) * time.Second,
				HealthyThreshold: aws.ToInt32(g.HealthyThresholdCount), UnhealthyThreshold: aws.ToInt32(g.UnhealthyThresholdCount),
			},
		},
		ARN: aws.ToString(g.TargetGroupArn), VPCID: aws.ToString(g.VpcId), LoadBalancerARNs: slices.Sorted(slices.Values(g.LoadBalancerArns)),
	}
	if g.Matcher != nil {
		out.HealthCheck.HTTPCodes, out.HealthCheck.GRPCCodes = aws.ToString(g.Matcher.HttpCode), aws.ToString(g.Matcher.GrpcCode)
	}
	return out
}

func toMatcher(check model.HealthCheck) *types.Matcher {
	if check.HTTPCodes == "" && check.GRPCCodes == "" {
		return nil
	}
	return &types.Matcher{HttpCode: set(check.HTTPCodes), GrpcCode: set(check.GRPCCodes)}
}

func toCreateTargetGroup(group model.TargetGroup, vpcID string) *elb.CreateTargetGroupInput {
	check := group.HealthCheck
	return &elb.CreateTargetGroupInput{
		Name: set(group.Name), TargetType: types.TargetTypeEnum(group.TargetType), Port: positive(group.Port), Protocol: types.ProtocolEnum(group.Protocol),
		ProtocolVersion: set(group.ProtocolVersion), IpAddressType: types.TargetGroupIpAddressTypeEnum(group.IPAddressType), VpcId: set(vpcID),
		HealthCheckEnabled: aws.Bool(true), HealthCheckProtocol: types.ProtocolEnum(check.Protocol), HealthCheckPort: set(check.Port),
		HealthCheckPath: set(check.Path), HealthCheckIntervalSeconds: seconds(check.Interval), HealthCheckTimeoutSeconds: seconds(check.Timeout),
		HealthyThresholdCount: positive(check.HealthyThreshold), UnhealthyThresholdCount: positive(check.UnhealthyThreshold),
		Matcher: toMatcher(check), Tags: toTags(group.Tags),
	}
}

func toTargets(targets []model.Target) []types.TargetDescription {
	out := make([]types.TargetDescription, 0, len(targets))
	for _, t := range targets {
		out = append(out, types.TargetDescription{Id: aws.String(t.ID), Port: positive(t.Port), AvailabilityZone: set(t.Zone)})
	}
	return out
}

func fromHealth(list []types.TargetHealthDescription) []model.TargetHealth {
	out := make([]model.TargetHealth, 0, len(list))
	for _, d := range list {
		var health model.TargetHealth
		if d.Target != nil {
			health.Target = model.Target{ID: aws.ToString(d.Target.Id), Port: aws.ToInt32(d.Target.Port), Zone: aws.ToString(d.Target.AvailabilityZone)}
		}
		if d.TargetHealth != nil {
			health.State, health.Reason = string(d.TargetHealth.State), string(d.TargetHealth.Reason)
			health.Description = aws.ToString(d.TargetHealth.Description)
		}
		out = append(out, health)
	}
	slices.SortFunc(out, func(a, b model.TargetHealth) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
	})
	return out
}

func toTags(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, key := range sortedKeys(tags) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

func fromTags(tags []types.Tag) map[string]string {
	out := make(map[string]string, len(tags))
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

// set gives nil for an empty string: the field is not sent.
func set(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// positive gives nil for zero: the field is not sent.
func positive(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return &n
}

func seconds(d time.Duration) *int32 { return positive(int32(d / time.Second)) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

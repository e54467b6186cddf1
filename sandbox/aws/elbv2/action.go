package elbv2

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxActions         = 5
	maxGroupsPerAction = 5
	maxWeight          = 999
	maxGroupStickiness = 604800
)

// actions validates actions and gives them the form in which AWS shows them: forwards in both forms,
// order where there are several.
func (s *Service) actions(r eventual.Reader, lb *loadBalancer, given []types.Action) ([]types.Action, error) {
	if len(given) == 0 {
		return nil, wire.Errorf("ValidationError", "At least one action must be specified")
	}
	if len(given) > maxActions {
		return nil, wire.Errorf("TooManyActions", "At most %d actions can be specified", maxActions)
	}
	list := slices.Clone(given)
	slices.SortStableFunc(list, func(a, b types.Action) int { return cmp.Compare(deref(a.Order), deref(b.Order)) })
	for i, a := range list {
		last := i == len(list)-1
		if routes(a.Type) != last {
			return nil, wire.Errorf("InvalidLoadBalancerAction", "An action list must have exactly one of forward, redirect and fixed-response, and it must be the last")
		}
		checked, err := s.action(r, lb, a)
		if err != nil {
			return nil, err
		}
		checked.Order = nil
		if len(list) > 1 {
			checked.Order = new(int32(i + 1))
		}
		list[i] = checked
	}
	return list, nil
}

func routes(t types.ActionTypeEnum) bool {
	switch t {
	case types.ActionTypeEnumAuthenticateOidc, types.ActionTypeEnumAuthenticateCognito, types.ActionTypeEnumJwtValidation:
		return false
	}
	return true
}

func (s *Service) action(r eventual.Reader, lb *loadBalancer, a types.Action) (types.Action, error) {
	if !lb.application() && a.Type != types.ActionTypeEnumForward {
		return a, wire.Errorf("InvalidConfigurationRequest", "A network load balancer takes only forward actions")
	}
	if foreignConfig(a) {
		return a, wire.Errorf("ValidationError", "An action of type %.40s takes only the config of that type", a.Type)
	}
	switch a.Type {
	case types.ActionTypeEnumForward:
		return s.forward(r, lb, a)
	case types.ActionTypeEnumRedirect:
		if err := checkRedirect(a.RedirectConfig); err != nil {
			return a, err
		}
		a.RedirectConfig = wholeRedirect(*a.RedirectConfig)
		return a, nil
	case types.ActionTypeEnumFixedResponse:
		return a, checkFixedResponse(a.FixedResponseConfig)
	case types.ActionTypeEnumAuthenticateOidc, types.ActionTypeEnumAuthenticateCognito, types.ActionTypeEnumJwtValidation:
		return s.gate(a)
	}
	return a, invalidEnum("actions.type", a.Type)
}

// foreignConfig says whether an action has the config of another type. Nobody would validate that, and a forward in it would count as
// a reference to its target groups.
func foreignConfig(a types.Action) bool {
	places := map[types.ActionTypeEnum]bool{
		types.ActionTypeEnumForward:             a.ForwardConfig != nil || deref(a.TargetGroupArn) != "",
		types.ActionTypeEnumRedirect:            a.RedirectConfig != nil,
		types.ActionTypeEnumFixedResponse:       a.FixedResponseConfig != nil,
		types.ActionTypeEnumAuthenticateOidc:    a.AuthenticateOidcConfig != nil,
		types.ActionTypeEnumAuthenticateCognito: a.AuthenticateCognitoConfig != nil,
		types.ActionTypeEnumJwtValidation:       a.JwtValidationConfig != nil,
	}
	if _, known := places[a.Type]; !known {
		return false // which is refused as such
	}
	places[a.Type] = false
	return slices.Contains(slices.Collect(maps.Values(places)), true)
}

// forward puts a forward action into both forms: TargetGroupArn for one group, and ForwardConfig.
func (s *Service) forward(r eventual.Reader, lb *loadBalancer, a types.Action) (types.Action, error) {
	single := deref(a.TargetGroupArn)
	config := types.ForwardActionConfig{}
	switch {
	case a.ForwardConfig == nil && single == "":
		return a, wire.Errorf("ValidationError", "A forward action must name a target group")
	case a.ForwardConfig == nil:
		config.TargetGroups = []types.TargetGroupTuple{{TargetGroupArn: new(single), Weight: new(int32(1))}}
	default:
		config = *a.ForwardConfig
		if single != "" && (len(config.TargetGroups) != 1 || deref(config.TargetGroups[0].TargetGroupArn) != single) {
			return a, wire.Errorf("ValidationError", "You can specify both a target group ARN and a ForwardConfig only if the latter holds that one group")
		}
	}
	tuples, err := s.weightedGroups(r, lb, config.TargetGroups)
	if err != nil {
		return a, err
	}
	config.TargetGroups = tuples
	if config.TargetGroupStickinessConfig, err = groupStickiness(lb, config.TargetGroupStickinessConfig); err != nil {
		return a, err
	}
	if err := s.targetsStick(config); err != nil {
		return a, err
	}
	a.ForwardConfig, a.TargetGroupArn = &config, nil
	if len(tuples) == 1 {
		a.TargetGroupArn = tuples[0].TargetGroupArn
	}
	return a, nil
}

func (s *Service) weightedGroups(r eventual.Reader, lb *loadBalancer, given []types.TargetGroupTuple) ([]types.TargetGroupTuple, error) {
	if len(given) == 0 {
		return nil, wire.Errorf("ValidationError", "A forward action must name a target group")
	}
	if len(given) > maxGroupsPerAction {
		return nil, wire.Errorf("TooManyUniqueTargetGroupsPerLoadBalancer", "At most %d target groups can be in one action", maxGroupsPerAction)
	}
	var seen []string
	var tuples []types.TargetGroupTuple
	for _, t := range given {
		arn := deref(t.TargetGroupArn)
		if slices.Contains(seen, arn) {
			return nil, wire.Errorf("ValidationError", "Target group '%s' is in the action twice", arn)
		}
		seen = append(seen, arn)
		weight := int32(1)
		if t.Weight != nil {
			weight = *t.Weight
		}
		if weight < 0 || weight > maxWeight {
			return nil, wire.Errorf("ValidationError", "Target group weight '%d' must be between 0 and %d", weight, maxWeight)
		}
		if err := s.checkGroup(r, lb, arn); err != nil {
			return nil, err
		}
		tuples = append(tuples, types.TargetGroupTuple{TargetGroupArn: new(arn), Weight: new(weight)})
	}
	return tuples, nil
}

// checkGroup says whether the load balancer can forward to a target group.
func (s *Service) checkGroup(r eventual.Reader, lb *loadBalancer, arn string) error {
	g := s.targetGroups[arn]
	if g == nil || !g.value.Found(r) {
		return wire.Errorf("TargetGroupNotFound", "Target group '%s' not found", arn)
	}
	v := g.value.Get()
	if g.balancer != nil && g.balancer != lb {
		return wire.Errorf("TargetGroupAssociationLimit", "The following target groups cannot be associated with more than one load balancer: %s", arn)
	}
	http := v.Protocol == types.ProtocolEnumHttp || v.Protocol == types.ProtocolEnumHttps
	if v.TargetType != types.TargetTypeEnumLambda && *v.VpcId != *lb.value.Get().VpcId {
		return wire.Errorf("InvalidConfigurationRequest", "Target group '%s' is in VPC '%s', load balancer '%s' is not", arn, *v.VpcId, lb.name)
	}
	if (http || v.TargetType == types.TargetTypeEnumLambda) != lb.application() {
		return wire.Errorf("IncompatibleProtocols", "Target group '%s' with protocol %s cannot be used by %s load balancer '%s'", arn, v.Protocol, lb.value.Get().Type, lb.name)
	}
	return nil
}

func groupStickiness(lb *loadBalancer, given *types.TargetGroupStickinessConfig) (*types.TargetGroupStickinessConfig, error) {
	if given == nil || !deref(given.Enabled) {
		return &types.TargetGroupStickinessConfig{Enabled: new(false)}, nil
	}
	if d := given.DurationSeconds; lb.application() && (d == nil || *d < 1 || *d > maxGroupStickiness) {
		return nil, wire.Errorf("ValidationError", "Target group stickiness needs a duration between 1 and %d seconds", maxGroupStickiness)
	}
	return given, nil
}

// targetsStick refuses an action over several groups of which one has sticky targets, unless the choice of
// the group sticks too.
func (s *Service) targetsStick(config types.ForwardActionConfig) error {
	if len(config.TargetGroups) < 2 || deref(config.TargetGroupStickinessConfig.Enabled) {
		return nil
	}
	for _, t := range config.TargetGroups {
		if s.targetGroups[*t.TargetGroupArn].attributes["stickiness.enabled"] == "true" {
			return wire.Errorf("InvalidConfigurationRequest", "Target group '%s' has stickiness enabled, so the stickiness of the action must be enabled too", *t.TargetGroupArn)
		}
	}
	return nil
}

var portOrPlaceholder = regexp.MustCompile(`^(#\{port\}|[1-9][0-9]{0,4})$`)

func checkRedirect(c *types.RedirectActionConfig) error {
	if c == nil {
		return wire.Errorf("ValidationError", "A redirect action must have a redirect config")
	}
	if !slices.Contains(c.StatusCode.Values(), c.StatusCode) {
		return invalidEnum("redirectConfig.statusCode", c.StatusCode)
	}
	changed := func(value *string, same string) bool { return value != nil && *value != same }
	if !changed(c.Protocol, "#{protocol}") && !changed(c.Host, "#{host}") && !changed(c.Port, "#{port}") && !changed(c.Path, "/#{path}") {
		return wire.Errorf("InvalidLoadBalancerAction", "The redirect configuration is not valid because it creates a loop: one of protocol, host, port and path must be changed")
	}
	if c.Protocol != nil && !slices.Contains([]string{"HTTP", "HTTPS", "#{protocol}"}, *c.Protocol) {
		return wire.Errorf("ValidationError", "Redirect protocol '%.20s' must be HTTP, HTTPS or #{protocol}", *c.Protocol)
	}
	if c.Port != nil && !portOrPlaceholder.MatchString(*c.Port) {
		return wire.Errorf("ValidationError", "Redirect port '%.20s' must be a port number or #{port}", *c.Port)
	}
	if c.Host != nil && (len(*c.Host) < 1 || len(*c.Host) > 128) {
		return wire.Errorf("ValidationError", "The redirect host must have 1 to 128 characters")
	}
	if c.Path != nil && (len(*c.Path) < 1 || len(*c.Path) > 128 || !strings.HasPrefix(*c.Path, "/")) {
		return wire.Errorf("ValidationError", "The redirect path must begin with / and have 1 to 128 characters")
	}
	if c.Query != nil && len(*c.Query) > 128 {
		return wire.Errorf("ValidationError", "The redirect query must have at most 128 characters")
	}
	return nil
}

// wholeRedirect fills in what is not changed: AWS shows the placeholders that stand for it.
func wholeRedirect(c types.RedirectActionConfig) *types.RedirectActionConfig {
	for _, part := range []struct {
		value     **string
		byDefault string
	}{
		{&c.Protocol, "#{protocol}"}, {&c.Host, "#{host}"}, {&c.Port, "#{port}"}, {&c.Path, "/#{path}"}, {&c.Query, "#{query}"},
	} {
		if *part.value == nil {
			*part.value = new(part.byDefault)
		}
	}
	return &c
}

var (
	fixedStatus  = regexp.MustCompile(`^[245][0-9][0-9]$`)
	contentTypes = []string{"text/plain", "text/css", "text/html", "application/javascript", "application/json"}
)

func checkFixedResponse(c *types.FixedResponseActionConfig) error {
	switch {
	case c == nil:
		return wire.Errorf("ValidationError", "A fixed-response action must have a fixed-response config")
	case !fixedStatus.MatchString(deref(c.StatusCode)):
		return wire.Errorf("ValidationError", "Fixed-response status code '%.20s' must be 2XX, 4XX or 5XX", deref(c.StatusCode))
	case c.ContentType != nil && !slices.Contains(contentTypes, *c.ContentType):
		return wire.Errorf("ValidationError", "Fixed-response content type '%.80s' must be one of %s", *c.ContentType, strings.Join(contentTypes, ", "))
	case len(deref(c.MessageBody)) > 1024:
		return wire.Errorf("ValidationError", "The fixed-response body must have at most 1024 characters")
	}
	return nil
}

package elbv2

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxRules    = 100 // per load balancer, default rules not counted
	maxPriority = 50000
)

// CreateRule adds a rule to a listener.
func (s *Service) CreateRule(r eventual.Reader, in *elb.CreateRuleInput) (*elb.CreateRuleOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if err := networkRule(l.balancer.value.Get(), in.Conditions, in.Transforms); err != nil {
		return nil, err
	}
	if in.Priority == nil || *in.Priority < 1 || *in.Priority > maxPriority {
		return nil, wire.Errorf("ValidationError", "A rule priority must be between 1 and %d", maxPriority)
	}
	if err := checkTransforms(in.Transforms); err != nil {
		return nil, err
	}
	v := types.Rule{Priority: new(strconv.Itoa(int(*in.Priority))), IsDefault: new(false), Transforms: in.Transforms}
	if v.Conditions, err = conditions(in.Conditions); err != nil {
		return nil, err
	}
	if v.Actions, err = s.actions(r, l.balancer, in.Actions); err != nil {
		return nil, err
	}
	if err := s.fit(l.value.Get(), v.Actions); err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, other := range l.rules {
		if *other.value.Get().Priority == *v.Priority {
			return nil, wire.Errorf("PriorityInUse", "Priority '%s' is currently in use", *v.Priority)
		}
	}
	if err := s.ruleQuota(l.balancer); err != nil {
		return nil, err
	}
	if err := s.groupQuota(l.balancer, v.Actions); err != nil {
		return nil, err
	}
	s.keepSecrets(in.Actions)
	one := &rule{arn: s.newRuleARN(l, *v.Priority), listener: l, tags: tags}
	v.RuleArn = new(one.arn)
	one.value = eventual.New(s.model, "rule/"+one.arn, v)
	l.rules[one.arn], s.rules[one.arn] = one, one
	s.refer(l.balancer, one.arn, nil, groupsOf(v.Actions))
	s.changeListener(l, "CreateRule "+one.arn)
	return &elb.CreateRuleOutput{Rules: []types.Rule{v}}, nil
}

func (s *Service) ruleQuota(lb *loadBalancer) error {
	count := 0
	for _, l := range lb.listeners {
		count += len(l.rules) - 1
	}
	if count >= maxRules {
		return wire.Errorf("TooManyRules", "The maximum number of rules of a load balancer, %d, has been reached", maxRules)
	}
	return nil
}

// rule finds the rule that a request is about.
func (s *Service) rule(r eventual.Reader, arn *string) (*rule, error) {
	one := s.rules[deref(arn)]
	switch {
	case deref(arn) == "":
		return nil, wire.Errorf("ValidationError", "A rule ARN must be specified")
	case !strings.Contains(*arn, ":listener-rule/"):
		return nil, wire.Errorf("ValidationError", "'%s' is not a valid listener rule ARN", *arn)
	case one == nil || !one.value.Found(r):
		return nil, wire.Errorf("RuleNotFound", "One or more rules not found: '%s'", *arn)
	}
	return one, nil
}

// ModifyRule replaces the actions, conditions or transforms of a rule that are given.
func (s *Service) ModifyRule(r eventual.Reader, in *elb.ModifyRuleInput) (*elb.ModifyRuleOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, err := s.rule(r, in.RuleArn)
	if err != nil {
		return nil, err
	}
	l := one.listener
	if one == l.byDefault {
		return nil, wire.Errorf("OperationNotPermitted", "Default rule '%s' cannot be modified: modify its listener", one.arn)
	}
	if err := networkRule(l.balancer.value.Get(), in.Conditions, in.Transforms); err != nil {
		return nil, err
	}
	if err := checkTransforms(in.Transforms); err != nil {
		return nil, err
	}
	if deref(in.ResetTransforms) && len(in.Transforms) > 0 {
		return nil, wire.Errorf("ValidationError", "Transforms and ResetTransforms cannot both be specified")
	}
	v := one.value.Get()
	before := groupsOf(v.Actions)
	if len(in.Conditions) > 0 {
		if v.Conditions, err = conditions(in.Conditions); err != nil {
			return nil, err
		}
	}
	if len(in.Actions) > 0 {
		if v.Actions, err = s.actions(r, l.balancer, in.Actions); err != nil {
			return nil, err
		}
		if err := s.fit(l.value.Get(), v.Actions); err != nil {
			return nil, err
		}
		if err := s.groupQuota(l.balancer, v.Actions); err != nil {
			return nil, err
		}
	}
	if len(in.Transforms) > 0 || deref(in.ResetTransforms) {
		v.Transforms = in.Transforms
	}
	s.keepSecrets(in.Actions)
	one.value.Put(v)
	s.refer(l.balancer, one.arn, before, groupsOf(v.Actions))
	s.changeListener(l, "ModifyRule "+one.arn)
	return &elb.ModifyRuleOutput{Rules: []types.Rule{v}}, nil
}

// DeleteRule deletes a rule, but not a default one.
func (s *Service) DeleteRule(r eventual.Reader, in *elb.DeleteRuleInput) (*elb.DeleteRuleOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, err := s.rule(r, in.RuleArn)
	if err != nil {
		return nil, err
	}
	l := one.listener
	if one == l.byDefault {
		return nil, wire.Errorf("OperationNotPermitted", "Default rule '%s' cannot be deleted", one.arn)
	}
	delete(l.rules, one.arn)
	delete(s.rules, one.arn)
	s.refer(l.balancer, one.arn, groupsOf(one.value.Get().Actions), nil)
	s.changeListener(l, "DeleteRule "+one.arn)
	return &elb.DeleteRuleOutput{}, nil
}

// SetRulePriorities gives rules new priorities, all at once: two rules can change places.
func (s *Service) SetRulePriorities(r eventual.Reader, in *elb.SetRulePrioritiesInput) (*elb.SetRulePrioritiesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted, l, err := s.priorities(r, in.RulePriorities)
	if err != nil {
		return nil, err
	}
	taken := map[string]string{}
	for arn, one := range l.rules {
		priority := *one.value.Get().Priority
		if w, ok := wanted[arn]; ok {
			priority = w
		}
		if _, twice := taken[priority]; twice {
			return nil, wire.Errorf("PriorityInUse", "Priority '%s' is currently in use", priority)
		}
		taken[priority] = arn
	}
	var changed []types.Rule
	var values []*eventual.Value[types.Rule]
	for _, pair := range in.RulePriorities {
		one := l.rules[*pair.RuleArn]
		v := one.value.Get()
		v.Priority = new(wanted[one.arn])
		changed, values = append(changed, v), append(values, one.value)
	}
	eventual.PutAll(values, changed)
	s.changeListener(l, "SetRulePriorities "+l.arn)
	return &elb.SetRulePrioritiesOutput{Rules: changed}, nil
}

// priorities validates the pairs and returns them by rule, with the listener to which all rules belong.
func (s *Service) priorities(r eventual.Reader, pairs []types.RulePriorityPair) (map[string]string, *listener, error) {
	if len(pairs) == 0 {
		return nil, nil, wire.Errorf("ValidationError", "At least one rule priority must be specified")
	}
	wanted := map[string]string{}
	used := map[int32]bool{}
	var l *listener
	for _, pair := range pairs {
		one, err := s.rule(r, pair.RuleArn)
		if err != nil {
			return nil, nil, err
		}
		priority := deref(pair.Priority)
		_, twice := wanted[one.arn]
		switch {
		case one == one.listener.byDefault:
			return nil, nil, wire.Errorf("OperationNotPermitted", "The priority of default rule '%s' cannot be changed", one.arn)
		case priority < 1 || priority > maxPriority:
			return nil, nil, wire.Errorf("ValidationError", "A rule priority must be between 1 and %d", maxPriority)
		case used[priority]:
			return nil, nil, wire.Errorf("ValidationError", "Priority '%d' is given twice", priority)
		case twice:
			return nil, nil, wire.Errorf("ValidationError", "Rule '%s' is given twice", one.arn)
		case l != nil && l != one.listener:
			return nil, nil, wire.Errorf("ValidationError", "All rules must belong to the same listener")
		}
		l = one.listener
		wanted[one.arn], used[priority] = strconv.Itoa(int(priority)), true
	}
	return wanted, l, nil
}

// DescribeRules lists the rules of a listener, by priority with the default rule last, or those of the
// given ARNs.
func (s *Service) DescribeRules(r eventual.Reader, in *elb.DescribeRulesInput) (*elb.DescribeRulesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (deref(in.ListenerArn) == "") == (len(in.RuleArns) == 0) {
		return nil, wire.Errorf("ValidationError", "You must specify either rule ARNs or a listener ARN")
	}
	all, look := []types.Rule{}, eventual.NewLook(r)
	for _, arn := range in.RuleArns {
		one := s.rules[arn]
		if one != nil {
			if v, ok := one.value.See(look); ok {
				all = append(all, v)
				continue
			}
		}
		return nil, wire.Errorf("RuleNotFound", "One or more rules not found: '%s'", arn)
	}
	if len(in.RuleArns) == 0 {
		l, err := s.listener(r, in.ListenerArn)
		if err != nil {
			return nil, err
		}
		for _, one := range l.rules {
			if v, ok := one.value.See(look); ok {
				all = append(all, v)
			}
		}
	}
	slices.SortFunc(all, func(a, b types.Rule) int { return cmp.Compare(ruleKey(a), ruleKey(b)) })
	found, next, err := rulePage(all, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeRulesOutput{Rules: found, NextMarker: next}, nil
}

// ruleKey sorts rules by priority, default rules last.
func ruleKey(v types.Rule) string {
	priority := *v.Priority
	if *v.IsDefault {
		priority = "default"
	}
	return strings.Repeat("0", max(0, 6-len(priority))) + priority + *v.RuleArn
}

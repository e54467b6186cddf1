package consistency

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// This file turns calls into what they do to books, and what they learn of them.

// scribe collects deeds by the name of their book.
type scribe struct {
	books   map[string][]*deed
	joints  int
	moments map[*Call]time.Time
}

func (h *History) deeds() map[string][]*deed {
	s := &scribe{books: map[string][]*deed{}, moments: h.moments()}
	for i := range h.Calls {
		c := &h.Calls[i]
		switch c.Code {
		case "":
			s.accepted(c)
		case "ListenerNotFound", "RuleNotFound", "TargetGroupNotFound", "LoadBalancerNotFound":
			s.missed(c)
		}
		// Whatever else was refused has changed nothing: later reads would tell.
	}
	for name := range s.books {
		if strings.Contains(name, ":listener/") {
			s.end(name, balancerOf(name))
		}
		slices.SortStableFunc(s.books[name], func(a, b *deed) int { return a.from.Compare(b.from) })
	}
	return s.books
}

// end deletes the listener with its load balancer.
func (s *scribe) end(listener, balancer string) {
	for _, d := range s.books[balancer] {
		if d.all {
			s.add(listener, &deed{call: d.call, all: true})
		}
	}
}

func (s *scribe) add(book string, d *deed) {
	d.from, d.to = d.call.Received, d.call.done()
	if at, known := s.moments[d.call]; known {
		d.from, d.to, d.known = at, at, true
	}
	s.books[book] = append(s.books[book], d)
}

// The pages of books that have only one, and that of a listener itself.
const (
	listenerPage = "listener"
	groupPage    = "group"
	balancerPage = "balancer"
)

var quoted = regexp.MustCompile(`'(arn:[^']*)'`)

// missed is a call that did not find what it needed. The message of AWS names it.
func (s *scribe) missed(c *Call) {
	for _, m := range quoted.FindAllStringSubmatch(c.Message, -1) {
		switch arn := m[1]; c.Code {
		case "RuleNotFound":
			s.add(listenerOf(arn), &deed{call: c, missed: []string{arn}})
		case "ListenerNotFound":
			s.add(arn, &deed{call: c, missed: []string{listenerPage}})
		case "TargetGroupNotFound":
			s.add(arn, &deed{call: c, missed: []string{groupPage}})
		default:
			s.add(arn, &deed{call: c, missed: []string{balancerPage}})
		}
	}
}

// needed are the groups that actions name.
func (s *scribe) needed(c *Call, actions []types.Action) {
	for _, a := range actions {
		if a.ForwardConfig != nil {
			for _, g := range a.ForwardConfig.TargetGroups {
				s.add(*g.TargetGroupArn, &deed{call: c, found: []string{groupPage}})
			}
		}
	}
}

func (s *scribe) accepted(c *Call) {
	switch in := c.Input.(type) {
	case *elb.CreateLoadBalancerInput:
		s.add(*c.Output.(*elb.CreateLoadBalancerOutput).LoadBalancers[0].LoadBalancerArn, &deed{call: c, fresh: true, changes: map[string]*Content{balancerPage: {}}})
	case *elb.DescribeLoadBalancersInput:
		s.readOne(c, in.LoadBalancerArns[0], balancerPage, Content{}, true)
	case *elb.DeleteLoadBalancerInput:
		s.add(*in.LoadBalancerArn, &deed{call: c, all: true})
	case *elb.CreateListenerInput, *elb.ModifyListenerInput, *elb.DeleteListenerInput, *elb.DescribeListenersInput:
		s.listener(c)
	case *elb.CreateRuleInput, *elb.ModifyRuleInput, *elb.DeleteRuleInput, *elb.SetRulePrioritiesInput, *elb.DescribeRulesInput:
		s.rule(c)
	case *elb.CreateTargetGroupInput:
		g := c.Output.(*elb.CreateTargetGroupOutput).TargetGroups[0]
		s.add(*g.TargetGroupArn, &deed{call: c, fresh: true, changes: map[string]*Content{groupPage: new(interval(in.HealthCheckIntervalSeconds))}, answered: map[string]Content{groupPage: interval(g.HealthCheckIntervalSeconds)}})
	case *elb.ModifyTargetGroupInput:
		g := c.Output.(*elb.ModifyTargetGroupOutput).TargetGroups[0]
		s.add(*in.TargetGroupArn, &deed{call: c, found: []string{groupPage}, changes: map[string]*Content{groupPage: new(interval(in.HealthCheckIntervalSeconds))}, answered: map[string]Content{groupPage: interval(g.HealthCheckIntervalSeconds)}})
	case *elb.DeleteTargetGroupInput:
		s.add(*in.TargetGroupArn, &deed{call: c, all: true})
	case *elb.DescribeTargetGroupsInput:
		g := c.Output.(*elb.DescribeTargetGroupsOutput).TargetGroups[0]
		s.readOne(c, in.TargetGroupArns[0], groupPage, interval(g.HealthCheckIntervalSeconds), true)
	case *elb.RegisterTargetsInput:
		s.add(*in.TargetGroupArn, &deed{call: c, found: []string{groupPage}})
	case *elb.DeregisterTargetsInput:
		s.add(*in.TargetGroupArn, &deed{call: c, found: []string{groupPage}})
	}
}

func (s *scribe) readOne(c *Call, book, page string, shown Content, present bool) {
	d := &deed{call: c, read: true, asked: []string{page}, shown: map[string]Content{}}
	if present {
		d.shown[page] = shown
	}
	s.add(book, d)
}

func interval(seconds *int32) Content { return Content{Action: fmt.Sprint(*seconds)} }

func (s *scribe) listener(c *Call) {
	switch in := c.Input.(type) {
	case *elb.CreateListenerInput:
		out := c.Output.(*elb.CreateListenerOutput).Listeners[0]
		s.add(*in.LoadBalancerArn, &deed{call: c, found: []string{balancerPage}})
		s.needed(c, in.DefaultActions)
		s.add(*out.ListenerArn, &deed{
			call: c, fresh: true, changes: map[string]*Content{listenerPage: {Action: ActionOf(in.DefaultActions)}},
			answered: map[string]Content{listenerPage: {Action: ActionOf(out.DefaultActions)}},
		})
	case *elb.ModifyListenerInput:
		out := c.Output.(*elb.ModifyListenerOutput).Listeners[0]
		s.needed(c, in.DefaultActions)
		s.add(*in.ListenerArn, &deed{
			call: c, found: []string{listenerPage}, changes: map[string]*Content{listenerPage: {Action: ActionOf(in.DefaultActions)}},
			answered: map[string]Content{listenerPage: {Action: ActionOf(out.DefaultActions)}},
		})
	case *elb.DeleteListenerInput:
		s.add(*in.ListenerArn, &deed{call: c, found: []string{listenerPage}, all: true})
	case *elb.DescribeListenersInput:
		out := c.Output.(*elb.DescribeListenersOutput).Listeners[0]
		s.readOne(c, in.ListenerArns[0], listenerPage, Content{Action: ActionOf(out.DefaultActions)}, true)
	}
}

func (s *scribe) rule(c *Call) {
	switch in := c.Input.(type) {
	case *elb.CreateRuleInput:
		out := c.Output.(*elb.CreateRuleOutput).Rules[0]
		s.needed(c, in.Actions)
		s.add(*in.ListenerArn, &deed{
			call: c, fresh: true, found: []string{listenerPage}, answered: map[string]Content{*out.RuleArn: ruleContent(out)},
			changes: map[string]*Content{*out.RuleArn: {strconv.Itoa(int(*in.Priority)), ActionOf(in.Actions)}},
		})
	case *elb.ModifyRuleInput:
		out := c.Output.(*elb.ModifyRuleOutput).Rules[0]
		s.needed(c, in.Actions)
		s.add(listenerOf(*in.RuleArn), &deed{
			call: c, found: []string{*in.RuleArn}, answered: map[string]Content{*in.RuleArn: ruleContent(out)},
			changes: map[string]*Content{*in.RuleArn: {Action: ActionOf(in.Actions)}},
		})
	case *elb.DeleteRuleInput:
		s.add(listenerOf(*in.RuleArn), &deed{call: c, found: []string{*in.RuleArn}, changes: map[string]*Content{*in.RuleArn: nil}})
	case *elb.SetRulePrioritiesInput:
		s.joints++
		d := &deed{call: c, joint: s.joints, changes: map[string]*Content{}, answered: map[string]Content{}}
		for _, r := range c.Output.(*elb.SetRulePrioritiesOutput).Rules {
			d.answered[*r.RuleArn] = ruleContent(r)
		}
		for _, pair := range in.RulePriorities {
			d.found = append(d.found, *pair.RuleArn)
			d.changes[*pair.RuleArn] = &Content{Priority: strconv.Itoa(int(*pair.Priority))}
		}
		s.add(listenerOf(d.found[0]), d)
	case *elb.DescribeRulesInput:
		d := &deed{call: c, read: true, asked: in.RuleArns, shown: map[string]Content{}}
		for _, r := range c.Output.(*elb.DescribeRulesOutput).Rules {
			if !*r.IsDefault {
				d.shown[*r.RuleArn] = ruleContent(r)
			}
		}
		if in.ListenerArn != nil {
			d.found = []string{listenerPage}
			s.add(*in.ListenerArn, d)
			return
		}
		s.add(listenerOf(in.RuleArns[0]), d)
	}
}

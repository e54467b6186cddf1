package cloud

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// A weight on its way:
//
//	ModifyRule -> accepted -> routes of the listener: believed = new, seen = old
//	                       -> seeAgain: DescribeRules -> seen = new -> subscribers
//	                              still the old one: wait a little, read again

// ModifyRule changes a rule's actions, conditions or both; nil keeps what the rule has.
func (c *Cloud) ModifyRule(ctx context.Context, arn string, actions []model.Action, conditions []model.Condition) error {
	listener := listenerOf(arn)
	return c.writeRoutes(listener, c.settings.SeeAgainDelay, func() error {
		in := &elb.ModifyRuleInput{RuleArn: aws.String(arn), Actions: toActions(actions), Conditions: toConditions(conditions)}
		_, err := writeELB(ctx, c, budget.Traffic, arn, (*elb.Client).ModifyRule, in)
		return err
	}, func(r routes) routes {
		return r.withRule(arn, func(rule *model.ObservedRule) {
			if actions != nil {
				rule.Actions = canonicalActions(actions)
			}
			if conditions != nil {
				rule.Conditions = canonicalConditions(conditions)
			}
		})
	})
}

// ModifyListener changes a listener's default actions, certificates (the default one first) and policy;
// a field without value keeps what the listener has. Port and protocol are not changed.
func (c *Cloud) ModifyListener(ctx context.Context, arn string, listener model.Listener) error {
	lb := loadBalancerOf(arn)
	c.have.listeners.BeginWrite(lb)
	err := c.writeRoutes(arn, c.settings.SeeAgainDelay, func() error {
		in := &elb.ModifyListenerInput{ListenerArn: aws.String(arn), DefaultActions: toActions(listener.DefaultActions), SslPolicy: set(listener.SSLPolicy)}
		if len(listener.Certificates) > 0 {
			in.Certificates = []types.Certificate{{CertificateArn: aws.String(listener.Certificates[0])}}
		}
		_, err := writeELB(ctx, c, budget.Traffic, arn, (*elb.Client).ModifyListener, in)
		return err
	}, func(r routes) routes {
		if listener.DefaultActions != nil {
			r.Default = canonicalActions(listener.DefaultActions)
		}
		return r
	})
	c.have.listeners.EndWrite(lb, c.moment(), result(err), func(all []model.ObservedListener, _ bool) []model.ObservedListener {
		return withListener(all, arn, func(l *model.ObservedListener) {
			if listener.DefaultActions != nil {
				l.DefaultActions = canonicalActions(listener.DefaultActions)
			}
			if listener.SSLPolicy != "" {
				l.SSLPolicy = listener.SSLPolicy
			}
			if len(listener.Certificates) > 0 {
				l.Certificates = listener.Certificates[:1:1]
			}
		})
	})
	if err != nil || len(listener.Certificates) == 0 {
		return err
	}
	if have, known := c.have.certificates.Believed(arn); known && len(have) > 0 { // the old default one is gone with the write
		wrote(c, c.have.certificates, arn, append(listener.Certificates[:1:1], have[1:]...))
	}
	return c.syncCertificates(ctx, arn, listener.Certificates)
}

// SetRulePriorities gives rules of one listener new priorities, all at once; the keys are rule ARNs.
func (c *Cloud) SetRulePriorities(ctx context.Context, priorities map[string]int32) error {
	if len(priorities) == 0 {
		return nil
	}
	in := &elb.SetRulePrioritiesInput{}
	listener := ""
	for _, arn := range sortedKeys(priorities) {
		listener = listenerOf(arn)
		in.RulePriorities = append(in.RulePriorities, types.RulePriorityPair{RuleArn: aws.String(arn), Priority: aws.Int32(priorities[arn])})
	}
	return c.writeRoutes(listener, c.settings.SeeAgainDelay, func() error {
		_, err := writeELB(ctx, c, budget.Traffic, listener, (*elb.Client).SetRulePriorities, in)
		return err
	}, func(r routes) routes {
		for arn, priority := range priorities {
			r = r.withRule(arn, func(rule *model.ObservedRule) { rule.Priority = priority })
		}
		return r
	})
}

// CreateRule adds a rule to a listener.
func (c *Cloud) CreateRule(ctx context.Context, listenerARN string, rule model.Rule) (model.ObservedRule, error) {
	created := model.ObservedRule{Rule: rule}
	created.Actions, created.Conditions = canonicalActions(rule.Actions), canonicalConditions(rule.Conditions)
	err := c.writeRoutes(listenerARN, configurationSeeAgain, func() error {
		out, err := writeELB(ctx, c, budget.Configuration, listenerARN, (*elb.Client).CreateRule, &elb.CreateRuleInput{
			ListenerArn: aws.String(listenerARN), Priority: aws.Int32(rule.Priority),
			Conditions: toConditions(rule.Conditions), Actions: toActions(rule.Actions), Tags: toTags(rule.Tags),
		})
		if err == nil && len(out.Rules) > 0 {
			created.ARN = aws.ToString(out.Rules[0].RuleArn)
			c.wroteTags(created.ARN, rule.Tags)
		}
		return err
	}, func(r routes) routes {
		stored := created
		stored.ResourceID, stored.Tags, stored.Hold = "", nil, ""
		r.Rules = append(slices.Clone(r.Rules), stored)
		sortRules(r.Rules)
		return r
	})
	return created, err
}

// DeleteRule deletes a rule; one that is gone already is a success.
func (c *Cloud) DeleteRule(ctx context.Context, arn string) error {
	return c.writeRoutes(listenerOf(arn), configurationSeeAgain, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).DeleteRule, &elb.DeleteRuleInput{RuleArn: aws.String(arn)})
		return c.forgiveGone(err, arn)
	}, func(r routes) routes {
		r.Rules = slices.DeleteFunc(slices.Clone(r.Rules), func(rule model.ObservedRule) bool { return rule.ARN == arn })
		return r
	})
}

// writeRoutes brackets a write to a listener's rules or default actions, and has it seen again.
func (c *Cloud) writeRoutes(listenerARN string, delay time.Duration, write func() error, change func(routes) routes) error {
	c.have.routes.BeginWrite(listenerARN)
	err := write()
	if _, known := c.have.routes.Believed(listenerARN); known {
		c.have.routes.EndWrite(listenerARN, c.moment(), result(err), func(r routes, _ bool) routes { return change(r) })
	} else {
		c.have.routes.EndWrite(listenerARN, c.moment(), result(err), nil)
	}
	switch result(err) {
	case mirror.Refused:
	default:
		c.seeAgain(listenerARN, delay)
	}
	return err
}

// withRule gives the routes with one rule changed; the receiver's slice is left alone.
func (r routes) withRule(arn string, change func(*model.ObservedRule)) routes {
	r.Rules = slices.Clone(r.Rules)
	for i := range r.Rules {
		if r.Rules[i].ARN == arn {
			change(&r.Rules[i])
		}
	}
	sortRules(r.Rules)
	return r
}

// configurationSeeAgain gathers creations and deletions of rules, which come in rows, before one read.
const configurationSeeAgain = time.Second

// rereads are the listeners that are to be read again.
type rereads struct {
	mu     sync.Mutex
	active map[string]bool
}

// seeAgain reads a listener's routes in the background until AWS shows what was written, or something
// else that is not merely the state before; then subscribers are told.
func (c *Cloud) seeAgain(listenerARN string, delay time.Duration) {
	c.again.mu.Lock()
	defer c.again.mu.Unlock()
	if c.again.active[listenerARN] {
		return // the one that runs looks for later writes before it ends
	}
	if c.again.active == nil {
		c.again.active = map[string]bool{}
	}
	c.again.active[listenerARN] = true
	c.inBackground(func(ctx context.Context) {
		backoff := c.settings.SeeAgainBackoff
		for wait(ctx, delay) {
			done, err := c.seeOnce(ctx, listenerARN)
			if err != nil {
				c.log.Warn("cannot read a listener after writing it", "listener", listenerARN, "error", err)
			}
			if done && c.endSeeAgain(listenerARN) {
				return
			}
			if done { // written again meanwhile
				delay, backoff = c.settings.SeeAgainDelay, c.settings.SeeAgainBackoff
				continue
			}
			delay, backoff = backoff, min(2*backoff, 5*time.Second)
		}
	})
}

// seeOnce reads the routes if nobody has since the last write. It is done when the read shows no mere past.
func (c *Cloud) seeOnce(ctx context.Context, listenerARN string) (done bool, err error) {
	if !c.have.routes.Fresh(listenerARN, time.Time{}) {
		if err := c.readRoutes(withoutHurry(ctx), budget.Traffic, listenerARN, time.Time{}); err != nil {
			return c.gone(listenerARN, err), err
		}
	} else if c.showsPast(listenerARN) {
		if err := c.readRoutes(withoutHurry(ctx), budget.Traffic, listenerARN, c.now()); err != nil {
			return c.gone(listenerARN, err), err
		}
	}
	return !c.showsPast(listenerARN), nil
}

// gone reports whether a listener is not there any more, by a read's error.
func (c *Cloud) gone(listenerARN string, err error) bool {
	_, known := c.have.routes.Believed(listenerARN)
	return errors.Is(err, ErrNotFound) && !known
}

// showsPast reports whether the last read showed a state that our writes have replaced.
func (c *Cloud) showsPast(listenerARN string) bool {
	return !c.have.routes.Fresh(listenerARN, time.Time{}) || !c.have.routes.Agreed(listenerARN)
}

// endSeeAgain ends the listener's turn unless it was written again since it was seen.
func (c *Cloud) endSeeAgain(listenerARN string) bool {
	c.again.mu.Lock()
	if _, known := c.have.routes.Believed(listenerARN); known && c.showsPast(listenerARN) {
		c.again.mu.Unlock()
		return false
	}
	delete(c.again.active, listenerARN)
	c.again.mu.Unlock()
	if wrote := c.have.routes.WroteAt(listenerARN); wrote.Order != 0 {
		c.metrics.seenWithin.Observe(c.now().Sub(wrote.Time).Seconds())
	}
	c.notifyTraffic(listenerARN)
	return true
}

// wait pauses for d and reports whether the context still lives.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// readRoutes reads a listener's rules and default actions, or joins a read that began at or after notBefore.
func (c *Cloud) readRoutes(ctx context.Context, lane budget.Lane, listenerARN string, notBefore time.Time) error {
	return untilFresh(ctx, c.have.routes, listenerARN, notBefore, func() error {
		return c.join(ctx, lane, "routes "+listenerARN, notBefore, c.have.routes.WroteAt(listenerARN), func(ctx context.Context) error {
			return c.readRoutesNow(ctx, lane, listenerARN)
		})
	})
}

func (c *Cloud) readRoutesNow(ctx context.Context, lane budget.Lane, listenerARN string) error {
	var begun mirror.Moment
	var rules []types.Rule
	in := &elb.DescribeRulesInput{ListenerArn: aws.String(listenerARN)}
	for {
		out, at, err := readELB(ctx, c, lane, listenerARN, (*elb.Client).DescribeRules, in)
		if errors.Is(err, ErrNotFound) && !c.young(c.have.routes.WroteAt(listenerARN)) {
			c.forgetListener(listenerARN)
		}
		if err != nil {
			return err
		}
		if begun.Order == 0 {
			begun = at
		}
		rules = append(rules, out.Rules...)
		if aws.ToString(out.NextMarker) == "" {
			break
		}
		in.Marker = out.NextMarker
	}
	before := c.have.routes.Version(listenerARN)
	c.have.routes.Read(listenerARN, begun, c.now(), fromRules(rules))
	if before != 0 && c.have.routes.Version(listenerARN) != before {
		c.notifyTraffic(listenerARN)
	}
	return nil
}

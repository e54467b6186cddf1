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
//	           -> no answer: it may arrive late (late.go)

// ModifyRule changes a rule's actions, conditions or both; nil keeps what the rule has.
func (c *Cloud) ModifyRule(ctx context.Context, arn string, actions []model.Action, conditions []model.Condition) error {
	listener := listenerOf(arn)
	return c.writeRoutes(listener, c.settings.SeeAgainDelay, func() error {
		in := &elb.ModifyRuleInput{RuleArn: aws.String(arn), Actions: toActions(actions), Conditions: toConditions(conditions)}
		_, err := writeELB(ctx, c, budget.Traffic, arn, (*elb.Client).ModifyRule, in)
		c.noteDelay(arn, listener, err)
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
	if err := c.addBesideDefault(ctx, arn, listener.Certificates); err != nil {
		return err
	}
	c.have.listeners.BeginWrite(lb)
	err := c.writeRoutes(arn, c.settings.SeeAgainDelay, func() error {
		in := &elb.ModifyListenerInput{ListenerArn: aws.String(arn), DefaultActions: toActions(listener.DefaultActions), SslPolicy: set(listener.SSLPolicy)}
		if len(listener.Certificates) > 0 {
			in.Certificates = []types.Certificate{{CertificateArn: aws.String(listener.Certificates[0])}}
		}
		_, err := writeELB(ctx, c, budget.Traffic, arn, (*elb.Client).ModifyListener, in)
		c.noteDelay(arn, arn, err)
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
	before, known := c.have.routes.Believed(listenerARN)
	if known {
		c.have.routes.EndWrite(listenerARN, c.moment(), result(err), func(r routes, _ bool) routes { return change(r) })
	} else {
		c.have.routes.EndWrite(listenerARN, c.moment(), result(err), nil)
	}
	c.noteWrite(listenerARN, result(err), change, before, known)
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

// The longest pauses between two looks: for what has been written, and for what may arrive late.
const (
	slowLook    = 5 * time.Second
	slowestLook = 30 * time.Second
)

// rereads are the listeners that are looked at again, and the load balancers.
type rereads struct {
	mu     sync.Mutex
	active map[string]*reread
}

// reread is one of them.
type reread struct {
	// sooner has it looked at after another pause than planned.
	sooner chan time.Duration
	// interrupt ends a look for what may arrive late: such a look may wait for long, and a weight that has been
	// written meanwhile must not wait for it.
	interrupt context.CancelFunc
}

// begin gives the turn of a resource that nobody looks at yet, else nil. Callers hold the lock.
func (r *rereads) begin(arn string) *reread {
	if r.active[arn] != nil {
		return nil
	}
	if r.active == nil {
		r.active = map[string]*reread{}
	}
	r.active[arn] = &reread{sooner: make(chan time.Duration, 1)}
	return r.active[arn]
}

// interruptible says how to end the look that begins; one that is not wanted any more ends at once.
func (r *rereads) interruptible(turn *reread, interrupt context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if turn.interrupt = interrupt; len(turn.sooner) > 0 {
		interrupt()
	}
}

// seeAgain reads a listener's routes in the background until AWS shows what was written, or something
// else that is not merely the state before; then subscribers are told. It goes on, seldom, as long as a call
// that was not answered may still change them.
func (c *Cloud) seeAgain(listenerARN string, delay time.Duration) {
	c.again.mu.Lock()
	defer c.again.mu.Unlock()
	turn := c.again.begin(listenerARN)
	if turn == nil {
		turn = c.again.active[listenerARN]
		select {
		case planned := <-turn.sooner:
			delay = min(delay, planned)
		default:
		}
		turn.sooner <- delay // only this function sends, under the lock
		if turn.interrupt != nil {
			turn.interrupt()
		}
		return
	}
	c.inBackground(func(ctx context.Context) { c.look(ctx, listenerARN, delay, turn, false) })
}

// look is the loop of seeAgain. told says that what the listener shows is known to subscribers.
func (c *Cloud) look(ctx context.Context, listenerARN string, delay time.Duration, turn *reread, told bool) {
	backoff, due := max(c.settings.SeeAgainBackoff, delay), c.now().Add(delay)
	late := told // the next look is for what may arrive late, and not for what has just been written
	for {
		timer := time.NewTimer(due.Sub(c.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case delay := <-turn.sooner: // written again meanwhile
			timer.Stop()
			if at := c.now().Add(delay); at.Before(due) {
				due = at
			}
			backoff, told, late = c.settings.SeeAgainBackoff, false, false
			continue
		case <-timer.C:
		}
		looking, end := context.WithCancel(ctx)
		if late {
			c.again.interruptible(turn, end)
		}
		gone, err := c.seeOnce(looking, listenerARN, late)
		interrupted := err != nil && looking.Err() != nil
		end()
		if interrupted {
			due = c.now().Add(slowLook)
			continue
		}
		if err != nil {
			c.log.Warn("cannot read a listener after writing it", "listener", listenerARN, "error", err)
		}
		past := !gone && c.showsPast(listenerARN)
		if !past && !told {
			told = true
			c.sawAgain(listenerARN)
		}
		until := c.lateUntil(listenerARN, lateCall.alters)
		if !past && (gone || until.IsZero()) && c.endSeeAgain(listenerARN) {
			return
		}
		slowest := slowLook
		if left := until.Sub(c.now()); !past && left > 0 { // the last look is at the end
			slowest = max(min(slowestLook, left), c.settings.SeeAgainDelay)
		}
		if !past && c.lateUntil(listenerARN, lateCall.own).IsZero() { // nothing of ours is on its way
			backoff = max(backoff, slowLook)
		}
		due, backoff, late = c.now().Add(min(backoff, slowest)), min(2*backoff, slowestLook), !past
	}
}

// seeOnce reads the routes, unless somebody has since the last write and the look is not for what may arrive late.
func (c *Cloud) seeOnce(ctx context.Context, listenerARN string, late bool) (gone bool, err error) {
	notBefore, lane := time.Time{}, budget.Traffic
	if c.have.routes.Fresh(listenerARN, time.Time{}) {
		notBefore = c.now()
		if !c.showsPast(listenerARN) {
			if !late || c.lateUntil(listenerARN, lateCall.alters).IsZero() {
				return false, nil
			}
			lane = budget.Configuration // weights on their way go before what may never come
		}
	}
	if err := c.readRoutes(withoutHurry(ctx), lane, listenerARN, notBefore); err != nil {
		_, known := c.have.routes.Believed(listenerARN)
		if gone = errors.Is(err, ErrNotFound) && !known; gone {
			c.late.forget(listenerARN)
		}
		return gone, err
	}
	return false, nil
}

// showsPast reports whether the last read showed a state that our writes have replaced.
func (c *Cloud) showsPast(listenerARN string) bool {
	return !c.have.routes.Fresh(listenerARN, time.Time{}) || !c.have.routes.Agreed(listenerARN)
}

// sawAgain tells that what was written has been seen.
func (c *Cloud) sawAgain(listenerARN string) {
	if wrote := c.have.routes.WroteAt(listenerARN); wrote.Order != 0 {
		c.metrics.seenWithin.Observe(c.now().Sub(wrote.Time).Seconds())
	}
	c.notifyTraffic(listenerARN)
}

// endSeeAgain ends the listener's turn unless it was written again since it was seen, or has to be watched by now.
func (c *Cloud) endSeeAgain(listenerARN string) bool {
	c.again.mu.Lock()
	defer c.again.mu.Unlock()
	if len(c.again.active[listenerARN].sooner) > 0 || !c.lateUntil(listenerARN, lateCall.alters).IsZero() {
		return false
	}
	delete(c.again.active, listenerARN)
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
	c.reviewLate(listenerARN)
	if before != 0 && c.have.routes.Version(listenerARN) != before {
		c.notifyTraffic(listenerARN)
	}
	return nil
}

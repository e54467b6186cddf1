package rehearsal

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// trace finds in AWS's journal which calls carried a split out, and when the nodes of the load balancer acted on it.
type trace struct {
	calls []weightCall
	taken []elbv2.Application
	// zones of the nodes by the ARN of their load balancer.
	zones map[string][]string
	// cut is true when the journal no longer held its first records.
	cut bool
}

// weightCall is a call with which AWS accepted weights.
type weightCall struct {
	received time.Time
	listener string // its ARN
	balancer string // its ARN
	// weights by Service; a target group that is of no known Service goes by its ARN.
	weights map[string]int32
}

// newTrace reads a journal. services are the Services of target groups by ARN.
func newTrace(records []journal.Record, services map[string]string, balancers []elbv2.Balancer) trace {
	t := trace{zones: map[string][]string{}, cut: len(records) > 0 && records[0].Sequence > 1}
	for _, b := range balancers {
		for _, n := range b.Nodes {
			t.zones[b.ARN] = append(t.zones[b.ARN], n.Zone)
		}
	}
	for _, r := range records {
		if application, ok := r.Detail.(elbv2.Application); ok {
			t.taken = append(t.taken, application)
		}
	}
	for _, r := range records {
		if weights := forwardWeights(r, services); r.Code == "" && len(weights) > 0 {
			listener := t.listenerOf(r)
			t.calls = append(t.calls, weightCall{
				received: r.Received, listener: listener, weights: weights,
				balancer: cmp.Or(r.Parameters["LoadBalancerArn"], balancerOf(listener)),
			})
		}
	}
	return t
}

// followed completes the times of weight changes with those of AWS. What came after end is not looked at.
func (t trace) followed(changes []WeightChange, end time.Time) []WeightChange {
	for i := range changes {
		c := &changes[i]
		until := c.Seen
		if until.IsZero() && i+1 < len(changes) {
			until = changes[i+1].Decided
		}
		if until.IsZero() {
			until = end
		}
		carriers := t.carriers(c.Weights, until)
		if len(carriers) == 0 || carriers[len(carriers)-1].received.Before(c.Decided) {
			continue // what AWS had already was what was wanted, or it never came so far
		}
		c.Accepted = carriers[len(carriers)-1].received
		if c.Applied, c.NotApplied = t.takenBy(carriers); len(c.NotApplied) > 0 {
			c.Applied = time.Time{}
		}
	}
	return changes
}

// carriers are the calls that gave AWS these weights and were the last of their Services' before until: one for each
// rule. None: AWS had other weights then.
func (t trace) carriers(weights map[string]int32, until time.Time) []weightCall {
	var streak []weightCall
	for _, c := range t.calls {
		switch {
		case !c.received.Before(until) || !c.concerns(weights):
		case maps.Equal(shares(c.weights), shares(weights)):
			streak = append(streak, c)
		default:
			streak = nil
		}
	}
	return streak
}

// concerns reports that the call forwards to a Service of the split.
func (c weightCall) concerns(weights map[string]int32) bool {
	for service := range c.weights {
		if _, ok := weights[service]; ok {
			return true
		}
	}
	return false
}

// shares leaves out who gets nothing: whether a target group is named with weight 0 or not at all is the same to traffic.
func shares(weights map[string]int32) map[string]int32 {
	some := maps.Clone(weights)
	maps.DeleteFunc(some, func(_ string, weight int32) bool { return weight == 0 })
	return some
}

// forgotten reports that the calls before until that concern the split, if there were any, are no longer known.
func (t trace) forgotten(weights map[string]int32, until time.Time) bool {
	return t.cut && !slices.ContainsFunc(t.calls, func(c weightCall) bool { return c.received.Before(until) && c.concerns(weights) })
}

// takenBy is when the last node acted on the calls, and the zones of the nodes that never did.
//
// A node that takes a change takes all that its listener says at the moment of the call. So one that has taken a newer
// change of the listener no longer acts on anything older, even if it has skipped the call's own.
func (t trace) takenBy(calls []weightCall) (last time.Time, never []string) {
	for _, call := range calls {
		for _, zone := range t.zones[call.balancer] {
			var first time.Time
			for _, a := range t.taken {
				if a.LoadBalancer == call.balancer && a.Zone == zone && listenerIn(a.Change) == call.listener &&
					!a.Called.Before(call.received) && (first.IsZero() || a.Taken.Before(first)) {
					first = a.Taken
				}
			}
			if first.IsZero() && !slices.Contains(never, zone) {
				never = append(never, zone)
			}
			if first.After(last) {
				last = first
			}
		}
	}
	return last, never
}

// forwardWeights are the weights by Service of the forward action of a call that changes traffic; empty for others.
func forwardWeights(r journal.Record, services map[string]string) map[string]int32 {
	actions := map[string]string{
		"ModifyRule": "Actions.member.", "CreateRule": "Actions.member.",
		"ModifyListener": "DefaultActions.member.", "CreateListener": "DefaultActions.member.",
	}[r.Operation]
	if actions == "" {
		return nil
	}
	weights := map[string]int32{}
	for name, arn := range r.Parameters {
		group, isGroup := strings.CutSuffix(name, ".TargetGroupArn")
		if !isGroup || !strings.HasPrefix(name, actions) {
			continue
		}
		weight := int64(1) // a forward to one group needs none
		if text, ok := r.Parameters[group+".Weight"]; ok {
			var err error
			if weight, err = strconv.ParseInt(text, 10, 32); err != nil {
				continue
			}
		} else if !strings.Contains(group, ".ForwardConfig.") && hasForwardConfig(r, group) {
			continue // the same group once more, in the older form
		}
		weights[cmp.Or(services[arn], arn)] = int32(weight)
	}
	return weights
}

func hasForwardConfig(r journal.Record, action string) bool {
	for name := range r.Parameters {
		if strings.HasPrefix(name, action+".ForwardConfig.") {
			return true
		}
	}
	return false
}

// listenerOf is the ARN of the listener that a call changes. Only the nodes tell that of a new one.
func (t trace) listenerOf(r journal.Record) string {
	if arn := cmp.Or(r.Parameters["RuleArn"], r.Parameters["ListenerArn"]); arn != "" {
		return listenerIn(arn)
	}
	for _, a := range t.taken {
		if strings.HasPrefix(a.Change, r.Operation+" ") && !a.Called.Before(r.Received) && !a.Called.After(r.Received.Add(r.Duration)) {
			return listenerIn(a.Change)
		}
	}
	return ""
}

// listenerIn is the ARN of the listener in "operation ARN" or in the ARN of a listener or of one of its rules; empty when
// there is none:
//
//	arn:aws:elasticloadbalancing:<region>:<account>:listener-rule/app/<name>/<load balancer>/<listener>/<rule>
//	arn:aws:elasticloadbalancing:<region>:<account>:listener/app/<name>/<load balancer>/<listener>
func listenerIn(change string) string {
	arn := change[strings.LastIndex(change, " ")+1:]
	if before, rule, ok := strings.Cut(arn, ":listener-rule/"); ok {
		return before + ":listener/" + rule[:max(0, strings.LastIndex(rule, "/"))]
	}
	if strings.Contains(arn, ":listener/") {
		return arn
	}
	return ""
}

// balancerOf is the ARN of a listener's load balancer.
func balancerOf(listener string) string {
	before, tail, _ := strings.Cut(listener, ":listener/")
	return before + ":loadbalancer/" + tail[:max(0, strings.LastIndex(tail, "/"))]
}

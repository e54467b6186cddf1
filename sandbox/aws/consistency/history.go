package consistency

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// Call is one call as the journal has it, with what the caller sent and was answered.
type Call struct {
	journal.Record
	// Input and Output are the SDK's structs. Output is nil if the call was refused.
	Input, Output any
}

// Caller is whose reads are monotonic: a program with a key.
func (c Call) Caller() string { return c.AccessKey + " " + c.UserAgent }

// done is when the call was answered.
func (c Call) done() time.Time { return c.Received.Add(c.Duration) }

// Told is the whole configuration that a node was given: it was in force from some moment between At and Done on.
type Told struct {
	LoadBalancer string    `json:"loadBalancer"`
	Zone         string    `json:"zone"`
	At           time.Time `json:"at"`
	Done         time.Time `json:"done"`
	// Listeners are their rules, the default one under the listener's own ARN.
	Listeners map[string]map[string]Content `json:"listeners"`
	// Closed is true for the end of the node.
	Closed bool `json:"closed,omitempty"`
}

// ToldTargets are all targets of a group that a node was given. Those that drain are left out.
type ToldTargets struct {
	LoadBalancer string    `json:"loadBalancer"`
	Zone         string    `json:"zone"`
	At           time.Time `json:"at"`
	Done         time.Time `json:"done"`
	Group        string    `json:"group"`
	Targets      []string  `json:"targets"`
}

// Request is one request through a node.
type Request struct {
	LoadBalancer, Zone, Listener string
	// Sent by the client, Arrived at a target (the moment of the answer, if there was none).
	Sent, Arrived time.Time
	// Fixed is the body of a fixed response; else Group and Target have answered. All empty: nobody did.
	Fixed, Group, Target string
	Status               int
	// Failed is why there was no answer.
	Failed string
}

// History is one run.
type History struct {
	Calls    []Call
	Told     []Told
	Targets  []ToldTargets
	Requests []Request
	// Accepted are the moments at which changes were accepted, Applied those at which nodes took them, as the emulator has them.
	Accepted []elbv2.Acceptance
	Applied  []elbv2.Application

	Profile *profile.Profile
	Scale   float64
	// Unthrottled runs have no buckets.
	Unthrottled bool
	// Slack is how late a machine with other work may be; 0 in virtual time.
	Slack time.Duration
	// End is when the run was over.
	End time.Time
}

// Violation is something that the model does not allow.
type Violation struct {
	Claim string
	Text  string
}

// String is the claim and what is wrong.
func (v Violation) String() string { return v.Claim + ": " + v.Text }

func violated(claim, format string, args ...any) Violation {
	return Violation{Claim: claim, Text: fmt.Sprintf(format, args...)}
}

// most is the longest time that a key of the profile can stand for.
func (h *History) most(key profile.Key) time.Duration {
	return time.Duration(h.Profile.Seconds[key].Quantile(math.Inf(1))*h.Scale*float64(time.Second)) + h.Slack
}

// moments are when each call was accepted, for those of which that is known exactly. Calls that may have been each other are left out.
func (h *History) moments() map[*Call]time.Time {
	byChange := map[string][]time.Time{}
	for _, a := range h.Accepted {
		byChange[a.Change] = append(byChange[a.Change], a.Called)
	}
	found, calls := map[*Call]time.Time{}, map[time.Time]int{}
	for i := range h.Calls {
		c := &h.Calls[i]
		var at []time.Time
		for _, t := range byChange[c.Operation+" "+changes(c)] {
			if c.Code == "" && !t.Before(c.Received) && !t.After(c.done()) {
				at = append(at, t)
			}
		}
		if len(at) == 1 {
			found[c] = at[0]
		}
		for _, t := range at {
			calls[t]++
		}
	}
	maps.DeleteFunc(found, func(_ *Call, t time.Time) bool { return calls[t] > 1 })
	return found
}

// changes is the ARN that the emulator names a change by.
func changes(c *Call) string {
	switch in := c.Input.(type) {
	case *elb.CreateListenerInput:
		if out, ok := c.Output.(*elb.CreateListenerOutput); ok {
			return *out.Listeners[0].ListenerArn
		}
	case *elb.ModifyListenerInput:
		return *in.ListenerArn
	case *elb.DeleteListenerInput:
		return *in.ListenerArn
	case *elb.CreateRuleInput:
		if out, ok := c.Output.(*elb.CreateRuleOutput); ok {
			return *out.Rules[0].RuleArn
		}
	case *elb.ModifyRuleInput:
		return *in.RuleArn
	case *elb.DeleteRuleInput:
		return *in.RuleArn
	case *elb.SetRulePrioritiesInput:
		return listenerOf(*in.RulePriorities[0].RuleArn)
	}
	return ""
}

// Check lists what the model does not allow, nothing if all claims hold.
func Check(h *History) []Violation {
	order, found := h.checkBooks()
	found = append(found, h.checkNodes(order)...)
	found = append(found, h.checkApplied()...)
	found = append(found, h.checkDrained()...)
	found = append(found, h.checkRequests()...)
	return append(found, h.checkBuckets()...)
}

// Content is what a resource says, as far as the model looks: the place of a rule and what it does, or the interval of a
// group's health checks.
type Content struct {
	Priority string `json:"priority,omitempty"`
	Action   string `json:"action,omitempty"`
}

// String is short.
func (c Content) String() string { return c.Priority + "/" + c.Action }

// ActionOf writes the action of a rule as the API tells it.
func ActionOf(actions []types.Action) string {
	if len(actions) == 0 {
		return ""
	}
	a := actions[len(actions)-1]
	switch {
	case a.FixedResponseConfig != nil:
		return "fixed " + *a.FixedResponseConfig.MessageBody
	case a.ForwardConfig != nil:
		var groups []string
		for _, g := range a.ForwardConfig.TargetGroups {
			groups = append(groups, fmt.Sprintf("%s=%d", *g.TargetGroupArn, *g.Weight))
		}
		return "forward " + strings.Join(groups, " ")
	}
	return string(a.Type)
}

// ActionOn writes the action of a rule as a node knows it, in the same words.
func ActionOn(a dataplane.Action) string {
	switch {
	case a.Fixed != nil:
		return "fixed " + a.Fixed.Body
	case a.Forward != nil:
		var groups []string
		for _, g := range a.Forward.Groups {
			groups = append(groups, fmt.Sprintf("%s=%d", g.ARN, g.Weight))
		}
		return "forward " + strings.Join(groups, " ")
	}
	return "redirect"
}

// ruleContent is a rule as the API shows it.
func ruleContent(r types.Rule) Content {
	return Content{Priority: *r.Priority, Action: ActionOf(r.Actions)}
}

// listenerOf is the listener that a rule is of.
func listenerOf(rule string) string {
	listener := strings.Replace(rule, ":listener-rule/", ":listener/", 1)
	return listener[:strings.LastIndex(listener, "/")]
}

// balancerOf is the load balancer that a listener is of.
func balancerOf(listener string) string {
	lb := strings.Replace(listener, ":listener/", ":loadbalancer/", 1)
	return lb[:strings.LastIndex(lb, "/")]
}

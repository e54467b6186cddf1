package consistency_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/consistency"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// caught checks that a claim is found to be broken.
func caught(t *testing.T, h *consistency.History, claim string) {
	t.Helper()
	found := consistency.Check(h)
	if !slices.ContainsFunc(found, func(v consistency.Violation) bool { return v.Claim == claim }) {
		t.Errorf("that %s is broken was not found, but: %v", claim, found)
	}
}

// tale is a short history written by hand: one caller after the other on one listener with two rules.
type tale struct {
	at    time.Time
	calls []consistency.Call
}

const (
	listenerARN = "arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/web/1/2"
	ruleA       = "arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/app/web/1/2/a"
	ruleB       = "arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/app/web/1/2/b"
)

func (s *tale) tell(after time.Duration, caller, operation string, in, out any) *consistency.Call {
	s.at = s.at.Add(after)
	s.calls = append(s.calls, consistency.Call{
		Record: journal.Record{Received: s.at, Operation: operation, UserAgent: "sdk app/" + caller, Status: 200}, Input: in, Output: out,
	})
	return &s.calls[len(s.calls)-1]
}

func body(text string) []types.Action {
	return []types.Action{{FixedResponseConfig: &types.FixedResponseActionConfig{MessageBody: &text}}}
}

func shown(arn, priority, text string) types.Rule {
	return types.Rule{RuleArn: &arn, Priority: &priority, IsDefault: new(false), Actions: body(text)}
}

func (s *tale) modify(after time.Duration, arn, priority, text, answer string) {
	s.tell(after, "writer", "ModifyRule", &elb.ModifyRuleInput{RuleArn: &arn, Actions: body(text)}, &elb.ModifyRuleOutput{Rules: []types.Rule{shown(arn, priority, answer)}})
}

func (s *tale) read(after time.Duration, caller string, rules ...types.Rule) {
	s.tell(after, caller, "DescribeRules", &elb.DescribeRulesInput{ListenerArn: new(listenerARN)}, &elb.DescribeRulesOutput{Rules: rules})
}

func (s *tale) swap(after time.Duration) {
	s.tell(after, "writer", "SetRulePriorities",
		&elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: new(ruleA), Priority: new(int32(2))}, {RuleArn: new(ruleB), Priority: new(int32(1))}}},
		&elb.SetRulePrioritiesOutput{Rules: []types.Rule{shown(ruleA, "2", "a"), shown(ruleB, "1", "b")}})
}

func (s *tale) refuse(after time.Duration, arn string) {
	c := s.tell(after, "writer", "ModifyRule", &elb.ModifyRuleInput{RuleArn: &arn, Actions: body("x")}, nil)
	c.Code, c.Message = "RuleNotFound", "One or more rules not found: '"+arn+"'"
}

// The window of profile typical is at most 20 s.
func TestTalesAreJudged(t *testing.T) {
	const soon, late = time.Second, time.Minute
	a, b := shown(ruleA, "1", "a"), shown(ruleB, "2", "b")
	for name, one := range map[string]struct {
		claim string
		tell  func(*tale)
	}{
		"nothing else":          {"", func(*tale) {}},
		"old within the window": {"", func(s *tale) { s.modify(late, ruleA, "1", "a2", "a2"); s.read(soon, "x", a, b) }},
		"old after the window":  {"fresh", func(s *tale) { s.modify(late, ruleA, "1", "a2", "a2"); s.read(late, "x", a, b) }},
		"older than the previous": {"fresh", func(s *tale) {
			s.modify(late, ruleA, "1", "a2", "a2")
			s.modify(soon, ruleA, "1", "a3", "a3")
			s.read(soon, "x", a, b)
		}},
		"never said":         {"fresh", func(s *tale) { s.read(soon, "x", shown(ruleA, "1", "z"), b) }},
		"missing though old": {"fresh", func(s *tale) { s.read(late, "x", a) }},
		"missing while new":  {"", func(s *tale) { s.read(soon, "x", a) }},
		"deleted and shown": {"fresh", func(s *tale) {
			s.tell(late, "writer", "DeleteRule", &elb.DeleteRuleInput{RuleArn: new(ruleB)}, &elb.DeleteRuleOutput{})
			s.read(soon, "x", a, b)
		}},
		"back in time": {"monotonic", func(s *tale) {
			s.modify(late, ruleA, "1", "a2", "a2")
			s.read(soon, "x", shown(ruleA, "1", "a2"), b)
			s.read(soon, "x", a, b)
		}},
		"back for another caller": {"", func(s *tale) {
			s.modify(late, ruleA, "1", "a2", "a2")
			s.read(soon, "x", shown(ruleA, "1", "a2"), b)
			s.read(soon, "y", a, b)
		}},
		"not found while new":  {"", func(s *tale) { s.refuse(soon, ruleB) }},
		"not found though old": {"dependent", func(s *tale) { s.refuse(late, ruleB) }},
		"found though deleted": {"fresh", func(s *tale) {
			s.tell(late, "writer", "DeleteRule", &elb.DeleteRuleInput{RuleArn: new(ruleB)}, &elb.DeleteRuleOutput{})
			s.modify(soon, ruleB, "2", "b2", "b2")
		}},
		"answered with the old state": {"answer", func(s *tale) { s.modify(late, ruleA, "1", "a2", "a") }},
		"places before":               {"", func(s *tale) { s.swap(late); s.read(soon, "x", a, b) }},
		"places after":                {"", func(s *tale) { s.swap(late); s.read(soon, "x", shown(ruleA, "2", "a"), shown(ruleB, "1", "b")) }},
		"half of the places":          {"permutation", func(s *tale) { s.swap(late); s.read(soon, "x", shown(ruleA, "2", "a"), b) }},
		"half of the places, one has moved": {"permutation", func(s *tale) {
			s.swap(late)
			s.modify(soon, ruleA, "2", "a2", "a2")
			s.read(soon, "x", shown(ruleA, "2", "a2"), b)
		}},
		"refused, but it has happened": {"fresh", func(s *tale) {
			s.modify(late, ruleA, "1", "a2", "a2")
			s.calls[len(s.calls)-1].Code, s.calls[len(s.calls)-1].Output = "Throttling", nil
			s.read(soon, "x", shown(ruleA, "1", "a2"), b)
		}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			typical, err := profile.Load("typical")
			if err != nil {
				t.Fatal(err)
			}
			s := &tale{at: time.Unix(1_000_000, 0)}
			s.tell(0, "writer", "CreateListener", &elb.CreateListenerInput{LoadBalancerArn: new("lb"), DefaultActions: body("d")},
				&elb.CreateListenerOutput{Listeners: []types.Listener{{ListenerArn: new(listenerARN), DefaultActions: body("d")}}})
			s.calls[0].Input.(*elb.CreateListenerInput).LoadBalancerArn = new("arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/web/1")
			balancer := consistency.Call{
				Record: journal.Record{Received: s.at.Add(-time.Hour), Operation: "CreateLoadBalancer", UserAgent: "app/writer"}, Input: &elb.CreateLoadBalancerInput{},
				Output: &elb.CreateLoadBalancerOutput{LoadBalancers: []types.LoadBalancer{{LoadBalancerArn: new("arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/web/1")}}},
			}
			s.calls = append(s.calls, balancer)
			for arn, priority := range map[string]int32{ruleA: 1, ruleB: 2} {
				text := arn[len(arn)-1:]
				s.tell(time.Millisecond, "writer", "CreateRule", &elb.CreateRuleInput{ListenerArn: new(listenerARN), Priority: &priority, Actions: body(text)},
					&elb.CreateRuleOutput{Rules: []types.Rule{shown(arn, fmt.Sprint(priority), text)}})
			}
			one.tell(s)
			h := &consistency.History{Calls: s.calls, Profile: typical, Scale: 1, Unthrottled: true, End: s.at}
			if one.claim != "" {
				caught(t, h, one.claim)
			} else if found := consistency.Check(h); len(found) > 0 {
				t.Errorf("a history that can be is refused: %v", found)
			}
		})
	}
}

// Runs of an emulator that breaks its word, and true runs of which the record was changed.
func TestMutantsAreCaught(t *testing.T) {
	t.Parallel()
	good := func() *consistency.History { return virtual(t, "pessimistic", 1, 150, time.Second, nil) }
	strict := good()
	strict.Profile = changed(strict.Profile, func(p *profile.Profile) { p.MonotonicReads = true })
	caught(t, strict, "monotonic")
	strict.Profile = changed(strict.Profile, func(p *profile.Profile) { p.Seconds[profile.ReadWindow] = profile.Distribution{} })
	caught(t, strict, "fresh")

	caught(t, struck(t, fault.Fault{Kind: fault.Stale, Delay: time.Hour, Every: 3}), "fresh")
	caught(t, struck(t, fault.Fault{Kind: fault.Stuck, Zone: "eu-west-1b"}), "lag")
	caught(t, nodesThat(t, func(o *observed) elbv2.Node { return &backward{observed: o} }), "order")

	for claim, doctor := range map[string]func(h *consistency.History){
		"lag": func(h *consistency.History) {
			for i := range h.Told {
				if h.Told[i].Zone == "eu-west-1b" && !h.Told[i].Closed {
					h.Told[i].At, h.Told[i].Done = h.Told[i].At.Add(5*time.Minute), h.Told[i].Done.Add(5*time.Minute)
				}
			}
		},
		"order": func(h *consistency.History) { // before it was accepted
			for i := range h.Told {
				h.Told[i].At, h.Told[i].Done = h.Told[i].At.Add(-5*time.Minute), h.Told[i].Done.Add(-5*time.Minute)
			}
		},
		"permutation": halve,
		"drained": func(h *consistency.History) {
			for i := range h.Targets {
				if h.Targets[i].Zone == "eu-west-1c" {
					h.Targets[i].At, h.Targets[i].Done = h.Targets[i].At.Add(6*time.Minute), h.Targets[i].Done.Add(6*time.Minute)
				}
			}
		},
	} {
		h := good()
		doctor(h)
		caught(t, h, claim)
	}
}

// What the journal tells of nodes is held to the claims as well, where nobody looks into nodes.
func TestMutantJournalsAreCaught(t *testing.T) {
	t.Parallel()
	if found := consistency.Check(network(t, "typical", 1)); len(found) > 0 {
		t.Fatal(found)
	}
	caught(t, network(t, "typical", 1, func(r *run) {
		if _, err := r.emulator.AddFault(fault.Fault{Kind: fault.Stuck, Zone: "eu-west-1b"}); err != nil {
			t.Fatal(err)
		}
	}), "lag")
	h := network(t, "typical", 1)
	h.Applied[len(h.Applied)/2].Taken = h.Applied[len(h.Applied)/2].Called.Add(-time.Second)
	caught(t, h, "order")
	h = network(t, "typical", 1)
	slices.Reverse(h.Applied)
	caught(t, h, "order")
	h = network(t, "typical", 1)
	for i := range h.Applied {
		h.Applied[i].Taken = h.Applied[i].Taken.Add(10 * time.Minute)
	}
	caught(t, h, "lag")
}

// A refusal too many, or too few, is found.
func TestMutantBucketsAreCaught(t *testing.T) {
	t.Parallel()
	refused := func(c consistency.Call) bool { return c.Code == "Throttling" }
	h := throttled(t, 1)
	i := slices.IndexFunc(h.Calls, refused)
	h.Calls[i].Code = "ValidationError"
	caught(t, h, "throttle")
	h = throttled(t, 1)
	i = slices.IndexFunc(h.Calls, func(c consistency.Call) bool { return c.Code == "DuplicateListener" || c.Code == "PriorityInUse" })
	h.Calls[i].Code = "Throttling"
	caught(t, h, "throttle")
}

// Answers that the rules of the node cannot have given are found.
func TestMutantAnswersAreCaught(t *testing.T) {
	t.Parallel()
	h := traffic(t, "ideal", 1, 7, 40)
	if found := consistency.Check(h); len(found) > 0 {
		t.Fatal(found)
	}
	requests := h.Requests
	for name, change := range map[string]func(*consistency.Request){
		"another group":          func(r *consistency.Request) { r.Group, r.Fixed = r.Group+"x", "" },
		"another state":          func(r *consistency.Request) { r.Group, r.Fixed = "", r.Fixed+"x" },
		"no answer":              func(r *consistency.Request) { r.Fixed, r.Group, r.Status, r.Failed = "", "", 0, "connection reset" },
		"a bad gateway":          func(r *consistency.Request) { r.Fixed, r.Group, r.Status = "", "", 502 },
		"a target that has left": func(r *consistency.Request) { r.Target, r.Fixed = "10.0.0.1", "" },
	} {
		h.Requests = slices.Clone(requests)
		change(&h.Requests[slices.IndexFunc(requests, func(r consistency.Request) bool { return r.Status == 200 })])
		found := consistency.Check(h)
		if len(found) != 1 || found[0].Claim != "weights" {
			t.Errorf("%s: found %v", name, found)
		}
	}
}

func changed(p *profile.Profile, change func(*profile.Profile)) *profile.Profile {
	copied := *p
	copied.Seconds, copied.Probabilities = maps.Clone(p.Seconds), maps.Clone(p.Probabilities)
	change(&copied)
	return &copied
}

// struck is a run under a fault that breaks the word of the profile.
func struck(t *testing.T, f fault.Fault) *consistency.History {
	t.Helper()
	return virtual(t, "typical", 1, 100, 2*time.Second, nil, func(r *run) {
		if _, err := r.emulator.AddFault(f); err != nil {
			t.Fatal(err)
		}
	})
}

// nodesThat is a run with nodes that err.
func nodesThat(t *testing.T, wrap func(*observed) elbv2.Node) *consistency.History {
	t.Helper()
	return virtual(t, "typical", 1, 100, time.Second, func(c *aws.Config) {
		observe := c.NewNode
		c.NewNode = func(d dataplane.Config) elbv2.Node { return wrap(observe(d).(*observed)) }
	})
}

// backward is a node that acts on an old configuration once more after a newer one.
type backward struct {
	*observed
	before dataplane.NodeConfig
	count  int
}

func (b *backward) Apply(c dataplane.NodeConfig) error {
	err := b.observed.Apply(c)
	if b.count++; b.count%5 == 0 {
		err = b.observed.Apply(b.before)
	}
	b.before = c
	return err
}

// halve gives a node a part of a permutation: one rule where it was, the other where it has come to.
func halve(h *consistency.History) {
	last := map[string]map[string]consistency.Content{}
	for i, told := range h.Told {
		for listener, rules := range told.Listeners {
			before := last[told.Zone+listener]
			last[told.Zone+listener] = rules
			var moved []string
			for rule, c := range rules {
				if c != before[rule] {
					moved = append(moved, rule)
				}
				if c.Action != before[rule].Action {
					moved = append(moved, rule, rule) // more than a permutation
				}
			}
			if len(moved) == 2 && len(before) == len(rules) {
				half := maps.Clone(rules)
				half[moved[0]] = before[moved[0]]
				h.Told[i].Listeners = maps.Clone(told.Listeners)
				h.Told[i].Listeners[listener] = half
				return
			}
		}
	}
}

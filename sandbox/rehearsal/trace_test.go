package rehearsal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

const (
	arns        = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:"
	balancerARN = arns + "loadbalancer/app/shop/1"
	listenerARN = arns + "listener/app/shop/1/2"
	ruleARN     = arns + "listener-rule/app/shop/1/2/3"
	canaryARN   = arns + "targetgroup/canary/4"
	stableARN   = arns + "targetgroup/stable/5"
)

// history builds the journal of a load balancer with nodes in zones a and b. Its times are seconds after epoch.
type history struct{ records []journal.Record }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func second(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

func (h *history) add(r journal.Record) {
	r.Sequence = uint64(len(h.records) + 1)
	h.records = append(h.records, r)
}

// modify is a ModifyRule received at a second, which takes 10 ms.
func (h *history) modify(at float64, canary, stable int, code string) {
	h.add(journal.Record{
		Received: second(at), Duration: 10 * time.Millisecond, Service: "elasticloadbalancing", Operation: "ModifyRule", Code: code,
		Parameters: map[string]string{
			"RuleArn": ruleARN, "Actions.member.1.Type": "forward",
			"Actions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn": canaryARN,
			"Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight":         fmt.Sprint(canary),
			"Actions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn": stableARN,
			"Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight":         fmt.Sprint(stable),
		},
	})
}

// take is a node's taking of a change that was called at a second.
func (h *history) take(at float64, zone string, called float64, change string) {
	h.add(journal.Record{Received: second(at), Event: "NodeApplied", Detail: elbv2.Application{
		LoadBalancer: balancerARN, Zone: zone, Change: change, Called: second(called + 0.005), Taken: second(at),
	}})
}

func (h *history) trace() trace {
	return newTrace(h.records, map[string]string{canaryARN: "canary", stableARN: "stable"},
		[]elbv2.Balancer{{ARN: balancerARN, Nodes: []elbv2.Address{{Zone: "a"}, {Zone: "b"}}}})
}

func weights(canary, stable int32) map[string]int32 {
	return map[string]int32{"canary": canary, "stable": stable}
}

// Two splits may have the same numbers, or even follow each other with them: who gets which number decides.
func TestACallBelongsToTheSplitWithItsServices(t *testing.T) {
	t.Parallel()
	h := &history{}
	h.modify(1, 30, 70, "")
	h.modify(2, 70, 30, "Throttling") // refused: it changes nothing
	h.modify(3, 70, 30, "")
	h.modify(4, 50, 50, "")
	h.modify(5, 30, 70, "")
	var got []string
	for _, c := range h.trace().followed([]WeightChange{
		{Weights: weights(30, 70), Decided: second(0.9), Seen: second(1.5)},
		{Weights: weights(70, 30), Decided: second(1.9)},  // never seen, as it was
		{Weights: weights(50, 50), Decided: second(3.5)},  // carried out, but
		{Weights: weights(30, 70), Decided: second(4.5)},  // soon replaced
		{Weights: weights(70, 30), Decided: second(5.5)},  // and this one never sent
		{Weights: weights(30, 70), Decided: second(5.75)}, // what AWS had already
	}, second(9)) {
		got = append(got, fmt.Sprint(c.Accepted.Sub(epoch).Seconds()))
		if c.Accepted.IsZero() {
			got[len(got)-1] = "-"
		}
	}
	if want := []string{"1", "3", "4", "5", "-", "-"}; !cmp.Equal(want, got) {
		t.Errorf("accepted at %v, want %v", got, want)
	}
}

func TestAppliedIsWhenTheLastNodeHasTheSplitOrANewerOne(t *testing.T) {
	t.Parallel()
	h := &history{}
	h.modify(1, 10, 90, "")
	h.take(2, "a", 1, "ModifyRule "+ruleARN)
	h.modify(3, 20, 80, "")
	h.take(4, "b", 3, "ModifyRule "+ruleARN) // it has skipped the first
	h.take(5, "b", 3.2, "RegisterTargets "+canaryARN)
	changes := h.trace().followed([]WeightChange{
		{Weights: weights(10, 90), Decided: second(0.5), Seen: second(1.5)},
		{Weights: weights(20, 80), Decided: second(2.5), Seen: second(3.5)},
	}, second(9))
	if want := second(4); !changes[0].Applied.Equal(want) || changes[0].NotApplied != nil {
		t.Errorf("the first is applied at %v (never in %v), want %v", changes[0].Applied, changes[0].NotApplied, want)
	}
	if !changes[1].Applied.IsZero() || !cmp.Equal([]string{"a"}, changes[1].NotApplied) {
		t.Errorf("the second is applied at %v, never in %v, although zone a never took it", changes[1].Applied, changes[1].NotApplied)
	}
}

func TestSettlingBeforeEveryNodeIsAViolation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		history func(*history)
		broken  string // in the message; empty: none
		law     int
	}{
		"every node in time": {func(h *history) {
			h.modify(1, 0, 100, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
			h.take(3, "b", 1, "ModifyRule "+ruleARN)
		}, "", 0},
		"a node takes another change of the listener, which holds this one": {func(h *history) {
			h.modify(1, 0, 100, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
			h.take(3, "b", 1.5, "ModifyListener "+listenerARN)
		}, "", 0},
		"a node is late": {func(h *history) {
			h.modify(1, 0, 100, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
			h.take(19, "b", 1, "ModifyRule "+ruleARN)
		}, "2s before the last node", 2},
		"a node never takes it": {func(h *history) {
			h.modify(1, 0, 100, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
		}, "nodes in b did not have them by the end", 2},
		"a node takes only an older change": {func(h *history) {
			h.modify(0.5, 50, 50, "")
			h.modify(1, 0, 100, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
			h.take(3, "b", 0.5, "ModifyRule "+ruleARN)
		}, "nodes in b did not have them by the end", 2},
		"a node takes only a change of another kind": {func(h *history) {
			h.modify(1, 0, 100, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
			h.take(3, "b", 1.5, "RegisterTargets "+canaryARN)
		}, "nodes in b did not have them by the end", 2},
		"AWS had the mirrored split": {func(h *history) {
			h.modify(1, 100, 0, "")
			h.take(2, "a", 1, "ModifyRule "+ruleARN)
			h.take(3, "b", 1, "ModifyRule "+ruleARN)
		}, "was not for them", 4},
		"somebody else had moved the weights since": {func(h *history) {
			h.modify(1, 0, 100, "")
			h.modify(1.2, 50, 50, "")
			h.take(2, "a", 1.2, "ModifyRule "+ruleARN)
			h.take(3, "b", 1.2, "ModifyRule "+ruleARN)
		}, "was not for them", 4},
		"the call is refused": {func(h *history) { h.modify(1, 0, 100, "Throttling") }, "was not for them", 4},
	} {
		h := &history{}
		c.history(h)
		broken := h.trace().earlySettling([]settling{{weights: weights(0, 100), seen: second(2), settled: second(17)}})
		switch {
		case c.broken == "" && len(broken) > 0:
			t.Errorf("%s: %v", name, broken)
		case c.broken != "" && (len(broken) != 1 || broken[0].Law != c.law || !strings.Contains(broken[0].What, c.broken)):
			t.Errorf("%s: %v, want law %d, %q", name, broken, c.law, c.broken)
		}
	}
}

// What the journal has forgotten is not held against the controller.
func TestACutJournalAccusesNobody(t *testing.T) {
	t.Parallel()
	h := &history{}
	h.modify(1, 0, 100, "")
	h.take(20, "a", 1, "ModifyRule "+ruleARN)
	h.records = h.records[1:]
	if broken := h.trace().earlySettling([]settling{{weights: weights(0, 100), seen: second(2), settled: second(17)}}); len(broken) > 0 {
		t.Error(broken)
	}
}

// The first split of a load balancer comes with the calls that make its listener and rule.
func TestCallsThatMakeRulesAndListenersCarryWeightsToo(t *testing.T) {
	t.Parallel()
	h := &history{}
	h.add(journal.Record{
		Received: second(1), Duration: 10 * time.Millisecond, Operation: "CreateListener",
		Parameters: map[string]string{
			"LoadBalancerArn":                        balancerARN,
			"DefaultActions.member.1.TargetGroupArn": stableARN,
			"DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn": stableARN,
			"DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.Weight":         "100",
		},
	})
	h.take(2, "a", 1, "CreateListener "+listenerARN)
	h.take(3, "b", 1, "CreateListener "+listenerARN)
	h.add(journal.Record{
		Received: second(4), Duration: 10 * time.Millisecond, Operation: "CreateRule",
		Parameters: map[string]string{"ListenerArn": listenerARN, "Actions.member.1.TargetGroupArn": canaryARN},
	})
	changes := h.trace().followed([]WeightChange{
		{Weights: weights(0, 100), Decided: second(0.5), Seen: second(1.5)},
		{Weights: weights(1, 0), Decided: second(3.5), Seen: second(4.5)},
	}, second(9))
	if !changes[0].Accepted.Equal(second(1)) || !changes[0].Applied.Equal(second(3)) {
		t.Errorf("the listener's: accepted %v, applied %v", changes[0].Accepted, changes[0].Applied)
	}
	if !changes[1].Accepted.Equal(second(4)) || len(changes[1].NotApplied) != 2 {
		t.Errorf("the rule's: accepted %v, never in %v", changes[1].Accepted, changes[1].NotApplied)
	}
}

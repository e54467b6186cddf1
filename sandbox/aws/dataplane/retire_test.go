package dataplane

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A node remembers what targets did that have left, not that there were targets.
func TestUnusedTargetsLeaveNoTrace(t *testing.T) {
	t.Parallel()
	n := NewNode(Config{LoadBalancer: "app/web", Zone: "zone-a", Address: netip.MustParseAddr("127.0.0.1")})
	defer n.Close()
	n.ApplyGroup(Group{ARN: "g", Protocol: HTTP, HealthCheck: HealthCheck{}})
	used, unused := Target{ID: "used", Address: netip.MustParseAddr("127.0.0.1"), Port: 1}, Target{ID: "unused", Address: netip.MustParseAddr("127.0.0.1"), Port: 2}
	n.ApplyTargets("g", TargetSet{Targets: []Target{used, unused}})
	n.group("g").targets[used.Key()].usage.requests.Add(1)
	n.ApplyTargets("g", TargetSet{})
	if gone := n.Stats().Targets; len(gone) != 1 || gone[0].Target != used.Key() || !gone[0].Gone {
		t.Errorf("targets: %+v", gone)
	}
}

// TestStatsNeverBecomeLess: metrics are made of what the targets of a node have done together, which is not to depend on who leaves while it is
// added up, or on how many have left.
func TestStatsNeverBecomeLess(t *testing.T) {
	t.Parallel()
	n := NewNode(Config{LoadBalancer: "app/web", Zone: "zone-a", Address: netip.MustParseAddr("127.0.0.1")})
	defer n.Close()
	requests := func() (sum uint64) {
		for _, one := range n.Stats().Targets {
			sum += one.Usage.Requests
		}
		return sum
	}
	for i := range 300 { // which take their time
		n.ApplyTargets(fmt.Sprint("a", i), TargetSet{})
	}
	const rounds = 50
	for i := range rounds {
		one := Target{ID: fmt.Sprint(i), Address: netip.MustParseAddr("127.0.0.1"), Port: 1, State: Draining, DrainUntil: time.Now().Add(time.Hour)}
		n.ApplyTargets("z", TargetSet{Targets: []Target{one}})
		n.group("z").targets[one.Key()].usage.requests.Add(1)
		before, left := requests(), make(chan struct{})
		go func() {
			defer close(left)
			n.ApplyTargets("z", TargetSet{})
		}()
		if now := requests(); now < before {
			t.Errorf("%d requests after %d", now, before)
		}
		<-left
	}
	g := n.group("z")
	for i := range 2 * goneKept {
		one := newTarget(g, Target{ID: fmt.Sprint(rounds + i)})
		one.usage.requests.Add(1)
		n.retire(one)
	}
	if got := requests(); got != rounds+2*goneKept {
		t.Errorf("%d requests, want %d", got, rounds+2*goneKept)
	}
	if kept := len(n.Stats().Targets); kept > goneKept+1 {
		t.Errorf("%d targets are remembered one by one", kept)
	}
}

// Groups come and go for as long as a node lives. Its memory does not grow with them, what they have counted stays, and the group of a rule is the same
// group before and after.
func TestANodeForgetsRemovedGroups(t *testing.T) {
	t.Parallel()
	n := NewNode(Config{LoadBalancer: "app/web", Zone: "zone-a", Address: netip.MustParseAddr("127.0.0.1")})
	defer n.Close()
	rule := NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{{ARN: "named", Weight: 1}}}}}}}
	compiled, err := compile(rule, n.group)
	if err != nil {
		t.Fatal(err)
	}
	n.routes.Store(compiled)
	named := n.group("named")
	use := func(arn string) {
		one := Target{ID: "one", Address: netip.MustParseAddr("127.0.0.1"), Port: 1}
		n.ApplyGroup(Group{ARN: arn, Protocol: HTTP})
		n.ApplyTargets(arn, TargetSet{Targets: []Target{one}})
		g := n.group(arn)
		g.requests.Add(1)
		g.count(503)
		g.times.add(time.Millisecond)
		g.targets[one.Key()].usage.requests.Add(1)
	}
	use("named")
	n.RemoveGroup("named")
	const rounds = 3 * removedKept
	for i := range rounds {
		use(fmt.Sprint(i))
		n.RemoveGroup(fmt.Sprint(i))
	}
	use("0") // the first, which is forgotten, comes back
	s := n.Stats()
	if len(s.Groups) > removedKept+10 || len(n.gone) > removedKept+10 || len(n.forgotten) > 1 {
		t.Errorf("of %d groups %d are left, with %d targets and %d sums", rounds, len(s.Groups), len(n.gone), len(n.forgotten))
	}
	var requests, generated, measured, used uint64
	for _, g := range s.Groups {
		requests, generated = requests+g.Requests, generated+g.Generated[503]
		for _, m := range g.Times {
			measured += m.Count
		}
	}
	for _, one := range s.Targets {
		used += one.Usage.Requests
	}
	if want := uint64(rounds + 2); requests != want || generated != want || measured != want || used != want {
		t.Errorf("after %d requests: %d of groups, %d generated, %d measured, %d of targets", want, requests, generated, measured, used)
	}
	if s.Groups["0"].Requests != 1 || s.Groups[""].Requests == 0 {
		t.Errorf("a group that came back has %+v, those that are gone %+v", s.Groups["0"], s.Groups[""])
	}
	if use("named"); n.group("named") != named || !named.known() {
		t.Error("the group that a rule names is another one")
	}
}

// A group that is removed again and again is remembered once, also while a rule goes on naming it.
func TestANodeRemembersARemovedGroupOnce(t *testing.T) {
	t.Parallel()
	n := NewNode(Config{LoadBalancer: "app/web", Zone: "zone-a", Address: netip.MustParseAddr("127.0.0.1")})
	defer n.Close()
	compiled, err := compile(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{{ARN: "named", Weight: 1}}}}}}}, n.group)
	if err != nil {
		t.Fatal(err)
	}
	n.routes.Store(compiled)
	n.ApplyGroup(Group{ARN: "other", Protocol: HTTP})
	n.RemoveGroup("other")
	for range 2 * removedKept {
		n.ApplyGroup(Group{ARN: "named", Protocol: HTTP})
		n.RemoveGroup("named")
	}
	if len(n.removed) != 2 {
		t.Errorf("2 groups are remembered %d times", len(n.removed))
	}
	if _, there := n.Stats().Groups["other"]; !there {
		t.Error("a group was forgotten though few were removed after it")
	}
}

// Versions of a removed group begin anew, also of one that never had settings or targets.
func TestVersionsOfRemovedGroupsBeginAnew(t *testing.T) {
	t.Parallel()
	n := NewNode(Config{LoadBalancer: "app/web", Zone: "zone-a", Address: netip.MustParseAddr("127.0.0.1")})
	defer n.Close()
	n.ApplyTargets("g", TargetSet{Version: 5})
	n.RemoveGroup("g")
	n.ApplyTargets("g", TargetSet{Version: 1, Targets: []Target{{ID: "one", Address: netip.MustParseAddr("127.0.0.1"), Port: 1}}})
	if known := n.Health("g"); len(known) != 1 {
		t.Errorf("the node knows of %v", known)
	}
}

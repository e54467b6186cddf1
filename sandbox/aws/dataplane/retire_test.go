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

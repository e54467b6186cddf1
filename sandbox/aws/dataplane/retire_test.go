package dataplane

import (
	"net/netip"
	"testing"
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

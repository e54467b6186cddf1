package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// podAt makes a ready pod of the Service with address 10.0.0.n.
func podAt(n int, change ...func(*Pod)) Pod {
	p := Pod{
		Namespace: "shop", Name: fmt.Sprintf("pod-%d", n), UID: fmt.Sprintf("uid-%d", n),
		IP: fmt.Sprintf("10.0.0.%d", n), Port: 8080, Selected: true, Owned: true, Life: Ready,
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func life(l Life) func(*Pod) { return func(p *Pod) { p.Life = l } }
func older(p *Pod)           { p.Selected, p.OtherVersion = false, true }
func unselected(p *Pod)      { p.Selected = false }
func takenOut(p *Pod)        { p.Selected, p.Owned = false, false }
func marked(p *Pod)          { p.Drain = WhenCovered }
func gate(g Gate) func(*Pod) { return func(p *Pod) { p.Gate = &g } }
func portless(p *Pod)        { p.Port = 0 }
func targetAt(n int, state string, change ...func(*Target)) Target {
	t := Target{TargetHealth: model.TargetHealth{Target: model.Target{ID: fmt.Sprintf("10.0.0.%d", n), Port: 8080}, State: state}}
	for _, c := range change {
		c(&t)
	}
	return t
}

var quick = Settings{Settle: 150 * time.Second, Freshness: 10 * time.Second}

// settledShare is weight 0 since long ago, seen just now.
var settledShare = Share{Known: true, Since: noon.Add(-time.Hour), SeenAt: noon}

func registered(d Decision) []string {
	var all []string
	for _, r := range d.Register {
		all = append(all, Address(r.ID, r.Port))
	}
	return all
}

func deregistered(d Decision) []string {
	var all []string
	for _, r := range d.Deregister {
		all = append(all, Address(r.ID, r.Port))
	}
	return all
}

func TestPlan(t *testing.T) {
	serving := Share{Known: true, Weight: 100, Since: noon.Add(-time.Hour), SeenAt: noon}
	tests := []struct {
		name       string
		snapshot   Snapshot
		register   []string
		deregister []string
		wait       string // a part of the reason; empty wants none
		fresh      bool
	}{{
		name:     "a ready pod is registered",
		snapshot: Snapshot{Pods: []Pod{podAt(1)}},
		register: []string{"10.0.0.1:8080"},
	}, {
		name:     "a pod that waits only on its gates is registered, or it would wait for ever",
		snapshot: Snapshot{Pods: []Pod{podAt(1, life(Waiting))}},
		register: []string{"10.0.0.1:8080"},
	}, {
		name:     "pods that start, die, are marked, have no address or no such port are not registered",
		snapshot: Snapshot{Pods: []Pod{podAt(1, life(Unready)), podAt(2, life(Dying)), podAt(3, marked), podAt(4, func(p *Pod) { p.IP = "" }), podAt(5, portless)}},
	}, {
		name:     "a pod on a lost node is registered only when there is no other",
		snapshot: Snapshot{Pods: []Pod{podAt(1, life(Lost))}},
		register: []string{"10.0.0.1:8080"},
	}, {
		name:       "with others, a pod on a lost node leaves",
		snapshot:   Snapshot{Pods: []Pod{podAt(1, life(Lost)), podAt(2)}, Targets: []Target{targetAt(1, healthy), targetAt(2, healthy)}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name:     "a draining target whose pod is wanted again is registered again",
		snapshot: Snapshot{Pods: []Pod{podAt(1)}, Targets: []Target{targetAt(1, draining)}},
		register: []string{"10.0.0.1:8080"},
	}, {
		name:       "a dying pod leaves at once, although nobody else is healthy and nothing is fresh",
		snapshot:   Snapshot{Pods: []Pod{podAt(1, life(Dying)), podAt(2, life(Unready))}, Targets: []Target{targetAt(1, healthy)}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name:       "an address that another namespace's pod has leaves at once",
		snapshot:   Snapshot{Targets: []Target{targetAt(1, healthy, func(t *Target) { t.TakenBy = "other/pod" })}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name: "an address that a newer pod of another version has leaves at once",
		snapshot: Snapshot{Pods: []Pod{podAt(1, older)},
			Targets: []Target{targetAt(1, healthy, func(t *Target) { t.RegisteredUID = "uid-before" })}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name:       "a target whose pod was seen to disappear leaves at once",
		snapshot:   Snapshot{Targets: []Target{targetAt(1, healthy, func(t *Target) { t.Gone = true })}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name:       "a pod relabelled by hand leaves at once",
		snapshot:   Snapshot{Fresh: true, Pods: []Pod{podAt(1, takenOut), podAt(2, life(Unready))}, Targets: []Target{targetAt(1, healthy)}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name: "older targets stay while the newer are not healthy",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1, older), podAt(2, older), podAt(3), podAt(4)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, healthy), targetAt(3, "initial"), targetAt(4, "initial")}},
		wait: "2 older targets stay: 0 of 2 targets of the wanted version are healthy",
	}, {
		name: "as many older targets leave as newer are healthy",
		snapshot: Snapshot{Fresh: true, Share: serving, Replicas: 2, Pods: []Pod{podAt(1, older), podAt(2, older), podAt(3), podAt(4)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, healthy), targetAt(3, healthy), targetAt(4, "initial")}},
		deregister: []string{"10.0.0.1:8080"},
		wait:       "1 older target stay",
	}, {
		name: "the first pods of an unknown number do not let the older go before they are healthy",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1, older), podAt(2, older), podAt(3)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, healthy), targetAt(3, "initial")}},
		wait: "2 older targets stay: 0 of 1 targets of the wanted version are healthy",
	}, {
		name: "nothing alive leaves on the word of a cache",
		snapshot: Snapshot{Share: serving, Pods: []Pod{podAt(1, older), podAt(3)},
			Targets: []Target{targetAt(1, healthy), targetAt(3, healthy)}},
		wait: "1 older target may leave once a fresh read agrees", fresh: true,
	}, {
		name: "pods still to be created count as wanted",
		snapshot: Snapshot{Fresh: true, Share: serving, Replicas: 3, Pods: []Pod{podAt(1, older), podAt(2, older), podAt(3)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, healthy), targetAt(3, healthy)}},
		wait: "1 of 3 targets",
	}, {
		name: "a Service that points to a version without pods loses nothing",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1, older)},
			Targets: []Target{targetAt(1, healthy)}},
		wait: "the Service selects a version that has no pods yet",
	}, {
		name: "an unknown share is taken for one that serves",
		snapshot: Snapshot{Fresh: true, Pods: []Pod{podAt(1, older), podAt(2)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, "initial")}},
		wait: "1 older target stay",
	}, {
		name: "at weight 0, settled, the older leave before the newer are there",
		snapshot: Snapshot{Fresh: true, Share: settledShare, Pods: []Pod{podAt(1, older), podAt(2, older), podAt(3, life(Unready))},
			Targets: []Target{targetAt(1, healthy), targetAt(2, healthy)}},
		deregister: []string{"10.0.0.1:8080", "10.0.0.2:8080"},
	}, {
		name: "at weight 0 for less than the settle time they stay",
		snapshot: Snapshot{Fresh: true, Share: Share{Known: true, Since: noon.Add(-149 * time.Second), SeenAt: noon},
			Pods: []Pod{podAt(1, older), podAt(3, life(Unready))}, Targets: []Target{targetAt(1, healthy)}},
		wait: "1 older target stay",
	}, {
		name: "a weight of 0 that was last seen before the settle time was over asks for a fresh read",
		snapshot: Snapshot{Share: Share{Known: true, Since: noon.Add(-200 * time.Second), SeenAt: noon.Add(-60 * time.Second)},
			Pods: []Pod{podAt(1, older), podAt(3, life(Unready))}, Targets: []Target{targetAt(1, healthy)}},
		wait: "1 older target stay", fresh: true,
	}, {
		name: "group stickiness adds to the settle time",
		snapshot: Snapshot{Fresh: true, Share: Share{Known: true, Since: noon.Add(-time.Hour), SeenAt: noon, Stickiness: time.Hour},
			Pods: []Pod{podAt(1, older), podAt(3, life(Unready))}, Targets: []Target{targetAt(1, healthy)}},
		wait: "1 older target stay",
	}, {
		name: "pods marked to be drained leave when the others are as many as stay wanted",
		snapshot: Snapshot{Fresh: true, Share: serving, Replicas: 3, Pods: []Pod{podAt(1, marked), podAt(2, marked), podAt(3)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, healthy), targetAt(3, healthy)}},
		deregister: []string{"10.0.0.1:8080", "10.0.0.2:8080"},
	}, {
		name: "when all pods are marked, removal is the intent",
		snapshot: Snapshot{Fresh: true, Share: serving, Replicas: 1, Pods: []Pod{podAt(1, marked)},
			Targets: []Target{targetAt(1, healthy)}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name: "a changed target port is made before the old one is broken",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1, func(p *Pod) { p.Port = 9090 })},
			Targets: []Target{targetAt(1, healthy)}},
		register: []string{"10.0.0.1:9090"},
		wait:     "1 older target stay",
	}, {
		name: "a Service that moved to other pods altogether keeps the old ones until the new are healthy",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1, unselected), podAt(2)},
			Targets: []Target{targetAt(1, healthy), targetAt(2, "initial")}},
		wait: "1 older target stay",
	}, {
		name: "a foreign target stays while none of ours is healthy",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1)},
			Targets: []Target{targetAt(1, "initial"), targetAt(99, healthy)}},
		wait: "1 older target stay",
	}, {
		name: "a foreign target leaves when ours are healthy",
		snapshot: Snapshot{Fresh: true, Share: serving, Pods: []Pod{podAt(1)},
			Targets: []Target{targetAt(1, healthy), targetAt(99, healthy)}},
		deregister: []string{"10.0.0.99:8080"},
	}, {
		name: "a foreign target is not judged by a cache, whatever its state",
		snapshot: Snapshot{Share: serving, Pods: []Pod{podAt(1)},
			Targets: []Target{targetAt(1, healthy), targetAt(99, unhealthy)}},
		wait: "once a fresh read agrees", fresh: true,
	}, {
		name: "pods that are meant to go anyway wait for nobody",
		snapshot: Snapshot{Fresh: true, Share: serving, Replicas: 2, Pods: []Pod{podAt(1, func(p *Pod) { p.Drain = Anyway }), podAt(2, life(Unready))},
			Targets: []Target{targetAt(1, healthy)}},
		deregister: []string{"10.0.0.1:8080"},
	}, {
		name: "a Service that is gone takes its pods along, not what others registered",
		snapshot: Snapshot{Fresh: true, Removal: "the Service is deleted", Share: serving, Pods: []Pod{podAt(1)},
			Targets: []Target{targetAt(1, healthy), targetAt(99, healthy)}},
		deregister: []string{"10.0.0.1:8080"},
		wait:       "1 older target stay",
	}, {
		name: "a deleted binding takes everything, after a fresh read",
		snapshot: Snapshot{Fresh: true, Removal: "the binding is deleted", Deleted: true, Share: serving, Pods: []Pod{podAt(1)},
			Targets: []Target{targetAt(1, healthy), targetAt(99, healthy)}},
		deregister: []string{"10.0.0.1:8080", "10.0.0.99:8080"},
	}, {
		name:     "the cap leaves room for what is there",
		snapshot: Snapshot{Settings: Settings{MaxTargets: 2}, Pods: []Pod{podAt(1), podAt(2), podAt(3)}, Targets: []Target{targetAt(1, healthy)}},
		register: []string{"10.0.0.2:8080"},
	}, {
		name:     "more targets than the cap register nothing and break nothing",
		snapshot: Snapshot{Settings: Settings{MaxTargets: 1}, Pods: []Pod{podAt(1), podAt(2), podAt(3)}, Targets: []Target{targetAt(1, healthy), targetAt(2, healthy)}},
	}}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			s := test.snapshot
			s.Now = noon
			s.Settings.Settle, s.Settings.Freshness = quick.Settle, quick.Freshness
			d := Plan(s)
			if diff := cmp.Diff(test.register, registered(d)); diff != "" {
				t.Errorf("register (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.deregister, deregistered(d)); diff != "" {
				t.Errorf("deregister (-want +got):\n%s", diff)
			}
			if !strings.Contains(d.Wait.Reason, test.wait) || (test.wait == "") != (d.Wait.Reason == "") {
				t.Errorf("waits for %q, want %q", d.Wait.Reason, test.wait)
			}
			if d.Wait.Fresh != test.fresh {
				t.Errorf("asks for a fresh read: %v, want %v", d.Wait.Fresh, test.fresh)
			}
			if diff := cmp.Diff(d, Plan(s)); diff != "" {
				t.Errorf("the same snapshot gives another decision:\n%s", diff)
			}
		})
	}
}

func TestWaitSaysWhenTimeAloneHelps(t *testing.T) {
	since := noon.Add(-100 * time.Second)
	d := Plan(Snapshot{Now: noon, Fresh: true, Settings: quick, Share: Share{Known: true, Since: since, SeenAt: noon},
		Pods: []Pod{podAt(1, older)}, Targets: []Target{targetAt(1, healthy)}})
	if want := since.Add(quick.Settle); !d.Wait.Again.Equal(want) {
		t.Errorf("looks again at %s, want %s", d.Wait.Again, want)
	}
}

func TestGates(t *testing.T) {
	waiting := Gate{Status: GateFalse, Reason: ReasonRegistration, Message: "Target registration is in progress"}
	passed := Gate{Status: GateTrue, Reason: ReasonHealthy, Message: "The target is healthy"}
	notNeeded := Gate{Status: GateTrue, Reason: ReasonNotNeeded, Message: "The Service no longer selects the pod"}
	failing := func(t *Target) { t.Reason, t.Description = "Target.Timeout", "Request timed out" }
	tests := []struct {
		name       string
		pod        Pod
		target     *Target
		removal    string
		want       *Gate
		unanswered int
	}{
		{"a pod about to be registered waits", podAt(1, life(Waiting), gate(Gate{})), nil, "", &waiting, 1},
		{"nothing is written twice", podAt(1, life(Waiting), gate(waiting)), nil, "", nil, 1},
		{"a pod without a gate gets no condition", podAt(1), new(targetAt(1, healthy)), "", nil, 0},
		{"a healthy target opens the gate", podAt(1, life(Waiting), gate(waiting)), new(targetAt(1, healthy)), "", &passed, 0},
		{"an unhealthy target closes it", podAt(1, gate(passed)), new(targetAt(1, unhealthy, failing)), "",
			&Gate{Status: GateFalse, Reason: "Target.Timeout", Message: "Request timed out"}, 1},
		{"a group that is not used for a while does not close it", podAt(1, gate(passed)), new(targetAt(1, unused)), "", nil, 0},
		{"our own deregistration does not close it", podAt(1, older, gate(passed)), new(targetAt(1, draining)), "", nil, 0},
		{"a marked pod keeps its gate", podAt(1, marked, gate(passed)), new(targetAt(1, draining)), "", nil, 0},
		{"a target lost from AWS does not close it before it is back", podAt(1, gate(passed)), nil, "", nil, 0},
		{"a pod that the Service no longer selects does not wait", podAt(1, older, life(Waiting), gate(waiting)), nil, "", &notNeeded, 0},
		{"a gate that was not needed is not needed later", podAt(1, gate(notNeeded)), new(targetAt(1, unhealthy)), "", nil, 0},
		{"a removed binding lets its pods go", podAt(1, life(Waiting), gate(waiting)), nil, "the binding is deleted",
			&Gate{Status: GateTrue, Reason: ReasonNotNeeded, Message: "The targets are removed: the binding is deleted"}, 0},
		{"a dying pod is left alone", podAt(1, life(Dying), gate(waiting)), new(targetAt(1, healthy)), "", nil, 0},
		{"a starting pod is not told anything yet", podAt(1, life(Unready), gate(Gate{})), nil, "", nil, 0},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			s := Snapshot{Now: noon, Fresh: true, Settings: quick, Removal: test.removal, Pods: []Pod{test.pod}}
			if test.target != nil {
				s.Targets = []Target{*test.target}
			}
			d := Plan(s)
			var got *Gate
			if i := slices.IndexFunc(d.Gates, func(c GateChange) bool { return c.UID == test.pod.UID }); i >= 0 {
				got = &d.Gates[i].Gate
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("gate (-want +got):\n%s", diff)
			}
			if d.Unanswered != test.unanswered {
				t.Errorf("%d pods unanswered, want %d", d.Unanswered, test.unanswered)
			}
		})
	}
}

package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// drawn draws a snapshot of up to a dozen pods and as many foreign targets as may be.
func drawn(t *rapid.T) Snapshot {
	s := Snapshot{
		Now: noon, Settings: quick,
		Fresh:    rapid.Bool().Draw(t, "fresh"),
		Replicas: rapid.IntRange(0, 8).Draw(t, "replicas"),
		Share: Share{
			Known:  rapid.Bool().Draw(t, "known"),
			Weight: rapid.SampledFrom([]int32{0, 0, 10, 100}).Draw(t, "weight"),
			Since:  noon.Add(-time.Duration(rapid.IntRange(0, 300).Draw(t, "since")) * time.Second),
			SeenAt: noon.Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "seen")) * time.Second),
		},
	}
	states := rapid.SampledFrom([]string{"", healthy, healthy, healthy, "initial", unhealthy, draining, unused})
	for i := range rapid.IntRange(0, 12).Draw(t, "pods") {
		p := podAt(i)
		p.Life = rapid.SampledFrom([]Life{Ready, Ready, Ready, Waiting, Unready, Lost, Dying}).Draw(t, "life")
		if rapid.Bool().Draw(t, "gated") {
			p.Gate = &Gate{Status: rapid.SampledFrom([]GateStatus{GateTrue, GateFalse, GateAbsent}).Draw(t, "gate")}
		}
		switch rapid.IntRange(0, 3).Draw(t, "membership") {
		case 0:
			older(&p)
		case 1:
			p.Drain = rapid.SampledFrom([]Drain{Stay, WhenCovered}).Draw(t, "drain")
		}
		s.Pods = append(s.Pods, p)
		if state := states.Draw(t, "state"); state != "" {
			s.Targets = append(s.Targets, targetAt(i, state))
		}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "foreign") {
		s.Targets = append(s.Targets, targetAt(100+i, states.Filter(func(s string) bool { return s != "" }).Draw(t, "state")))
	}
	return s
}

// applied is the snapshot after AWS carried the decision out.
func applied(s Snapshot, d Decision) Snapshot {
	state := make(map[model.Target]string)
	var order []model.Target
	set := func(t model.Target, to string) {
		if _, ok := state[t]; !ok {
			order = append(order, t)
		}
		state[t] = to
	}
	for _, t := range s.Targets {
		set(t.Target, t.State)
	}
	for _, r := range d.Register {
		set(r.Target, "initial")
	}
	for _, r := range d.Deregister {
		set(r.Target, draining)
	}
	s.Targets = nil
	for _, t := range order {
		s.Targets = append(s.Targets, Target{TargetHealth: model.TargetHealth{Target: t, State: state[t]}})
	}
	return s
}

// serving counts healthy targets whose pods are alive, straight from the definition of the third law.
func serving(s Snapshot) int {
	n := 0
	for _, t := range s.Targets {
		for _, p := range s.Pods {
			alive := p.Life == Ready || p.Life == Waiting
			if p.IP == t.ID && alive && t.State == healthy {
				n++
			}
		}
	}
	return n
}

func wanted(s Snapshot) int {
	staying, marked := 0, 0
	for _, p := range s.Pods {
		if p.Selected && p.Life != Dying && p.Drain != Stay {
			marked++
		} else if p.Selected && p.Life != Dying {
			staying++
		}
	}
	return max(staying, s.Replicas-marked)
}

func TestNoPlanLeavesFewerHealthyTargetsThanWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		zero := s.Share.Known && s.Share.Weight == 0 && s.Share.SeenAt.Sub(s.Share.Since) >= quick.Settle &&
			noon.Sub(s.Share.SeenAt) <= quick.Freshness
		before, after := serving(s), serving(applied(s, Plan(s)))
		if !zero && after < min(before, wanted(s)) {
			t.Fatalf("%d healthy targets become %d, though %d are wanted and the group serves", before, after, wanted(s))
		}
		if !s.Fresh && after < before {
			t.Fatalf("%d healthy targets become %d on the word of a cache", before, after)
		}
	})
}

func TestDyingTargetsLeaveAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		next := applied(s, Plan(s))
		for i, p := range s.Pods {
			if p.Life != Dying {
				continue
			}
			for _, target := range next.Targets {
				if target.ID == p.IP && target.Live() {
					t.Fatalf("pod %d is dying and its target is still %s", i, target.State)
				}
			}
		}
	})
}

func TestPlanningTwiceChangesNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		first := Plan(s)
		again := Plan(applied(s, first))
		if len(again.Register) > 0 || len(again.Deregister) > 0 {
			t.Fatalf("after %v %v the next plan wants %v %v", registered(first), deregistered(first), registered(again), deregistered(again))
		}
	})
}

func TestGatesCloseOnlyOnUnhealthyTargets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		s = applied(s, Plan(s))
		sick := map[string]bool{}
		for _, target := range s.Targets {
			sick[target.ID] = target.State == unhealthy
		}
		for _, change := range Plan(s).Gates {
			for _, p := range s.Pods {
				if p.UID == change.UID && p.Gate.Status == GateTrue && change.Status != GateTrue && !sick[p.IP] {
					t.Fatalf("the gate of %s closes with %+v though its target is not unhealthy", p.Name, change)
				}
			}
		}
	})
}

func TestOrderOfInputDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		mixed := s
		mixed.Pods = rapid.Permutation(s.Pods).Draw(t, "pods mixed")
		mixed.Targets = rapid.Permutation(s.Targets).Draw(t, "targets mixed")
		if diff := cmp.Diff(Plan(s), Plan(mixed)); diff != "" {
			t.Fatalf("another order gives another decision:\n%s", diff)
		}
	})
}

// Once everything wanted becomes healthy, nothing but the wanted pods stays.
func TestEveryHandOverEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawn(t)
		s.Fresh = true
		s.Share = Share{Known: true, Weight: 100, SeenAt: noon}
		for i := range s.Pods {
			if p := &s.Pods[i]; p.Selected && p.Drain == Stay && p.Life != Dying {
				p.Life = Ready
			}
		}
		s.Replicas = 0
		want := map[string]bool{}
		for _, p := range wantedPods(s.Pods) {
			want[p.IP] = true
		}
		if len(want) == 0 {
			t.Skip("no pod is wanted: older targets are held")
		}
		for range 20 {
			s = applied(s, Plan(s))
			for i := range s.Targets {
				if want[s.Targets[i].ID] {
					s.Targets[i].State = healthy
				}
			}
		}
		got := map[string]bool{}
		for _, target := range s.Targets {
			if target.Live() {
				got[target.ID] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(fmt.Sprintf("live targets in the end (-want +got):\n%s", diff))
		}
	})
}

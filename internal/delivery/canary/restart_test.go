package canary

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// restart asks for a restart now.
func (w *world) restart() time.Time {
	w.s.Now = w.s.Now.Add(time.Second)
	at := w.s.Now
	w.s.Rollout.Spec.RestartAt = new(metav1.NewTime(at))
	w.s.Rollout.Generation++
	return at
}

// replaced lets everything happen until the restart is done, and returns the least number of available pods of
// a version on the way. That no pod goes while AWS names it is seen to by world.shrink.
func (w *world) replaced(hash string) (least, most int32) {
	w.t.Helper()
	least = 1000
	for range 200 {
		w.still()
		least, most = min(least, w.rs(hash).Available), max(most, w.rs(hash).Replicas)
		if w.s.Rollout.Status.RestartedAt != nil && w.s.Rollout.Status.RestartedAt.Equal(w.s.Rollout.Spec.RestartAt) {
			return least, most
		}
		w.kubelet()
		w.aws()
		w.still()
		w.drained()
		w.s.Now = w.s.Now.Add(40 * time.Second)
	}
	w.t.Fatalf("the restart does not end: %s\n%s", w.s.Rollout.Status.Message, w.last)
	return 0, 0
}

func (w *world) wantAllNew(hash string, at time.Time) {
	w.t.Helper()
	for _, p := range w.rs(hash).Pods {
		if p.CreatedAt.Before(at) {
			w.t.Errorf("pod %s is from before the restart", p.Name)
		}
	}
}

func TestRestartReplacesAllPodsAndNeverHasFewer(t *testing.T) {
	for _, replicas := range []int32{1, 4, 10} {
		w := stable(t, replicas, weight(50), pause())
		at := w.restart()
		w.once()
		if got := w.s.Rollout.Status.Phase; got != v1alpha1.PhaseProgressing {
			t.Errorf("%s while a restart is asked for", got)
		}
		least, most := w.replaced("A")
		if least < replicas || most > max(2*replicas, replicas+2) {
			t.Errorf("%d pods: between %d available ones and %d at all", replicas, least, most)
		}
		w.rest()
		w.wantAllNew("A", at)
		if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseHealthy || w.rs("A").Replicas != replicas {
			t.Errorf("%s with %d pods: %s", got.Phase, w.rs("A").Replicas, got.Message)
		}
	}
}

func TestRestartInTheFutureWaitsForItsTime(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.restart()
	at := w.s.Now.Add(time.Hour)
	w.s.Rollout.Spec.RestartAt = new(metav1.NewTime(at))
	d := w.still()
	if w.rs("A").Replicas != 4 || !d.Wait.Again.Equal(at) {
		t.Errorf("A has %d pods; looks again at %s", w.rs("A").Replicas, d.Wait.Again)
	}
	w.s.Now = at
	w.once()
	if got := w.rs("A").Replicas; got != 5 {
		t.Errorf("A has %d pods when it is due", got)
	}
}

// Both versions are restarted in the middle of an update, the stable one first, and the update goes on.
func TestRestartInMidCanary(t *testing.T) {
	w := atHalf(t, nil)
	at := w.restart()
	w.once()
	if a, b := w.rs("A").Replicas, w.rs("B").Replicas; a != 5 || b != 2 {
		t.Fatalf("A has %d pods, B %d\n%s", a, b, w.last)
	}
	if least, _ := w.replaced("A"); least < 4 {
		t.Errorf("A had only %d available pods", least)
	}
	w.wantAllNew("A", at)
	w.wantAllNew("B", at)
	w.toPause()
	if got := w.s.Rollout.Status; got.Canary.Weights.Canary.Weight != 50 || w.rs("B").Replicas != 2 {
		t.Errorf("canary at %d %%, %d pods", got.Canary.Weights.Canary.Weight, w.rs("B").Replicas)
	}
}

// Pods that do not come up stop a restart, and none of the old ones goes.
func TestRestartStopsWhenNewPodsDoNotComeUp(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.restart()
	for range 20 {
		w.still()
		w.kubelet()
		for i, p := range w.rs("A").Pods {
			w.rs("A").Pods[i].Ready = p.CreatedAt.Before(w.s.Rollout.Spec.RestartAt.Time)
		}
		w.count(w.rs("A"))
		w.aws()
		w.s.Now = w.s.Now.Add(time.Minute)
	}
	w.wantWait(w.once(), "Restarting")
	if got := w.rs("A"); got.Available != 4 || got.Replicas != 5 {
		t.Errorf("%d pods, %d available", got.Replicas, got.Available)
	}
}

// A new template makes all pods anew, which is more than a restart.
func TestRestartEndsWithANewTemplate(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.restart()
	w.still()
	w.image("B")
	w.once()
	if got := w.s.Rollout.Status.RestartedAt; got == nil || !got.Equal(w.s.Rollout.Spec.RestartAt) {
		t.Errorf("restartedAt is %v", got)
	}
	w.toPause()
}

// A pod that was marked before it was ready may never become so, and is not waited for: it is to go.
func TestRestartDoesNotWaitForAPodThatIsToGo(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.restart()
	w.still()
	w.kubelet()
	w.aws()
	w.still()
	marked := marks(*w.rs("A"))
	if len(marked) != 1 {
		t.Fatalf("marked: %v\n%s", marked, w.last)
	}
	for i, p := range w.rs("A").Pods {
		w.rs("A").Pods[i].Ready = p.Drain == ""
	}
	w.count(w.rs("A"))
	w.replaced("A")
}

// Also in a group without a share no pod is marked before the one that stands in for it is healthy there: it is
// the way back (law 8), and the load balancer half lets targets of such a group go at once.
func TestRestartWaitsForTheGroupThatIsTheWayBack(t *testing.T) {
	w := stable(t, 4, weight(100), pause())
	w.image("B")
	w.toPause()
	w.restart()
	w.once()
	w.kubelet()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.wantWait(w.still(), "Paused")
	if got := marks(*w.rs("A")); len(got) > 0 || w.rs("A").Replicas != 5 {
		t.Fatalf("A has %d pods, marked %v, before its new pod is a target\n%s", w.rs("A").Replicas, got, w.last)
	}
	w.aws()
	w.still()
	if got := marks(*w.rs("A")); len(got) != 1 {
		t.Errorf("marked %v\n%s", got, w.last)
	}
}

// seconds lets pods start, drain and stop in virtual time, and returns how long a restart of these pods took, and
// the most pods that there were.
func (w *world) seconds(hash string, start, deregistration time.Duration) (took time.Duration, most int32) {
	w.t.Helper()
	const step = 3 * time.Second
	began, left := w.s.Now, map[string]time.Time{}
	for w.s.Now.Sub(began) < 48*time.Hour {
		w.once()
		if at := w.s.Rollout.Status.RestartedAt; at != nil && at.Equal(w.s.Rollout.Spec.RestartAt) {
			return w.s.Now.Sub(began), most
		}
		w.kubelet()
		rs := w.rs(hash)
		most = max(most, rs.Replicas)
		for i, p := range rs.Pods {
			rs.Pods[i].Ready = w.s.Now.Sub(p.CreatedAt) >= start
		}
		w.count(rs)
		w.targets()
		if rs.Available-int32(len(marks(*rs))) < *w.s.Rollout.Spec.Replicas {
			w.t.Fatalf("only %d pods serve", rs.Available-int32(len(marks(*rs))))
		}
		for i := range w.s.Ingresses[0].Evidence.Groups {
			g := &w.s.Ingresses[0].Evidence.Groups[i]
			g.Targets = slices.DeleteFunc(g.Targets, func(t evidence.Target) bool {
				if t.Live() {
					return slices.ContainsFunc(rs.Pods, func(p Pod) bool { return p.UID == t.PodUID && !p.Ready })
				}
				if left[t.PodUID].IsZero() {
					left[t.PodUID] = w.s.Now
				}
				return w.s.Now.Sub(left[t.PodUID]) >= deregistration
			})
		}
		w.s.Now = w.s.Now.Add(step)
	}
	w.t.Fatalf("the restart does not end: %s\n%s", w.s.Rollout.Status.Message, w.last)
	return 0, 0
}

// A restart takes about as long as its pods take to start, so many at a time as maxUnavailable says, and not as
// long as each of them takes to leave its target group.
func TestRestartIsAsQuickAsItsPodsStart(t *testing.T) {
	const start, deregistration = 30 * time.Second, 300 * time.Second
	leave := deregistration + DefaultSettings().Settle
	for _, c := range []struct {
		unavailable string
		dynamic     bool
		batches     int
		leaves      int
	}{
		{"1", false, 100, 1},
		{"1", true, 100, 1},
		{"25%", false, 4, 2},
		{"25%", true, 4, 4},
	} {
		w := stable(t, 100, weight(50), pause())
		w.s.Rollout.Spec.Strategy.Canary.MaxUnavailable = new(intstr.Parse(c.unavailable))
		w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = c.dynamic
		at := w.restart()
		took, most := w.seconds("A", start, deregistration)
		w.wantAllNew("A", at)
		expected := time.Duration(c.batches)*start + time.Duration(c.leaves)*leave
		ratio := took.Seconds() / expected.Seconds()
		t.Logf("maxUnavailable %s, dynamicStableScale %t: %s, %.2f of %d starts and %d leaves, %d pods at most", c.unavailable, c.dynamic, took, ratio, c.batches, c.leaves, most)
		if ratio > 1.3 {
			t.Errorf("maxUnavailable %s: %s is %.2f of the time that %d starts and %d leaves take", c.unavailable, took, ratio, c.batches, c.leaves)
		}
		if most > 200 || c.dynamic && most > 150 {
			t.Errorf("%d pods at once", most)
		}
	}
}

// Where the nodes have room for one pod more only, those that drain make room for those that wait for it.
func TestRestartWithRoomForOnePodMore(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	at := w.restart()
	for range 400 {
		w.once()
		w.kubelet()
		rs := w.rs("A")
		for i := range rs.Pods {
			p := &rs.Pods[i]
			p.Scheduled = i < 5
			p.Running, p.Ready = p.Scheduled, p.Scheduled
		}
		w.count(rs)
		w.aws()
		g := w.s.Ingresses[0].Evidence.Groups
		for i := range g {
			g[i].Targets = slices.DeleteFunc(g[i].Targets, func(t evidence.Target) bool {
				return !t.Live() || slices.ContainsFunc(rs.Pods, func(p Pod) bool { return p.UID == t.PodUID && !p.Running })
			})
		}
		if rs.Available-int32(len(marks(*rs))) < 4 {
			t.Fatalf("only %d pods serve\n%s", rs.Available-int32(len(marks(*rs))), w.last)
		}
		if got := w.s.Rollout.Status.RestartedAt; got != nil && got.Equal(w.s.Rollout.Spec.RestartAt) {
			w.wantAllNew("A", at)
			return
		}
		w.s.Now = w.s.Now.Add(10 * time.Second)
	}
	t.Fatalf("the restart does not end: %s\n%s", w.s.Rollout.Status.Message, w.last)
}

// A pod that does not get ready any more may be why somebody restarts: it is replaced like the others, whenever it
// falls ill.
func TestRestartReplacesAPodThatIsNotReady(t *testing.T) {
	for _, ill := range []func(w *world) bool{
		func(*world) bool { return true },
		func(w *world) bool { return len(marks(*w.rs("A"))) > 0 },
		func(w *world) bool { return w.rs("A").Replicas == 7 },
	} {
		w := stable(t, 4, weight(50), pause())
		at := w.restart()
		victim, fell := w.rs("A").Pods[3].UID, false
		for range 300 {
			w.once()
			w.kubelet()
			rs := w.rs("A")
			fell = fell || ill(w)
			for i, p := range rs.Pods {
				rs.Pods[i].Ready = p.UID != victim || !fell
			}
			w.count(rs)
			w.aws()
			if serving := rs.Available - int32(len(marks(*rs))); serving < 3 {
				t.Fatalf("only %d pods serve\n%s", serving, w.last)
			}
			if got := w.s.Rollout.Status.RestartedAt; got != nil && got.Equal(w.s.Rollout.Spec.RestartAt) {
				break
			}
			w.s.Now = w.s.Now.Add(10 * time.Second)
			w.drained()
		}
		if got := w.s.Rollout.Status.RestartedAt; got == nil || !got.Equal(w.s.Rollout.Spec.RestartAt) || !fell {
			t.Errorf("the restart does not end, or none falls ill (%t): %s\n%s", fell, w.s.Rollout.Status.Message, w.last)
		}
		w.wantAllNew("A", at)
	}
}

// What is to come back to the stable version has its pods made at once, also while a restart has old ones stopped (law 8).
func TestLaw8ARestartDoesNotHoldUpTheWayBack(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = true })
	w.rest()
	w.restart()
	w.once()
	if got := w.rs("A").Replicas; got != 3 {
		t.Fatalf("A has %d pods\n%s", got, w.last)
	}
	w.kubelet()
	w.aws()
	w.rs("A").Replicas = 2 // The ReplicaSet controller has not heard of it yet.
	w.s.Rollout.Status.Abort = true
	w.once()
	if got := w.rs("A").Replicas; got != 4 {
		t.Errorf("A has %d pods after an abort\n%s", got, w.last)
	}
}

// Both Services may select a version: its pods are counted once.
func TestPodsThatDrainAreCountedOnce(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.restart()
	w.once()
	w.kubelet()
	w.aws()
	w.still()
	w.once()
	const live, draining = "1 of 1 pods of ReplicaSet shop-A that are to go are still targets", "1 pods of ReplicaSet shop-A are draining"
	if got := w.last.Wait.Message; got != live {
		t.Errorf("%q, want %q", got, live)
	}
	w.aws()
	if got := w.once().Wait.Message; got != draining {
		t.Errorf("%q, want %q", got, draining)
	}
}

// A restart may be asked for again, put off or taken back while one runs: it ends with as many pods as before, the
// newest wish counts, and no pod keeps a mark.
func TestARestartIsAskedForAnewWhileOneRuns(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		anew   bool
	}{
		"again":      {func(w *world) { w.restart() }, true},
		"put off":    {func(w *world) { w.restart(); w.s.Rollout.Spec.RestartAt.Time = w.s.Now.Add(2 * time.Hour) }, true},
		"taken back": {func(w *world) { w.s.Rollout.Spec.RestartAt = nil; w.s.Rollout.Generation++ }, false},
	} {
		for rounds := range 6 {
			w := stable(t, 4, weight(50), pause())
			w.restart()
			for range rounds {
				w.once()
				w.kubelet()
				w.aws()
				if rounds%2 == 0 {
					w.drained()
				}
				w.s.Now = w.s.Now.Add(40 * time.Second)
			}
			c.change(w)
			if c.anew {
				if w.s.Rollout.Spec.RestartAt.After(w.s.Now) {
					for range 30 {
						w.still()
						w.kubelet()
						w.aws()
						w.still()
						w.drained()
						w.s.Now = w.s.Now.Add(time.Minute)
					}
					if got := w.rs("A"); got.Replicas != 4 || len(marks(*got)) > 0 {
						t.Fatalf("%s after %d rounds: %d pods, marked %v, while it is put off\n%s", name, rounds, got.Replicas, marks(*got), w.last)
					}
					w.s.Now = w.s.Rollout.Spec.RestartAt.Time
				}
				if least, most := w.replaced("A"); least < 4 || most > 8 {
					t.Errorf("%s after %d rounds: between %d available pods and %d at all", name, rounds, least, most)
				}
				w.wantAllNew("A", w.s.Rollout.Spec.RestartAt.Time)
			}
			w.rest()
			if got := w.rs("A"); got.Replicas != 4 || len(marks(*got)) > 0 || w.s.Rollout.Status.Phase != v1alpha1.PhaseHealthy {
				t.Errorf("%s after %d rounds: %s with %d pods, marked %v\n%s", name, rounds, w.s.Rollout.Status.Phase, got.Replicas, marks(*got), w.last)
			}
		}
	}
}

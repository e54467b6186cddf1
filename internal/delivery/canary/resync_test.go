package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// reSynced is a re-sync in which C serves half and B's pods are out of every group, but not yet for the settle time.
func reSynced(t *testing.T) *world {
	w := atHalf(t, nil)
	w.image("C")
	w.still()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.toPause()
	w.drained()
	w.still()
	if got := w.rs("B").Replicas; got != 2 || w.drainOf("B") == nil || w.drainOf("B").Since == nil {
		t.Fatalf("B has %d pods, drains %v\n%s", got, w.s.Rollout.Status.Drains, w.last)
	}
	return w
}

// Re-sync 3 is independent: that C becomes stable meanwhile must not begin B's wait anew.
func TestReSync3GoesOnOverThePromotion(t *testing.T) {
	w := reSynced(t)
	began := *w.drainOf("B").Since
	w.promote()
	w.still()
	w.kubelet()
	w.aws()
	w.drained()
	w.still()
	w.weights()
	w.still()
	w.s.Now = began.Add(149 * time.Second)
	w.still()
	if got := w.rs("B").Replicas; got != 2 {
		t.Fatalf("B has %d pods before the settle time\n%s", got, w.last)
	}
	w.s.Rollout.Status.Traffic[0].Since = began.DeepCopy() // The weights have settled at the same moment.
	w.s.Now = began.Add(151 * time.Second)
	for range 5 {
		w.once()
	}
	if got := w.s.Rollout.Status.StableRS; got != "C" {
		t.Fatalf("%s is stable, want C\n%s", got, w.last)
	}
	if got := w.rs("B").Replicas; got != 0 {
		t.Errorf("B has %d pods though it has drained; drain %+v\n%s", got, w.drainOf("B"), w.last)
	}
}

// The wait begins when the groups are seen without the pods, so they are looked at without delay.
func TestReSync3LooksAtOnceWhenNothingIsLive(t *testing.T) {
	w := atHalf(t, nil)
	w.image("C")
	w.still()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.toPause()
	w.drained()
	w.s.Rollout.Status.Drains = nil
	w.once()
	d := w.once()
	if got := d.Wait.Again.Sub(w.s.Now); got > w.s.Settings.Poll {
		t.Errorf("looks again in %s", got)
	}
}

// With another version live in K the third image does not rise, whatever has become of the second (law 1).
func TestReSync3WaitsForTheGroupAlone(t *testing.T) {
	w := atHalf(t, nil)
	w.image("C")
	w.still()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	w.kubelet()
	w.aws()
	for _, g := range w.s.Ingresses[0].Evidence.Groups {
		for i := range g.Targets {
			if g.Service == canarySvc && g.Targets[i].PodTemplateHash == "B" {
				g.Targets[i].State = evidence.Healthy
			}
		}
	}
	w.wantWait(w.still(), "OtherTargetsLive")
}

package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// A rollout in the middle of a canary that another controller has run so far: nothing of ours is in its
// status, nothing of it is changed.
func TestTakeoverInMidCanaryWritesNothing(t *testing.T) {
	w := atHalf(t, nil)
	s := &w.s.Rollout.Status
	s.Traffic, s.Conditions = nil, dropCondition(s.Conditions, v1alpha1.ConditionTrafficVerified)
	w.s.Ingresses[0].Ours, w.s.Ingresses[0].Writer = false, "rollouts-controller"
	w.wantOps(w.still())
	if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhasePaused || *got.CurrentStepIndex != 1 || len(got.Traffic) != 1 || len(got.Traffic[0].ForeignWrites) != 0 {
		t.Errorf("phase %s, step %d, traffic %+v", got.Phase, *got.CurrentStepIndex, got.Traffic)
	}
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "True" {
		t.Errorf("TrafficVerified %+v", c)
	}
}

// The controller was away while others gave the canary group a share, and put the split back before it crashed
// again, or they did. AWS shows the same weights as ever, but nodes may still have those in between.
func TestASplitThatWasWrittenAnewSettlesAnew(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.image("B")
	w.s.Ingresses[0].ChangedAt = w.s.Now.Add(-10 * time.Second)
	d := w.still()
	w.wantWait(d, "Settling")
	if got := w.s.Services[0].Hash; got != "A" {
		t.Fatalf("K is at %s", got)
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.s.Services[0].Hash; got != "B" {
		t.Fatalf("K is at %s\n%s", got, w.last)
	}
}

// The API server's clock is ahead: what it stamped is in the future, which delays what cannot be taken back and
// nothing else.
func TestAClockThatIsAheadHoldsNoStepUp(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.image("B")
	w.still()
	w.s.Ingresses[0].ChangedAt = w.s.Now.Add(time.Minute)
	w.toPause()
	w.still()
}

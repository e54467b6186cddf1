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

// Law 4: after a takeover AWS's answers may be from before what the predecessor wrote last. A weight counts as seen
// when they cannot be any more.
func TestLaw4AnAnswerFromBeforeTheLastWriteIsNoEvidence(t *testing.T) {
	w := atHalf(t, nil)
	w.image("A") // a rollback: all of it returns
	w.once()
	w.weights()
	until := w.s.Now.Add(time.Minute)
	w.s.Ingresses[0].Evidence.OutdatedUntil = until
	w.wantWait(w.still(), "WeightNotSeen")
	s := w.s.Rollout.Status
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "False" || !contains(c.Message, until.UTC().Format(time.TimeOnly)) {
		t.Errorf("TrafficVerified %s: %s", c.Status, c.Message)
	}
	if s.Phase != v1alpha1.PhaseProgressing || s.Traffic[0].Since != nil {
		t.Errorf("phase %s, traffic %+v", s.Phase, s.Traffic[0])
	}
	w.s.Now = until.Add(time.Second)
	w.still()
	if since := w.s.Rollout.Status.Traffic[0].Since; since == nil || since.Time.Before(until) {
		t.Errorf("the weight counts as seen since %v, want %s or later", since, until)
	}
}

// What was seen before the takeover stays seen, and what nobody of us has ever looked at was written by others, long ago.
func TestATakeoverRestartsNoWait(t *testing.T) {
	w := atHalf(t, nil)
	w.s.Ingresses[0].Evidence.OutdatedUntil = w.s.Now.Add(time.Minute)
	since := w.s.Rollout.Status.Traffic[0].Since
	w.still()
	if got := w.s.Rollout.Status.Traffic[0].Since; got == nil || !got.Equal(since) {
		t.Errorf("the weight counts as seen since %v, it was %s", got, since)
	}
	w.s.Rollout.Status.Traffic = nil
	for range 2 { // also when what is known of AWS is from before the first look
		s := w.s
		s.Now = s.Now.Add(time.Second)
		w.s.Rollout.Status = Decide(s).Status
	}
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "False" || !contains(c.Message, "seen again") {
		t.Errorf("TrafficVerified %s: %s", c.Status, c.Message)
	}
	w.s.Now = w.s.Now.Add(10 * time.Second)
	w.still()
	if w.s.Rollout.Status.Phase != v1alpha1.PhasePaused || w.s.Rollout.Status.Traffic[0].Since == nil {
		t.Errorf("phase %s, traffic %+v", w.s.Rollout.Status.Phase, w.s.Rollout.Status.Traffic)
	}
}

package canary

import (
	"testing"

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

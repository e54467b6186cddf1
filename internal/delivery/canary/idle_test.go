package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Nothing is going on, so that AWS cannot be asked is worth a condition, and not another phase.
func TestIdleRolloutStaysHealthyWhileAWSCannotBeRead(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	seen := w.s.Ingresses[0].Evidence
	w.s.Ingresses[0].Evidence = evidence.Snapshot{}
	w.s.Ingresses[0].EvidenceError = "Throttling: Rate exceeded"
	for range 3 {
		w.s.Now = w.s.Now.Add(time.Minute)
		w.once()
		w.s.Ingresses[0].Evidence = evidence.Snapshot{}
	}
	if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseHealthy || w.condition(v1alpha1.ConditionHealthy).Status != "True" {
		t.Errorf("%s: %s", got.Phase, got.Message)
	}
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "Unknown" || c.Reason != "NoEvidence" || !contains(c.Message, "Rate exceeded") {
		t.Errorf("TrafficVerified is %s, %s: %s", c.Status, c.Reason, c.Message)
	}
	w.image("B")
	w.once()
	if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseProgressing || w.condition(v1alpha1.ConditionTrafficVerified).Status != "False" {
		t.Errorf("an update is %s while AWS cannot be read, TrafficVerified %s", got.Phase, w.condition(v1alpha1.ConditionTrafficVerified).Status)
	}
	w.image("A")
	w.once()
	if got := w.s.Rollout.Status.Phase; got == v1alpha1.PhaseHealthy {
		t.Error("Healthy after a change, before AWS was asked")
	}
	w.s.Ingresses[0].Evidence, w.s.Ingresses[0].EvidenceError = seen, ""
	w.still()
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "True" || w.s.Rollout.Status.Phase != v1alpha1.PhaseHealthy {
		t.Errorf("TrafficVerified is %s, phase %s", c.Status, w.s.Rollout.Status.Phase)
	}
}

// A pod that is missing is seen without AWS.
func TestIdleRolloutWithoutItsPodsIsNotHealthy(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	w.s.Ingresses[0].EvidenceError = "Throttling: Rate exceeded"
	w.once()
	w.rs("A").Pods[0].Ready = false
	w.count(w.rs("A"))
	w.once()
	if got := w.s.Rollout.Status.Phase; got != v1alpha1.PhaseProgressing {
		t.Errorf("phase %s with 3 of 4 pods", got)
	}
}

// A removal leaves no trace of its time in the managed fields: each one after a write of ours counts.
func TestRemovedAgainAndAgainIsContested(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	for n := range 4 {
		w.s.Now = w.s.Now.Add(time.Minute)
		i := &w.s.Ingresses[0]
		i.Action, i.Ours, i.Writer, i.WrittenAt = "", false, "helm", start
		w.still()
		if got, want := len(w.last.Operations) == 0 && w.s.Ingresses[0].Action == "", n >= 2; got != want {
			t.Fatalf("removal %d: held is %t, want %t, %v\n%s", n+1, got, want, w.s.Rollout.Status.Traffic[0].ForeignWrites, w.last)
		}
	}
	if c := w.condition(v1alpha1.ConditionTrafficContested); c.Status != "True" || !contains(c.Message, `"helm"`) {
		t.Errorf("TrafficContested is %q: %s", c.Status, c.Message)
	}
	if got := len(w.s.Rollout.Status.Traffic[0].ForeignWrites); got != 3 {
		t.Errorf("%d foreign writes are remembered, want 3", got)
	}
	w.s.Now = w.s.Now.Add(11 * time.Minute)
	w.still()
	if w.s.Ingresses[0].Action == "" {
		t.Errorf("the split is not written after the dispute\n%s", w.last)
	}
}

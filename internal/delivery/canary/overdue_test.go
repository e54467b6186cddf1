package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// unseenWeight is an update whose first weight was written and is not seen.
func unseenWeight(t *testing.T, edit func(*world)) *world {
	w := toCanary2(t)
	if edit != nil {
		edit(w)
	}
	w.targets()
	w.wantWait(w.still(), "WeightNotSeen")
	return w
}

func overdue(d Decision) int {
	n := 0
	for _, e := range d.Events {
		if e.Warning && e.Reason == v1alpha1.ReasonEvidenceOverdue {
			n++
		}
	}
	return n
}

// Row canary 3: a time-out makes the wait louder, once, and nothing goes on.
func TestLaw4AWaitForEvidenceBecomesLouder(t *testing.T) {
	w := unseenWeight(t, func(w *world) { w.s.Rollout.Spec.ProgressDeadlineAbort = true })
	d := w.still()
	if d.Wait.Again.IsZero() {
		t.Fatal("nobody looks at the time-out")
	}
	w.s.Now = w.s.Now.Add(599 * time.Second)
	if d = w.once(); overdue(d) != 0 {
		t.Fatalf("too early: %v", d.Events)
	}
	w.s.Now = w.s.Now.Add(2 * time.Second)
	if d = w.once(); overdue(d) != 1 {
		t.Fatalf("events %v", d.Events)
	}
	c := w.condition(v1alpha1.ConditionTrafficVerified)
	if c.Status != "False" || c.Reason != v1alpha1.ReasonEvidenceOverdue || !contains(c.Message, "longer than 10m0s") || !contains(w.s.Rollout.Status.Message, "longer than 10m0s") {
		t.Errorf("TrafficVerified %s, %s: %s (%s)", c.Status, c.Reason, c.Message, w.s.Rollout.Status.Message)
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	if d = w.once(); overdue(d) != 0 || len(d.Operations) != 0 {
		t.Errorf("told again or gone on: %v %v", d.Events, d.Operations)
	}
	if got := w.s.Rollout.Status; got.Abort || *got.CurrentStepIndex != 0 {
		t.Errorf("abort %t, step %d", got.Abort, *got.CurrentStepIndex)
	}
	w.weights()
	w.once()
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "True" {
		t.Errorf("TrafficVerified %s after the weight was seen", c.Status)
	}
}

func TestLaw4TheUserMayChooseToAbort(t *testing.T) {
	choose := func(w *world) {
		w.s.Rollout.Spec.ProgressDeadlineAbort = true
		w.s.Settings.EvidenceTimeout = time.Minute
	}
	w := unseenWeight(t, choose)
	w.s.Now = w.s.Now.Add(61 * time.Second)
	if w.still(); w.s.Rollout.Status.Abort {
		t.Fatal("aborted by the first look after the time-out: it may be the first one of a new process")
	}
	w.s.Now = w.s.Now.Add(31 * time.Second)
	if w.still(); !w.s.Rollout.Status.Abort || w.s.Rollout.Status.Canary.Weights.Canary.Weight != 0 {
		t.Errorf("abort %t, canary at %d %%", w.s.Rollout.Status.Abort, w.s.Rollout.Status.Canary.Weights.Canary.Weight)
	}
	w = unseenWeight(t, choose)
	w.s.Now = w.s.Now.Add(61 * time.Second)
	w.once()
	w.weights()
	w.once()
	w.s.Now = w.s.Now.Add(31 * time.Second)
	if w.still(); w.s.Rollout.Status.Abort {
		t.Error("aborted though AWS has answered")
	}
}

// A wait whose end is known is not overdue, however long it is.
func TestSettlingIsNotOverdue(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.ProgressDeadlineSeconds = new(int32(60)) })
	w.image("C")
	w.still()
	w.aws()
	w.wantWait(w.still(), "Settling")
	w.s.Now = w.s.Now.Add(100 * time.Second)
	if d := w.once(); overdue(d) != 0 || w.condition(v1alpha1.ConditionTrafficVerified).Reason != "Settling" {
		t.Errorf("TrafficVerified is %s", w.condition(v1alpha1.ConditionTrafficVerified).Reason)
	}
}

// The settle time is no wait for AWS's answer: a short silence after it is not overdue because of it.
func TestTheSettleTimeIsNotPartOfTheEvidenceTimeout(t *testing.T) {
	w := atHalf(t, nil)
	w.s.Settings.EvidenceTimeout, w.s.Rollout.Spec.ProgressDeadlineAbort = 2*time.Minute, true
	w.image("C")
	w.once()
	w.weights()
	w.wantWait(w.still(), "Settling")
	w.s.Now = w.s.Now.Add(149 * time.Second)
	w.wantWait(w.still(), "Settling")
	w.s.Ingresses[0].EvidenceError = "Throttling: Rate exceeded"
	for range 3 {
		if d := w.once(); overdue(d) != 0 {
			t.Fatalf("overdue after a moment: %v", d.Events)
		}
		w.s.Now = w.s.Now.Add(35 * time.Second)
	}
	if w.s.Rollout.Status.Abort {
		t.Fatal("aborted after a short silence")
	}
	w.s.Now = w.s.Now.Add(20 * time.Second)
	if d := w.once(); overdue(d) != 1 {
		t.Errorf("not overdue after the timeout: %s", d)
	}
}

package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

func (w *world) wantDuration(began time.Time, completion string, finished bool) *v1alpha1.DurationStatus {
	w.t.Helper()
	d := w.s.Rollout.Status.Duration
	if d == nil {
		w.t.Fatal("no duration")
	}
	if late := d.RolloutStartedAt.Sub(began); late < 0 || late > time.Second || d.CompletionStatus != completion || (d.FinishedAt != nil) != finished {
		w.t.Fatalf("began %s (want %s), ended %v as %q (want %t, %q)", d.RolloutStartedAt, began, d.FinishedAt, d.CompletionStatus, finished, completion)
	}
	return d
}

func TestDurationOfAnUpdate(t *testing.T) {
	w := newWorld(t, 4, weight(50), pause())
	first := w.s.Now
	w.rest()
	w.wantDuration(first, CompletedPromoted, true)

	began := w.s.Now
	w.image("B")
	w.toPause()
	w.wantDuration(began, "", false)
	if d := w.s.Rollout.Status.Duration; d.ManualPauseStartedAt == nil {
		t.Fatal("a pause without a timer is one for a person")
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	w.promote()
	w.rest()
	d := w.wantDuration(began, CompletedPromoted, true)
	if d.TotalManualPauseDurationSeconds < 3600 || d.TotalManualPauseDurationSeconds > 3610 || d.ManualPauseStartedAt != nil {
		t.Errorf("waited %d s for a person, still since %v", d.TotalManualPauseDurationSeconds, d.ManualPauseStartedAt)
	}
}

func TestDurationNamesHowAnUpdateEnds(t *testing.T) {
	w := atHalf(t, nil)
	w.s.Rollout.Status.Abort = true
	w.once()
	ended := *w.s.Rollout.Status.Duration.FinishedAt
	if got := w.s.Rollout.Status.Duration.CompletionStatus; got != CompletedAborted {
		t.Errorf("an abort is %q", got)
	}
	w.s.Now = w.s.Now.Add(time.Minute)
	if w.once(); !w.s.Rollout.Status.Duration.FinishedAt.Equal(&ended) {
		t.Error("the end of an abort moves")
	}
	retried := w.s.Now
	w.s.Rollout.Status.Abort = false
	w.once()
	w.wantDuration(retried, "", false)

	third := w.s.Now
	w.image("C")
	w.once()
	w.wantDuration(third, "", false)
	w.image("A")
	w.once()
	w.wantDuration(third, CompletedRolledBack, true)

	w = atHalf(t, nil)
	began := w.s.Rollout.Status.Duration.RolloutStartedAt.Time
	w.s.Rollout.Status.PromoteFull = true
	w.rest()
	w.wantDuration(began, CompletedFastPromoted, true)

	w.s.Rollout.Spec.RollbackWindow = &v1alpha1.RollbackWindowSpec{Revisions: 1}
	began = w.s.Now
	w.image("A")
	w.rest()
	w.wantDuration(began, CompletedFastRolledBack, true)
}

// At rest nothing of it moves: a status that differs each time would be written each time.
func TestDurationStandsStillAtRest(t *testing.T) {
	w := stable(t, 4, weight(50), pause())
	before := w.s.Rollout.Status.Duration.DeepCopy()
	w.s.Now = w.s.Now.Add(time.Hour)
	w.s.Rollout.Spec.Paused = true
	w.once()
	if got := w.s.Rollout.Status.Duration; !got.FinishedAt.Equal(before.FinishedAt) || got.ManualPauseStartedAt != nil {
		t.Errorf("%+v became %+v", before, got)
	}
}

func TestStatusNamesTheAWSResources(t *testing.T) {
	w := stable(t, 1, weight(50))
	e := &w.s.Ingresses[0].Evidence
	e.LoadBalancer.ARN = "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/k8s-shop/50dc6c495c0c9188"
	e.Groups[0].ARN, e.Groups[1].ARN = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/k8s-canary/73e2d6bc24d8a067", "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/k8s-stable/73e2d6bc24d8a068"
	w.once()
	want := v1alpha1.ALBStatus{
		Ingress:           ingress,
		LoadBalancer:      v1alpha1.AWSResourceRef{Name: "k8s-shop", ARN: e.LoadBalancer.ARN, FullName: "k8s-shop/50dc6c495c0c9188"},
		CanaryTargetGroup: v1alpha1.AWSResourceRef{Name: "k8s-canary", ARN: e.Groups[0].ARN, FullName: "k8s-canary/73e2d6bc24d8a067"},
		StableTargetGroup: v1alpha1.AWSResourceRef{Name: "k8s-stable", ARN: e.Groups[1].ARN, FullName: "k8s-stable/73e2d6bc24d8a068"},
	}
	check := func(when string) {
		t.Helper()
		if got := w.s.Rollout.Status; len(got.ALBs) != 1 || got.ALBs[0] != want || got.ALB == nil || *got.ALB != want {
			t.Errorf("%s: %+v, %+v", when, got.ALB, got.ALBs)
		}
	}
	check("seen")
	w.s.Ingresses[0].EvidenceError = "Throttling"
	w.once()
	check("not seen")
}

package canary

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// How an update can end, as status.duration.completionStatus names it. Superseded is never published, since
// the next update begins with the same status: it is known by another beginning.
const (
	CompletedPromoted       = "Promoted"
	CompletedFastPromoted   = "FastPromoted"
	CompletedAborted        = "Aborted"
	CompletedSuperseded     = "Superseded"
	CompletedRolledBack     = "RolledBack"
	CompletedFastRolledBack = "FastRolledBack"
)

// duration is how long the update takes: from the change of template or steps, or a retry, to its end, and
// how much of that it waited for a person.
func (f facts) duration() *v1alpha1.DurationStatus {
	old, now := f.Rollout.Status, metav1.NewTime(f.Now)
	d := old.Duration.DeepCopy()
	changed := old.CurrentPodHash != f.Rollout.Hash || old.CurrentStepHash != f.Rollout.StepHash
	retried := old.AbortedAt != nil && !f.status.Abort && !f.promoted()
	switch whole := f.promoted() && available(f.next) >= f.replicas; {
	case changed && running(d) && f.promoted() && old.CurrentPodHash != "":
		d.FinishedAt, d.CompletionStatus = &now, CompletedRolledBack
	case changed && !whole || retried:
		d = &v1alpha1.DurationStatus{RolloutStartedAt: &now}
	}
	if !running(d) {
		return d
	}
	switch {
	case f.status.Abort:
		d.FinishedAt, d.CompletionStatus = &now, CompletedAborted
	case f.promoted():
		if d.CompletionStatus == "" {
			d.CompletionStatus = f.completion()
		}
		if available(f.next) >= f.replicas {
			d.FinishedAt = &now
		}
	}
	if manual := running(d) && f.waitsForAPerson(); manual && d.ManualPauseStartedAt == nil {
		d.ManualPauseStartedAt = &now
	} else if !manual && d.ManualPauseStartedAt != nil {
		d.TotalManualPauseDurationSeconds += int64(now.Sub(d.ManualPauseStartedAt.Time) / time.Second)
		d.ManualPauseStartedAt = nil
	}
	return d
}

// running: an update has begun and not ended.
func running(d *v1alpha1.DurationStatus) bool {
	return d != nil && d.RolloutStartedAt != nil && d.FinishedAt == nil
}

// completion is the way in which the new version has become stable.
func (f facts) completion() string {
	switch {
	case f.inRollbackWindow(f.replicaSet(f.Rollout.Status.StableRS)):
		return CompletedFastRolledBack
	case f.Rollout.Status.PromoteFull:
		return CompletedFastPromoted
	}
	return CompletedPromoted
}

// waitsForAPerson: somebody has paused the rollout, or its step has no timer.
func (f facts) waitsForAPerson() bool {
	if f.paused() || f.stepsDone() {
		return f.paused()
	}
	pause := f.strategy.Steps[f.stepIndex()].Pause
	return len(f.status.PauseConditions) > 0 && pause != nil && pause.Duration == nil
}

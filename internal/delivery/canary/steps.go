package canary

import (
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// progressed is the status after everything was taken into account that has happened since it was
// published: a new template, wishes of people, what AWS shows, steps that are done.
type progressed struct {
	facts
	events []Event
	// wait is what the present step waits for.
	wait Wait
	// promotedNow: the decision makes the new version stable. Nothing else is done with it: that the
	// status was accepted is the point of no return.
	promotedNow bool
}

// progress computes the new status as far as steps, pauses, abort and promotion go.
func progress(s Snapshot) progressed {
	old := s.Rollout.Status
	status := v1alpha1.RolloutStatus{
		CurrentPodHash: s.Rollout.Hash, CurrentStepHash: s.Rollout.StepHash,
		StableRS: old.StableRS, CollisionCount: old.CollisionCount,
		RestartedAt: old.RestartedAt, ALB: old.ALB, ALBs: old.ALBs, Duration: old.Duration.DeepCopy(),
		Canary:  v1alpha1.CanaryStatus{Weights: old.Canary.Weights.DeepCopy(), StablePingPong: old.Canary.StablePingPong},
		Traffic: old.Traffic, Abort: old.Abort, AbortedAt: old.AbortedAt, PromoteFull: old.PromoteFull,
		CurrentStepIndex: old.CurrentStepIndex, PauseConditions: old.PauseConditions, ControllerPause: old.ControllerPause,
		Conditions: old.Conditions,
	}
	p := progressed{facts: newFacts(s, status)}
	if p.changed() {
		p.reset()
	}
	if p.status.StableRS == "" || p.stable == nil && !p.promoted() {
		p.firstDeploy()
	}
	p.settle()
	p.restarted()
	p.status.Traffic = p.look()
	if !p.status.Abort && !p.promoted() && !s.Rollout.Spec.Paused {
		p.advance()
		p.promote()
	}
	return p
}

// changed: another template or other steps than at the last publication.
func (p *progressed) changed() bool {
	old := p.Rollout.Status
	return old.CurrentPodHash != "" && old.CurrentPodHash != p.Rollout.Hash ||
		old.CurrentStepHash != p.Rollout.StepHash
}

// reset starts the update anew (at the end, when the template is that of the stable version again).
func (p *progressed) reset() {
	p.status.PauseConditions, p.status.ControllerPause = nil, false
	p.status.Abort, p.status.AbortedAt, p.status.PromoteFull = false, nil, false
	p.status.RestartedAt = p.Rollout.Spec.RestartAt
	p.setIndex(0)
	if p.promoted() && p.Rollout.Status.CurrentPodHash != "" && p.Rollout.Status.CurrentPodHash != p.Rollout.Hash {
		p.event("SkipSteps", "the template is that of the stable version again")
	}
}

// firstDeploy makes the present template stable at once: there is nothing to go back to.
func (p *progressed) firstDeploy() {
	p.status.StableRS = p.Rollout.Hash
	p.facts = newFacts(p.Snapshot, p.status)
	p.event("RolloutCompleted", "the first version is stable: steps do not apply")
}

// settle applies what people asked for: abort, full promotion; and what follows from being promoted.
func (p *progressed) settle() {
	if p.status.CurrentStepIndex == nil || int(*p.status.CurrentStepIndex) > len(p.strategy.Steps) || *p.status.CurrentStepIndex < 0 {
		p.setIndex(min(max(p.stepIndex(), 0), int32(len(p.strategy.Steps))))
	}
	if !p.promoted() && !p.status.Abort && p.Rollout.Spec.ProgressDeadlineAbort && p.exceeded() {
		p.status.Abort = true
		p.events = append(p.events, Event{Warning: true, Reason: "RolloutAborted", Message: "no progress within the progress deadline"})
	}
	if !p.promoted() && !p.status.Abort && p.Rollout.Spec.ProgressDeadlineAbort && p.unanswered() {
		p.status.Abort = true
		p.events = append(p.events, Event{Warning: true, Reason: "RolloutAborted", Message: "no answer of AWS within the evidence timeout"})
	}
	switch {
	case p.promoted():
		p.status.Abort, p.status.AbortedAt, p.status.PromoteFull = false, nil, false
		p.status.PauseConditions, p.status.ControllerPause = nil, false
		p.setIndex(int32(len(p.strategy.Steps)))
	case p.status.Abort:
		p.status.PauseConditions, p.status.ControllerPause = nil, false
		p.setIndex(0)
		if p.status.AbortedAt == nil {
			p.status.AbortedAt = new(metav1.NewTime(p.Now))
		}
	default:
		p.status.AbortedAt = nil
		if p.status.PromoteFull || p.inRollbackWindow(p.stable) {
			p.status.PauseConditions, p.status.ControllerPause = nil, false
			p.setIndex(int32(len(p.strategy.Steps)))
		}
	}
}

// exceeded: a look after the progress deadline found no progress, and said so. The clock alone does not
// tell: nobody looked while the controller was away.
func (p *progressed) exceeded() bool {
	c, _ := findCondition(p.Rollout.Status.Conditions, v1alpha1.ConditionProgressing)
	return c.Reason == "ProgressDeadlineExceeded" && timedOut(p.facts)
}

// unanswered: the evidence timeout that the rollout names has passed, and looks since then still found no
// answer: after a restart of the controller the first look knows nothing yet.
func (p *progressed) unanswered() bool {
	c, _ := findCondition(p.Rollout.Status.Conditions, v1alpha1.ConditionTrafficVerified)
	return p.Settings.EvidenceTimeout > 0 && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonEvidenceOverdue &&
		p.Now.Sub(c.LastUpdateTime.Time) >= freshFor
}

// inRollbackWindow: the template is that of a revision shortly before the stable one, which may skip the steps.
func (f facts) inRollbackWindow(stable *ReplicaSet) bool {
	w := f.Rollout.Spec.RollbackWindow
	if w == nil || f.next == nil || stable == nil || !f.next.CreatedAt.Before(stable.CreatedAt) {
		return false
	}
	between := int32(0)
	for _, rs := range f.ReplicaSets {
		if rs.CreatedAt.After(f.next.CreatedAt) && rs.CreatedAt.Before(stable.CreatedAt) {
			between++
		}
	}
	return between < w.Revisions
}

func (p *progressed) event(reason, format string, args ...any) {
	p.events = append(p.events, Event{Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (p *progressed) setIndex(i int32) {
	p.status.CurrentStepIndex = nil
	if len(p.strategy.Steps) > 0 {
		p.status.CurrentStepIndex = new(i)
	}
}

func (f facts) stepIndex() int32 {
	if f.status.CurrentStepIndex == nil {
		return 0
	}
	return *f.status.CurrentStepIndex
}

// stepsDone: no step is left (or there are none).
func (f facts) stepsDone() bool { return int(f.stepIndex()) >= len(f.strategy.Steps) }

// advance goes over all steps that are done.
func (p *progressed) advance() {
	for !p.stepsDone() {
		index := p.stepIndex()
		wait, done := p.step(p.strategy.Steps[index])
		if !done {
			p.wait = wait
			return
		}
		p.event("RolloutStepCompleted", "step %d of %d completed (%s)", index+1, len(p.strategy.Steps), stepName(p.strategy.Steps[index]))
		p.setIndex(index + 1)
	}
}

// step says whether the present step is done, and otherwise what it waits for.
func (p *progressed) step(step v1alpha1.CanaryStep) (Wait, bool) {
	switch {
	case p.displaced():
		return Wait{}, false // The Service has to go back first, and says what is missing.
	case step.Pause != nil:
		return p.pause(*step.Pause)
	case step.SetCanaryScale != nil && step.SetWeight == nil:
		return p.atDesired()
	case step.SetWeight != nil:
		if p.recorded() != *step.SetWeight || p.canaryHash() != p.Rollout.Hash {
			return Wait{}, false // Routing says what is missing.
		}
		return p.pass(splitShown, facts.atDesired)
	}
	return Wait{}, false
}

// pause waits from the moment at which AWS shows the weight (law 4) for a timer or a person.
func (p *progressed) pause(pause v1alpha1.RolloutPause) (Wait, bool) {
	if p.recorded() != p.stepWeight(p.stepIndex()) || p.canaryHash() != p.Rollout.Hash {
		return Wait{}, false // The weight is on its way; routing says what is missing.
	}
	if w, ok := p.pass(splitShown); !ok {
		return w, false
	}
	for _, c := range p.status.PauseConditions {
		if c.Reason != v1alpha1.PauseReasonCanaryPauseStep {
			continue
		}
		if pause.Duration == nil {
			return Wait{Reason: "Paused", Message: "the step waits for promote"}, false
		}
		duration, _ := pauseDuration(*pause.Duration)
		end := c.StartTime.Add(duration)
		if end.After(p.Now) {
			return Wait{Reason: "Paused", Message: fmt.Sprintf("the step waits until %s", end.UTC().Format(time.TimeOnly)), Again: end}, false
		}
		return p.resume()
	}
	if p.status.ControllerPause {
		return p.resume() // A person has removed the condition.
	}
	p.status.PauseConditions = append(p.status.PauseConditions[:len(p.status.PauseConditions):len(p.status.PauseConditions)],
		v1alpha1.PauseCondition{Reason: v1alpha1.PauseReasonCanaryPauseStep, StartTime: metav1.NewTime(p.Now)})
	p.status.ControllerPause = true
	w := Wait{Reason: "Paused", Message: "the step waits for promote"}
	if pause.Duration != nil {
		duration, _ := pauseDuration(*pause.Duration)
		w = Wait{Reason: "Paused", Message: fmt.Sprintf("the step waits %s", duration), Again: p.Now.Add(duration)}
	}
	return w, false
}

func (p *progressed) resume() (Wait, bool) {
	var kept []v1alpha1.PauseCondition
	for _, c := range p.status.PauseConditions {
		if c.Reason != v1alpha1.PauseReasonCanaryPauseStep {
			kept = append(kept, c)
		}
	}
	p.status.PauseConditions, p.status.ControllerPause = kept, len(kept) > 0
	return Wait{}, true
}

// promote makes the new version stable when it carries everything and would go on doing so.
func (p *progressed) promote() {
	if !p.stepsDone() || p.next == nil || p.recorded() != totalWeight && p.replicas > 0 {
		return
	}
	k, hash := p.strategy.CanaryService, p.Rollout.Hash
	wanted := max(1, p.threshold(p.replicas))
	gates := []gate{
		splitShown, allAvailable(wanted), healthyAtLeast(k, hash, wanted),
		settledAt(p.strategy.StableService, 0), confirmedBy("make " + hash + " the stable version"),
	}
	if p.replicas == 0 {
		gates = []gate{splitShown, allAvailable(0)}
	}
	if w, ok := p.pass(gates...); !ok {
		p.wait = w
		return
	}
	p.promotedNow = true
	p.status.StableRS, p.status.PromoteFull = hash, false
	p.status.PauseConditions, p.status.ControllerPause = nil, false
	p.event("RolloutCompleted", "revision %d (%s) is the stable version", p.next.Revision, hash)
}

// allAvailable: the new version has so many available pods.
func allAvailable(wanted int32) gate {
	return func(f facts) (Wait, bool) {
		if got := available(f.next); got < wanted {
			return Wait{Reason: "PodsNotAvailable", Message: fmt.Sprintf("%d of %d pods of the new version are available", got, wanted)}, false
		}
		return Wait{}, true
	}
}

// pauseDuration reads a pause: a number of seconds, as a number or a string, or a Go duration.
func pauseDuration(v intstr.IntOrString) (time.Duration, error) {
	if v.Type == intstr.Int {
		return time.Duration(v.IntVal) * time.Second, nil
	}
	if n, err := strconv.ParseInt(v.StrVal, 10, 32); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(v.StrVal)
}

// stepName is a step as events name it.
func stepName(s v1alpha1.CanaryStep) string {
	switch {
	case s.Pause != nil && s.Pause.Duration != nil:
		return "pause: " + s.Pause.Duration.String()
	case s.Pause != nil:
		return "pause"
	case s.SetCanaryScale != nil && s.SetCanaryScale.MatchTrafficWeight:
		return "setCanaryScale{matchTrafficWeight: true}"
	case s.SetCanaryScale != nil && s.SetCanaryScale.Weight != nil:
		return fmt.Sprintf("setCanaryScale{weight: %d}", *s.SetCanaryScale.Weight)
	case s.SetCanaryScale != nil && s.SetCanaryScale.Replicas != nil:
		return fmt.Sprintf("setCanaryScale{replicas: %d}", *s.SetCanaryScale.Replicas)
	case s.SetWeight != nil:
		return fmt.Sprintf("setWeight: %d", *s.SetWeight)
	}
	return "step"
}

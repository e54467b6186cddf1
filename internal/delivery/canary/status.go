package canary

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// defaultDeadline is how long an update may make no progress when the spec does not say.
const defaultDeadline = 600 * time.Second

// publish completes the status: counts, conditions, phase.
func (d *draft) publish(f facts) Decision {
	s := &f.status
	s.ObservedGeneration = generation(f.Snapshot)
	for _, rs := range f.ReplicaSets {
		s.Replicas += rs.Current
		s.ReadyReplicas += rs.Ready
		s.AvailableReplicas += rs.Available
	}
	if f.next != nil {
		s.UpdatedReplicas = f.next.Current
	}
	s.HPAReplicas = s.Replicas
	s.Duration = f.duration()
	s.ALB, s.ALBs = f.albs()
	// The selector is part of the spec: the one that was published for this generation still holds.
	if s.Selector = f.Rollout.Status.Selector; s.Selector == "" || f.Rollout.Status.ObservedGeneration != s.ObservedGeneration {
		s.Selector = metav1.FormatLabelSelector(f.Rollout.Spec.Selector)
	}
	d.conditions(f, s)
	s.Phase, s.Message = d.phase(f)
	return Decision{Operations: d.ops, Status: *s, Events: d.events, Wait: d.wait}
}

func generation(s Snapshot) string { return strconv.FormatInt(s.Rollout.Generation, 10) }

func microTime(t time.Time) *metav1.MicroTime { return new(metav1.NewMicroTime(t)) }

// condition is a condition without its times.
type condition struct {
	kind, status, reason, message string
}

// setCondition does nothing when status, reason and message are as they were; a changed condition moves
// to the end and keeps its transition time while the status is the same.
func setCondition(conditions []v1alpha1.RolloutCondition, now time.Time, c condition) []v1alpha1.RolloutCondition {
	old, ok := findCondition(conditions, c.kind)
	if ok && string(old.Status) == c.status && old.Reason == c.reason && old.Message == c.message {
		return conditions
	}
	return putCondition(conditions, now, c)
}

// putCondition is setCondition that always moves the update time.
func putCondition(conditions []v1alpha1.RolloutCondition, now time.Time, c condition) []v1alpha1.RolloutCondition {
	at := metav1.NewTime(now)
	fresh := v1alpha1.RolloutCondition{
		Type: c.kind, Status: metav1.ConditionStatus(c.status), Reason: c.reason, Message: c.message,
		LastUpdateTime: at, LastTransitionTime: at,
	}
	if old, ok := findCondition(conditions, c.kind); ok && old.Status == fresh.Status {
		fresh.LastTransitionTime = old.LastTransitionTime
	}
	return append(dropCondition(conditions, c.kind), fresh)
}

func findCondition(conditions []v1alpha1.RolloutCondition, kind string) (v1alpha1.RolloutCondition, bool) {
	for _, c := range conditions {
		if c.Type == kind {
			return c, true
		}
	}
	return v1alpha1.RolloutCondition{}, false
}

// dropCondition leaves what it is given as it was; what is appended to its result goes into another array.
func dropCondition(conditions []v1alpha1.RolloutCondition, kind string) []v1alpha1.RolloutCondition {
	if _, has := findCondition(conditions, kind); !has {
		return slices.Clip(conditions)
	}
	return slices.DeleteFunc(slices.Clone(conditions), func(c v1alpha1.RolloutCondition) bool { return c.Type == kind })
}

func claim(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// conditions computes all conditions from the outcome.
func (d *draft) conditions(f facts, s *v1alpha1.RolloutStatus) {
	c := dropCondition(f.Rollout.Status.Conditions, v1alpha1.ConditionInvalidSpec)
	set := func(kind string, status bool, reason, message string) {
		c = setCondition(c, f.Now, condition{kind, claim(status), reason, message})
	}
	stopped := f.Rollout.Spec.Paused || len(s.PauseConditions) > 0
	before, _ := findCondition(c, v1alpha1.ConditionPaused)
	if _, had := findCondition(c, v1alpha1.ConditionPaused); !s.Abort && (had || stopped) {
		set(v1alpha1.ConditionPaused, stopped, "RolloutPaused", "the rollout is paused")
		if wasStopped := before.Status == metav1.ConditionTrue; stopped && !wasStopped {
			d.events = append(d.events, Event{Reason: "RolloutPaused", Message: "the rollout is paused"})
		} else if !stopped && wasStopped {
			d.events = append(d.events, Event{Reason: "RolloutResumed", Message: "the rollout is resumed"})
		}
	}
	available := s.AvailableReplicas >= f.replicas
	set(v1alpha1.ConditionAvailable, available, "AvailableReason", map[bool]string{true: "enough pods are available", false: "not enough pods are available"}[available])
	completed := f.promoted()
	if was, ok := findCondition(c, v1alpha1.ConditionCompleted); ok && was.Status == metav1.ConditionTrue && !completed {
		d.events = append(d.events, Event{Reason: "RolloutNotCompleted", Message: "an update has begun"})
	}
	set(v1alpha1.ConditionCompleted, completed, "RolloutCompleted", "RolloutCompleted")
	if d.evidence.Message != "" && f.idle() {
		c = setCondition(c, f.Now, condition{v1alpha1.ConditionTrafficVerified, "Unknown", d.evidence.Reason, d.evidence.Message})
	} else if d.evidence.Message != "" {
		old, _ := findCondition(c, v1alpha1.ConditionTrafficVerified)
		d.overdue(f, old)
		set(v1alpha1.ConditionTrafficVerified, false, d.evidence.Reason, d.evidence.Message)
		if d.evidence.Open && !unanswered(old) {
			c[len(c)-1].LastTransitionTime = metav1.NewTime(f.Now) // It is another wait, and its clock begins now.
		}
	} else {
		set(v1alpha1.ConditionTrafficVerified, true, "WeightSeen", "AWS shows the intended split in every rule")
	}
	if d.evidence.Reason == v1alpha1.ConditionTrafficContested {
		if _, had := findCondition(c, v1alpha1.ConditionTrafficContested); !had {
			d.events = append(d.events, Event{Warning: true, Reason: v1alpha1.ConditionTrafficContested, Message: d.evidence.Message})
		}
		set(v1alpha1.ConditionTrafficContested, true, v1alpha1.ConditionTrafficContested, d.evidence.Message)
	} else {
		c = dropCondition(c, v1alpha1.ConditionTrafficContested)
	}
	c = d.stableLost(f, c)
	c = replicaFailure(c, f)
	healthy := !stopped && d.healthy(f, s)
	if _, had := findCondition(c, v1alpha1.ConditionHealthy); had || healthy {
		set(v1alpha1.ConditionHealthy, healthy, "RolloutHealthy", map[bool]string{true: "the rollout is healthy", false: "the rollout is not healthy"}[healthy])
	}
	s.Conditions = d.progressing(f, s, c, stopped, healthy)
}

// healthy is the condition of that name: everything is at its place, the old version is gone.
func (d *draft) healthy(f facts, s *v1alpha1.RolloutStatus) bool {
	return f.promoted() && s.UpdatedReplicas == f.replicas && s.AvailableReplicas == f.replicas && s.Replicas == f.replicas &&
		f.Rollout.Status.ObservedGeneration == generation(f.Snapshot) && d.atRest(f)
}

// atRest: all traffic is at the stable version, AWS shows it, and its targets are healthy.
func (d *draft) atRest(f facts) bool {
	return f.idle() || d.evidence.Message == "" && f.recorded() == 0 && f.shown() == "" &&
		(f.replicas == 0 || f.healthy(f.strategy.StableService, f.status.StableRS) >= f.threshold(f.replicas))
}

// idle: the rollout was healthy, nothing has been asked of it or written since, and only AWS cannot be read
// now. What was last seen is what is intended.
func (f facts) idle() bool {
	old := f.Rollout.Status
	if f.unseen() == "" || !f.promoted() || f.recorded() != 0 || old.Phase != v1alpha1.PhaseHealthy || old.ObservedGeneration != generation(f.Snapshot) {
		return false
	}
	for _, e := range f.status.Traffic {
		if e.Since == nil || !maps.Equal(e.Weights, e.Intended) {
			return false
		}
	}
	return true
}

// progressing is the condition of that name, which carries the progress clock in its update time.
func (d *draft) progressing(f facts, s *v1alpha1.RolloutStatus, c []v1alpha1.RolloutCondition, stopped, healthy bool) []v1alpha1.RolloutCondition {
	const kind = v1alpha1.ConditionProgressing
	old, had := findCondition(c, kind)
	set := func(status, reason, message string) []v1alpha1.RolloutCondition {
		return setCondition(c, f.Now, condition{kind, status, reason, message})
	}
	switch {
	case s.Abort:
		if old.Reason != "RolloutAborted" {
			d.events = append(d.events, Event{Warning: true, Reason: "RolloutAborted", Message: fmt.Sprintf("revision %d is aborted", f.nextRevision())})
		}
		return set("False", "RolloutAborted", fmt.Sprintf("revision %d is aborted", f.nextRevision()))
	case old.Reason == "RolloutAborted":
		return set("Unknown", "RolloutRetry", "the update is tried again")
	case stopped:
		return set("Unknown", "RolloutPaused", "the rollout is paused")
	case old.Reason == "RolloutPaused":
		return set("Unknown", "RolloutResumed", "the rollout is resumed")
	case f.next == nil:
		return set("True", "NewReplicaSetCreated", fmt.Sprintf("created ReplicaSet %s-%s", f.Rollout.Name, f.Rollout.Hash))
	case !had:
		return set("True", "FoundNewReplicaSet", fmt.Sprintf("found ReplicaSet %s", f.next.Name))
	case healthy:
		return set("True", "NewReplicaSetAvailable", fmt.Sprintf("ReplicaSet %s has progressed", f.next.Name))
	case progressMade(f.Rollout.Status, *s):
		return putCondition(c, f.Now, condition{kind, "True", "ReplicaSetUpdated", fmt.Sprintf("ReplicaSet %s is progressing", f.next.Name)})
	case old.Reason == "NewReplicaSetAvailable":
		return set("True", "ReplicaSetNotAvailable", fmt.Sprintf("ReplicaSet %s is not available", f.next.Name))
	}
	if d.evidence.Message == "" && timedOut(f) {
		return set("False", "ProgressDeadlineExceeded", fmt.Sprintf("ReplicaSet %s has made no progress: %s", f.next.Name, d.wait.Message))
	}
	if !f.promoted() && d.evidence.Message == "" && old.Reason != "ProgressDeadlineExceeded" {
		d.wait.Again = earlier(d.wait.Again, deadline(f, old).Add(time.Second))
	}
	return c
}

// progressMade: something moved on since the last publication; seeing AWS's answer counts, since the
// clock stands still while it is awaited (law 4).
func progressMade(old, now v1alpha1.RolloutStatus) bool {
	was, _ := findCondition(old.Conditions, v1alpha1.ConditionTrafficVerified)
	is, _ := findCondition(now.Conditions, v1alpha1.ConditionTrafficVerified)
	index := func(s v1alpha1.RolloutStatus) int32 {
		if s.CurrentStepIndex == nil {
			return -1
		}
		return *s.CurrentStepIndex
	}
	return old.UpdatedReplicas != now.UpdatedReplicas || now.Replicas-now.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		now.ReadyReplicas > old.ReadyReplicas || now.AvailableReplicas > old.AvailableReplicas ||
		old.StableRS != now.StableRS || old.CurrentStepHash != now.CurrentStepHash || index(old) != index(now) ||
		was.Status == metav1.ConditionFalse && is.Status == metav1.ConditionTrue
}

// overdue makes a wait for AWS's answer louder when it has lasted too long: never does it end by itself (law 4).
func (d *draft) overdue(f facts, old v1alpha1.RolloutCondition) {
	limit := f.evidenceTimeout()
	if !d.evidence.Open || !unanswered(old) {
		return
	}
	if end := old.LastTransitionTime.Add(limit); end.After(f.Now) {
		d.wait.Again = earlier(d.wait.Again, end)
		return
	}
	told := fmt.Sprintf("%s; waited for since %s, which is longer than %s", d.evidence.Message, old.LastTransitionTime.UTC().Format(time.RFC3339), limit)
	if old.Reason != v1alpha1.ReasonEvidenceOverdue {
		d.events = append(d.events, Event{Warning: true, Reason: v1alpha1.ReasonEvidenceOverdue, Message: told})
	}
	if d.wait.Message == d.evidence.Message {
		d.wait.Reason, d.wait.Message = v1alpha1.ReasonEvidenceOverdue, told
	}
	d.evidence.Reason, d.evidence.Message = v1alpha1.ReasonEvidenceOverdue, told
}

// unanswered: the condition TrafficVerified tells of a wait for AWS's answer, and not for a time that is known.
func unanswered(c v1alpha1.RolloutCondition) bool {
	return c.Status == metav1.ConditionFalse && slices.Contains([]string{"NoEvidence", "WeightNotSeen", v1alpha1.ReasonEvidenceOverdue}, c.Reason)
}

// evidenceTimeout is the rollout's own, or else as long as it may make no progress.
func (f facts) evidenceTimeout() time.Duration {
	if t := f.Settings.EvidenceTimeout; t > 0 {
		return t
	}
	return f.progressDeadline()
}

// timedOut: the published progress clock has run out. It does not run for a promoted rollout, a pause, or
// while evidence is awaited.
func timedOut(f facts) bool {
	old := f.Rollout.Status.Conditions
	verified, _ := findCondition(old, v1alpha1.ConditionTrafficVerified)
	paused, _ := findCondition(old, v1alpha1.ConditionPaused)
	c, ok := findCondition(old, v1alpha1.ConditionProgressing)
	switch {
	case !ok || f.promoted() || verified.Status == metav1.ConditionFalse || paused.Status == metav1.ConditionTrue:
		return false
	case c.Reason == "ProgressDeadlineExceeded":
		return true
	case c.Reason == "RolloutAborted" || c.Reason == "RolloutPaused":
		return false
	}
	return deadline(f, c).Before(f.Now)
}

func deadline(f facts, c v1alpha1.RolloutCondition) time.Time {
	return c.LastUpdateTime.Add(f.progressDeadline())
}

func (f facts) progressDeadline() time.Duration {
	if s := f.Rollout.Spec.ProgressDeadlineSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return defaultDeadline
}

// replicaFailure copies the failure of the new ReplicaSet, else of any.
func replicaFailure(c []v1alpha1.RolloutCondition, f facts) []v1alpha1.RolloutCondition {
	failing := f.next
	for i := range f.ReplicaSets {
		if failing == nil || failing.Failure == "" {
			failing = &f.ReplicaSets[i]
		}
	}
	if failing == nil || failing.Failure == "" {
		return dropCondition(c, v1alpha1.ConditionReplicaFailure)
	}
	return setCondition(c, f.Now, condition{v1alpha1.ConditionReplicaFailure, "True", failing.FailureReason, failing.Failure})
}

// phase is the one word for a rollout; the first line that fits counts.
func (d *draft) phase(f facts) (phase, message string) {
	s := f.status
	for _, c := range s.Conditions {
		if c.Reason == "RolloutAborted" || c.Reason == "ProgressDeadlineExceeded" {
			return v1alpha1.PhaseDegraded, c.Reason + ": " + c.Message
		}
	}
	progressing := func(message string) (string, string) { return v1alpha1.PhaseProgressing, message }
	switch {
	case f.Rollout.Spec.Paused:
		return v1alpha1.PhasePaused, "manually paused"
	case len(s.PauseConditions) > 0 && f.inPlace():
		return v1alpha1.PhasePaused, s.PauseConditions[0].Reason
	case f.restartAsked():
		return progressing("restarting pods" + d.because())
	case s.UpdatedReplicas < f.replicas:
		return progressing("more replicas need to be updated" + d.because())
	case s.AvailableReplicas < s.UpdatedReplicas:
		return progressing("updated replicas are not yet available")
	case !f.promoted():
		return progressing("waiting for all steps to complete" + d.because())
	case !d.atRest(f):
		return progressing("waiting for all traffic at the stable version" + d.because())
	}
	return v1alpha1.PhaseHealthy, ""
}

// inPlace: the step's weight is intended, and AWS has shown it since it was written. A pause that the canary has
// given its share back in is not reported as one (law 4).
func (f facts) inPlace() bool {
	for _, e := range f.status.Traffic {
		if e.Since == nil || !maps.Equal(e.Weights, e.Intended) {
			return false
		}
	}
	return f.recorded() == f.stepWeight(f.stepIndex()) && !f.displaced()
}

func (d *draft) because() string {
	if d.wait.Message == "" {
		return ""
	}
	return ": " + d.wait.Message
}

// CreateFailed puts into a status that the ReplicaSet of the present template could not be created.
func CreateFailed(status *v1alpha1.RolloutStatus, now time.Time, message string) {
	status.Conditions = setCondition(status.Conditions, now, condition{v1alpha1.ConditionProgressing, "False", "ReplicaSetCreateError", message})
}

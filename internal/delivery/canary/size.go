package canary

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Delays of the original when the spec names none.
const (
	defaultScaleDownDelay = 30 * time.Second
	defaultAbortDelay     = 30 * time.Second
)

// share rounds a percentage of the replicas up.
func (f facts) share(percent int32) int32 {
	return (percent*f.replicas + totalWeight - 1) / totalWeight
}

// floor applies minPodsPerReplicaSet to a computed count.
func (f facts) floor(n int32) int32 {
	if n > 0 && f.strategy.MinPodsPerReplicaSet != nil {
		return max(n, min(*f.strategy.MinPodsPerReplicaSet, f.replicas))
	}
	return n
}

// canaryScale is the setCanaryScale that applies at the present step, nil without one.
func (f facts) canaryScale() *v1alpha1.SetCanaryScale {
	if f.stepsDone() || f.status.Abort {
		return nil
	}
	for i := f.stepIndex(); i >= 0; i-- {
		if s := f.strategy.Steps[i].SetCanaryScale; s != nil {
			if s.MatchTrafficWeight {
				return nil
			}
			return s
		}
	}
	return nil
}

// canarySize is the number of pods that the new version needs to carry a weight at the present step.
func (f facts) canarySize(weight int32) int32 {
	if f.replicas == 0 {
		return 0 // Whatever setCanaryScale says: no pods are wanted.
	}
	if f.status.PromoteFull && !f.status.Abort || f.promoted() || f.stepsDone() && !f.status.Abort {
		return f.replicas
	}
	switch s := f.canaryScale(); {
	case s == nil:
		return f.floor(f.share(weight))
	case s.Replicas != nil:
		if f.strategy.DynamicStableScale {
			return f.floor(*s.Replicas)
		}
		return *s.Replicas
	case s.Weight != nil:
		return f.floor(f.share(*s.Weight))
	default:
		return f.floor(f.share(weight))
	}
}

// nextSize is what the new ReplicaSet should have now. It never falls below what the weight needs that
// was last intended or that AWS still shows.
func (f facts) nextSize() int32 {
	weight := f.stepWeight(f.stepIndex())
	if f.status.Abort {
		weight = 0
	}
	size := f.canarySize(weight)
	if s := f.canaryScale(); s == nil && f.canaryHash() == f.Rollout.Hash {
		size = max(size, f.floor(f.share(f.heaviest(f.strategy.CanaryService, f.recorded()))))
	}
	return size
}

// stableSize is what the stable ReplicaSet should have now.
func (f facts) stableSize() int32 {
	if !f.strategy.DynamicStableScale || f.promoted() || f.status.Abort || f.behind() {
		return f.replicas
	}
	// What traffic is to come back needs its pods first.
	wish, _ := f.wish()
	if f.lostCanary() {
		wish = 0
	}
	return f.floor(f.share(f.heaviest(f.strategy.StableService, totalWeight-min(wish, f.recorded()))))
}

// heaviest is the greatest weight of a Service among the intended one and those that AWS shows.
func (f facts) heaviest(service string, intended int32) int32 {
	for _, i := range f.Ingresses {
		for _, p := range i.Evidence.Placements {
			intended = max(intended, min(p.Weights[service], totalWeight))
		}
	}
	return intended
}

// threshold is the number of healthy pods that is enough for a desired count.
func (f facts) threshold(desired int32) int32 {
	t := f.strategy.ReplicaProgressThreshold
	switch {
	case t == nil || t.Value < 0:
		return desired
	case t.Type == "Percent":
		return (desired*t.Value + 99) / 100
	default:
		return min(desired, t.Value)
	}
}

// maxUnavailable is the number of pods that may be missing; any string is a percentage, rounded down.
func (f facts) maxUnavailable() int32 {
	u := resolve(f.strategy.MaxUnavailable, f.replicas, false)
	if u == 0 && resolve(f.strategy.MaxSurge, f.replicas, true) == 0 {
		u = 1
	}
	return min(u, f.replicas)
}

func resolve(v *intstr.IntOrString, total int32, up bool) int32 {
	if v == nil {
		v = &intstr.IntOrString{Type: intstr.String, StrVal: "25%"}
	}
	if v.Type == intstr.Int {
		return v.IntVal
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil {
		return 0
	}
	n := int32(percent) * total
	if up {
		n += 99
	}
	return n / 100
}

// atDesired: the counts that the step asks for are reached; otherwise what is missing.
func (f facts) atDesired() (Wait, bool) {
	want := f.canarySize(f.stepWeight(f.stepIndex()))
	if f.next == nil || f.next.Replicas < want && f.strategy.ReplicaProgressThreshold == nil || f.next.Available < f.threshold(want) {
		return Wait{Reason: "PodsNotAvailable", Message: fmt.Sprintf("%d of %d pods of the new version are available", available(f.next), want)}, false
	}
	if !f.strategy.DynamicStableScale && f.stable != nil && (f.stable.Replicas != f.replicas || f.stable.Current != f.replicas) {
		return Wait{Reason: "StableNotScaled", Message: fmt.Sprintf("the stable version has %d of %d pods", f.stable.Current, f.replicas)}, false
	}
	return Wait{}, true
}

// resized is the outcome of a look at one ReplicaSet.
type resized struct {
	ops   []Operation
	drain *v1alpha1.DrainStatus
	wait  Wait
}

// sizes looks at every ReplicaSet: stable first, then the new one, then the others.
func (f facts) sizes() []resized {
	var out []resized
	if f.stable != nil && !f.promoted() {
		out = append(out, f.resize(*f.stable, f.stableSize(), "carries the stable share"))
	}
	if f.next != nil {
		out = append(out, f.sizeNext())
	}
	waiting := 0
	for _, rs := range f.others {
		if !rs.ScaleDownDeadline.IsZero() && rs.ScaleDownDeadline.After(f.Now) {
			waiting++
		}
		out = append(out, f.sizeOther(rs, &waiting))
	}
	return out
}

// sizeNext sizes the ReplicaSet of the present template.
func (f facts) sizeNext() resized {
	rs := *f.next
	switch {
	case f.promoted():
		return f.resize(rs, f.replicas, "is the stable version")
	case f.status.Abort:
		return f.sizeAborted(rs)
	case rs.Replicas < f.nextSize() && f.canaryHash() != rs.Hash:
		// The Service comes first, so that pods get their readiness gates at admission.
		return resized{wait: Wait{Reason: "ServiceNotSwitched", Message: fmt.Sprintf("Service %s has to select the new version before its next pod", f.strategy.CanaryService)}}
	}
	r := f.resize(rs, f.nextSize(), fmt.Sprintf("step %d of %d", min(f.stepIndex()+1, int32(len(f.strategy.Steps))), len(f.strategy.Steps)))
	if !rs.ScaleDownDeadline.IsZero() {
		r.ops = append(r.ops, SetDeadline{Name: rs.Name, Reason: "the version is wanted again"})
	}
	return r
}

// sizeAborted keeps the aborted version for its delay and then takes it away.
func (f facts) sizeAborted(rs ReplicaSet) resized {
	delay, explicit := defaultAbortDelay, f.strategy.AbortScaleDownDelaySeconds != nil
	if explicit {
		delay = time.Duration(*f.strategy.AbortScaleDownDelaySeconds) * time.Second
	}
	switch {
	case rs.Replicas == 0 || explicit && delay == 0:
		return resized{}
	case f.strategy.DynamicStableScale && !explicit:
		return f.remove(rs, "the update is aborted")
	case rs.ScaleDownDeadline.IsZero():
		if available(f.stable) < f.replicas {
			return resized{wait: Wait{Reason: "StableNotAvailable", Message: fmt.Sprintf("%d of %d pods of the stable version are available", available(f.stable), f.replicas)}}
		}
		return resized{ops: []Operation{SetDeadline{Name: rs.Name, At: f.Now.Add(delay), Reason: "the update is aborted"}}}
	case rs.ScaleDownDeadline.After(f.Now):
		keep := Wait{Reason: "AbortDelay", Message: fmt.Sprintf("ReplicaSet %s is kept until %s", rs.Name, rs.ScaleDownDeadline.UTC().Format(time.TimeOnly)), Again: rs.ScaleDownDeadline}
		return resized{wait: keep, drain: f.remove(rs, "").drain}
	}
	return f.remove(rs, "the update is aborted and its delay is over")
}

// sizeOther takes an old version away: after promotion when its deadline has passed, else at once.
func (f facts) sizeOther(rs ReplicaSet, waiting *int) resized {
	switch {
	case rs.Replicas == 0:
		return resized{}
	case f.replicas == 0:
		return f.shrink(rs, 0, "no pods are wanted") // Nobody will stand in for them: they leave by the mark.
	}
	keep := Wait{Reason: "ScaleDownDelay", Message: fmt.Sprintf("ReplicaSet %s is kept until %s", rs.Name, rs.ScaleDownDeadline.UTC().Format(time.TimeOnly)), Again: rs.ScaleDownDeadline}
	if !rs.ScaleDownDeadline.IsZero() {
		limit := f.strategy.ScaleDownDelayRevisionLimit
		if rs.ScaleDownDeadline.After(f.Now) && (limit == nil || int32(*waiting) <= *limit) && f.replicas > 0 {
			return resized{wait: keep, drain: f.remove(rs, "").drain}
		}
		return f.remove(rs, "its scale-down delay is over")
	}
	if !f.promoted() || f.replicas == 0 {
		return f.remove(rs, "it is neither the stable nor the new version")
	}
	if w, ok := f.pass(splitShown); !ok || f.recorded() != 0 {
		// The way back stays open until the new version has taken all traffic (law 8).
		return resized{wait: w}
	}
	delay := defaultScaleDownDelay
	if s := f.strategy.ScaleDownDelaySeconds; s != nil {
		delay = time.Duration(*s) * time.Second
	}
	limit := f.strategy.ScaleDownDelayRevisionLimit
	if f.strategy.DynamicStableScale || delay == 0 || limit != nil && int32(*waiting) >= *limit {
		return f.remove(rs, "the new version has all traffic")
	}
	*waiting++
	return resized{ops: []Operation{SetDeadline{Name: rs.Name, At: f.Now.Add(delay), Reason: "the new version has all traffic"}}}
}

// remove scales a ReplicaSet to 0 when nothing can reach its pods any more (law 2): no Service selects it,
// AWS has not named one of its targets as live for the settle time, and names none at all now. A short
// deregistration delay is over before the last node has heard of the deregistration.
func (f facts) remove(rs ReplicaSet, reason string) resized {
	op := f.scale(rs, 0, reason)
	if !lawTwo {
		return resized{ops: []Operation{op}}
	}
	if w, ok := f.pass(unselected(rs)); !ok {
		return resized{wait: w}
	}
	leaving := leaving(rs, 0)
	r := resized{drain: &v1alpha1.DrainStatus{PodTemplateHash: rs.Hash, Pods: int32(len(leaving)), MarkedAt: new(metav1.NewMicroTime(f.Now))}}
	if old := f.drain(rs.Hash); old != nil && old.MarkedAt != nil {
		r.drain.MarkedAt, r.drain.Since = old.MarkedAt, old.Since
	}
	if w, ok := f.pass(evidenceKnown); !ok {
		r.wait = w
		r.wait.Evidence = false // It leaves in the background; nothing waits for it.
		return r
	}
	if len(leaving) > 0 {
		r = f.finishShrink(r, op, leaving)
		if len(r.ops) == 0 {
			r.wait.Evidence = false
			return r
		}
	}
	if w, ok := f.pass(gone(rs), confirmedBy(op.String())); !ok {
		w.Evidence = false
		r.ops, r.wait = nil, w
		return r
	}
	r.ops = []Operation{op}
	return r
}

func (f facts) scale(rs ReplicaSet, to int32, reason string) ScaleReplicaSet {
	return ScaleReplicaSet{Name: rs.Name, Hash: rs.Hash, From: rs.Replicas, To: to, DesiredReplicas: f.replicas, Reason: Reason(reason)}
}

// resize brings a ReplicaSet that a Service selects to a size: up at once, down pod by drained pod.
func (f facts) resize(rs ReplicaSet, to int32, reason string) resized {
	marked := marks(rs)
	if to >= rs.Replicas {
		var r resized
		// While the ReplicaSet controller has still to delete pods, the marks tell it which.
		if len(marked) > 0 && alive(rs) <= int(rs.Replicas) {
			r.ops = append(r.ops, MarkPods{ReplicaSet: rs.Name, Pods: marked, Reason: "the pods are wanted again"})
		}
		if to > rs.Replicas {
			r.ops = append(r.ops, f.scale(rs, to, reason))
		}
		return r
	}
	return f.shrink(rs, to, reason)
}

// shrink marks the pods that the ReplicaSet controller would delete first, waits until AWS no longer
// names them and every node has heard of it, and then scales down (law 2).
func (f facts) shrink(rs ReplicaSet, to int32, reason string) resized {
	leaving := leaving(rs, to)
	if op := f.scale(rs, to, reason); len(leaving) == 0 || !lawTwo {
		return resized{ops: []Operation{op}} // The pods have not been created yet.
	}
	gates := []gate{weightsSettled}
	if to == 0 && f.replicas > 0 {
		gates = append(gates, nobodySticks(rs.Hash))
	}
	if w, ok := f.pass(gates...); !ok {
		return resized{wait: w, drain: f.drain(rs.Hash)}
	}
	value := evidence.DrainWhenCovered
	if to == 0 {
		value = evidence.DrainAnyway
	}
	var r resized
	var mark, keep []PodName
	for _, p := range rs.Pods {
		name := PodName{Name: p.Name, UID: p.UID}
		goes := slices.Contains(leaving, p.UID)
		switch {
		case goes && p.Drain != value:
			mark = append(mark, name)
		case !goes && p.Drain != "" && !p.Terminating:
			keep = append(keep, name)
		}
	}
	if len(keep) > 0 {
		r.ops = append(r.ops, MarkPods{ReplicaSet: rs.Name, Pods: keep, Reason: "others go instead"})
	}
	r.drain = &v1alpha1.DrainStatus{PodTemplateHash: rs.Hash, Pods: int32(len(leaving))}
	if len(mark) > 0 {
		act := fmt.Sprintf("drain %d pods of ReplicaSet %s", len(mark), rs.Name)
		if w, ok := f.pass(evidenceKnown, confirmedBy(act)); !ok {
			r.wait = w
			r.wait.Evidence = false
			return r
		}
		r.ops = append(r.ops, MarkPods{ReplicaSet: rs.Name, Pods: mark, Value: value, Reason: Reason(fmt.Sprintf("%s: %d pods are enough", reason, to))})
		r.drain.MarkedAt = new(metav1.NewMicroTime(f.Now))
		return r
	}
	if old := f.drain(rs.Hash); old != nil && old.Pods == r.drain.Pods && old.MarkedAt != nil {
		r.drain = old
	} else {
		r.drain.MarkedAt = new(metav1.NewMicroTime(f.Now))
	}
	return f.finishShrink(r, f.scale(rs, to, reason), leaving)
}

// finishShrink scales down when the marked pods have been out of reach for the settle time.
func (f facts) finishShrink(r resized, op ScaleReplicaSet, leaving []string) resized {
	if w, ok := f.pass(evidenceKnown); !ok {
		r.wait = w
		return r
	}
	// Each group was read at its own time: all of them after the marks, and the last one began when no live
	// target had been left in any.
	live, held, seen, last := 0, 0, f.Now, time.Time{}
	for _, i := range f.Ingresses {
		if i.Evidence.SeenAt.Before(seen) {
			seen = i.Evidence.SeenAt
		}
		for _, g := range i.Evidence.Groups {
			at := g.SeenAt
			if at.IsZero() {
				at = i.Evidence.SeenAt
			}
			if at.Before(seen) {
				seen = at
			}
			if at.After(last) {
				last = at
			}
			for _, t := range g.Targets {
				if slices.Contains(leaving, t.PodUID) {
					held++
					if t.Live() {
						live++
					}
				}
			}
		}
	}
	if last.IsZero() { // no group: nothing can reach the pods
		last = seen
	}
	if live > 0 || !seen.After(r.drain.MarkedAt.Time) {
		r.drain.Since = nil
		r.wait = f.watchTargets(Wait{Reason: "Draining", Message: fmt.Sprintf("%d of %d pods of ReplicaSet %s that are to go are still targets", live, len(leaving), op.Name)})
		return r
	}
	if r.drain.Since == nil {
		r.drain.Since = new(metav1.NewMicroTime(last))
	}
	end := r.drain.Since.Add(f.Settings.Settle)
	switch {
	case held > 0:
		r.wait = f.watchTargets(Wait{Reason: "Draining", Message: fmt.Sprintf("%d pods of ReplicaSet %s are draining", held, op.Name)})
	case end.After(f.Now) && f.reachable():
		r.wait = Wait{Reason: "Draining", Message: fmt.Sprintf("pods of ReplicaSet %s are deregistered; the last node has heard of it at %s", op.Name, end.UTC().Format(time.TimeOnly)), Again: end}
	default:
		w, ok := f.pass(confirmedBy(op.String()))
		if !ok {
			w.Evidence = false
			r.wait = w
			return r
		}
		r.ops = append(r.ops, op)
	}
	return r
}

// reachable: some load balancer exists, so that requests can arrive.
func (f facts) reachable() bool {
	for _, i := range f.Ingresses {
		if !i.carriesNothing() {
			return true
		}
	}
	return false
}

func (f facts) drain(hash string) *v1alpha1.DrainStatus {
	for _, d := range f.Rollout.Status.Drains {
		if d.PodTemplateHash == hash {
			return d.DeepCopy()
		}
	}
	return nil
}

// marks are the pods with a drain mark.
func marks(rs ReplicaSet) []PodName {
	var out []PodName
	for _, p := range rs.Pods {
		if p.Drain != "" && !p.Terminating {
			out = append(out, PodName{Name: p.Name, UID: p.UID})
		}
	}
	return out
}

// alive is the number of pods that are not being deleted.
func alive(rs ReplicaSet) int {
	n := 0
	for _, p := range rs.Pods {
		if !p.Terminating {
			n++
		}
	}
	return n
}

// leaving are the UIDs of the pods that go when the ReplicaSet shrinks: the same order in which the
// ReplicaSet controller deletes (not scheduled, not running, not ready, lowest deletion cost, which the
// mark carries, then the youngest), so that it deletes exactly these.
func leaving(rs ReplicaSet, to int32) []string {
	var alive []Pod
	for _, p := range rs.Pods {
		if !p.Terminating {
			alive = append(alive, p)
		}
	}
	slices.SortStableFunc(alive, func(a, b Pod) int {
		return cmp.Or(
			falseFirst(a.Scheduled, b.Scheduled), falseFirst(a.Running, b.Running), falseFirst(a.Ready, b.Ready),
			falseFirst(a.Drain == "", b.Drain == ""), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.UID, b.UID))
	})
	var out []string
	for _, p := range alive[:max(0, min(len(alive), len(alive)-int(to)))] {
		out = append(out, p.UID)
	}
	return out
}

// falseFirst orders false before true.
func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

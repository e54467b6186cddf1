package canary

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

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
	leaving := leaving(rs, 0, time.Time{})
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

// shrink marks the pods that the ReplicaSet controller would delete first, waits until AWS no longer
// names them and every node has heard of it, and then scales down (law 2).
func (f facts) shrink(rs ReplicaSet, to int32, reason string) resized {
	leaving := leaving(rs, to, f.restartBefore())
	if op := f.scale(rs, to, reason); len(leaving) == 0 || !lawTwo {
		return resized{ops: []Operation{op}} // The pods have not been created yet.
	}
	gates := []gate{stopped(rs), weightsSettled}
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
		goes := leaving[p.UID]
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
func (f facts) finishShrink(r resized, op ScaleReplicaSet, leaving uids) resized {
	if w, ok := f.pass(evidenceKnown); !ok {
		r.wait = w
		return r
	}
	// Each group was read at its own time: all of them after the marks, and the last one began when no live
	// target had been left in any.
	// A pod may be a target of several groups, and counts once.
	live, held, seen, last := uids{}, uids{}, f.Now, time.Time{}
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
				if leaving[t.PodUID] {
					held[t.PodUID] = true
					if t.Live() {
						live[t.PodUID] = true
					}
				}
			}
		}
	}
	if last.IsZero() { // no group: nothing can reach the pods
		last = seen
	}
	// A pod that was made since then may have got an address that was still registered, and may have served.
	after := r.drain.MarkedAt.Time
	if born := newest(f.replicaSet(op.Hash), leaving); born.After(after) {
		after = born
	}
	if since := r.drain.Since; since != nil && since.Time.Before(after) {
		r.drain.Since = nil
	}
	if len(live) > 0 || !seen.After(after) {
		r.drain.Since = nil
		if len(live) == 0 { // Only the reads are too old, and the wait begins with newer ones.
			r.wait = f.watch(Wait{Reason: "Draining", Message: fmt.Sprintf("%d pods of ReplicaSet %s have left; AWS is asked once more", len(leaving), op.Name)})
			return r
		}
		r.wait = f.watchTargets(Wait{Reason: "Draining", Message: fmt.Sprintf("%d of %d pods of ReplicaSet %s that are to go are still targets", len(live), len(leaving), op.Name)})
		return r
	}
	if r.drain.Since == nil {
		r.drain.Since = new(metav1.NewMicroTime(last))
	}
	end := r.drain.Since.Add(f.Settings.Settle)
	switch {
	case len(held) > 0:
		r.wait = f.watchTargets(Wait{Reason: "Draining", Message: fmt.Sprintf("%d pods of ReplicaSet %s are draining", len(held), op.Name)})
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

// newest is when the last of these pods was made that run; what does not run has no requests to lose.
func newest(rs *ReplicaSet, of uids) time.Time {
	var at time.Time
	for _, p := range podsOf(rs) {
		if p.Running && p.CreatedAt.After(at) && of[p.UID] {
			at = p.CreatedAt
		}
	}
	return at
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

// drainsOfOthers are the drains of versions that are neither stable nor new: their waits go on.
func (f facts) drainsOfOthers() []v1alpha1.DrainStatus {
	var out []v1alpha1.DrainStatus
	for _, rs := range f.others {
		if d := f.drain(rs.Hash); d != nil {
			out = append(out, *d)
		}
	}
	return out
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

// stopped: the ReplicaSet controller has stopped the pods of the last scale-down. It would as well choose pods that
// are marked meanwhile, which are still targets.
func stopped(rs ReplicaSet) gate {
	return func(f facts) (Wait, bool) {
		if n := alive(rs) - int(rs.Replicas); n > 0 {
			return Wait{Reason: "Draining", Message: fmt.Sprintf("%d pods of ReplicaSet %s are being stopped", n, rs.Name)}, false
		}
		return Wait{}, true
	}
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

// uids are those of some pods: there may be thousands, and each target is looked up.
type uids map[string]bool

// leaving are the UIDs of the pods that go when the ReplicaSet shrinks: the same order in which the
// ReplicaSet controller deletes (not scheduled, not running, not ready, lowest deletion cost, which the
// mark carries, then the youngest), so that it deletes exactly these. Among those without a mark the pods
// from before a restart come first: they are marked before the ReplicaSet controller has to choose.
func leaving(rs ReplicaSet, to int32, restart time.Time) uids {
	var alive []Pod
	for _, p := range rs.Pods {
		if !p.Terminating {
			alive = append(alive, p)
		}
	}
	slices.SortStableFunc(alive, func(a, b Pod) int {
		return cmp.Or(
			falseFirst(a.Scheduled, b.Scheduled), falseFirst(a.Running, b.Running), falseFirst(a.Ready, b.Ready),
			falseFirst(a.Drain == "", b.Drain == ""), falseFirst(!a.CreatedAt.Before(restart), !b.CreatedAt.Before(restart)), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.UID, b.UID))
	})
	out := uids{}
	for _, p := range alive[:max(0, min(len(alive), len(alive)-int(to)))] {
		out[p.UID] = true
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

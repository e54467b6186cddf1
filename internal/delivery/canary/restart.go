package canary

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// A restart replaces the pods from before spec.restartAt without the stable version or the canary ever
// having fewer than they should: some pods more, which have to become available, and then as many of the old
// ones leave like those of any ReplicaSet that shrinks (marked, deregistered, settled). maxUnavailable says
// how many start at a time. So one pod, too, is replaced without a gap, and nothing is evicted.
//
// Leaving takes minutes (deregistration delay, settle time), starting takes seconds. So the next pods start
// while the old ones that they do not replace still leave, and stand in for as many when those are gone: a
// restart takes about as long as its pods need to start, maxUnavailable at a time.
//
//	4 old -> 4 old + 1 new -> 3 old (1 drains) + 1 new -> 3 old (1 drains) + 3 new -> 3 old + 3 new
//	-> 1 old (2 drain) + 3 new -> ... -> 4 new: restartedAt

// restartAsked: spec.restartAt has not been carried out.
func (f facts) restartAsked() bool {
	at := f.Rollout.Spec.RestartAt
	return at != nil && (f.status.RestartedAt == nil || !f.status.RestartedAt.Equal(at))
}

// restartDue: and its time has come.
func (f facts) restartDue() bool {
	return f.restartAsked() && !f.Rollout.Spec.RestartAt.After(f.Now)
}

// restartBefore is the time before which pods were created that are to be replaced; zero without a restart.
func (f facts) restartBefore() time.Time {
	if !f.restartDue() {
		return time.Time{}
	}
	return f.Rollout.Spec.RestartAt.Time
}

// restartWait asks to be looked at when a restart falls due.
func (f facts) restartWait() Wait {
	if !f.restartAsked() || f.restartDue() {
		return Wait{}
	}
	return Wait{Again: f.Rollout.Spec.RestartAt.Time}
}

// stale is the number of pods that a restart has to replace.
func (f facts) stale(rs *ReplicaSet) int32 {
	n := int32(0)
	for _, p := range podsOf(rs) {
		if !p.Terminating && p.CreatedAt.Before(f.restartBefore()) {
			n++
		}
	}
	return n
}

func podsOf(rs *ReplicaSet) []Pod {
	if rs == nil {
		return nil
	}
	return rs.Pods
}

// restarted says in the status that a restart is done: no pod from before it is left that will stay. Versions
// on their way out are not waited for.
func (p *progressed) restarted() {
	if !p.restartDue() || p.stale(p.stable) > 0 || !p.status.Abort && p.stale(p.next) > 0 {
		return
	}
	p.status.RestartedAt = p.Rollout.Spec.RestartAt
}

// restart is the next move of a restart in a ReplicaSet that should have a size; false when there is none,
// and the ReplicaSet is sized as ever, the pods from before the restart first.
func (f facts) restart(rs ReplicaSet, to int32) (resized, bool) {
	stale, marked := f.stale(&rs), int32(len(marks(rs)))
	// spare are the new pods that no old one leaves for yet, left the old ones that nothing was done about.
	spare, left := rs.Replicas-marked-to, stale-f.staleMarked(rs)
	if stale == 0 || to == 0 || to > rs.Replicas || rs.DesiredReplicas != f.replicas || !f.restartsNow(rs) {
		return resized{}, false
	}
	if w, ok := f.pass(stopped(rs)); !ok {
		return resized{wait: w}, true
	}
	if spare < 0 || spare > left {
		return resized{}, false
	}
	wait, serving := f.pass(allServe(rs))
	var r resized
	if marked > 0 {
		r = f.replaced(rs, to)
		switch {
		case len(r.ops) > 0 || len(r.wait.Confirm) > 0:
			return r, true
		case r.drain.Since == nil:
			return r, true // While they are targets, a pod that starts would be one more that has to be healthy first.
		case !serving:
			r.wait = wait.and(r.wait)
		}
	} else {
		r.wait = wait
	}
	most := max(1, f.maxUnavailable())
	more := min(most, left-spare, f.restartSurge(to, most)-marked-spare)
	switch {
	case !serving:
	case marked == 0 && spare > 0:
		return resized{}, false // They stand in for as many old ones.
	case more > 0:
		why := fmt.Sprintf("pods from before %s are replaced", f.restartBefore().UTC().Format(time.RFC3339))
		r.ops = append(r.ops, f.scale(rs, rs.Replicas+more, why))
	}
	return r, true
}

// restartSurge is how many pods more than it should have a ReplicaSet has in a restart at most, those that drain
// included: as many again, like a rollout in an update. With dynamicStableScale, where an update has fewer, a
// quarter. At the least, some can start while as many drain.
func (f facts) restartSurge(to, most int32) int32 {
	if f.strategy.DynamicStableScale {
		to = (to + 3) / 4
	}
	return max(to, 2*most)
}

// staleMarked is the number of pods from before the restart that are on their way out.
func (f facts) staleMarked(rs ReplicaSet) int32 {
	n := int32(0)
	for _, p := range rs.Pods {
		if !p.Terminating && p.Drain != "" && p.CreatedAt.Before(f.restartBefore()) {
			n++
		}
	}
	return n
}

// roomGrace is how long a pod may take to find a node while old ones drain that may be in its way.
const roomGrace = 30 * time.Second

// and also looks when the other wait wants to.
func (w Wait) and(v Wait) Wait {
	w.Again = earlier(w.Again, v.Again)
	if w.Fresh.IsZero() {
		w.Fresh = v.Fresh
	}
	w.Confirm = append(w.Confirm, v.Confirm...)
	return w
}

// replaced takes the marked pods away when nothing can reach them any more, and the ReplicaSet controller would
// choose them: while pods run that are not ready, it would stop those. What has found no room goes too: the marked
// pods may have taken it.
func (f facts) replaced(rs ReplicaSet, least int32) resized {
	marked, roomless := uids{}, uids{}
	missing := int32(0)
	if rs.Failure != "" {
		missing = rs.Replicas - int32(alive(rs))
	}
	for _, p := range rs.Pods {
		switch {
		case p.Terminating:
		case p.Drain != "":
			marked[p.UID] = true
		case !p.Scheduled && f.Now.Sub(p.CreatedAt) >= roomGrace:
			roomless[p.UID] = true
		}
	}
	r := resized{drain: f.drain(rs.Hash)}
	if old := r.drain; old == nil || int(old.Pods) != len(marked) || old.MarkedAt == nil {
		r.drain = &v1alpha1.DrainStatus{PodTemplateHash: rs.Hash, Pods: int32(len(marked)), MarkedAt: new(metav1.NewMicroTime(f.Now))}
	}
	to := max(least, rs.Replicas-missing-int32(len(marked)+len(roomless)))
	r = f.finishShrink(r, f.scale(rs, to, "pods from before the restart have left"), marked)
	if len(r.ops) == 0 && len(r.wait.Confirm) == 0 {
		return r
	}
	for uid := range leaving(rs, to, f.restartBefore()) {
		if !marked[uid] && !roomless[uid] {
			r.ops = nil
			if ill := f.ailing(rs); len(ill) > 0 && len(ill) <= int(rs.Replicas)-len(marked)-int(least) {
				r.ops = []Operation{MarkPods{ReplicaSet: rs.Name, Pods: ill, Value: evidence.DrainWhenCovered, Reason: "they serve nobody and are in the way of those that have left"}}
				return r
			}
			r.wait = f.watch(Wait{Reason: "Restarting", Message: fmt.Sprintf("%d pods of ReplicaSet %s have left and are stopped when all others are ready", len(marked), rs.Name)})
			return r
		}
	}
	if len(r.ops) > 0 {
		r.drain = nil // The wait of the next ones is their own.
	}
	return r
}

// ailing are the pods that a restart has to replace and that are not ready: it need not wait for them, since they may
// be why somebody restarts.
func (f facts) ailing(rs ReplicaSet) []PodName {
	var out []PodName
	for _, p := range rs.Pods {
		if !p.Terminating && p.Drain == "" && !p.Ready && p.CreatedAt.Before(f.restartBefore()) {
			out = append(out, PodName{Name: p.Name, UID: p.UID})
		}
	}
	return out
}

// allServe: every pod that is not to go, and does not ail, is available, and healthy in the group of the Service that
// selects it, which other versions have left. Also where the group has no share: it is the way back (law 8).
func allServe(rs ReplicaSet) gate {
	return func(f facts) (Wait, bool) {
		service := f.strategy.StableService
		if rs.Hash != f.status.StableRS {
			service = f.strategy.CanaryService
		}
		ill := int32(len(f.ailing(rs)))
		if wanted := rs.Replicas - givenUp(rs) - ill; rs.Available < wanted || alive(rs) < int(rs.Replicas) {
			return Wait{Reason: "Restarting", Message: fmt.Sprintf("%d of %d pods of ReplicaSet %s are available, %d are still to be replaced", rs.Available, wanted, rs.Name, f.stale(&rs))}, false
		}
		if !f.reachable() {
			return Wait{}, true
		}
		return f.pass(evidenceKnown, aloneInGroup(service, rs.Hash), healthyAtLeast(service, rs.Hash, rs.Replicas-int32(len(marks(rs)))-ill))
	}
}

// givenUp is the number of pods that are marked to go and are no longer ready, or never were: nobody waits for
// them, since without their targets their readiness gates may never be met.
func givenUp(rs ReplicaSet) int32 {
	n := int32(0)
	for _, p := range rs.Pods {
		if !p.Terminating && p.Drain != "" && !p.Ready {
			n++
		}
	}
	return n
}

// restartsNow: the ReplicaSet's Service selects it, so that its new pods get their readiness gates; the
// stable version comes first.
func (f facts) restartsNow(rs ReplicaSet) bool {
	if rs.Hash == f.status.StableRS {
		return f.stableHash() == rs.Hash
	}
	return f.canaryHash() == rs.Hash && f.stale(f.stable) == 0
}

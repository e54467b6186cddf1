package canary

import (
	"fmt"
	"time"
)

// A restart replaces the pods from before spec.restartAt without the stable version or the canary ever
// having fewer than they should: some pods more, which have to become available, and then as many of the old
// ones leave like those of any ReplicaSet that shrinks (marked, deregistered, settled). maxUnavailable says
// how many at a time. So one pod, too, is replaced without a gap, and nothing is evicted.
//
//	4 old -> 4 old + 1 new -> 3 old (1 drained) + 1 new -> 3 old + 2 new -> ... -> 4 new: restartedAt

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
	stale := f.stale(&rs)
	if stale == 0 || to == 0 || rs.Replicas < to || rs.DesiredReplicas != f.replicas || !f.restartsNow(rs) {
		return resized{}, false
	}
	most := max(1, f.maxUnavailable())
	wait, serving := f.pass(allServe(rs))
	switch {
	case rs.Replicas > to+most:
		return resized{}, false // It is to shrink anyway.
	case !serving:
		return resized{wait: wait}, true
	case rs.Replicas == to:
		why := fmt.Sprintf("pods from before %s are replaced", f.restartBefore().UTC().Format(time.RFC3339))
		return resized{ops: []Operation{f.scale(rs, to+min(most, stale), why)}}, true
	}
	return resized{}, false
}

// allServe: every pod that is not to go is available, and healthy in the group of the Service that selects it,
// which other versions have left. Also where the group has no share: it is the way back (law 8).
func allServe(rs ReplicaSet) gate {
	return func(f facts) (Wait, bool) {
		service := f.strategy.StableService
		if rs.Hash != f.status.StableRS {
			service = f.strategy.CanaryService
		}
		if wanted := rs.Replicas - givenUp(rs); rs.Available < wanted || alive(rs) < int(rs.Replicas) {
			return Wait{Reason: "Restarting", Message: fmt.Sprintf("%d of %d pods of ReplicaSet %s are available, %d are still to be replaced", rs.Available, wanted, rs.Name, f.stale(&rs))}, false
		}
		if !f.reachable() {
			return Wait{}, true
		}
		return f.pass(evidenceKnown, aloneInGroup(service, rs.Hash), healthyAtLeast(service, rs.Hash, rs.Replicas-int32(len(marks(rs)))))
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

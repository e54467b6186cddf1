package canary

import "fmt"

// point re-points a Service when nothing that still gets requests leaves its group by that (laws 2, 3).
func (f facts) point(name string) ([]Operation, Wait) {
	service := f.service(name)
	canary := name == f.strategy.CanaryService
	to := f.status.StableRS
	if canary && !f.status.Abort && !f.promoted() {
		to = f.Rollout.Hash
	}
	if service.Hash == to {
		return nil, Wait{}
	}
	// The row "abort" and a rollback re-point in the background; an update waits for it.
	blocking := !canary || !f.status.Abort && !f.promoted()
	act := PointService{Service: name, From: service.Hash, To: to}
	gates := []gate{evidenceKnown}
	if canary {
		gates = append(gates, exists(to), f.leavesNothing(name, to), notOnItsWayOut(service, to))
		act.Reason = "the canary group is empty or has settled at weight 0"
	} else {
		gates = append(gates, exists(to), servesAtLeastOne(f.stable, f.replicas), f.replaceable(service, to))
		act.Reason = "the stable group is empty, covered, or has settled at weight 0"
		if f.displaced() {
			act.Reason = "somebody has pointed it at another version"
		}
	}
	if w, ok := f.pass(append(gates, confirmedBy(act.String()))...); !ok {
		w.Evidence = w.Evidence && blocking
		return nil, w
	}
	return []Operation{act}, Wait{}
}

// exists: the ReplicaSet is there.
func exists(hash string) gate {
	return func(f facts) (Wait, bool) {
		for _, rs := range f.ReplicaSets {
			if rs.Hash == hash {
				return Wait{}, true
			}
		}
		return Wait{Reason: "ReplicaSetMissing", Message: fmt.Sprintf("ReplicaSet hash %s has to exist first", hash)}, false
	}
}

// servesAtLeastOne: a Service is never pointed at nothing, unless nothing is wanted.
func servesAtLeastOne(rs *ReplicaSet, replicas int32) gate {
	return func(facts) (Wait, bool) {
		if replicas > 0 && available(rs) == 0 {
			return Wait{Reason: "PodsNotAvailable", Message: "the stable version has no available pod"}, false
		}
		return Wait{}, true
	}
}

// leavesNothing: the group has no live target of another version, or has settled at weight 0.
func (f facts) leavesNothing(service, to string) gate {
	if f.liveOthers(service, to) == 0 {
		return func(facts) (Wait, bool) { return Wait{}, true }
	}
	return settledAt(service, 0)
}

// notOnItsWayOut: the targets of a version do not just leave the group to which it is to return while clients stick
// to the group. The load balancer half may have sent more of their deregistrations than AWS shows, and would
// take away the others as soon as it took these for targets that stay (law 3).
func notOnItsWayOut(service Service, to string) gate {
	return func(f facts) (Wait, bool) {
		w, ok := nobodySticks(service.Hash)(f)
		if ok {
			return Wait{}, true
		}
		for _, i := range f.Ingresses {
			g, _ := i.Evidence.Group(service.Name)
			for _, t := range g.Targets {
				if t.PodTemplateHash == to && !t.Live() {
					w.Message += fmt.Sprintf("; the targets of %s have to be gone from there before they come back", to)
					return f.watchTargets(w), false
				}
			}
		}
		return Wait{}, true
	}
}

// displaced: the stable Service selects a version that is not stable though none of our own switches is under
// way: somebody has changed it by hand.
func (f facts) displaced() bool {
	held := f.stableHash()
	return held != "" && held != f.status.StableRS && f.canaryHash() != f.status.StableRS
}

// stableWhole: the pods that the stable version should have now are all available.
func stableWhole(f facts) (Wait, bool) {
	if got, wanted := available(f.stable), f.stableSize(); got < wanted {
		return Wait{Reason: "PodsNotAvailable", Message: fmt.Sprintf("Service %s was pointed at another version; it goes back when the stable version is whole: %d of %d pods are available", f.strategy.StableService, got, wanted)}, false
	}
	return Wait{}, true
}

// replaceable is leavesNothing, or: the Service selects by the user's own labels only (or a version that
// is gone) and the healthy pods of the stable version are already enough, so that the others may leave
// one by one as the load balancer half allows. A Service that was pointed elsewhere by hand goes back over
// its traffic in the same way: its targets leave when those of the stable version are healthy (law 3), and
// none of the pods is stopped by that (law 2).
func (f facts) replaceable(service Service, to string) gate {
	known := false
	for _, rs := range f.ReplicaSets {
		known = known || rs.Hash == service.Hash
	}
	if !known && available(f.stable) >= f.replicas && (service.Hash != "" || f.healthy(service.Name, to) >= f.replicas) {
		return func(facts) (Wait, bool) { return Wait{}, true }
	}
	if f.displaced() && f.liveOthers(service.Name, to) > 0 {
		return stableWhole
	}
	return f.leavesNothing(service.Name, to)
}

package canary

import (
	"fmt"
	"time"
)

// gate is one claim that must hold before an act; wait says what is missing.
type gate func(f facts) (wait Wait, pass bool)

// pass asks the gates in their order and returns the wait of the first that does not hold.
func (f facts) pass(gates ...gate) (Wait, bool) {
	for _, g := range gates {
		if w, ok := g(f); !ok {
			return w, false
		}
	}
	return Wait{}, true
}

// evidenceKnown: every Ingress was read completely.
func evidenceKnown(f facts) (Wait, bool) {
	if why := f.unseen(); why != "" {
		return f.watch(Wait{Reason: "NoEvidence", Message: why, Evidence: true, Open: true}), false
	}
	return Wait{}, true
}

// splitShown: the present split is what AWS shows, so the next one may follow.
func splitShown(f facts) (Wait, bool) {
	if w, ok := evidenceKnown(f); !ok {
		return w, false
	}
	if why := f.shown(); why != "" {
		return f.watch(Wait{Reason: "WeightNotSeen", Message: why, Evidence: true, Open: true}), false
	}
	return Wait{}, true
}

// pointsAt: the Service selects the ReplicaSet.
func pointsAt(service, hash string) gate {
	return func(f facts) (Wait, bool) {
		if held := f.service(service).Hash; held != hash {
			return Wait{Reason: "ServiceNotSwitched", Message: fmt.Sprintf("Service %s has to select ReplicaSet hash %s first", service, hash)}, false
		}
		return Wait{}, true
	}
}

// healthyAtLeast: so many pods of the ReplicaSet are healthy in the Service's group (law 1).
func healthyAtLeast(service, hash string, wanted int32) gate {
	return func(f facts) (Wait, bool) {
		if got := f.healthy(service, hash); got < wanted {
			return f.watchTargets(Wait{Reason: "TargetsNotHealthy", Message: fmt.Sprintf("%d of %d pods of %s are healthy in the target group of Service %s", got, wanted, hash, service)}), false
		}
		return Wait{}, true
	}
}

// aloneInGroup: no live target of another ReplicaSet is in the Service's group (law 1, a rise from 0).
func aloneInGroup(service, hash string) gate {
	return func(f facts) (Wait, bool) {
		if n := f.liveOthers(service, hash); n > 0 {
			return f.watchTargets(Wait{Reason: "OtherTargetsLive", Message: fmt.Sprintf("%d targets of other versions are still in the target group of Service %s", n, service)}), false
		}
		return Wait{}, true
	}
}

// settledAt: the Service has been at the weight for the settle time (law 2).
func settledAt(service string, weight int32) gate {
	return func(f facts) (Wait, bool) {
		ok, at, why := f.settled(service, weight)
		if ok {
			return Wait{}, true
		}
		w := Wait{Reason: "Settling", Message: fmt.Sprintf("Service %s at weight %d: %s", service, weight, why), Evidence: true, Again: at}
		if at.IsZero() {
			w.Reason, w.Open = "WeightNotSeen", true
			w = f.watch(w)
		}
		return w, false
	}
}

// weightsSettled: whatever the weights are, they have been in place for the settle time (law 2).
func weightsSettled(f facts) (Wait, bool) {
	ok, at, why := f.settled("", 0)
	if ok {
		return Wait{}, true
	}
	w := Wait{Reason: "Settling", Message: why, Again: at}
	if at.IsZero() {
		w = f.watch(w)
	}
	return w, false
}

// nobodySticks: the groups of the ReplicaSet have been at weight 0 for so long that no client has a cookie
// for them any more (law 2). Where others stand in for its pods, this need not be asked.
func nobodySticks(hash string) gate {
	return func(f facts) (Wait, bool) {
		for _, i := range f.Ingresses {
			e := f.traffic(i.Name)
			if e == nil || e.Since == nil {
				continue // No load balancer: weightsSettled has seen to the rest.
			}
			for _, s := range f.Services {
				g, ok := i.Evidence.Group(s.Name)
				if end := e.Since.Add(f.Settings.Settle + g.Stickiness); ok && s.Hash == hash && g.Stickiness > 0 && end.After(f.Now) {
					return Wait{Reason: "StickyClients", Message: fmt.Sprintf("clients stick to the group of Service %s until %s", s.Name, end.UTC().Format(time.TimeOnly)), Again: end}, false
				}
			}
		}
		return Wait{}, true
	}
}

// confirmedBy: a second, fresh look agrees (law 2). It is always the last gate.
func confirmedBy(act string) gate {
	return func(f facts) (Wait, bool) {
		if !f.confirmed(act) {
			return f.confirm(act), false
		}
		return Wait{}, true
	}
}

// unselected: no Service selects the ReplicaSet.
func unselected(rs ReplicaSet) gate {
	return func(f facts) (Wait, bool) {
		for _, s := range f.Services {
			if s.Hash == rs.Hash || s.Hash == "" {
				return Wait{Reason: "StillSelected", Message: fmt.Sprintf("ReplicaSet %s is still selected by Service %s", rs.Name, s.Name)}, false
			}
		}
		return Wait{}, true
	}
}

// gone: AWS names no target of the ReplicaSet any more, and no Service selects it (law 2).
func gone(rs ReplicaSet) gate {
	return func(f facts) (Wait, bool) {
		if w, ok := unselected(rs)(f); !ok {
			return w, false
		}
		if n := f.holding(rs.Hash); n > 0 {
			return f.watchTargets(Wait{Reason: "Draining", Message: fmt.Sprintf("%d targets of ReplicaSet %s are still registered or draining", n, rs.Name)}), false
		}
		return Wait{}, true
	}
}

package canary

import (
	"fmt"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// A group that loses all its healthy targets gives its share away (law 1). From the canary it goes back to
// stable, which is whole. The other way is harder: the canary is small, and health checks that fail everywhere
// for a moment are more often their own fault than that of the pods, which the load balancer goes on using while
// none in the group is healthy. So stable's share leaves when two looks, lossGrace apart, found no healthy
// target, and only as far as the canary's healthy pods carry it, while the canary grows to full size.

// lossGrace is the time between the two looks: a target whose checks fail for a moment is healthy again by then.
const lossGrace = 30 * time.Second

// lostCanary: the canary group carries a share without one healthy target, and stable has some.
func (f facts) lostCanary() bool {
	return f.recorded() > 0 && f.unseen() == "" && f.replicas > 0 &&
		f.healthy(f.strategy.CanaryService, f.canaryHash()) == 0 && f.healthy(f.strategy.StableService, f.stableHash()) > 0
}

// stableFails: stable has no healthy target now, and beside it the canary serves, which nobody has aborted.
// Gone says that it has no target at all, nor a pod that could become one.
func (f facts) stableFails() (fails, gone bool) {
	if f.recorded() == 0 || f.status.Abort || f.promoted() || f.unseen() != "" || f.replicas == 0 ||
		f.canaryHash() != f.Rollout.Hash || f.stableHash() != f.status.StableRS ||
		f.healthy(f.strategy.CanaryService, f.canaryHash()) == 0 {
		return false, false
	}
	registered := 0
	for _, i := range f.Ingresses {
		g, _ := i.Evidence.Group(f.strategy.StableService)
		for _, t := range g.Targets {
			if t.State == evidence.Healthy || t.State == evidence.Initial {
				return false, false
			}
			if t.Live() {
				registered++
			}
		}
	}
	// A group that was just made is empty too, but its pods are there.
	gone = registered == 0 && available(f.stable) == 0
	return registered > 0 || gone, gone
}

// lostStable: stable fails for certain, or still does after the grace.
func (f facts) lostStable() bool {
	fails, gone := f.stableFails()
	if !fails || gone {
		return gone
	}
	end := f.graceEnd()
	for _, i := range f.Ingresses {
		if i.seenAt().Before(end) {
			return false
		}
	}
	return true
}

// graceEnd is when a second look tells whether stable is lost.
func (f facts) graceEnd() time.Time {
	if c, ok := findCondition(f.Rollout.Status.Conditions, v1alpha1.ConditionStableLost); ok {
		return c.LastTransitionTime.Add(lossGrace)
	}
	return f.Now.Add(lossGrace)
}

// lossWait asks for the second look.
func (f facts) lossWait() Wait {
	if fails, _ := f.stableFails(); !fails || f.lostStable() {
		return Wait{}
	}
	w := Wait{Reason: v1alpha1.ConditionStableLost, Message: "the stable version has no healthy target; AWS is asked again", Again: f.graceEnd()}
	if !w.Again.After(f.Now) {
		w.Fresh, w.Again = f.Now, f.Now.Add(f.Settings.Poll)
	}
	return w
}

// rescue is the weight of a canary beside a stable version that is lost: what its healthy pods carry, never less
// than it has.
func (f facts) rescue(now int32) (weight int32, reason string, wait Wait) {
	healthy := f.healthy(f.strategy.CanaryService, f.Rollout.Hash)
	carries := totalWeight * min(healthy, f.replicas) / f.replicas
	if healthy >= max(1, f.replicas-f.maxUnavailable()) {
		carries = totalWeight
	}
	wait = f.watchTargets(Wait{Reason: v1alpha1.ConditionStableLost, Message: fmt.Sprintf("the stable version has lost all its healthy targets; the canary takes over as it grows: %d of %d pods are healthy", healthy, f.replicas)})
	if carries <= now {
		return now, "", wait
	}
	if w, ok := f.pass(splitShown); !ok {
		return now, "", w
	}
	return carries, "the stable version has lost all its healthy targets", wait
}

// stableLost keeps since when stable fails. What AWS does not tell now neither begins nor ends it.
func (d *draft) stableLost(f facts, c []v1alpha1.RolloutCondition) []v1alpha1.RolloutCondition {
	const kind = v1alpha1.ConditionStableLost
	_, had := findCondition(c, kind)
	switch fails, _ := f.stableFails(); {
	case fails && !had:
		message := fmt.Sprintf("no target of the stable version is healthy in the target group of Service %s", f.strategy.StableService)
		d.events = append(d.events, Event{Warning: true, Reason: kind, Message: message})
		return setCondition(c, f.Now, condition{kind, "True", "NoHealthyTarget", message})
	case !fails && had && f.unseen() == "":
		return dropCondition(c, kind)
	}
	return c
}

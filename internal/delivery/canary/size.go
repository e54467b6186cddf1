package canary

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
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
	if f.canaryHash() != f.Rollout.Hash {
		return size
	}
	if f.lostStable() {
		return max(size, f.replicas)
	}
	carries := f.floor(f.share(f.heaviest(f.strategy.CanaryService, f.recorded())))
	if f.canaryScale() != nil {
		// The step's own size may be too small for its weight, but what carries more than that stays.
		carries = min(carries, pods(f.next))
		if f.recorded() <= weight {
			carries = 0
		}
	}
	return max(size, carries)
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
	// A restart has more pods for a while, and wayBack sees to it that they are enough.
	if !f.strategy.DynamicStableScale && f.stable != nil && !f.restartDue() && (f.stable.Replicas != f.replicas || f.stable.Current != f.replicas) {
		return Wait{Reason: "StableNotScaled", Message: fmt.Sprintf("the stable version has %d of %d pods", f.stable.Current, f.replicas)}, false
	}
	return Wait{}, true
}

package canary

import (
	"fmt"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Delays of the original when the spec names none.
const (
	defaultScaleDownDelay = 30 * time.Second
	defaultAbortDelay     = 30 * time.Second
)

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
	case rs.Replicas > 0 && f.replicas == 0:
		return f.shrink(rs, 0, "no pods are wanted") // Its share may never return: the stable version has no pods.
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
	if !f.promoted() || f.drain(rs.Hash) != nil {
		// Also when it was on its way out before the promotion: only the version that was stable waits for that.
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

func (f facts) scale(rs ReplicaSet, to int32, reason string) ScaleReplicaSet {
	return ScaleReplicaSet{Name: rs.Name, Hash: rs.Hash, From: rs.Replicas, To: to, DesiredReplicas: f.replicas, Reason: Reason(reason)}
}

// resize brings a ReplicaSet that a Service selects to a size: up at once, down pod by drained pod.
func (f facts) resize(rs ReplicaSet, to int32, reason string) resized {
	if r, ok := f.restart(rs, to); ok {
		return r
	}
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

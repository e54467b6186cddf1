package canary

import (
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// invalidAgain is when a spec that was refused is looked at again: the objects that it names may have come.
const invalidAgain = 20 * time.Second

// Decide says what the rollout does next. It asks, in this order: is the spec one that we understand;
// what has happened (new template, abort, promote, evidence, steps done); which split may be written;
// which Service may be re-pointed; which ReplicaSet may change its size; what is to be tidied up.
func Decide(s Snapshot) Decision {
	if message := Validate(s); message != "" {
		return invalid(s, message)
	}
	if s.Rollout.Spec.Replicas == nil {
		return Decision{
			Operations: []Operation{SetReplicas{Replicas: 1, Reason: "autoscalers need a value"}},
			Status:     s.Rollout.Status,
		}
	}
	p := progress(s)
	f, d := p.facts, draft{}
	d.events = p.events
	d.wants(p.wait)
	if p.promotedNow {
		f.status.Drains = f.drainsOfOthers()
		return d.publish(f)
	}
	if f.next == nil {
		d.do(CreateReplicaSet{
			Name: s.Rollout.Name + "-" + s.Rollout.Hash, Hash: s.Rollout.Hash, Revision: f.nextRevision(),
			DesiredReplicas: f.replicas, Reason: "no ReplicaSet has the present template",
		})
	}
	routing := d.route(&f)
	if !f.paused() {
		for _, service := range []string{f.strategy.CanaryService, f.strategy.StableService} {
			ops, wait := f.point(service)
			d.do(ops...)
			d.wants(wait)
		}
	}
	d.wants(routing)
	d.wants(f.lossWait())
	d.wants(f.settling())
	if !f.paused() {
		for _, r := range f.sizes() {
			d.do(r.ops...)
			d.wants(r.wait)
			if r.drain != nil {
				f.status.Drains = append(f.status.Drains, *r.drain)
			}
		}
	}
	d.wants(f.restartWait())
	d.do(f.tidy()...)
	d.do(f.release()...)
	return d.publish(f)
}

// draft collects a decision.
type draft struct {
	ops    []Operation
	events []Event
	wait   Wait
	// evidence is the first wait for an answer of AWS.
	evidence Wait
}

func (d *draft) do(ops ...Operation) { d.ops = append(d.ops, ops...) }

// wants adds a wait: the first one is told to people, the earliest time and all looks count.
func (d *draft) wants(w Wait) {
	if d.wait.Message == "" {
		d.wait.Reason, d.wait.Message = w.Reason, w.Message
	}
	if w.Evidence && d.evidence.Message == "" {
		d.evidence = w
		d.wait.Evidence = true
	}
	if !w.Fresh.IsZero() {
		d.wait.Fresh = w.Fresh
	}
	d.wait.Confirm = append(d.wait.Confirm, w.Confirm...)
	d.wait.Again = earlier(d.wait.Again, w.Again)
}

// route decides the split, records it in the status and writes it where it is not.
func (d *draft) route(f *facts) Wait {
	weight, reason, wait := f.intend()
	ops, traffic, dispute := f.route(weight, reason)
	old := f.status.Canary.Weights
	f.status.Canary.Weights, f.status.Traffic = f.weights(weight), traffic
	d.do(ops...)
	if old == nil || old.Canary.Weight != weight {
		d.events = append(d.events, Event{Reason: "TrafficWeightUpdated", Message: "traffic weight updated to " + f.describe(traffic[0].Intended) + ": " + reason})
	}
	verified := f.shown() == ""
	f.status.Canary.Weights.Verified = &verified
	d.wait.Again = earlier(d.wait.Again, dispute.Again)
	switch {
	case dispute.Message != "":
		d.evidence, d.wait.Reason, d.wait.Message = dispute, dispute.Reason, dispute.Message
		return dispute
	case !verified:
		d.wants(wait)
		w, _ := splitShown(*f)
		return w
	case wait.Message != "":
		return wait
	case f.promoted() && f.replicas > 0:
		w, _ := f.pass(healthyAtLeast(f.strategy.StableService, f.status.StableRS, f.threshold(f.replicas)))
		return w
	}
	return Wait{}
}

// settling only asks to be looked at when the weights count as settled, so that the status says so.
func (f facts) settling() Wait {
	var again time.Time
	for _, e := range f.status.Traffic {
		if e.Since != nil && e.SettledAt == nil {
			again = earlier(again, e.Since.Add(f.Settings.Settle))
		}
	}
	return Wait{Again: again}
}

// Written stamps the time at which an operation wrote the split of an Ingress; the actor calls it, so
// that the status says when the write was over.
func (d *Decision) Written(ingress string, at time.Time) {
	for i := range d.Status.Traffic {
		if d.Status.Traffic[i].Group == ingress {
			d.Status.Traffic[i].WrittenAt = microTime(at)
		}
	}
}

// tidy keeps revisions, copies of settings and the history as they should be.
func (f facts) tidy() []Operation {
	var ops []Operation
	if f.next != nil {
		rs, revision := *f.next, f.nextRevision()
		if rs.Revision != revision || rs.MinReadySeconds != f.Rollout.Spec.MinReadySeconds || rs.Replicas > 0 && rs.DesiredReplicas != f.replicas {
			ops = append(ops, SyncReplicaSet{Name: rs.Name, Revision: revision, DesiredReplicas: f.replicas, MinReadySeconds: f.Rollout.Spec.MinReadySeconds, Reason: "it is the ReplicaSet of the present template"})
		}
		if !rs.ScaleDownDeadline.IsZero() && f.promoted() {
			ops = append(ops, SetDeadline{Name: rs.Name, Reason: "it is the stable version"})
		}
		if f.Rollout.Revision != revision {
			ops = append(ops, SetRevision{Revision: revision, Reason: "of the present template"})
		}
	}
	if s := f.stable; s != nil && !f.promoted() {
		if s.Replicas > 0 && s.DesiredReplicas != f.replicas {
			ops = append(ops, SyncReplicaSet{Name: s.Name, Revision: s.Revision, DesiredReplicas: f.replicas, MinReadySeconds: s.MinReadySeconds, Reason: "spec.replicas has changed"})
		}
		if !s.ScaleDownDeadline.IsZero() {
			ops = append(ops, SetDeadline{Name: s.Name, Reason: "it is the stable version"})
		}
	}
	return append(ops, f.history()...)
}

// release lets go of what the spec names no more. An Ingress goes at once, since nobody looks at its weights
// any longer; a Service, whose group takes every version from then on, when its Ingresses have settled without it.
func (f facts) release() []Operation {
	var ops []Operation
	for _, name := range f.StrayIngresses {
		ops = append(ops, ReleaseIngress{Ingress: name, Reason: "the rollout no longer names it; its traffic goes to the stable version"})
	}
	if len(f.StrayServices) == 0 {
		return ops
	}
	if _, ok := f.pass(splitShown, weightsSettled); !ok {
		return ops
	}
	for _, name := range f.StrayServices {
		ops = append(ops, ReleaseService{Service: name, Reason: "the rollout no longer names it"})
	}
	return ops
}

// nextRevision is one more than that of every other ReplicaSet, and never less than its own.
func (f facts) nextRevision() int64 {
	var highest int64
	for _, rs := range f.ReplicaSets {
		if rs.Hash != f.Rollout.Hash {
			highest = max(highest, rs.Revision)
		}
	}
	highest++
	if f.next != nil {
		highest = max(highest, f.next.Revision)
	}
	return highest
}

// history deletes the oldest ReplicaSets without pods beyond the limit.
func (f facts) history() []Operation {
	limit := 10
	if l := f.Rollout.Spec.RevisionHistoryLimit; l != nil {
		limit = int(*l)
	}
	old := slices.Clone(f.others)
	slices.SortStableFunc(old, func(a, b ReplicaSet) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var ops []Operation
	for _, rs := range old[:max(0, len(old)-limit)] {
		if rs.Replicas != 0 || rs.Current != 0 || !rs.Observed || rs.Deleting || f.holding(rs.Hash) > 0 {
			continue
		}
		ops = append(ops, DeleteReplicaSet{Name: rs.Name, Reason: "beyond the revision history limit"})
	}
	return ops
}

// invalid publishes what is wrong with the spec and changes nothing that works.
func invalid(s Snapshot, message string) Decision {
	status := *s.Rollout.Status.DeepCopy()
	status.ObservedGeneration = generation(s)
	status.Conditions = setCondition(status.Conditions, s.Now, condition{v1alpha1.ConditionInvalidSpec, "True", v1alpha1.ConditionInvalidSpec, message})
	status.Phase, status.Message = v1alpha1.PhaseDegraded, v1alpha1.ConditionInvalidSpec+": "+message
	var events []Event
	if old, _ := findCondition(s.Rollout.Status.Conditions, v1alpha1.ConditionInvalidSpec); old.Message != message {
		events = []Event{{Warning: true, Reason: v1alpha1.ConditionInvalidSpec, Message: message}}
	}
	return Decision{Status: status, Events: events, Wait: Wait{Reason: v1alpha1.ConditionInvalidSpec, Message: message, Again: s.Now.Add(invalidAgain)}}
}

package simulation

import (
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// actor is a controller's worker: woken by events, it does one round at a time. Its process may crash
// between any two moments of a round; what it knew is lost then.
type actor struct {
	w     *world
	name  string
	busy  bool
	dirty bool
	// timer is the number of the newest alarm; older ones do nothing.
	timer int
	round func()
}

// wake has a round begin soon.
func (a *actor) wake() {
	if a.w.down {
		return
	}
	if a.busy {
		a.dirty = true
		return
	}
	a.busy = true
	a.timer++
	a.later(a.w.between(time.Millisecond, 30*time.Millisecond), a.round)
}

// later runs f unless the process has crashed meanwhile.
func (a *actor) later(d time.Duration, f func()) {
	life := a.w.life
	a.w.after(d, func() {
		if life == a.w.life {
			f()
		}
	})
}

// done ends a round; again is when to come back at the latest (zero: when something happens).
func (a *actor) done(again time.Time) {
	a.busy = false
	if a.dirty {
		a.dirty = false
		a.wake()
		return
	}
	if again.IsZero() {
		return
	}
	a.timer++
	timer := a.timer
	a.later(max(again.Sub(a.w.now()), 10*time.Millisecond), func() {
		if timer == a.timer && !a.busy {
			a.wake()
		}
	})
}

// failed ends a round that could not be carried out; it is tried again soon.
func (a *actor) failed() { a.done(a.w.now().Add(a.w.between(50*time.Millisecond, time.Second))) }

// delivery moves pods: the controller of the Rollout.
type delivery struct {
	actor
	// wrote are the versions of the last own writes, to notice a cache that lags.
	wrote written
}

// written are versions by name of the Rollout, ReplicaSets and Services.
type written struct {
	rollout               int64
	replicaSets, services versions
	// at is the time of the newest; it is not waited for longer than longestLag.
	at time.Time
}

// longestLag is how long production waits for its cache.
const longestLag = 5 * time.Second

// lag reports whether the cache holds an object from before our own last write of it.
func (d *delivery) lag() bool {
	if _, version := d.w.rollouts.cached.get(rolloutName); version < d.wrote.rollout {
		return true
	}
	for _, wrote := range d.wrote.replicaSets {
		if rs, version := d.w.replicaSets.cached.get(wrote.name); rs != nil && version < wrote.version {
			return true
		}
	}
	for _, wrote := range d.wrote.services {
		if _, version := d.w.services.cached.get(wrote.name); version < wrote.version {
			return true
		}
	}
	return false
}

func newDelivery(w *world) *delivery {
	d := &delivery{actor: actor{w: w, name: "delivery"}}
	d.round = func() { d.look(0, canary.Wait{}) }
	return d
}

// seenRollout is what a look was based on, for writes with a condition.
type seenRollout struct {
	object  *rollout
	version int64
	// versions of the other objects.
	replicaSets, services versions
}

// versions are resource versions by name, of few objects.
type versions []versioned

type versioned struct {
	name    string
	version int64
}

func (v versions) of(name string) int64 {
	for _, o := range v {
		if o.name == name {
			return o.version
		}
	}
	return 0
}

func (v *versions) set(name string, version int64) {
	for i := range *v {
		if (*v)[i].name == name {
			(*v)[i].version = version
			return
		}
	}
	*v = append(*v, versioned{name, version})
}

// look gathers a snapshot and decides. Looks follow each other as in canary.Round, with time between them
// in which the world goes on.
func (d *delivery) look(n int, before canary.Wait) {
	if before.Fresh.IsZero() && d.w.now().Sub(d.wrote.at) < longestLag && d.lag() {
		d.done(d.w.now().Add(100 * time.Millisecond))
		return
	}
	s, from, ok := d.observe(before.Fresh)
	if !ok {
		d.failed()
		return
	}
	s.Asked, s.Confirming = before.Fresh, before.Confirm
	decision := d.w.brain.Rollout(s)
	d.w.decisions++
	if !decision.Wait.Fresh.IsZero() && len(decision.Operations) == 0 && n < 3 {
		d.later(d.w.between(5*time.Millisecond, 200*time.Millisecond), func() { d.look(n+1, decision.Wait) })
		return
	}
	d.act(&decision, &from, 0)
}

// observe gathers the snapshot: from the cache, or, when something fresher is asked for, from the API server and AWS.
func (d *delivery) observe(notBefore time.Time) (canary.Snapshot, seenRollout, bool) {
	w := d.w
	fresh := !notBefore.IsZero()
	var from seenRollout
	from.object, from.version = w.rollouts.at(fresh).get(rolloutName)
	in, _ := w.ingresses.at(fresh).get(ingressName)
	if from.object == nil || in == nil {
		return canary.Snapshot{}, from, false
	}
	r := from.object
	s := canary.Snapshot{
		Now: w.now(), Settings: w.settings(),
		Rollout: canary.Rollout{
			Namespace: namespace, Name: rolloutName, Generation: r.generation, Revision: r.revision,
			Spec: r.spec, Status: r.status, Hash: r.image, StepHash: stepHash,
		},
	}
	sets := w.setsAt(fresh)
	s.ReplicaSets, from.replicaSets = sets.sets, slices.Clone(sets.versions)
	for _, name := range []string{canaryService, stableService} {
		o, version := w.services.at(fresh).get(name)
		from.services.set(name, version)
		s.Services = append(s.Services, canary.Service{Name: name, Hash: o.hash, ManagedBy: o.managedBy})
	}
	i := canary.Ingress{Name: ingressName, HasRule: true, Action: in.action, Ours: in.writer == ours, Writer: in.other, WrittenAt: in.otherAt.Truncate(time.Second), Recorded: in.recorded}
	if in.action != "" { // nobody owns what is gone
		i.ChangedAt = in.writtenAt.Truncate(time.Second)
	}
	evidence, err := w.mirror.evidence(notBefore)
	if i.Evidence = evidence; err != nil {
		i.EvidenceError = "no token in the call budget" // without the time, which would change the status each time
	}
	s.Ingresses = []canary.Ingress{i}
	s.Now = w.now()
	return s, from, true
}

// setsSeen are the ReplicaSets and their pods as a view has them. Nobody changes them, so they are gathered
// anew only when something has changed.
type setsSeen struct {
	ofSets, ofPods int64
	sets           []canary.ReplicaSet
	versions       versions
}

// setsAt gathers the ReplicaSets and their pods.
func (w *world) setsAt(fresh bool) *setsSeen {
	seen := &w.setsCached
	if fresh {
		seen = &w.setsLive
	}
	if seen.ofSets != w.replicaSets.at(fresh).revision || seen.ofPods != w.pods.at(fresh).revision {
		*seen = w.gatherSets(w.replicaSets.at(fresh), w.pods.at(fresh))
	}
	return seen
}

func (w *world) gatherSets(setView *view[replicaSet], podView *view[pod]) setsSeen {
	sets, pods := setView.objects, podView.objects
	seen := setsSeen{ofSets: setView.revision, ofPods: podView.revision, sets: make([]canary.ReplicaSet, 0, len(sets)), versions: make(versions, 0, len(sets))}
	of := make([]canary.Pod, 0, len(pods)) // the pods of all, one ReplicaSet after the other
	for _, o := range sets {
		rs := o.value
		seen.versions = append(seen.versions, versioned{o.name, o.version})
		begin := len(of)
		for _, o := range pods {
			if p := o.value; p.hash == rs.hash {
				of = append(of, canary.Pod{
					Name: o.name, UID: p.uid, CreatedAt: p.created, Scheduled: p.scheduled, Running: p.running,
					Ready: p.ready, Terminating: p.terminating, Drain: p.drain,
				})
			}
		}
		seen.sets = append(seen.sets, canary.ReplicaSet{
			Name: o.name, Hash: rs.hash, CreatedAt: rs.created, Revision: rs.revision, Replicas: rs.replicas,
			Current: rs.current, Ready: rs.ready, Available: rs.available, DesiredReplicas: rs.desired,
			MinReadySeconds: rs.minReady, ScaleDownDeadline: rs.deadline, Observed: rs.observed == rs.generation,
			Pods: of[begin:len(of):len(of)],
		})
	}
	return seen
}

// act carries out the operations one after the other, each at its own moment, then publishes the status.
func (d *delivery) act(decision *canary.Decision, from *seenRollout, next int) {
	if next == len(decision.Operations) {
		d.later(d.w.between(time.Millisecond, 20*time.Millisecond), func() { d.publish(decision, from) })
		return
	}
	delay := d.w.between(time.Millisecond, 40*time.Millisecond)
	if d.w.faults.mayCrash(1, func() { d.do(decision, from, next) }) {
		return
	}
	d.later(delay, func() {
		if !d.do(decision, from, next) {
			d.w.note("  refused: it has changed since it was read")
			d.failed()
			return
		}
		d.act(decision, from, next+1)
	})
}

// do carries out one operation. Whatever has a resource version is written with the one that was seen, so a
// late call cannot undo something newer; the annotation is applied by field manager.
func (d *delivery) do(decision *canary.Decision, from *seenRollout, index int) bool {
	w, op := d.w, decision.Operations[index]
	w.note("%s (%s)", op, op.Because())
	w.writes++
	setRS := func(name string, edit func(*replicaSet)) bool {
		old, _ := w.replicaSets.live.get(name)
		if old == nil {
			return false
		}
		value := *old
		edit(&value)
		if !w.replicaSets.update(name, from.replicaSets.of(name), &value) {
			w.reach("conflict")
			return false
		}
		_, version := w.replicaSets.live.get(name)
		from.replicaSets.set(name, version)
		d.wrote.replicaSets.set(name, version)
		d.wrote.at = w.now()
		return true
	}
	switch op := op.(type) {
	case canary.CreateReplicaSet:
		if rs, _ := w.replicaSets.live.get(op.Name); rs != nil {
			return true
		}
		w.replicaSets.put(op.Name, &replicaSet{hash: op.Hash, created: w.now(), revision: op.Revision, desired: op.DesiredReplicas, generation: 1})
		_, version := w.replicaSets.live.get(op.Name)
		from.replicaSets.set(op.Name, version)
		return true
	case canary.ScaleReplicaSet:
		if !setRS(op.Name, func(rs *replicaSet) {
			rs.replicas, rs.desired = op.To, op.DesiredReplicas
			rs.generation++
			if op.To == 0 {
				rs.deadline = time.Time{}
			}
		}) {
			return false // what the API server refuses breaks no law
		}
		w.laws.scaling(op)
		return true
	case canary.SyncReplicaSet:
		return setRS(op.Name, func(rs *replicaSet) {
			rs.revision, rs.desired, rs.minReady = op.Revision, op.DesiredReplicas, op.MinReadySeconds
		})
	case canary.SetDeadline:
		return setRS(op.Name, func(rs *replicaSet) { rs.deadline = op.At.Truncate(time.Second) })
	case canary.DeleteReplicaSet:
		w.replicaSets.put(op.Name, nil)
		return true
	case canary.PointService:
		o, _ := w.services.live.get(op.Service)
		if !w.services.update(op.Service, from.services.of(op.Service), &service{hash: op.To, managedBy: rolloutName}) {
			return false
		}
		w.laws.pointed(op, o.hash)
		_, version := w.services.live.get(op.Service)
		from.services.set(op.Service, version)
		d.wrote.services.set(op.Service, version)
		d.wrote.at = w.now()
		return true
	case canary.WriteSplit:
		action, err := split.Encode(op.Split)
		if err != nil {
			w.violate(4, "the split %s cannot be encoded: %v", op, err)
			return false
		}
		w.laws.writing(op.Split)
		w.ingresses.change(ingressName, func(i *ingress) {
			i.action, i.writer, i.writtenAt, i.recorded = action, ours, w.now(), true
		})
		decision.Written(op.Ingress, w.now())
		w.faults.written()
		return true
	case canary.MarkPods:
		if op.Value == "" {
			w.laws.unmarkedAt = w.now()
		}
		for _, p := range op.Pods {
			if old, _ := w.pods.live.get(p.Name); old != nil && old.uid == p.UID {
				w.pods.change(p.Name, func(pod *pod) { pod.drain = op.Value })
			}
		}
		return true
	case canary.SetRevision:
		return d.setRollout(from, func(r *rollout) { r.revision = op.Revision })
	case canary.SetReplicas:
		return d.setRollout(from, func(r *rollout) { r.spec.Replicas = new(op.Replicas); r.generation++ })
	}
	w.violate(0, "operation %T is not known", op)
	return false
}

// setRollout writes the Rollout with the version that was seen.
func (d *delivery) setRollout(from *seenRollout, edit func(*rollout)) bool {
	value := *from.object
	edit(&value)
	if !d.w.rollouts.update(rolloutName, from.version, &value) {
		d.w.reach("conflict")
		d.wrote.rollout, d.wrote.at = from.version+1, d.w.now() // the cache has to show what is newer
		return false
	}
	from.object, from.version = d.w.rollouts.live.get(rolloutName)
	d.wrote.rollout, d.wrote.at = from.version, d.w.now()
	return true
}

// publish writes the status when it has changed, as the API server keeps it.
func (d *delivery) publish(decision *canary.Decision, from *seenRollout) {
	status, changed := decision.Status, false
	if !reflect.DeepEqual(from.object.status, status) { // mostly it is the same, and need not be copied
		status = stored(status)
		changed = !reflect.DeepEqual(from.object.status, status)
	}
	if changed {
		d.w.laws.publishing(from.object.status, status)
		if !d.setRollout(from, func(r *rollout) { r.status = status }) {
			d.failed()
			return
		}
		d.w.writes++
		d.w.published(status)
	}
	again := decision.Wait.Again
	if !decision.Wait.Fresh.IsZero() && len(decision.Operations) > 0 {
		again = d.w.now()
	}
	d.done(again)
}

// stored is a status after a round through JSON: times lose what Kubernetes does not keep.
func stored(s v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
	s = *s.DeepCopy()
	seconds := func(t *metav1.Time) {
		if t != nil {
			t.Time = t.Truncate(time.Second)
		}
	}
	seconds(s.AbortedAt)
	seconds(s.RestartedAt)
	for i := range s.PauseConditions {
		seconds(&s.PauseConditions[i].StartTime)
	}
	for i := range s.Conditions {
		seconds(&s.Conditions[i].LastUpdateTime)
		seconds(&s.Conditions[i].LastTransitionTime)
	}
	if len(s.PauseConditions) == 0 {
		s.PauseConditions = nil
	}
	return s
}

// phaseOf is phase and message on one line.
func phaseOf(s v1alpha1.RolloutStatus) string {
	return strings.TrimSuffix(s.Phase+": "+s.Message, ": ")
}

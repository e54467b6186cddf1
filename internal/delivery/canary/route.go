package canary

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// totalWeight is the sum of all weights; another one is allowed only with routers that we refuse.
const totalWeight = split.DefaultTotalWeight

// wish is the canary's weight that the step, an abort or a promotion asks for, before the laws.
func (f facts) wish() (weight int32, reason string) {
	switch {
	case f.paused():
		return f.recorded(), "the rollout is paused"
	case f.behind():
		// Whatever is wished for next: the stable Service can only be switched at weight 0.
		return totalWeight, "the stable Service still selects the version before"
	case f.status.Abort:
		return 0, "the update is aborted"
	case f.promoted():
		return 0, "the new version is stable"
	case f.canaryHash() != f.Rollout.Hash:
		return 0, "the canary Service does not select the new version yet"
	case f.stepsDone():
		return totalWeight, "all steps are done"
	}
	return f.stepWeight(f.stepIndex()), fmt.Sprintf("step %d of %d", f.stepIndex()+1, len(f.strategy.Steps))
}

// behind: between the rows end 2 and end 4 the canary Service serves the stable version, while the stable
// Service still holds the one before.
func (f facts) behind() bool {
	held, stable := f.stableHash(), f.status.StableRS
	return held != "" && held != stable && f.canaryHash() == stable && f.liveOthers(f.strategy.StableService, stable) > 0
}

// stepWeight is the nearest setWeight at or before the step, 0 without one.
func (f facts) stepWeight(index int32) int32 {
	for i := min(int(index), len(f.strategy.Steps)-1); i >= 0; i-- {
		if w := f.strategy.Steps[i].SetWeight; w != nil {
			return *w
		}
	}
	return 0
}

// intend is the canary's weight that may be written now: the wish as far as law 1 allows.
func (f facts) intend() (weight int32, reason string, wait Wait) {
	now := f.recorded()
	wish, reason := f.wish()
	if f.lostCanary() {
		wish, reason = 0, "the canary has lost all its healthy targets"
	}
	switch {
	case wish > now:
		w, ok := f.mayRise(wish)
		if !ok && f.lostStable() {
			return f.rescue(now)
		}
		if !ok {
			return now, "", w
		}
	case f.lostStable():
		return f.rescue(now)
	case wish < now:
		limit, w := f.mayReturn(now)
		if limit > wish {
			return limit, reason, w
		}
	}
	return wish, reason, Wait{}
}

// wayBack: the stable Service selects the stable version, which is healthy there as far as maxUnavailable
// asks (law 8). A full promotion does without: it is how a stable version that is ill is replaced.
func wayBack(f facts) (Wait, bool) {
	if f.promoted() || f.behind() || f.replicas == 0 || f.status.PromoteFull {
		return Wait{}, true
	}
	s, hash := f.strategy.StableService, f.status.StableRS
	gates := []gate{pointsAt(s, hash)}
	if !f.strategy.DynamicStableScale {
		gates = append(gates, healthyAtLeast(s, hash, max(1, f.replicas-f.maxUnavailable())))
	}
	return f.pass(gates...)
}

// mayRise asks whether the canary's share may grow (law 1, law 4).
func (f facts) mayRise(to int32) (Wait, bool) {
	k, hash, size := f.strategy.CanaryService, f.Rollout.Hash, f.canarySize(to)
	if f.behind() {
		hash, size = f.status.StableRS, f.replicas
	}
	gates := []gate{pointsAt(k, hash), evidenceKnown}
	if !f.inAnnotation(to) {
		gates = append(gates, splitShown)
	}
	if f.replicas > 0 {
		gates = append(gates, healthyAtLeast(k, hash, max(1, f.threshold(size))))
	}
	if f.recorded() == 0 {
		gates = append(gates, aloneInGroup(k, hash))
	}
	gates = append(gates, wayBack)
	return f.pass(gates...)
}

// inAnnotation: the split was decided and written before, and only the status that says so was not published.
func (f facts) inAnnotation(canary int32) bool {
	want := f.split(canary)
	for _, i := range f.Ingresses {
		if held, err := split.Decode(i.Action); err != nil || !i.Ours || !held.Equal(want) {
			return false
		}
	}
	return true
}

// mayReturn is the smallest weight of the canary that stable's healthy targets allow (law 1).
func (f facts) mayReturn(now int32) (int32, Wait) {
	k, s := f.strategy.CanaryService, f.strategy.StableService
	if f.replicas == 0 {
		return 0, Wait{}
	}
	if f.promoted() && f.canaryHash() == f.Rollout.Hash && !f.lostCanary() {
		// Both groups are to serve the same version and the canary's does so now: no hurry, so all of it.
		w, ok := f.pass(pointsAt(s, f.Rollout.Hash), evidenceKnown,
			healthyAtLeast(s, f.Rollout.Hash, f.threshold(f.replicas)), aloneInGroup(s, f.Rollout.Hash))
		if !ok {
			return now, w
		}
		return 0, Wait{}
	}
	stable, canary := f.healthy(s, f.stableHash()), f.healthy(k, f.canaryHash())
	if f.unseen() != "" {
		// Going back must not wait for AWS's answer: what Kubernetes knows is the best there is, and the
		// load balancer half refuses by itself a share to a group without health.
		stable, canary = available(f.stable), available(f.replicaSet(f.canaryHash()))
	}
	if stable >= max(1, f.replicas-f.maxUnavailable()) {
		return 0, Wait{}
	}
	// Less healthy than stable, each measured against the pods that it should have.
	if stable > 0 && canary*pods(f.stable) < stable*max(1, pods(f.replicaSet(f.canaryHash()))) {
		return 0, Wait{}
	}
	limit := min(now, totalWeight-totalWeight*stable/f.replicas)
	return limit, f.watchTargets(Wait{Reason: "StableNotHealthy", Message: fmt.Sprintf("%d of %d pods of the stable version are healthy; it takes traffic back as they come", stable, f.replicas)})
}

func available(rs *ReplicaSet) int32 {
	if rs == nil {
		return 0
	}
	return rs.Available
}

func pods(rs *ReplicaSet) int32 {
	if rs == nil {
		return 0
	}
	return rs.Replicas
}

// replicaSet is the one with the hash, nil when there is none.
func (f facts) replicaSet(hash string) *ReplicaSet {
	for i := range f.ReplicaSets {
		if f.ReplicaSets[i].Hash == hash {
			return &f.ReplicaSets[i]
		}
	}
	return nil
}

// weights is the split of the status for a canary weight.
func (f facts) weights(canary int32) *v1alpha1.TrafficWeights {
	return &v1alpha1.TrafficWeights{
		Canary: v1alpha1.WeightDestination{Weight: canary, ServiceName: f.strategy.CanaryService, PodTemplateHash: f.Rollout.Hash},
		Stable: v1alpha1.WeightDestination{Weight: totalWeight - canary, ServiceName: f.strategy.StableService, PodTemplateHash: f.status.StableRS},
	}
}

// split is the action for a canary weight: the canary first and stable last, as existing tools write it.
func (f facts) split(canary int32) split.Split {
	port := strconv.Itoa(int(f.alb.ServicePort))
	s := split.Split{Destinations: []split.Destination{
		{Service: f.strategy.CanaryService, Port: port, Weight: canary},
		{Service: f.strategy.StableService, Port: port, Weight: totalWeight - canary},
	}}
	if st := f.alb.StickinessConfig; st != nil && st.Enabled {
		s.Stickiness = time.Duration(st.DurationSeconds) * time.Second
	}
	return s
}

// route writes the intended split where it is not, and returns the traffic status with it.
func (f facts) route(canary int32, reason string) (ops []Operation, traffic []v1alpha1.TrafficStatus, wait Wait) {
	want := f.split(canary)
	intended := map[string]int32{f.strategy.CanaryService: canary, f.strategy.StableService: totalWeight - canary}
	for _, i := range f.Ingresses {
		e := f.traffic(i.Name)
		if e == nil {
			e = &v1alpha1.TrafficStatus{Group: i.Name}
		}
		entry := *e // what it points to is replaced, never changed
		held, err := split.Decode(i.Action)
		there := err == nil && held.Equal(want) && i.Recorded
		moved := !maps.Equal(entry.Intended, intended)
		lags := !moved && !there && f.lags(i, entry)
		foreign := !moved && !there && !lags && entry.WrittenAt != nil && i.foreign(entry.WrittenAt.Time)
		if foreign {
			entry.ForeignWrites = remember(entry, i, f.Now)
		}
		entry.ForeignWrites = recent(entry.ForeignWrites, f.Now.Add(-f.Settings.Contest))
		if moved {
			entry.Intended, entry.DecidedAt = intended, new(metav1.NewMicroTime(f.Now))
			entry.WrittenAt, entry.Since, entry.SettledAt = nil, nil, nil
		}
		switch {
		case there:
			if entry.WrittenAt == nil {
				entry.WrittenAt = new(metav1.NewMicroTime(f.Now))
			}
		case lags:
			wait.Again = earlier(wait.Again, entry.WrittenAt.Add(cacheLag))
		case !moved && len(entry.ForeignWrites) >= f.Settings.ContestLimit:
			wait = contested(entry, f.Settings.Contest)
		default:
			why := reason
			switch {
			case foreign:
				why = fmt.Sprintf("%s changed the action; the rollout wants its split back", i.Writer)
			case !moved:
				why = "the action is not the present one"
			}
			entry.WrittenAt, entry.Since, entry.SettledAt = nil, nil, nil
			ops = append(ops, WriteSplit{Ingress: i.Name, Split: want, Reason: Reason(why)})
		}
		traffic = append(traffic, entry)
	}
	return ops, traffic, wait
}

// foreign: somebody else has changed or removed the action after our own write. Managed fields hold whole seconds.
func (i Ingress) foreign(written time.Time) bool {
	return !i.Ours && (i.Action == "" || i.WrittenAt.IsZero() || !i.WrittenAt.Before(written.Truncate(time.Second)))
}

// cacheLag is how long a cache may show an annotation from before our own last write.
const cacheLag = 10 * time.Second

// lags: the annotation that was seen may be older than our own last write. Writing it again would only
// start the settle time anew; if it is somebody else's after all, it is put right a little later.
func (f facts) lags(i Ingress, entry v1alpha1.TrafficStatus) bool {
	at := entry.WrittenAt
	return at != nil && f.Now.Sub(at.Time) < cacheLag && (i.Ours || !i.WrittenAt.After(at.Time))
}

// remember adds the write of somebody else, once. A removal often leaves the managed fields as they were, so
// it is known by our own write before it: there is one for each.
func remember(entry v1alpha1.TrafficStatus, i Ingress, now time.Time) []v1alpha1.ForeignWrite {
	at := i.WrittenAt
	if removed := i.Action == "" && !at.After(entry.WrittenAt.Time); removed || at.IsZero() {
		at = now
		for _, w := range entry.ForeignWrites {
			if w.Manager == i.Writer && w.At.After(entry.WrittenAt.Time) {
				return entry.ForeignWrites
			}
		}
	}
	for _, w := range entry.ForeignWrites {
		if w.Manager == i.Writer && w.At.Time.Equal(at) {
			return entry.ForeignWrites
		}
	}
	return append(slices.Clone(entry.ForeignWrites), v1alpha1.ForeignWrite{Manager: i.Writer, At: metav1.NewMicroTime(at)})
}

// recent drops the writes before a time.
func recent(writes []v1alpha1.ForeignWrite, since time.Time) []v1alpha1.ForeignWrite {
	var kept []v1alpha1.ForeignWrite
	for _, w := range writes {
		if w.At.After(since) {
			kept = append(kept, w)
		}
	}
	return kept
}

func contested(entry v1alpha1.TrafficStatus, window time.Duration) Wait {
	last := entry.ForeignWrites[len(entry.ForeignWrites)-1]
	return Wait{
		Reason: "TrafficContested", Evidence: true,
		Message: fmt.Sprintf("field manager %q has changed the action annotation of Ingress %s %d times in %s; let it leave the annotation out", last.Manager, entry.Group, len(entry.ForeignWrites), window),
		Again:   entry.ForeignWrites[0].At.Add(window),
	}
}

// look brings the traffic status up to date with what AWS shows: the weights, and since when.
func (f facts) look() []v1alpha1.TrafficStatus {
	var traffic []v1alpha1.TrafficStatus
	for _, i := range f.Ingresses {
		e := f.traffic(i.Name)
		if e == nil {
			continue
		}
		entry := *e // what it points to is replaced, never changed
		if i.unseen() == "" {
			f.see(&entry, i)
		}
		if entry.Since != nil && entry.SettledAt == nil && !entry.Since.Add(f.Settings.Settle).After(f.Now) {
			entry.SettledAt = new(metav1.NewMicroTime(entry.Since.Add(f.Settings.Settle)))
		}
		traffic = append(traffic, entry)
	}
	return traffic
}

func (f facts) see(entry *v1alpha1.TrafficStatus, i Ingress) {
	seen, same := f.inEveryRule(i)
	if !same {
		entry.Weights, entry.Since, entry.SettledAt = nil, nil, nil
		return
	}
	if entry.Since != nil && maps.Equal(entry.Weights, seen) {
		// A read that is older than the stamp tells nothing new; the API server's clock may also be ahead.
		if i.rewritten(entry) && i.Evidence.SeenAt.After(i.ChangedAt) {
			entry.Since, entry.SettledAt = new(metav1.NewMicroTime(i.Evidence.SeenAt)), nil
		}
		return
	}
	old := entry.WrittenAt == nil || i.Evidence.SeenAt.Before(entry.WrittenAt.Time) ||
		(entry.Since != nil && i.Evidence.SeenAt.Before(entry.Since.Time))
	first := entry.Weights == nil // others have written what is there, long ago
	if first && old {
		return
	}
	entry.Weights, entry.Since, entry.SettledAt = seen, nil, nil
	if !old && (first || !i.outdated()) {
		entry.Since = new(metav1.NewMicroTime(i.Evidence.SeenAt))
	}
}

// inEveryRule are the weights by Service that all rules agree on, if they do.
func (f facts) inEveryRule(i Ingress) (seen map[string]int32, same bool) {
	seen = map[string]int32{}
	for _, service := range []string{f.strategy.CanaryService, f.strategy.StableService} {
		if seen[service], same = i.Evidence.Weight(service); !same {
			return nil, false
		}
	}
	return seen, true
}

// outdated: what AWS has shown may be from before the last write.
func (i Ingress) outdated() bool { return i.Evidence.SeenAt.Before(i.Evidence.OutdatedUntil) }

// rewritten: the annotation was written after the weights were first seen, by others or by ourselves when the
// status could not be published. AWS may have had other weights in between, though it has these again.
func (i Ingress) rewritten(entry *v1alpha1.TrafficStatus) bool {
	return entry.Since != nil && i.ChangedAt.After(entry.Since.Time)
}

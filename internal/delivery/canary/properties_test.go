package canary

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// In any order of events: the same snapshot gives the same decision, weights sum, no pod is deleted that
// AWS still names (world.shrink), a Service that serves is only pointed back at a stable version that is
// whole, and a ReplicaSet only shrinks while its groups' weights stand still.
func TestPropertiesHoldInAnyOrderOfEvents(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := stable(t, int32(rapid.IntRange(1, 6).Draw(r, "replicas")), weight(20), pause(), weight(60), pause())
		w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = rapid.Bool().Draw(r, "dynamic")
		for range rapid.IntRange(5, 60).Draw(r, "events") {
			w.happen(rapid.SampledFrom([]string{"decide", "decide", "decide", "kubelet", "weights", "targets", "drained", "second", "minutes", "image", "promote", "full", "abort", "retry", "scale", "foreign"}).Draw(r, "event"), r)
			if t.Failed() {
				r.Fatalf("a law was broken, after: %s", w.last)
			}
		}
	})
}

func (w *world) happen(event string, r *rapid.T) {
	status := &w.s.Rollout.Status
	switch event {
	case "decide":
		w.checked(r)
	case "kubelet":
		w.kubelet()
	case "weights":
		w.weights()
	case "targets":
		w.targets()
	case "drained":
		w.drained()
	case "second":
		w.s.Now = w.s.Now.Add(time.Second)
	case "minutes":
		w.s.Now = w.s.Now.Add(3 * time.Minute)
	case "image":
		w.image(rapid.SampledFrom([]string{"A", "B", "C", "D"}).Draw(r, "image"))
	case "promote":
		w.promote()
		status.CurrentStepIndex = new(min(*status.CurrentStepIndex, 4))
	case "full":
		status.PromoteFull = true
	case "abort":
		status.Abort = true
	case "retry":
		status.Abort = false
	case "scale":
		w.s.Rollout.Spec.Replicas = new(int32(rapid.IntRange(0, 6).Draw(r, "scale")))
	case "foreign":
		w.s.Ingresses[0].Action, w.s.Ingresses[0].Ours, w.s.Ingresses[0].Writer, w.s.Ingresses[0].WrittenAt = "", false, "kubectl-edit", w.s.Now
	}
}

// checked decides twice on one snapshot, compares, and looks at every operation.
func (w *world) checked(r *rapid.T) {
	s, _ := w.look(time.Time{})
	// What a decision is made from stays as it was, also behind the end of its slices: it is the cache's.
	s.Rollout.Status.Conditions = append(make([]v1alpha1.RolloutCondition, 0, 20), s.Rollout.Status.Conditions...)
	was := s.Rollout.Status.DeepCopy()
	if a, b := Decide(s), Decide(s); a.String() != b.String() || diff(a.Status, b.Status) != "" {
		r.Fatalf("the same snapshot gives two decisions:\n%s\n%s", a, b)
	}
	behind := s.Rollout.Status.Conditions[len(was.Conditions):20]
	if diff(*was, s.Rollout.Status) != "" || slices.ContainsFunc(behind, func(c v1alpha1.RolloutCondition) bool { return c.Type != "" }) {
		r.Fatalf("a decision changed the status that it was made from")
	}
	before := w.s
	before.Services = append([]Service(nil), w.s.Services...)
	d := w.once()
	for _, o := range d.Operations {
		switch o := o.(type) {
		case WriteSplit:
			if o.Split.Total() != 100 {
				r.Fatalf("%s does not sum to 100", o)
			}
			w.checkRise(r, before, o)
		case PointService:
			whole := o.Service == stableSvc && before.Services[0].Hash != o.To && available(w.rs(o.To)) >= *before.Rollout.Spec.Replicas
			if n, _ := before.Ingresses[0].Evidence.Weight(o.Service); n != 0 && !whole && (facts{Snapshot: before}).liveOthers(o.Service, o.To) > 0 {
				r.Fatalf("%s while AWS shows weight %d", o, n)
			}
		case ScaleReplicaSet:
			if o.To == 0 && (facts{Snapshot: before}).holding(o.Hash) > 0 {
				r.Fatalf("law 2: %s while AWS names its targets", o)
			}
		}
	}
}

// checkRise: the canary's share rises only over healthy targets of the version that the Service selects.
func (w *world) checkRise(r *rapid.T, before Snapshot, o WriteSplit) {
	was := before.Rollout.Status.Canary.Weights
	now, _ := o.Split.Weight(canarySvc)
	if was == nil || now <= was.Canary.Weight || before.Rollout.Spec.Replicas != nil && *before.Rollout.Spec.Replicas == 0 {
		return
	}
	f := facts{Snapshot: before}
	if f.healthy(canarySvc, f.service(canarySvc).Hash) == 0 {
		r.Fatalf("law 1: %s without a healthy target", o)
	}
}

func TestDecisionIsAPreview(t *testing.T) {
	w := newWorld(t, 1, v1alpha1.CanaryStep{SetWeight: new(int32(1))})
	want := "create ReplicaSet shop-A with 0 pods (no ReplicaSet has the present template)\n" +
		"write split shop-canary 0, shop-stable 100 to Ingress shop (the new version is stable)\n"
	if got := w.once().String(); len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("got %q", got)
	}
	if _, err := split.Decode(w.s.Ingresses[0].Action); err != nil {
		t.Error(err)
	}
}

package canary

import (
	"slices"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// lost looks, lets the grace pass, and looks again.
func (w *world) lost() Decision {
	w.t.Helper()
	w.once()
	w.s.Now = w.s.Now.Add(lossGrace + time.Second)
	return w.once()
}

func (w *world) canaryHas(percent int32) {
	w.t.Helper()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != percent {
		w.t.Fatalf("the canary has %d %%, want %d\n%s", got, percent, w.last)
	}
}

func TestLaw1StableWithoutHealthyTargetsGivesItsShareBack(t *testing.T) {
	w := atHalf(t, nil)
	w.health(stableSvc, "A", evidence.Unhealthy)
	d := w.once()
	w.wantOps(d)
	if !slices.ContainsFunc(d.Events, func(e Event) bool { return e.Warning && e.Reason == v1alpha1.ConditionStableLost }) {
		t.Errorf("nobody is told: %+v", d.Events)
	}
	w.s.Now = w.s.Now.Add(lossGrace + time.Second)
	w.wantOps(w.once(), "scale ReplicaSet shop-B from 2 to 4")
	w.kubelet()
	w.targets()
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.wantOps(w.once(), "write split shop-canary 100, shop-stable 0 to Ingress shop")
	w.weights()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.s.Rollout.Status; got.StableRS != "A" || got.Phase == v1alpha1.PhaseHealthy || got.Phase == v1alpha1.PhasePaused || *got.CurrentStepIndex != 1 {
		t.Fatalf("%s: stable is %s, step %d", got.Phase, got.StableRS, *got.CurrentStepIndex)
	}
	w.health(stableSvc, "A", evidence.Healthy)
	w.still()
	w.canaryHas(50)
	if _, told := findCondition(w.s.Rollout.Status.Conditions, v1alpha1.ConditionStableLost); told {
		t.Error("stable still counts as lost")
	}
	w.toPause()
}

// Health checks that fail for a moment move nothing, however often, and neither does one old answer of AWS.
func TestLaw1AGlitchOfHealthChecksMovesNothing(t *testing.T) {
	w := atHalf(t, nil)
	for range 5 {
		w.health(stableSvc, "A", evidence.Unhealthy)
		w.wantOps(w.once())
		w.s.Now = w.s.Now.Add(lossGrace - 2*time.Second)
		w.wantOps(w.once())
		w.health(stableSvc, "A", evidence.Healthy)
		w.s.Now = w.s.Now.Add(5 * time.Second)
		w.wantOps(w.once())
	}
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.once()
	s := w.s
	s.Now = s.Now.Add(lossGrace + time.Second)
	if d := Decide(s); len(d.Operations) > 0 || !d.Wait.Fresh.Equal(s.Now) {
		t.Errorf("the same answer of AWS counts twice: %s, fresh %s", d, d.Wait.Fresh)
	}
}

// A small canary takes over only what its pods carry, step by step as they become healthy.
func TestLaw1ASmallCanaryIsNotFloodedWhenStableIsLost(t *testing.T) {
	w := stable(t, 40, weight(5), pause())
	w.image("B")
	w.toPause()
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.wantOps(w.lost(), "scale ReplicaSet shop-B from 2 to 40")
	w.canaryHas(5)
	w.kubelet()
	for _, row := range []struct {
		healthy int
		want    int32
	}{{10, 25}, {9, 25}, {20, 50}} {
		w.targets()
		w.drained()
		w.health(stableSvc, "A", evidence.Unhealthy)
		g := &w.s.Ingresses[0].Evidence.Groups[0]
		g.Targets = g.Targets[:row.healthy]
		w.once()
		w.canaryHas(row.want)
		w.once()
		w.canaryHas(row.want)
		w.weights()
	}
	w.targets()
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.once()
	w.canaryHas(100)
	w.weights()
	w.health(stableSvc, "A", evidence.Healthy)
	w.once()
	w.canaryHas(5)
}

// The step's own size is no limit when stable is lost, nor are pods taken away that carry more than the step's share.
func TestLaw1ACanaryScaleIsNoLimitWhenStableIsLost(t *testing.T) {
	w := stable(t, 4, v1alpha1.CanaryStep{SetCanaryScale: &v1alpha1.SetCanaryScale{Replicas: new(int32(1))}}, weight(10), pause())
	w.image("B")
	w.toPause()
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.wantOps(w.lost(), "write split shop-canary 25, shop-stable 75 to Ingress shop", "scale ReplicaSet shop-B from 1 to 4")
	w.weights()
	w.kubelet()
	w.targets()
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.once()
	w.canaryHas(100)
	w.weights()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.once()
	w.s.Ingresses[0].Evidence.Groups[1].Targets[0].State = evidence.Healthy // One of four carries a quarter.
	w.wantOps(w.once(), "write split shop-canary 75, shop-stable 25 to Ingress shop")
	w.weights()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.wantOps(w.still())
	w.health(stableSvc, "A", evidence.Healthy)
	w.wantOps(w.once(), "write split shop-canary 10, shop-stable 90 to Ingress shop")
}

// A version that was aborted is not what traffic flees to, nor one that has had no share yet.
func TestLaw1StableKeepsItsShareFromAnAbortedCanary(t *testing.T) {
	w := atHalf(t, nil)
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.s.Rollout.Status.Abort = true
	w.lost()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Errorf("the aborted canary has %d %%\n%s", got, w.last)
	}
	w = toCanary2(t)
	w.targets()
	w.health(stableSvc, "A", evidence.Unhealthy)
	w.lost()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got == 100 {
		t.Errorf("the new version has %d %% at once\n%s", got, w.last)
	}
}

// A group that was just made has no healthy targets yet, and has lost none.
func TestLaw1ANewStableGroupHasNotLostItsTargets(t *testing.T) {
	for name, edit := range map[string]func(*world){
		"empty":       func(w *world) { w.s.Ingresses[0].Evidence.Groups[1].Targets = nil },
		"first check": func(w *world) { w.health(stableSvc, "A", evidence.Initial) },
		"unmanaged":   func(w *world) { w.health(stableSvc, "A", evidence.Unhealthy); w.s.Services[1].Hash = "" },
	} {
		t.Run(name, func(t *testing.T) {
			w := atHalf(t, nil)
			edit(w)
			w.lost()
			w.kubelet()
			w.lost()
			if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
				t.Errorf("the canary has %d %%\n%s", got, w.last)
			}
		})
	}
	w := atHalf(t, nil)
	w.s.Ingresses[0].Evidence.Groups[1].Targets = nil
	for i := range w.rs("A").Pods {
		w.rs("A").Pods[i].Ready = false
	}
	w.count(w.rs("A"))
	w.wantOps(w.once(), "scale ReplicaSet shop-B from 2 to 4") // Nothing answers there for certain: no grace.
}

// A step that wants more pods than the rollout has gets them also while the stable version, which carries nothing
// any more, has none.
func TestScaleStepBeyondTheReplicasWithoutStablePods(t *testing.T) {
	w := stable(t, 1, weight(100), pause(), v1alpha1.CanaryStep{SetCanaryScale: &v1alpha1.SetCanaryScale{Replicas: new(int32(3))}}, pause())
	w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = true
	w.image("B")
	w.toPause()
	w.rest()
	if got := w.rs("A").Replicas; got != 0 {
		t.Fatalf("A has %d pods\n%s", got, w.last)
	}
	w.promote()
	w.rest()
	if got := w.s.Rollout.Status; *got.CurrentStepIndex != 3 || w.rs("B").Replicas != 3 {
		t.Errorf("step %d with %d pods: %s", *got.CurrentStepIndex, w.rs("B").Replicas, got.Message)
	}
}

package canary

import (
	"testing"

	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// repointed is a canary at 50 % whose stable Service somebody has pointed at the canary.
func repointed(t *testing.T) *world {
	w := atHalf(t, nil)
	w.s.Services[1].Hash = "B"
	return w
}

// The stable version is all there, so its Service may have it back at once: the load balancer half adds its
// targets before it takes the others away.
func TestStableServiceThatWasRepointedByHandIsWrittenBack(t *testing.T) {
	w := repointed(t)
	w.wantOps(w.once(), `point Service shop-stable from "B" to "A"`)
	w.toPause()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Errorf("the canary has %d %%", got)
	}
}

// Also when AWS has already exchanged the targets: the pods of A run, and are registered before B's leave.
func TestStableServiceIsWrittenBackAfterItsTargetsWereExchanged(t *testing.T) {
	w := repointed(t)
	w.targets()
	w.drained()
	w.wantOps(w.once(), `point Service shop-stable from "B" to "A"`)
}

// Nobody is sent to a version that could not carry its share.
func TestStableServiceStaysWhileTheStableVersionIsNotWhole(t *testing.T) {
	w := repointed(t)
	w.targets()
	w.rs("A").Pods[0].Ready = false
	w.count(w.rs("A"))
	w.wantWait(w.once(), "PodsNotAvailable")
	if got := w.s.Services[1].Hash; got != "B" {
		t.Errorf("S is at %s", got)
	}
}

// While the stable Service selects another version nothing rises: its group is not the way back (law 8).
func TestNoRiseWhileTheStableServiceIsElsewhere(t *testing.T) {
	w := repointed(t)
	w.targets()
	w.rs("A").Pods[0].Ready = false
	w.count(w.rs("A"))
	w.step(weight(75))
	w.s.Rollout.StepHash = "others"
	w.kubelet()
	for range 5 {
		w.once()
	}
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got > 50 {
		t.Errorf("the canary has %d %%\n%s", got, w.last)
	}
}

// health makes every target of a group that belongs to a version unhealthy, or healthy again.
func (w *world) health(service, hash string, to evidence.TargetState) {
	for _, g := range w.s.Ingresses[0].Evidence.Groups {
		for i := range g.Targets {
			if g.Service == service && g.Targets[i].PodTemplateHash == hash {
				g.Targets[i].State = to
			}
		}
	}
}

// The way back is open only while the stable version is whole, so nothing rises without it (law 8).
func TestLaw8NoRiseWhileStableIsNotWhole(t *testing.T) {
	w := stable(t, 4, weight(50), pause(), weight(75), pause())
	w.image("B")
	w.toPause()
	w.promote()
	w.still()
	w.kubelet()
	w.targets()
	for i := range 2 { // maxUnavailable is 25 %, one of four.
		w.s.Ingresses[0].Evidence.Groups[1].Targets[i].State = evidence.Unhealthy
	}
	d := w.once()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Fatalf("the canary has %d %% while stable has 2 of 4 pods\n%s", got, d)
	}
	w.wantWait(d, "TargetsNotHealthy")
	w.s.Rollout.Status.PromoteFull = true // A fix for a stable version that will never be whole.
	if d = w.once(); d.Wait.Message == "" || contains(d.Wait.Message, stableSvc) {
		t.Fatalf("a full promotion waits for the stable version: %s", d)
	}
	w.s.Rollout.Status.PromoteFull, w.s.Rollout.Status.CurrentStepIndex = false, new(int32(2))
	w.health(stableSvc, "A", evidence.Healthy)
	w.once()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 75 {
		t.Fatalf("the canary has %d %%\n%s", got, w.last)
	}
}

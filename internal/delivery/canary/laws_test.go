package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// toCanary2 is an update whose pods run while AWS still shows the groups of before.
func toCanary2(t *testing.T) *world {
	w := stable(t, 4, weight(50), pause())
	w.image("B")
	w.still()
	w.kubelet()
	w.still()
	return w
}

func TestLaw1NoRiseFrom0WhileAnotherVersionIsInTheGroup(t *testing.T) {
	w := toCanary2(t)
	k := &w.s.Ingresses[0].Evidence.Groups[0]
	for _, p := range w.rs("B").Pods {
		k.Targets = append(k.Targets, evidence.Target{PodUID: p.UID, PodTemplateHash: "B", State: evidence.Healthy})
	}
	w.wantWait(w.still(), "OtherTargetsLive")
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 0 {
		t.Errorf("the canary rose to %d over live targets of A", got)
	}
}

func TestLaw1AHealthyTargetWhosePodIsNotReadyDoesNotCount(t *testing.T) {
	w := toCanary2(t)
	w.targets()
	w.rs("B").Pods[0].Ready = false
	w.wantWait(w.still(), "TargetsNotHealthy")
}

func TestLaw2NoRemovalWhileAServiceSelectsThePods(t *testing.T) {
	w := atHalf(t, nil)
	w.s.Rollout.Status.Abort = true
	w.still()
	w.weights()
	w.s.Ingresses[0].Evidence.Groups[0].Targets = nil
	w.still()
	w.s.Now = w.s.Now.Add(time.Minute) // The abort delay is over, the weight has not settled.
	w.still()
	if k := w.s.Services[0].Hash; k == "B" && w.rs("B").Replicas == 0 {
		t.Error("B went while K selects it: its next pod would be registered and deleted")
	}
}

func TestLaw2AReplicaSetThatAServiceSelectsIsNotGone(t *testing.T) {
	f := facts{Snapshot: Snapshot{Services: []Service{{Name: "K", Hash: "B"}, {Name: "S", Hash: "A"}}}}
	for hash, want := range map[string]bool{"A": false, "B": false, "C": true} {
		if _, got := gone(ReplicaSet{Hash: hash})(f); got != want {
			t.Errorf("%s is gone: %t, want %t", hash, got, want)
		}
	}
	f.Services[0].Hash = ""
	if _, got := gone(ReplicaSet{Hash: "C"})(f); got {
		t.Error("a Service without a hash selects every version")
	}
}

func TestLaw2DeregisteredIsNotYetOutOfReach(t *testing.T) {
	w := stable(t, 4)
	w.s.Rollout.Spec.Replicas = new(int32(3))
	w.still()
	w.targets()
	w.drained() // A deregistration delay of 0.
	w.still()
	if got := w.rs("A").Replicas; got != 4 {
		t.Error("scaled down before every node could have heard of the deregistration")
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 3 {
		t.Errorf("A has %d pods\n%s", got, w.last)
	}
}

// A weight that was written and taken back may still be under way to AWS, though every read shows 0.
func TestLaw2SettlingStartsAnewWhenAnotherWeightWasWritten(t *testing.T) {
	w := toCanary2(t)
	w.targets()
	w.still() // 50 is written; AWS is throttled and shows 0.
	w.image("C")
	w.still()
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatalf("K is at %s: a late ModifyRule would send half of the traffic to an empty group", k)
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if k := w.s.Services[0].Hash; k != "C" {
		t.Fatalf("K is at %s\n%s", k, w.last)
	}
}

func TestLaw4ProgressClockRunsForHealthOnly(t *testing.T) {
	w := toCanary2(t)
	w.s.Now = w.s.Now.Add(601 * time.Second)
	w.still()
	if c := w.condition(v1alpha1.ConditionProgressing); c.Reason != "ProgressDeadlineExceeded" {
		t.Errorf("Progressing is %s after ten minutes without health", c.Reason)
	}
	w = toCanary2(t)
	w.s.Rollout.Spec.ProgressDeadlineAbort = true
	w.targets()
	w.still()
	w.s.Now = w.s.Now.Add(601 * time.Second)
	w.still()
	if w.s.Rollout.Status.Abort {
		t.Error("aborted while AWS had not shown the weight")
	}
	if c := w.condition(v1alpha1.ConditionProgressing); c.Reason == "ProgressDeadlineExceeded" {
		t.Error("the clock ran while AWS had not shown the weight")
	}
}

func TestLaw8TheOldVersionStaysForItsDelay(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.ScaleDownDelaySeconds = new(int32(3600)) })
	w.promote()
	for range 20 {
		w.still()
		w.kubelet()
		w.aws()
		w.drained()
		w.s.Now = w.s.Now.Add(time.Minute)
	}
	if w.s.Rollout.Status.Phase != v1alpha1.PhaseHealthy || w.rs("A").Replicas != 4 {
		t.Fatalf("%s, A has %d pods\n%s", w.s.Rollout.Status.Phase, w.rs("A").Replicas, w.last)
	}
	w.rest()
	if got := w.rs("A").Replicas; got != 0 {
		t.Errorf("A has %d pods after its delay\n%s", got, w.last)
	}
}

// Re-sync 1 with a stable version that has shrunk: it grows first, and traffic follows.
func TestReSyncWithDynamicStableScale(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = true })
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	w.aws()
	w.still()
	w.drained()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 2 {
		t.Fatalf("A has %d pods, want 2", got)
	}
	w.image("C")
	w.still()
	if got, weight := w.rs("A").Replicas, w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 4 || weight != 50 {
		t.Fatalf("A has %d pods, the canary %d %%\n%s", got, weight, w.last)
	}
	w.kubelet()
	w.aws()
	w.still()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 0 {
		t.Fatalf("the canary has %d %% though stable is whole", got)
	}
	w.rest()
	if w.s.Rollout.Status.Phase != v1alpha1.PhasePaused || w.rs("B").Replicas != 0 || w.rs("A").Replicas != 2 {
		t.Fatalf("%s: A %d, B %d\n%s", w.s.Rollout.Status.Phase, w.rs("A").Replicas, w.rs("B").Replicas, w.last)
	}
}

func TestLaw4PromoteDoesNotSkipEvidence(t *testing.T) {
	w := stable(t, 4, weight(25), pause(), weight(50), pause())
	w.image("B")
	w.still()
	w.kubelet()
	w.targets()
	w.wantWait(w.still(), "WeightNotSeen")
	for range 2 { // Once over the weight, once over the pause.
		w.promote()
		w.still()
	}
	w.kubelet()
	w.targets()
	w.still()
	if got := w.s.Rollout.Status; got.Canary.Weights.Canary.Weight != 25 || len(got.PauseConditions) > 0 {
		t.Fatalf("promote led to %d %% and %v while AWS shows 0", got.Canary.Weights.Canary.Weight, got.PauseConditions)
	}
	w.weights()
	w.still()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Errorf("the canary has %d %% after 25 was seen\n%s", got, w.last)
	}
}

// Between any two operations the process may stop: whatever was done of a decision, the next looks lead
// to the same end.
func TestCrashAnywhere(t *testing.T) {
	for crash := range 40 {
		w := stable(t, 4, weight(50))
		w.image("B")
		left := crash
		for range 60 {
			d, err := Round(w.look)
			if err != nil {
				t.Fatal(err)
			}
			died := false
			for _, o := range d.Operations {
				if left--; left == 0 {
					died = true
					break
				}
				w.act(&d, o)
			}
			if left--; !died && left != 0 {
				w.s.Rollout.Status = *d.Status.DeepCopy()
			}
			w.last = d
			w.kubelet()
			w.aws()
			w.drained()
			w.s.Now = w.s.Now.Add(20 * time.Second)
		}
		if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseHealthy || got.StableRS != "B" || w.rs("A").Replicas != 0 {
			t.Fatalf("after a crash at %d: %s, stable %s, A has %d pods\n%s", crash, got.Phase, got.StableRS, w.rs("A").Replicas, w.last)
		}
	}
}

package canary

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

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

// A pod with a drain mark is deregistered at any moment: a share must not rise over it.
func TestLaw1APodOnItsWayOutDoesNotCount(t *testing.T) {
	w := toCanary2(t)
	w.targets()
	w.rs("B").Pods[0].Drain = evidence.DrainWhenCovered
	w.once()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 0 {
		t.Errorf("the canary rose to %d over a pod that drains\n%s", got, w.last)
	}
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

// The others of its version are long gone from AWS, but a new pod may have got the address of a target that is
// still registered, and nobody could see it: its own settle time begins with the first look after it was made.
func TestLaw2APodThatIsMadeWhileItsVersionLeavesDrainsToo(t *testing.T) {
	w := stable(t, 4)
	w.s.Rollout.Spec.Replicas = new(int32(3))
	w.still()
	w.targets()
	w.drained()
	w.still()
	went := w.drainOf("A").Since.Time
	w.s.Now = w.s.Now.Add(149 * time.Second)
	for i := range w.rs("A").Pods {
		if p := &w.rs("A").Pods[i]; p.Drain != "" {
			p.CreatedAt = w.s.Now
		}
	}
	w.s.Now = w.s.Now.Add(2 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 4 || !w.drainOf("A").Since.After(went) {
		t.Fatalf("A has %d pods, out of reach since %s\n%s", got, w.drainOf("A").Since, w.last)
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 3 {
		t.Errorf("A has %d pods\n%s", got, w.last)
	}
}

// While A's targets leave the canary group for B's, B is given up. The group has sticky clients, and a deregistration
// of A's may be on its way: only when they are gone do they come back.
func TestLaw3NoVersionReturnsToStickyClientsWhileItLeaves(t *testing.T) {
	for name, stickiness := range map[string]time.Duration{"sticky": 10 * time.Minute, "not sticky": 0} {
		t.Run(name, func(t *testing.T) {
			w := stable(t, 4, weight(50), pause())
			sticky := func() {
				for i := range w.s.Ingresses[0].Evidence.Groups {
					w.s.Ingresses[0].Evidence.Groups[i].Stickiness = stickiness
				}
			}
			w.s.Now = w.s.Now.Add(-55 * time.Minute) // The group was served lately.
			w.image("B")
			w.still()
			w.kubelet()
			w.targets()
			sticky()
			w.s.Rollout.Status.Abort = true
			w.still()
			if got := w.s.Services[0].Hash; got != map[string]string{"sticky": "B", "not sticky": "A"}[name] {
				t.Fatalf("K is at %s while A leaves it\n%s", got, w.last)
			}
			w.drained()
			w.still()
			if got := w.s.Services[0].Hash; got != "A" {
				t.Fatalf("K is at %s\n%s", got, w.last)
			}
		})
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

// shrunk is a canary at 50 % whose stable version has given half of its pods away.
func shrunk(t *testing.T) *world {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = true })
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	w.aws()
	w.still()
	w.drained()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 2 {
		t.Fatalf("A has %d pods, want 2\n%s", got, w.last)
	}
	return w
}

// Without AWS's answer Kubernetes tells which version is whole: stable must not take everything with half its pods.
func TestLaw1StableTakesBackWhatItCarriesThoughAWSIsSilent(t *testing.T) {
	w := shrunk(t)
	w.s.Ingresses[0].EvidenceError = "Throttling: Rate exceeded"
	w.s.Rollout.Status.Abort = true
	w.once()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Fatalf("the canary has %d %% while stable has 2 of 4 pods\n%s", got, w.last)
	}
	w.kubelet()
	w.once()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 0 {
		t.Fatalf("the canary has %d %% though stable is whole\n%s", got, w.last)
	}
}

// maxUnavailable may allow that no pod at all is there; a share for nobody is never allowed.
func TestLaw1NothingReturnsToAStableVersionWithoutHealth(t *testing.T) {
	w := atHalf(t, func(w *world) {
		all := intstr.FromString("100%")
		w.s.Rollout.Spec.Strategy.Canary.MaxUnavailable = &all
	})
	s := w.s.Ingresses[0].Evidence.Groups[1]
	for i := range s.Targets {
		s.Targets[i].State = evidence.Unhealthy
	}
	w.s.Rollout.Status.Abort = true
	w.once()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Errorf("the canary has %d %% while stable has no healthy target\n%s", got, w.last)
	}
}

// A threshold of 0 lets pods be missing; it does not make a version stable that nobody has seen healthy.
func TestLaw8NoPromotionWithoutOneHealthyTarget(t *testing.T) {
	w := atHalf(t, func(w *world) {
		w.s.Rollout.Spec.Strategy.Canary.ReplicaProgressThreshold = &v1alpha1.ReplicaProgressThreshold{Type: "Percent"}
	})
	w.promote()
	w.still()
	w.kubelet()
	w.aws()
	w.still()
	w.weights()
	w.still()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 100 {
		t.Fatalf("the canary has %d %%\n%s", got, w.last)
	}
	for _, g := range w.s.Ingresses[0].Evidence.Groups {
		for i := range g.Targets {
			g.Targets[i].State = evidence.Unhealthy
		}
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.s.Rollout.Status.StableRS; got != "A" {
		t.Errorf("%s is stable without a healthy target\n%s", got, w.last)
	}
}

// One step may hold setCanaryScale and setWeight; its weight is evidence that the step needs.
func TestLaw4AStepWithScaleAndWeightWaitsForItsWeight(t *testing.T) {
	both := weight(50)
	both.SetCanaryScale = &v1alpha1.SetCanaryScale{Replicas: new(int32(2))}
	w := stable(t, 4, both, pause())
	w.image("B")
	w.still()
	w.kubelet()
	w.still()
	if got := *w.s.Rollout.Status.CurrentStepIndex; got != 0 {
		t.Errorf("step %d is reached before AWS shows the weight", got)
	}
	w.toPause()
}

// The controller was away for longer than the progress deadline, and the pods have come meanwhile.
func TestNoAbortForTheTimeThatTheControllerWasAway(t *testing.T) {
	w := toCanary2(t)
	w.s.Rollout.Spec.ProgressDeadlineAbort = true
	w.still()
	w.targets()
	w.s.Now = w.s.Now.Add(601 * time.Second)
	w.once()
	if w.s.Rollout.Status.Abort {
		t.Fatalf("aborted though everything is healthy\n%s", w.last)
	}
	w = toCanary2(t)
	w.s.Rollout.Spec.ProgressDeadlineAbort = true
	w.s.Now = w.s.Now.Add(601 * time.Second)
	w.still()
	if !w.s.Rollout.Status.Abort {
		t.Errorf("not aborted after ten minutes without health\n%s", w.last)
	}
}

// Pods get their readiness gates at admission, from the Service that selects them then.
func TestNoPodOfARetriedUpdateBeforeItsServiceIsSwitched(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.AbortScaleDownDelaySeconds = new(int32(0)) })
	w.s.Rollout.Status.Abort = true
	w.still()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if k := w.s.Services[0].Hash; k != "A" || w.rs("B").Replicas != 2 {
		t.Fatalf("K is at %s, B has %d pods\n%s", k, w.rs("B").Replicas, w.last)
	}
	w.s.Rollout.Spec.Strategy.Canary.Steps = []v1alpha1.CanaryStep{weight(75), pause()}
	w.s.Rollout.Status.Abort = false
	d := w.once()
	if k := w.s.Services[0].Hash; k != "B" && w.rs("B").Replicas > 2 {
		t.Errorf("B grows while K is at %s\n%s", k, d)
	}
	for range 10 {
		if k := w.s.Services[0].Hash; k != "B" && w.rs("B").Replicas > 2 {
			t.Fatalf("B grows while K is at %s\n%s", k, w.last)
		}
		w.once()
	}
	w.toPause()
	if got := w.rs("B").Replicas; got != 3 {
		t.Errorf("B has %d pods, want 3", got)
	}
}

// A pause is over only for a weight that is in place: while the canary has given its share back, the phase says so.
func TestLaw4NotPausedWhileTheShareIsGivenBack(t *testing.T) {
	w := atHalf(t, nil)
	k := w.s.Ingresses[0].Evidence.Groups[0]
	state := func(to evidence.TargetState) {
		for i := range k.Targets {
			if k.Targets[i].PodTemplateHash == "B" {
				k.Targets[i].State = to
			}
		}
	}
	state(evidence.Unhealthy)
	w.still()
	if got := w.s.Rollout.Status; got.Canary.Weights.Canary.Weight != 0 || got.Phase == v1alpha1.PhasePaused {
		t.Errorf("phase %s with the canary at %d %%", got.Phase, got.Canary.Weights.Canary.Weight)
	}
	w.weights()
	w.still()
	state(evidence.Healthy)
	w.still()
	if got := w.s.Rollout.Status; got.Canary.Weights.Canary.Weight != 50 || got.Phase == v1alpha1.PhasePaused {
		t.Errorf("phase %s, canary at %d %%, before AWS shows 50 %% again\n%s", got.Phase, got.Canary.Weights.Canary.Weight, w.last)
	}
	w.toPause()
}

// A weight was written, and the status could not be published: somebody else had written the Rollout, and the
// cache lags behind that for a while. The weight must not go to and fro meanwhile.
func TestAWeightThatWasWrittenButNotPublishedStays(t *testing.T) {
	w := toCanary2(t)
	w.targets()
	for n := range 5 {
		d, err := Round(w.look)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range d.Operations {
			if _, write := o.(WriteSplit); write && n > 0 {
				t.Fatalf("look %d: %s (%s)", n, o, o.Because())
			}
			w.act(&d, o)
		}
		w.weights()
	}
	w.toPause()
	w = toCanary2(t)
	w.targets()
	d, _ := Round(w.look)
	w.act(&d, d.Operations[0])
	w.weights()
	w.health(canarySvc, "B", evidence.Unhealthy) // What was decided does not hold any more.
	w.wantOps(w.once(), "write split shop-canary 0, shop-stable 100 to Ingress shop")
}

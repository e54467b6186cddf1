package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

func TestFirstEver(t *testing.T) {
	w := newWorld(t, 4, weight(50), pause())
	d := w.once()
	w.wantOps(d, "create ReplicaSet shop-A with 0 pods", "write split shop-canary 0, shop-stable 100 to Ingress shop")
	w.still()
	if got := w.rs("A").Replicas; got != 4 {
		t.Fatalf("A has %d pods, want 4: the first version takes no steps", got)
	}
	if got := w.s.Rollout.Status.Phase; got != v1alpha1.PhaseProgressing {
		t.Fatalf("phase %s before AWS shows anything", got)
	}
	w.kubelet()
	w.still()
	if got := w.condition(v1alpha1.ConditionTrafficVerified).Status; got != "False" {
		t.Fatalf("TrafficVerified is %s without a load balancer", got)
	}
	w.aws()
	w.still()
	if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseHealthy || got.StableRS != "A" {
		t.Fatalf("phase %s (%s), stable %q\n%s", got.Phase, got.Message, got.StableRS, w.last)
	}
}

func TestQuietWhenNothingIsToDo(t *testing.T) {
	w := stable(t, 4, weight(50))
	before := w.s.Rollout.Status.DeepCopy()
	d := w.once()
	w.wantOps(d)
	if diff := diff(*before, d.Status); diff != "" {
		t.Errorf("a quiet look changes the status:\n%s", diff)
	}
}

func TestCanary1To4(t *testing.T) {
	w := stable(t, 4, weight(25), pause(), weight(50), pause())
	w.image("B")

	t.Log("canary 1: RS B at 0, step 0; K is at 0, settled: T is kept")
	d := w.once()
	w.wantOps(d, "create ReplicaSet shop-B with 0 pods")
	t.Log("canary 2: Service K to B before the first pod of B, after a second look")
	w.wantOps(w.once(), "set the revision to 2")
	w.wantOps(w.once(), `point Service shop-canary from "A" to "B"`)
	d = w.once()
	w.wantOps(d, "scale ReplicaSet shop-B from 0 to 1")
	w.kubelet()
	w.wantWait(w.still(), "TargetsNotHealthy")
	w.targets()
	t.Log("canary 3: healthy, and no live A: the weight goes up")
	d = w.once()
	w.wantOps(d, "write split shop-canary 25, shop-stable 75 to Ingress shop")
	d = w.still()
	w.wantOps(d)
	w.wantWait(d, "WeightNotSeen")
	if got := w.s.Rollout.Status; len(got.PauseConditions) > 0 || *got.CurrentStepIndex != 0 || *got.Canary.Weights.Verified {
		t.Fatalf("the step went on without evidence: %+v", got)
	}
	t.Log("canary 4: seen; the pause starts now")
	w.s.Now = w.s.Now.Add(time.Minute)
	w.weights()
	w.still()
	got := w.s.Rollout.Status
	if got.Phase != v1alpha1.PhasePaused || got.Message != "CanaryPauseStep" || !got.ControllerPause {
		t.Fatalf("phase %s, %s", got.Phase, got.Message)
	}
	if at := got.PauseConditions[0].StartTime; at.Sub(start) < time.Hour+time.Minute {
		t.Errorf("the pause started at %s, before the weight was seen", at)
	}
	t.Log("promote: the next weight waits for its pods")
	w.promote()
	d = w.once()
	w.wantOps(d, "scale ReplicaSet shop-B from 1 to 2")
	if got := *w.s.Rollout.Status.CurrentStepIndex; got != 2 {
		t.Fatalf("step %d after promote, want 2", got)
	}
	w.kubelet()
	w.targets()
	w.wantOps(w.once(), "write split shop-canary 50, shop-stable 50 to Ingress shop")
}

// promote does what the kubectl plugin does.
func (w *world) promote() {
	s := &w.s.Rollout.Status
	if len(s.PauseConditions) == 0 {
		s.CurrentStepIndex = new(*s.CurrentStepIndex + 1)
	}
	s.PauseConditions = nil
}

// atHalf is a canary B that waits at 50 %.
func atHalf(t *testing.T, edit func(*world)) *world {
	w := stable(t, 4, weight(50), pause())
	if edit != nil {
		edit(w)
	}
	w.image("B")
	w.toPause()
	return w
}

func (w *world) toPause() {
	w.t.Helper()
	for range 10 {
		w.still()
		w.kubelet()
		w.aws()
		w.still()
		w.s.Now = w.s.Now.Add(time.Second)
		if w.s.Rollout.Status.Phase == v1alpha1.PhasePaused {
			return
		}
	}
	w.t.Fatalf("no pause is reached: %s\n%s", w.s.Rollout.Status.Message, w.last)
}

func TestReSync1To3(t *testing.T) {
	w := atHalf(t, nil)
	w.image("C")
	t.Log("re-sync 1: RS C at 0, split 100/0; K stays at B until settled")
	w.wantOps(w.once(), "create ReplicaSet shop-C with 0 pods", "write split shop-canary 0, shop-stable 100 to Ingress shop")
	d := w.still()
	w.wantWait(d, "WeightNotSeen")
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatalf("K is at %s before the weight was seen", k)
	}
	w.s.Now = w.s.Now.Add(9 * time.Minute)
	w.wantWait(w.still(), "WeightNotSeen")
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatal("time alone moved K: the weight was never seen at 0")
	}
	w.aws()
	w.wantWait(w.still(), "Settling")
	if c := w.condition(v1alpha1.ConditionTrafficVerified); c.Status != "False" || c.Reason != "Settling" {
		t.Errorf("TrafficVerified is %s, %s", c.Status, c.Reason)
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	t.Log("re-sync 2: K to C, then C up")
	w.wantOps(w.once(), `point Service shop-canary from "B" to "C"`)
	w.still()
	if got := w.rs("C").Replicas; got != 2 {
		t.Fatalf("C has %d pods, want 2", got)
	}
	w.kubelet()
	w.aws()
	t.Log("re-sync 3: C goes on while B drains")
	w.wantOps(w.once(), "write split shop-canary 50, shop-stable 50 to Ingress shop")
	if got := w.rs("B").Replicas; got != 2 {
		t.Fatal("B was scaled down while it was draining")
	}
	w.aws()
	w.drained()
	w.still()
	if got := w.rs("B").Replicas; got != 2 {
		t.Fatal("B was scaled down before the last node has heard of its deregistration")
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("B").Replicas; got != 0 {
		t.Fatalf("B has %d pods after it drained\n%s", got, w.last)
	}
	if w.s.Rollout.Status.Phase != v1alpha1.PhasePaused {
		t.Fatalf("phase %s: %s", w.s.Rollout.Status.Phase, w.s.Rollout.Status.Message)
	}
}

func TestReSyncFourthImage(t *testing.T) {
	w := atHalf(t, nil)
	w.image("C")
	w.still()
	w.image("D")
	w.still()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if k := w.s.Services[0].Hash; k != "D" {
		t.Fatalf("K is at %s, want D", k)
	}
	if c := w.rs("C"); c.Replicas != 0 {
		t.Fatalf("C was given %d pods", c.Replicas)
	}
}

func TestAbort(t *testing.T) {
	w := atHalf(t, nil)
	w.s.Rollout.Status.Abort = true
	w.wantOps(w.once(), "write split shop-canary 0, shop-stable 100 to Ingress shop",
		"set the scale-down deadline of ReplicaSet shop-B to "+w.s.Now.Add(30*time.Second+time.Millisecond).UTC().Format(time.RFC3339))
	w.still()
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatalf("K is at %s before it has settled", k)
	}
	if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseDegraded || *got.CurrentStepIndex != 0 || got.AbortedAt == nil {
		t.Fatalf("%s, step %d", got.Phase, *got.CurrentStepIndex)
	}
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.wantOps(w.once(), `point Service shop-canary from "B" to "A"`)
	w.still()
	w.aws()
	w.still()
	if got := w.rs("B").Replicas; got != 2 {
		t.Fatal("B went while draining")
	}
	w.drained()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("B").Replicas; got != 0 {
		t.Fatalf("B has %d pods\n%s", got, w.last)
	}
	t.Log("retry goes back to canary 2")
	w.s.Rollout.Status.Abort = false
	w.toPause()
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatalf("K is at %s after retry", k)
	}
}

func TestEnd1To5(t *testing.T) {
	w := atHalf(t, nil)
	w.promote()
	w.still()
	if got := w.rs("B").Replicas; got != 4 {
		t.Fatalf("end 1: B has %d pods, want 4", got)
	}
	w.kubelet()
	w.targets()
	w.wantOps(w.once(), "write split shop-canary 100, shop-stable 0 to Ingress shop")
	w.still()
	w.weights()
	w.wantWait(w.still(), "Settling")
	if w.s.Rollout.Status.StableRS != "A" {
		t.Fatal("end 2 before it settled: this cannot be taken back")
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	d := w.once()
	w.wantOps(d)
	if got := w.s.Rollout.Status; got.StableRS != "B" || got.Phase != v1alpha1.PhaseProgressing {
		t.Fatalf("end 2: stable %s, phase %s\n%s", got.StableRS, got.Phase, d)
	}
	w.wantOps(w.once(), `point Service shop-stable from "A" to "B"`)
	w.wantWait(w.still(), "TargetsNotHealthy")
	w.aws()
	t.Log("end 4: all of B healthy in S, no live A")
	w.wantOps(w.once(), "write split shop-canary 0, shop-stable 100 to Ingress shop")
	w.still()
	if got := w.s.Rollout.Status.Phase; got != v1alpha1.PhaseProgressing {
		t.Fatalf("%s before the last weight was seen", got)
	}
	w.weights()
	w.still()
	if got := w.s.Rollout.Status; got.Phase != v1alpha1.PhaseHealthy {
		t.Fatalf("end 4: %s (%s)\n%s", got.Phase, got.Message, w.last)
	}
	if w.rs("A").ScaleDownDeadline.IsZero() || w.rs("A").Replicas != 4 {
		t.Fatal("end 5: A has no deadline, or went at once")
	}
	w.s.Now = w.s.Now.Add(time.Minute)
	w.still()
	if w.rs("A").Replicas != 4 {
		t.Fatal("end 5: A went while it drained")
	}
	w.drained()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 0 {
		t.Fatalf("end 5: A has %d pods\n%s", got, w.last)
	}
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatalf("K is at %s, want B", k)
	}
	if got := w.condition(v1alpha1.ConditionHealthy).Status; got != "True" {
		t.Errorf("condition Healthy is %s", got)
	}
}

func TestAbortAtEnd1IsOneWrite(t *testing.T) {
	w := atHalf(t, nil)
	w.promote()
	w.still()
	w.kubelet()
	w.aws()
	w.still()
	w.weights()
	w.still()
	w.s.Rollout.Status.Abort = true
	if got := ops(w.once())[0]; got != "write split shop-canary 0, shop-stable 100 to Ingress shop" {
		t.Errorf("abort starts with %q", got)
	}
}

func TestRollback(t *testing.T) {
	w := atHalf(t, nil)
	w.image("A")
	w.wantOps(w.once(), "write split shop-canary 0, shop-stable 100 to Ingress shop",
		"update ReplicaSet shop-A: revision 3, desired 4, minReadySeconds 0", "set the revision to 3")
	w.still()
	w.aws()
	w.still()
	if got := w.s.Rollout.Status.Phase; got != v1alpha1.PhaseHealthy {
		t.Errorf("%s (%s): all traffic is at the stable version", got, w.s.Rollout.Status.Message)
	}
	if k := w.s.Services[0].Hash; k != "B" {
		t.Fatalf("K is at %s before it has settled", k)
	}
	w.rest()
	if k := w.s.Services[0].Hash; k != "A" || w.rs("B").Replicas != 0 {
		t.Fatalf("K is at %s, B has %d pods\n%s", k, w.rs("B").Replicas, w.last)
	}
}

func TestDynamicStableScale(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.DynamicStableScale = true })
	if got := w.rs("A").Replicas; got != 4 {
		t.Fatalf("A has %d pods before the weight has settled", got)
	}
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.wantOps(w.once(), "drain 2 pods of ReplicaSet shop-A")
	w.still()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(300 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 4 {
		t.Fatal("A shrank while its pods were draining")
	}
	w.drained()
	w.still()
	if got := w.rs("A").Replicas; got != 2 {
		t.Fatalf("A has %d pods, want 2\n%s", got, w.last)
	}
	t.Log("abort: traffic returns as fast as stable grows")
	w.s.Rollout.Status.Abort = true
	w.still()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 50 {
		t.Fatalf("the canary has %d %% while stable has half its pods", got)
	}
	w.kubelet()
	w.aws()
	w.still()
	if got := w.s.Rollout.Status.Canary.Weights.Canary.Weight; got != 0 {
		t.Fatalf("the canary has %d %% after stable is back\n%s", got, w.last)
	}
}

func TestScaleDown(t *testing.T) {
	w := stable(t, 4)
	w.s.Rollout.Spec.Replicas = new(int32(3))
	w.s.Rollout.Generation++
	w.wantOps(w.once(), "update ReplicaSet shop-A: revision 1, desired 3, minReadySeconds 0")
	w.wantOps(w.once(), "drain 1 pods of ReplicaSet shop-A")
	w.still()
	if w.rs("A").Replicas != 4 {
		t.Fatal("stopped before it drained")
	}
	w.aws()
	w.still()
	w.drained()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 3 {
		t.Fatalf("A has %d pods, want 3\n%s", got, w.last)
	}
}

func TestScaleTo0(t *testing.T) {
	w := stable(t, 2)
	w.s.Rollout.Spec.Replicas = new(int32(0))
	w.still()
	for _, p := range w.rs("A").Pods {
		if p.Drain != "anyway" {
			t.Errorf("pod %s is marked %q: nobody must be waited for", p.Name, p.Drain)
		}
	}
	w.aws()
	w.still()
	w.drained()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.still()
	if got := w.rs("A").Replicas; got != 0 {
		t.Fatalf("A has %d pods\n%s", got, w.last)
	}
}

func TestThrottledForMinutes(t *testing.T) {
	w := stable(t, 4, weight(50), v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{Duration: &oneMinute}})
	w.image("B")
	w.still()
	w.kubelet()
	w.targets()
	w.still()
	w.s.Ingresses[0].EvidenceError = "Throttling: Rate exceeded"
	for range 20 {
		w.s.Now = w.s.Now.Add(time.Minute)
		d := w.once()
		w.wantOps(d)
		if again := d.Wait.Again.Sub(w.s.Now); again > 30*time.Second {
			t.Fatalf("looks again only after %s", again)
		}
	}
	if c := w.condition(v1alpha1.ConditionProgressing); c.Reason == "ProgressDeadlineExceeded" {
		t.Fatal("the progress clock ran while evidence was awaited")
	}
	w.s.Ingresses[0].EvidenceError = ""
	w.weights()
	w.still()
	if w.s.Rollout.Status.Phase != v1alpha1.PhasePaused {
		t.Fatalf("phase %s: the minute of the pause starts only now", w.s.Rollout.Status.Phase)
	}
}

func TestHandEditAndContest(t *testing.T) {
	w := atHalf(t, nil)
	foreign := `{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"shop-canary","servicePort":"80","weight":0},{"serviceName":"shop-stable","servicePort":"80","weight":100}]}}`
	for n := range 3 {
		w.s.Now = w.s.Now.Add(time.Minute)
		i := &w.s.Ingresses[0]
		i.Action, i.Ours, i.Writer, i.WrittenAt = foreign, false, "argocd-controller", w.s.Now
		d := w.once()
		if n < 2 {
			w.wantOps(d, "write split shop-canary 50, shop-stable 50 to Ingress shop")
			w.still()
		} else {
			w.wantOps(d)
			w.wantWait(d, "TrafficContested")
			if e := d.Events; len(e) != 1 || !e[0].Warning || e[0].Reason != "TrafficContested" || !contains(e[0].Message, "argocd-controller") {
				t.Errorf("events %+v", e)
			}
		}
	}
	c := w.condition(v1alpha1.ConditionTrafficContested)
	if c.Status != "True" || !contains(c.Message, "argocd-controller") {
		t.Errorf("condition %+v", c)
	}
	w.s.Now = w.s.Now.Add(9 * time.Minute)
	w.wantOps(w.once(), "write split shop-canary 50, shop-stable 50 to Ingress shop")
}

func TestCanaryThatLosesAllHealthGivesItsShareBack(t *testing.T) {
	w := atHalf(t, nil)
	for i := range w.s.Ingresses[0].Evidence.Groups[0].Targets {
		w.s.Ingresses[0].Evidence.Groups[0].Targets[i].State = "unhealthy"
	}
	w.wantOps(w.once(), "write split shop-canary 0, shop-stable 100 to Ingress shop")
}

// The rollout's own port has changed: that is nobody's foreign write, whoever wrote the action last.
func TestAnotherPortIsWrittenAsOurOwnChange(t *testing.T) {
	for _, ours := range []bool{true, false} {
		w := atHalf(t, nil)
		w.s.Now = w.s.Now.Add(time.Minute)
		w.s.Ingresses[0].Ours, w.s.Ingresses[0].Writer = ours, "rollouts-controller"
		w.s.Ingresses[0].WrittenAt = w.s.Now.Add(-time.Hour)
		w.s.Rollout.Spec.Strategy.Canary.TrafficRouting.ALB.ServicePort = 8080
		d := w.once()
		w.wantOps(d, "write split shop-canary 50, shop-stable 50 to Ingress shop")
		if why := d.Operations[0].Because(); contains(why, "changed the action") {
			t.Errorf("ours %t: written because %q", ours, why)
		}
		if got := d.Status.Traffic[0].ForeignWrites; len(got) != 0 {
			t.Errorf("ours %t: counted as foreign: %v", ours, got)
		}
	}
}

// The stable version cannot take the share of an aborted canary back when no pods are wanted: its targets
// leave by the mark, whatever the weights are.
func TestScaleTo0OfAnAbortedCanaryThatKeepsAShare(t *testing.T) {
	w := atHalf(t, func(w *world) { w.s.Rollout.Spec.Strategy.Canary.AbortScaleDownDelaySeconds = new(int32(0)) })
	w.s.Rollout.Status.Abort = true
	w.s.Rollout.Spec.Replicas = new(int32(0))
	for range 20 { // The weights stay at 50/50: the load balancer half gives no share to an empty group.
		w.still()
		w.targets()
		w.drained()
		w.s.Now = w.s.Now.Add(time.Minute)
	}
	if a, b := w.rs("A").Replicas, w.rs("B").Replicas; a != 0 || b != 0 {
		t.Errorf("A has %d pods, B %d\n%s", a, b, w.last)
	}
}

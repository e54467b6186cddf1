package get

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func microAgo(d time.Duration) *metav1.MicroTime { return new(metav1.NewMicroTime(now.Add(-d))) }

// midCanary is a rollout whose weight of 50 was decided and is not yet seen in AWS.
func midCanary() view {
	r := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "prod", UID: "rollout", Generation: 7, CreationTimestamp: ago(72 * time.Hour)}}
	r.Spec.Replicas = new(int32(2))
	r.Spec.Strategy.Canary = &v1alpha1.CanaryStrategy{Steps: []v1alpha1.CanaryStep{{SetWeight: new(int32(50))}, {Pause: &v1alpha1.RolloutPause{}}}}
	r.Status = v1alpha1.RolloutStatus{
		ObservedGeneration: "7", Phase: v1alpha1.PhaseProgressing, Message: "waiting for all steps to complete",
		CurrentPodHash: "b", StableRS: "a", CurrentStepIndex: new(int32(0)),
		Replicas: 3, UpdatedReplicas: 1, ReadyReplicas: 3, AvailableReplicas: 3,
		Canary: v1alpha1.CanaryStatus{Weights: &v1alpha1.TrafficWeights{Canary: v1alpha1.WeightDestination{Weight: 50}, Stable: v1alpha1.WeightDestination{Weight: 50}}},
		Traffic: []v1alpha1.TrafficStatus{{
			Group: "shop", Intended: map[string]int32{"shop-canary": 50, "shop-stable": 50}, DecidedAt: microAgo(42 * time.Second),
			Weights: map[string]int32{"shop-canary": 0, "shop-stable": 100}, Since: microAgo(40 * time.Second),
		}},
		Conditions: []v1alpha1.RolloutCondition{{
			Type: v1alpha1.ConditionTrafficVerified, Status: metav1.ConditionFalse, Reason: "WeightNotSeen", LastTransitionTime: ago(41 * time.Second),
			Message: "Ingress shop: AWS shows shop-canary 0, shop-stable 100, intended is shop-canary 50, shop-stable 50",
		}},
	}
	a, b := set("a", "1", 2), set("b", "2", 1)
	a.CreationTimestamp, b.CreationTimestamp = ago(72*time.Hour), ago(5*time.Minute)
	old := set("c", "1", 1)
	old.OwnerReferences = nil // somebody else's
	waiting := pod("b", "shop-b-2")
	waiting.Status = corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{RestartCount: 3, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}}
	return view{rollout: r, sets: []appsv1.ReplicaSet{a, b, old}, pods: []corev1.Pod{pod("a", "shop-a-1"), pod("a", "shop-a-2"), pod("b", "shop-b-1"), waiting}, now: now}
}

// atRest is the same rollout when the new version is stable, with the old one kept for its delay.
func atRest() view {
	v := midCanary()
	s := &v.rollout.Status
	s.Phase, s.Message, s.StableRS, s.CurrentStepIndex = v1alpha1.PhaseHealthy, "", "b", new(int32(2))
	s.Canary.Weights.Canary.Weight, s.Canary.Weights.Stable.Weight = 0, 100
	s.Traffic[0].Intended, s.Traffic[0].SettledAt = s.Traffic[0].Weights, microAgo(0)
	s.Conditions[0].Status, s.Conditions[0].Message = metav1.ConditionTrue, "AWS shows the intended split in every rule"
	v.sets[0].Annotations[v1alpha1.ScaleDownDeadlineAnnotation] = now.Add(20 * time.Second).Format(time.RFC3339)
	return v
}

// unhealthy is a rollout that waits for targets, not for AWS's answer.
func unhealthy() view {
	v := midCanary()
	s := &v.rollout.Status
	s.Message = "more replicas need to be updated: 0 of 1 pods of b are healthy in the target group of Service shop-canary"
	s.Conditions = []v1alpha1.RolloutCondition{
		{Type: v1alpha1.ConditionTrafficVerified, Status: metav1.ConditionTrue},
		{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionTrue, LastUpdateTime: ago(2 * time.Minute), LastTransitionTime: ago(time.Hour)},
	}
	return v
}

// contested is a rollout at two Ingresses that somebody else writes to; nothing was seen in AWS yet.
func contested() view {
	v := midCanary()
	s := &v.rollout.Status
	s.Traffic = []v1alpha1.TrafficStatus{
		{Group: "shop", Intended: map[string]int32{"shop-canary": 50, "shop-stable": 50}},
		{Group: "shop-internal", Intended: map[string]int32{"shop-canary": 50, "shop-stable": 50}},
	}
	s.Conditions = append(s.Conditions, v1alpha1.RolloutCondition{
		Type: v1alpha1.ConditionTrafficContested, Status: metav1.ConditionTrue, Reason: v1alpha1.ConditionTrafficContested, LastTransitionTime: ago(3 * time.Minute),
		Message: `field manager "argocd-controller" has changed the action annotation of Ingress shop 3 times in 10m0s; let it leave the annotation out`,
	})
	v.rollout.Generation = 8
	return v
}

// unread is the rollout at rest while AWS cannot be read.
func unread() view {
	v := atRest()
	c := &v.rollout.Status.Conditions[0]
	c.Status, c.Reason, c.Message = metav1.ConditionUnknown, "NoEvidence", "AWS could not be asked about Ingress shop: Throttling: Rate exceeded"
	return v
}

// lost is the rollout in mid-canary when its stable version has lost all healthy targets.
func lost() view {
	v := midCanary()
	v.rollout.Status.Conditions = append(v.rollout.Status.Conditions, v1alpha1.RolloutCondition{
		Type: v1alpha1.ConditionStableLost, Status: metav1.ConditionTrue, Reason: "NoHealthyTarget",
		Message: "no target of the stable version is healthy in the target group of Service shop-stable", LastTransitionTime: ago(time.Minute),
	})
	return v
}

// overdue is the rollout in mid-canary after the evidence timeout.
func overdue() view {
	v := midCanary()
	c := &v.rollout.Status.Conditions[0]
	c.Reason, c.LastTransitionTime = v1alpha1.ReasonEvidenceOverdue, ago(11*time.Minute)
	c.Message += "; waited for since 2026-11-21T11:49:00Z, which is longer than 10m0s"
	return v
}

func set(hash, revision string, replicas int32) appsv1.ReplicaSet {
	return appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: "shop-" + hash, UID: types.UID("set-" + hash), Labels: map[string]string{v1alpha1.HashLabel: hash}, Annotations: map[string]string{v1alpha1.RevisionAnnotation: revision},
			OwnerReferences: []metav1.OwnerReference{{UID: "rollout", Controller: new(true)}},
		},
		Spec:   appsv1.ReplicaSetSpec{Replicas: new(replicas), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:" + hash}}}}},
		Status: appsv1.ReplicaSetStatus{Replicas: replicas, AvailableReplicas: replicas},
	}
}

func pod(hash, name string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: ago(4 * time.Minute), OwnerReferences: []metav1.OwnerReference{{UID: types.UID("set-" + hash), Controller: new(true)}}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Ready: true}},
		},
	}
}

func TestView(t *testing.T) {
	for name, v := range map[string]view{"waiting": midCanary(), "at-rest": atRest(), "contested": contested(), "unhealthy": unhealthy(), "unread": unread(), "overdue": overdue(), "lost": lost()} {
		t.Run(name, func(t *testing.T) {
			file, got := filepath.Join("testdata", name+".txt"), v.String()
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
			for _, line := range strings.Split(got, "\n") {
				if strings.TrimRight(line, " ") != line {
					t.Errorf("%q ends with blanks", line)
				}
			}
		})
	}
}

// Colours are invisible: without them the picture is the same, with every column at its place.
func TestColoursMoveNothing(t *testing.T) {
	v := midCanary()
	plain := v.String()
	v.colour = true
	painted := v.String()
	if !strings.Contains(painted, "\x1b[36m◌\x1b[0m") {
		t.Error("nothing is painted")
	}
	for _, code := range []string{"\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"} {
		painted = strings.ReplaceAll(painted, code, "")
	}
	if diff := cmp.Diff(plain, painted); diff != "" {
		t.Error(diff)
	}
}

func TestAnAbortedUpdateIsToHaveNothing(t *testing.T) {
	v := midCanary()
	if got := v.setWeight(); got != 50 {
		t.Errorf("before the abort: %d", got)
	}
	v.rollout.Status.Abort = true
	if got := v.setWeight(); got != 0 {
		t.Errorf("after the abort: %d", got)
	}
}

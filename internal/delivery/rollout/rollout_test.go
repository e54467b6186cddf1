package rollout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

func weight(n int32) v1alpha1.CanaryStep { return v1alpha1.CanaryStep{SetWeight: new(n)} }

func pause() v1alpha1.CanaryStep { return v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{}} }

// until waits for a claim about the Rollout.
func (s *shop) until(what string, claim func(*v1alpha1.Rollout) bool) *v1alpha1.Rollout {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var r v1alpha1.Rollout
		if err := admin.Get(s.ctx, s.key, &r); err != nil {
			s.t.Fatal(err)
		}
		if claim(&r) {
			return &r
		}
		if time.Now().After(deadline) {
			status, _ := json.MarshalIndent(r.Status, "", " ")
			s.t.Fatalf("never %s:\n%s\n%s", what, status, s.sets())
		}
		<-time.After(tick)
	}
}

func (s *shop) phase(phase string) *v1alpha1.Rollout {
	s.t.Helper()
	return s.until(phase, func(r *v1alpha1.Rollout) bool {
		return r.Status.Phase == phase && r.Status.ObservedGeneration == fmt.Sprint(r.Generation)
	})
}

// patch merges JSON into the Rollout or, with "status", its status, as the kubectl plugin does.
func (s *shop) patch(data string, status bool) {
	s.t.Helper()
	r := &v1alpha1.Rollout{ObjectMeta: s.meta("web")}
	var err error
	if patch := client.RawPatch(types.MergePatchType, []byte(data)); status {
		err = admin.Status().Patch(s.ctx, r, patch)
	} else {
		err = admin.Patch(s.ctx, r, patch)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) image(image string) {
	s.t.Helper()
	s.patch(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"`+image+`"}]}}}}`, false)
}

func (s *shop) promote() {
	s.patch(`{"status":{"pauseConditions":null}}`, true)
}

// sets are the ReplicaSets as text: image and size, oldest first.
func (s *shop) sets() string {
	var list appsv1.ReplicaSetList
	if err := admin.List(s.ctx, &list, client.InNamespace(s.key.Namespace)); err != nil {
		s.t.Fatal(err)
	}
	sizes := map[string]int32{}
	for _, rs := range list.Items {
		sizes[rs.Spec.Template.Spec.Containers[0].Image] += *rs.Spec.Replicas
	}
	return fmt.Sprint(sizes)
}

func (s *shop) untilSets(want string) {
	s.t.Helper()
	s.until("ReplicaSets "+want, func(*v1alpha1.Rollout) bool { return s.sets() == want })
}

func (s *shop) canaryWeight() int32 {
	s.cloud.mu.Lock()
	defer s.cloud.mu.Unlock()
	return s.cloud.weights["canary"]
}

// The seed failure: a third image in mid-canary at 50 %. No pod may go while a request can reach it.
func TestThirdImageInMidCanary(t *testing.T) {
	s := newShop(t, nil, weight(25), pause(), weight(50), pause())
	s.phase(v1alpha1.PhaseHealthy)
	s.untilSets("map[web:1:4]")

	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
	if w := s.canaryWeight(); w != 25 {
		t.Errorf("Paused while AWS shows %d", w)
	}
	s.promote()
	s.until("paused at 50", func(r *v1alpha1.Rollout) bool {
		return r.Status.Phase == v1alpha1.PhasePaused && *r.Status.CurrentStepIndex == 3
	})
	s.untilSets("map[web:1:4 web:2:2]")

	s.image("web:3")
	r := s.until("the third image paused at 25", func(r *v1alpha1.Rollout) bool {
		return r.Status.Phase == v1alpha1.PhasePaused && s.canaryWeight() == 25 && r.Status.UpdatedReplicas == 1
	})
	for _, e := range r.Status.Traffic {
		if e.DecidedAt == nil || e.WrittenAt == nil || e.Since == nil || e.WrittenAt.Before(e.DecidedAt) || e.Since.Before(e.WrittenAt) {
			t.Errorf("the times of the weight are out of order: %+v", e)
		}
	}
	s.untilSets("map[web:1:4 web:2:0 web:3:1]")
	s.patch(`{"status":{"promoteFull":true}}`, true)
	s.phase(v1alpha1.PhaseHealthy)
	s.untilSets("map[web:1:0 web:2:0 web:3:4]")
	s.until("condition Healthy", func(r *v1alpha1.Rollout) bool { return s.condition(r, v1alpha1.ConditionHealthy).Status == "True" })
	s.until("measured", func(*v1alpha1.Rollout) bool {
		got := strings.Join(series(t, s.key.Namespace), "\n")
		return strings.Contains(got, "rollout_info{phase=Completed,strategy=canary,traffic_router=ALB} 1") &&
			strings.Contains(got, "rollout_events_total{reason=SwitchService,type=Normal}") && strings.Contains(got, "rollout_info_replicas_available{} 4")
	})
}

func (s *shop) condition(r *v1alpha1.Rollout, kind string) v1alpha1.RolloutCondition {
	for _, c := range r.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return v1alpha1.RolloutCondition{}
}

func TestAbortAndRetryByStatusPatches(t *testing.T) {
	s := newShop(t, nil, weight(50), pause())
	s.phase(v1alpha1.PhaseHealthy)
	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
	s.patch(`{"status":{"abort":true}}`, true)
	s.phase(v1alpha1.PhaseDegraded)
	s.untilSets("map[web:1:4 web:2:0]")
	if w := s.canaryWeight(); w != 0 {
		t.Errorf("the canary keeps %d after abort", w)
	}
	s.patch(`{"status":{"abort":false}}`, true)
	s.phase(v1alpha1.PhasePaused)
	if w := s.canaryWeight(); w != 50 {
		t.Errorf("the canary has %d after retry", w)
	}
}

func TestQuietReconcileWritesNothing(t *testing.T) {
	s := newShop(t, nil, weight(50))
	s.until("settled", func(r *v1alpha1.Rollout) bool {
		return r.Status.Phase == v1alpha1.PhaseHealthy && len(r.Status.Traffic) == 1 && r.Status.Traffic[0].SettledAt != nil &&
			s.condition(r, v1alpha1.ConditionHealthy).Status == "True"
	})
	before := s.versions()
	wake(s.key.Namespace, "web")
	// Another Rollout's whole first deployment is long enough for a write to show.
	other := newQuietNeighbour(s)
	other.phase(v1alpha1.PhaseHealthy)
	if after := s.versions(); after != before {
		t.Errorf("a quiet look wrote:\nbefore %s\nafter  %s", before, after)
	}
}

// newQuietNeighbour is a second shop in the same test.
func newQuietNeighbour(s *shop) *shop {
	neighbour := *s
	var r v1alpha1.Rollout
	if err := admin.Get(s.ctx, s.key, &r); err != nil {
		s.t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "neighbour-"}}
	s.create(ns)
	neighbour.key.Namespace = ns.Name
	return neighbour.copyOf(s)
}

// copyOf creates the objects of another shop in this one's namespace, with a cloud of its own.
func (s *shop) copyOf(from *shop) *shop {
	s.t.Helper()
	s.cloud = &cloud{namespace: s.key.Namespace, groups: map[string]map[string]*target{}}
	clouds.Store(s.key.Namespace, s.cloud)
	go s.cloud.run(s.ctx)
	for _, o := range []client.Object{
		&corev1.Service{ObjectMeta: from.meta("canary")}, &corev1.Service{ObjectMeta: from.meta("stable")},
		&networkingv1.Ingress{ObjectMeta: from.meta("web")}, &v1alpha1.Rollout{ObjectMeta: from.meta("web")},
	} {
		if err := admin.Get(s.ctx, client.ObjectKeyFromObject(o), o); err != nil {
			s.t.Fatal(err)
		}
		o.SetNamespace(s.key.Namespace)
		o.SetResourceVersion("")
		o.SetUID("")
		o.SetAnnotations(nil)
		o.SetManagedFields(nil)
		if service, ok := o.(*corev1.Service); ok {
			service.Spec = corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}
		}
		s.create(o)
	}
	return s
}

// versions are the resource versions of everything that the controller could write.
func (s *shop) versions() string {
	var out []string
	for _, list := range []client.ObjectList{&v1alpha1.RolloutList{}, &appsv1.ReplicaSetList{}, &corev1.ServiceList{}, &networkingv1.IngressList{}, &corev1.PodList{}} {
		if err := admin.List(s.ctx, list, client.InNamespace(s.key.Namespace)); err != nil {
			s.t.Fatal(err)
		}
		items, _ := json.Marshal(list)
		var decoded struct {
			Items []metav1.PartialObjectMetadata `json:"items"`
		}
		if err := json.Unmarshal(items, &decoded); err != nil {
			s.t.Fatal(err)
		}
		for _, i := range decoded.Items {
			out = append(out, fmt.Sprintf("%T/%s@%s", list, i.Name, i.ResourceVersion))
		}
	}
	return strings.Join(out, " ")
}

// The Rollout is made right after its ReplicaSet, so the cache may show the one before the other.
func TestAdoptsAReplicaSetWhoseHashAnotherBuildMade(t *testing.T) {
	var adopted *appsv1.ReplicaSet
	s := newShop(t, func(s *shop) {
		labels := map[string]string{"app": "web", v1alpha1.HashLabel: "anotherhash"}
		pods := template("web:1")
		pods.Labels = labels
		adopted = &appsv1.ReplicaSet{ObjectMeta: s.meta("web-anotherhash"), Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(4)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: pods}}
		adopted.Labels = labels
		s.create(adopted)
	}, weight(50))
	r := s.phase(v1alpha1.PhaseHealthy)
	if r.Status.StableRS != "anotherhash" || r.Status.CurrentPodHash != "anotherhash" {
		t.Errorf("stable %q, current %q: the ReplicaSet was not recognised", r.Status.StableRS, r.Status.CurrentPodHash)
	}
	var list appsv1.ReplicaSetList
	if err := admin.List(s.ctx, &list, client.InNamespace(s.key.Namespace)); err != nil || len(list.Items) != 1 || list.Items[0].UID != adopted.UID {
		t.Errorf("%d ReplicaSets, %v", len(list.Items), err)
	}
}

func TestContestedAnnotationNamesTheFieldManager(t *testing.T) {
	s := newShop(t, nil, weight(50), pause())
	s.phase(v1alpha1.PhaseHealthy)
	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
	const foreign = `{"metadata":{"annotations":{"alb.ingress.kubernetes.io/actions.stable":"{}"}}}`
	for n := range 3 {
		ingress := &networkingv1.Ingress{ObjectMeta: s.meta("web")}
		if err := admin.Patch(s.ctx, ingress, client.RawPatch(types.MergePatchType, []byte(foreign)), client.FieldOwner(fmt.Sprintf("gitops-%d", n))); err != nil {
			t.Fatal(err)
		}
		if n == 2 {
			break
		}
		s.until("written back", func(*v1alpha1.Rollout) bool {
			if err := admin.Get(s.ctx, client.ObjectKeyFromObject(ingress), ingress); err != nil {
				t.Fatal(err)
			}
			return ingress.Annotations["alb.ingress.kubernetes.io/actions.stable"] != "{}"
		})
		s.until("counted", func(r *v1alpha1.Rollout) bool { return len(r.Status.Traffic[0].ForeignWrites) == n+1 })
	}
	r := s.until("contested", func(r *v1alpha1.Rollout) bool {
		return s.condition(r, v1alpha1.ConditionTrafficContested).Status == "True"
	})
	if m := s.condition(r, v1alpha1.ConditionTrafficContested).Message; !strings.Contains(m, "gitops-2") {
		t.Error(m)
	}
}

func TestScaleDownDrainsBeforeItStops(t *testing.T) {
	s := newShop(t, nil, weight(50))
	s.phase(v1alpha1.PhaseHealthy)
	s.patch(`{"spec":{"replicas":2}}`, false)
	s.untilSets("map[web:1:2]")
	s.phase(v1alpha1.PhaseHealthy)
	s.patch(`{"spec":{"replicas":0}}`, false)
	s.untilSets("map[web:1:0]")
}

func TestInvalidSpecHealsWhenCorrected(t *testing.T) {
	s := newShop(t, nil, weight(50))
	s.phase(v1alpha1.PhaseHealthy)
	s.patch(`{"spec":{"strategy":{"canary":{"steps":[{"setWeight":101}]}}}}`, false)
	r := s.phase(v1alpha1.PhaseDegraded)
	if !strings.Contains(r.Status.Message, "spec.strategy.canary.steps[0].setWeight: 101") {
		t.Error(r.Status.Message)
	}
	s.patch(`{"spec":{"strategy":{"canary":{"steps":[{"setWeight":10}]}}}}`, false)
	r = s.phase(v1alpha1.PhaseHealthy)
	if c := s.condition(r, v1alpha1.ConditionInvalidSpec); c.Type != "" {
		t.Errorf("%+v", c)
	}
	s.patch(`{"spec":{"template":{"spec":{"restartPolicy":"Never"}}}}`, false)
	r = s.phase(v1alpha1.PhaseDegraded)
	if !strings.Contains(r.Status.Message, "spec.template") || !strings.Contains(r.Status.Message, "restartPolicy") {
		t.Error(r.Status.Message)
	}
}

func TestThrottledIsNotPaused(t *testing.T) {
	s := newShop(t, nil, weight(50), pause())
	s.phase(v1alpha1.PhaseHealthy)
	s.cloud.set(func(c *cloud) { c.frozen = true })
	s.image("web:2")
	r := s.until("waiting for the weight", func(r *v1alpha1.Rollout) bool {
		return r.Status.Canary.Weights.Canary.Weight == 50 && s.condition(r, v1alpha1.ConditionTrafficVerified).Reason == "WeightNotSeen"
	})
	if *r.Status.CurrentStepIndex != 0 || r.Status.Phase == v1alpha1.PhasePaused {
		t.Errorf("step %d, phase %s without evidence", *r.Status.CurrentStepIndex, r.Status.Phase)
	}
	s.cloud.set(func(c *cloud) { c.frozen, c.throttled = false, true })
	s.until("told why", func(r *v1alpha1.Rollout) bool {
		return strings.Contains(s.condition(r, v1alpha1.ConditionTrafficVerified).Message, "Throttling")
	})
	s.cloud.set(func(c *cloud) { c.throttled = false })
	s.phase(v1alpha1.PhasePaused)
}

func TestSelectorCannotBeChanged(t *testing.T) {
	s := newShop(t, nil)
	r := &v1alpha1.Rollout{ObjectMeta: s.meta("web")}
	err := admin.Patch(s.ctx, r, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"selector":{"matchLabels":{"app":"other"}}}}`)))
	if err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Error(err)
	}
}

// The ReplicaSet controller deletes exactly the pods that have drained, and AWS never names one that is gone
// (the cloud of the test sees to that).
func TestRestartReplacesEveryPod(t *testing.T) {
	s := newShop(t, nil)
	s.phase(v1alpha1.PhaseHealthy)
	var pods corev1.PodList
	list := func() {
		if err := admin.List(s.ctx, &pods, client.InNamespace(s.key.Namespace)); err != nil {
			t.Fatal(err)
		}
	}
	list()
	at := pods.Items[0].CreationTimestamp.Time
	for _, p := range pods.Items {
		if p.CreationTimestamp.After(at) {
			at = p.CreationTimestamp.Time
		}
	}
	at = at.Add(time.Second).UTC() // Creation times are whole seconds.
	s.patch(`{"spec":{"restartAt":"`+at.Format(time.RFC3339)+`","strategy":{"canary":{"maxUnavailable":2}}}}`, false)
	s.until("restarted", func(r *v1alpha1.Rollout) bool {
		if r.Status.AvailableReplicas < 4 {
			t.Fatalf("%d pods are available during the restart", r.Status.AvailableReplicas)
		}
		return r.Status.RestartedAt != nil && r.Status.RestartedAt.Equal(r.Spec.RestartAt)
	})
	s.phase(v1alpha1.PhaseHealthy)
	list()
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && p.CreationTimestamp.Time.Before(at) {
			t.Errorf("pod %s is from before the restart", p.Name)
		}
	}
}

func TestDeletedRolloutReleasesItsServices(t *testing.T) {
	s := newShop(t, nil)
	s.phase(v1alpha1.PhaseHealthy)
	service := &corev1.Service{ObjectMeta: s.meta("stable")}
	s.until("the Service selects the stable version", func(*v1alpha1.Rollout) bool {
		if err := admin.Get(s.ctx, client.ObjectKeyFromObject(service), service); err != nil {
			t.Fatal(err)
		}
		return service.Spec.Selector[v1alpha1.HashLabel] != ""
	})
	s.cloud.set(func(c *cloud) { c.removal = true })
	if err := admin.Delete(s.ctx, &v1alpha1.Rollout{ObjectMeta: s.meta("web")}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); service.Spec.Selector[v1alpha1.HashLabel] != "" || service.Annotations[v1alpha1.ManagedByAnnotation] != ""; <-time.After(tick) {
		if err := admin.Get(s.ctx, client.ObjectKeyFromObject(service), service); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the selector is still %v", service.Spec.Selector)
		}
	}
	ingress := &networkingv1.Ingress{ObjectMeta: s.meta("web")}
	for deadline := time.Now().Add(patience); ; <-time.After(tick) {
		s.get(ingress)
		if _, recorded := ingress.Annotations[v1alpha1.ManagedALBAnnotation]; !recorded && ingress.Annotations[actionKey] == onlyOne {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the Ingress still has %v", ingress.Annotations)
		}
	}
}

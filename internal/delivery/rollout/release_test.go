package rollout

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

const (
	actionKey = "alb.ingress.kubernetes.io/actions.stable"
	halfHalf  = `{"Type":"forward","ForwardConfig":{"TargetGroups":[{"ServiceName":"canary","ServicePort":"80","Weight":50},{"ServiceName":"stable","ServicePort":"80","Weight":50}]}}`
	onlyOne   = `{"Type":"forward","ForwardConfig":{"TargetGroups":[{"ServiceName":"stable","ServicePort":"80","Weight":100}]}}`
)

// get reads an object of the shop's namespace.
func (s *shop) get(o client.Object) {
	s.t.Helper()
	if err := admin.Get(s.ctx, client.ObjectKeyFromObject(o), o); err != nil {
		s.t.Fatal(err)
	}
}

// marked makes a Service that a rollout has pointed and an Ingress whose action it has written.
func (s *shop) marked(name, rollout string) (*corev1.Service, *networkingv1.Ingress) {
	s.t.Helper()
	service := &corev1.Service{ObjectMeta: s.meta(name), Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web", v1alpha1.HashLabel: "old"}, Ports: []corev1.ServicePort{{Port: 80}}}}
	service.Annotations = map[string]string{v1alpha1.ManagedByAnnotation: rollout}
	ingress := &networkingv1.Ingress{ObjectMeta: s.meta(name), Spec: networkingv1.IngressSpec{
		DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "stable", Port: networkingv1.ServiceBackendPort{Name: "use-annotation"}}}}}
	ingress.Annotations = map[string]string{actionKey: halfHalf, v1alpha1.ManagedALBAnnotation: `{"` + rollout + `":["` + actionKey + `"]}`}
	s.create(service)
	s.create(ingress)
	return service, ingress
}

func TestWhatARolloutNamesNoMoreIsReleased(t *testing.T) {
	var service, others *corev1.Service
	var ingress, another *networkingv1.Ingress
	s := newShop(t, func(s *shop) {
		service, ingress = s.marked("dropped", "web")
		others, another = s.marked("other", "somebody")
	})
	s.until("released", func(*v1alpha1.Rollout) bool {
		s.get(service)
		s.get(ingress)
		_, hash := service.Spec.Selector[v1alpha1.HashLabel]
		_, managed := service.Annotations[v1alpha1.ManagedByAnnotation]
		_, recorded := ingress.Annotations[v1alpha1.ManagedALBAnnotation]
		return !hash && !managed && !recorded && ingress.Annotations[actionKey] == onlyOne
	})
	if service.Spec.Selector["app"] != "web" {
		t.Errorf("the user's own selector is %v", service.Spec.Selector)
	}
	s.phase(v1alpha1.PhaseHealthy)
	s.get(others)
	s.get(another)
	if others.Spec.Selector[v1alpha1.HashLabel] != "old" || another.Annotations[actionKey] != halfHalf {
		t.Errorf("what another rollout manages was changed: %v %v", others.Spec.Selector, another.Annotations)
	}
}

// Another root Service of the same Ingress: the former action forwards everything to the stable Service, where a
// rule may still name it, and belongs to the user from then on.
func TestFormerRootServiceIsReleased(t *testing.T) {
	const newKey = "alb.ingress.kubernetes.io/actions.root"
	s := newShop(t, func(s *shop) {
		var ingress networkingv1.Ingress
		ingress.Namespace, ingress.Name = s.key.Namespace, "web"
		s.get(&ingress)
		ingress.Spec.DefaultBackend = &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "root", Port: networkingv1.ServiceBackendPort{Name: "use-annotation"}}}
		if err := admin.Update(s.ctx, &ingress); err != nil {
			t.Fatal(err)
		}
	}, weight(50), pause())
	s.phase(v1alpha1.PhaseHealthy)
	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
	root := func(name string) {
		t.Helper()
		var r v1alpha1.Rollout
		r.Namespace, r.Name = s.key.Namespace, s.key.Name
		s.get(&r)
		before := r.DeepCopy()
		r.Spec.Strategy.Canary.TrafficRouting.ALB.RootService = name
		if err := admin.Patch(s.ctx, &r, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	var ingress networkingv1.Ingress
	ingress.Namespace, ingress.Name = s.key.Namespace, "web"
	root("root")
	s.until("the split is under the new key", func(*v1alpha1.Rollout) bool { s.get(&ingress); return ingress.Annotations[newKey] == halfHalf })
	if got := ingress.Annotations[actionKey]; got != onlyOne {
		t.Errorf("the former action is %q", got)
	}
	if got := ingress.Annotations[v1alpha1.ManagedALBAnnotation]; got != `{"web":["`+newKey+`"]}` {
		t.Errorf("bookkeeping: %s", got)
	}
	const theirs = `{"type":"fixed-response","fixedResponseConfig":{"statusCode":"503"}}`
	before := ingress.DeepCopy()
	ingress.Annotations[actionKey] = theirs
	if err := admin.Patch(s.ctx, &ingress, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	s.patch(`{"status":{"abort":true}}`, true)
	s.until("the next split is written", func(*v1alpha1.Rollout) bool { s.get(&ingress); return ingress.Annotations[newKey] != halfHalf })
	if got := ingress.Annotations[actionKey]; got != theirs {
		t.Errorf("what the user wrote is %q", got)
	}
}

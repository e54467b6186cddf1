package ingressgroup

import (
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

func TestTheWebhookOfIngresses(t *testing.T) {
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "alb"}, Spec: networkingv1.IngressClassSpec{Controller: ingress.ClassController}},
	).Build()
	hook := Webhook(reader, scheme, ingress.Settings{Cluster: "test"}, ingress.Admission{NoGroupAnnotation: true})

	raw := func(annotations map[string]string) runtime.RawExtension {
		content, err := json.Marshal(&networkingv1.Ingress{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
			ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: annotations}, Spec: networkingv1.IngressSpec{IngressClassName: new("alb")},
		})
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: content}
	}
	grouped := map[string]string{ingress.Prefix + "group.name": "g"}
	ask := func(operation admissionv1.Operation, now, before runtime.RawExtension) admission.Response {
		return hook.Handler.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
			Operation: operation, Namespace: "shop", Name: "web", Object: now, OldObject: before}})
	}
	if r := ask(admissionv1.Create, raw(nil), runtime.RawExtension{}); !r.Allowed {
		t.Errorf("a plain Ingress is refused: %v", r.Result)
	}
	if r := ask(admissionv1.Create, raw(grouped), runtime.RawExtension{}); r.Allowed || !strings.Contains(r.Result.Message, "Ingress shop/web: annotation alb.ingress.kubernetes.io/group.name") {
		t.Errorf("a group that is forbidden: %v", r.Result)
	}
	if r := ask(admissionv1.Update, raw(grouped), raw(grouped)); !r.Allowed {
		t.Errorf("the group that it had is refused: %v", r.Result)
	}
}

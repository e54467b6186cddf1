package binding

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// A pod is never made without a gate that it needs because something could not be read, and is refused only when
// nothing at all is known.
func TestAPodKeepsItsGatesWhenReadsFail(t *testing.T) {
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	service := func(name, version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name, rollouts.HashLabel: version}}}
	}
	binding := func(name string) *elbv2.TargetGroupBinding {
		return &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec: elbv2.TargetGroupBindingSpec{TargetType: new(elbv2.TargetTypeIP), ServiceRef: elbv2.ServiceReference{Name: name}}}
	}
	// The cache does not know yet that the canary's Service has been pointed to the new version.
	cached := fake.NewClientBuilder().WithScheme(scheme).WithObjects(service("web", "old"), binding("web"), service("other", "new"), binding("other")).Build()
	broken := errors.New("etcdserver: request timed out")
	failing := interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return broken
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return broken },
	}
	pod, err := json.Marshal(&corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", GenerateName: "web-", Labels: map[string]string{"app": "web", rollouts.HashLabel: "new"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		cached, live client.Client
		refused      bool
		gates        int
	}{
		"everything can be read":         {cached, fake.NewClientBuilder().WithScheme(scheme).WithObjects(service("web", "new")).Build(), false, 1},
		"the Service selects another":    {cached, fake.NewClientBuilder().WithScheme(scheme).WithObjects(service("web", "old")).Build(), false, 0},
		"the Service is gone":            {cached, fake.NewClientBuilder().WithScheme(scheme).Build(), false, 0},
		"the API server does not answer": {cached, fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(failing).Build(), false, 1},
		"not even the cache is there":    {fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(failing).Build(), nil, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Controller{Client: row.cached, Live: row.live, Logger: slog.New(slog.DiscardHandler)}
			hooks := c.Webhooks(scheme)
			hook := hooks[slices.IndexFunc(hooks, func(w kube.Webhook) bool { return w.Path == "/mutate-v1-pod" })]
			answer := hook.Handler.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Operation: admissionv1.Create, Namespace: "shop", Object: runtime.RawExtension{Raw: pod}}})
			if answer.Allowed == row.refused || row.refused && answer.Result.Code != http.StatusInternalServerError {
				t.Errorf("allowed: %t, %v", answer.Allowed, answer.Result)
			}
			if len(answer.Patches) != row.gates {
				t.Errorf("patches %v, want %d", answer.Patches, row.gates)
			}
		})
	}
}

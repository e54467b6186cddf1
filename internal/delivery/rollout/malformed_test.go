package rollout

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// The schema of the CRD admits what no Go type holds. Such a Rollout is told so, and holds nobody else up.
func TestAMalformedRolloutHoldsNobodyElseUp(t *testing.T) {
	s := newShop(t, nil, weight(50), pause())
	s.phase(v1alpha1.PhaseHealthy)
	malformed := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Rollout",
		"metadata": map[string]any{"name": "malformed", "namespace": s.key.Namespace},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": map[string]any{"app": "malformed"}},
			"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "web", "image": int64(5)}}}},
		},
	}}
	s.create(malformed)
	s.until("told", func(*v1alpha1.Rollout) bool {
		var r v1alpha1.Rollout
		if err := admin.Get(s.ctx, client.ObjectKeyFromObject(malformed), &r); err != nil {
			t.Fatal(err)
		}
		return r.Status.Phase == v1alpha1.PhaseDegraded && strings.Contains(r.Status.Message, "spec.template.spec.containers.image: number is not possible here")
	})
	if err := admin.Get(s.ctx, client.ObjectKeyFromObject(malformed), malformed); err != nil {
		t.Fatal(err)
	}
	if held, ok, _ := unstructured.NestedFieldNoCopy(malformed.Object, "spec", "template", "spec", "containers"); !ok || len(held.([]any)) != 1 {
		t.Errorf("the spec was changed to %v", malformed.Object["spec"])
	}
	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
}

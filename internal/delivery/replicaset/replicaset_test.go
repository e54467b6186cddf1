package replicaset

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "shop"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "shop", Image: "shop:1"}}},
	}
}

// The bytes under the hash, as older and newer libraries write them; that the hash of them is FNV-1a says
// TestHashIsFNV1a.
func TestOldJSONHasANullCreationTime(t *testing.T) {
	want := `{"metadata":{"creationTimestamp":null,"labels":{"app":"shop"}},"spec":{"containers":[{"name":"shop","image":"shop:1","resources":{}}]}}`
	if got := string(withNullCreationTime(template())); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	named := template()
	named.Name, named.Labels = "n", nil
	if got := string(withNullCreationTime(named)); !strings.HasPrefix(got, `{"metadata":{"name":"n","creationTimestamp":null},"spec"`) {
		t.Error(got)
	}
	if got := string(encode(template())); got != strings.Replace(want, `"creationTimestamp":null,`, "", 1) {
		t.Errorf("the new JSON is %s", got)
	}
}

func TestHashIsFNV1a(t *testing.T) {
	naive := func(data string) string {
		h := uint32(2166136261)
		for i := range len(data) {
			h = (h ^ uint32(data[i])) * 16777619
		}
		const alphabet = "bcdfghjklmnpqrstvwxz2456789"
		out := ""
		for _, digit := range []byte(uint32String(h)) {
			out += string(alphabet[int(digit)%27])
		}
		return out
	}
	data := string(encode(template()))
	if got, want := Hash(template(), nil), naive(data); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	if got, want := Hash(template(), new(int32(1))), naive(data+"\x01\x00\x00\x00\x00\x00\x00\x00"); got != want {
		t.Errorf("hash with a collision %s, want %s", got, want)
	}
	if got, want := OldHash(template(), nil), naive(string(withNullCreationTime(template()))); got != want {
		t.Errorf("old hash %s, want %s", got, want)
	}
}

func uint32String(n uint32) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return uint32String(n/10) + string(rune('0'+n%10))
}

// Goldens: a change of any of these would replace every pod of every user.
func TestHashGoldens(t *testing.T) {
	weight := []v1alpha1.CanaryStep{{SetWeight: new(int32(20))}, {Pause: &v1alpha1.RolloutPause{}}}
	got := map[string]string{"new": Hash(template(), nil), "old": OldHash(template(), nil), "collision": Hash(template(), new(int32(1))), "steps": StepHash(weight)}
	want := map[string]string{"new": "6757d59c7c", "old": "7f8685f8df", "collision": "9bbfd6fb", "steps": "54649b9f5c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSameTemplateIgnoresWhatTheControllerInjects(t *testing.T) {
	held := template()
	held.Labels = withHash(held.Labels, "abc")
	held.Spec.DeprecatedServiceAccount = "shop"
	if !SameTemplate(held, template()) {
		t.Error("the hash label makes a template another one")
	}
	held.Spec.Containers[0].Image = "shop:2"
	if SameTemplate(held, template()) {
		t.Error("another image is the same template")
	}
}

func TestNewCarriesNamesLabelsAndAnnotations(t *testing.T) {
	r := &v1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "ns", UID: "u", Annotations: map[string]string{
			"team": "a", v1alpha1.RevisionAnnotation: "7", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
		Spec: v1alpha1.RolloutSpec{Template: template(), MinReadySeconds: 3, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}}},
	}
	rs := New(r, "h", 2, 5)
	if rs.Name != "shop-h" || *rs.Spec.Replicas != 0 || rs.Spec.MinReadySeconds != 3 || !*rs.OwnerReferences[0].Controller {
		t.Errorf("%+v", rs)
	}
	labels := map[string]string{"app": "shop", v1alpha1.HashLabel: "h"}
	for what, got := range map[string]map[string]string{"labels": rs.Labels, "selector": rs.Spec.Selector.MatchLabels, "template": rs.Spec.Template.Labels} {
		if diff := cmp.Diff(labels, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if diff := cmp.Diff(map[string]string{"team": "a", v1alpha1.RevisionAnnotation: "2", v1alpha1.DesiredReplicasAnnotation: "5"}, rs.Annotations); diff != "" {
		t.Error(diff)
	}
	if _, leaked := r.Spec.Template.Labels[v1alpha1.HashLabel]; leaked {
		t.Error("the rollout's own template was changed")
	}
}

func TestRevisionHistoryKeepsEarlierRevisions(t *testing.T) {
	a := Annotations(nil, nil, 1, 1)
	a = Annotations(nil, a, 3, 1)
	a = Annotations(nil, a, 3, 1)
	a = Annotations(nil, a, 4, 1)
	if got := a[v1alpha1.RevisionHistoryAnnotation]; got != "1,3" {
		t.Errorf("history %q", got)
	}
}

package kubelet

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

func TestExpand(t *testing.T) {
	env := []app.EnvVar{{Name: "A", Value: "old"}, {Name: "A", Value: "x"}, {Name: "B_1", Value: "$(A)"}}
	for in, want := range map[string]string{
		"":                "",
		"plain":           "plain",
		"$(A)$(A)-$(B_1)": "xx-$(A)", // values are not expanded again
		"$(NOBODY)":       "$(NOBODY)",
		"$$(A)":           "$(A)",
		"$A ${A} $":       "$A ${A} $",
		"$(A":             "$(A",
	} {
		if got := expand(in, env); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestFieldsOfThePod(t *testing.T) {
	v := view{
		node: &node{name: "node-a", addr: netip.MustParseAddr("10.1.0.10")}, addr: netip.MustParseAddr("10.1.0.20"),
		pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "shop", UID: "u", Labels: map[string]string{"b/x": "2", "a": "1\"quoted\""}},
			Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "web", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("65Mi")},
			}}}},
		},
	}
	for path, want := range map[string]string{
		"metadata.name": "web-1", "metadata.namespace": "shop", "metadata.uid": "u", "spec.nodeName": "node-a", "spec.serviceAccountName": "default",
		"status.podIP": "10.1.0.20", "status.hostIP": "10.1.0.10", "metadata.labels['b/x']": "2", "metadata.annotations['none']": "",
		"metadata.labels": "a=\"1\\\"quoted\\\"\"\nb/x=\"2\"",
	} {
		if got, ok := v.field(path); got != want || !ok {
			t.Errorf("%s: %q, %v; want %q", path, got, ok, want)
		}
	}
	if got, ok := v.field("spec.secretly"); ok {
		t.Errorf("a field that does not exist is %q", got)
	}
	for _, c := range []struct{ resource, divisor, want string }{
		{"requests.cpu", "", "1"},
		{"requests.cpu", "1m", "250"},
		{"requests.memory", "1Mi", "65"},
		{"requests.memory", "64Mi", "2"}, // rounded up
		{"limits.cpu", "", "0"},
	} {
		ref := &corev1.ResourceFieldSelector{Resource: c.resource}
		if c.divisor != "" {
			ref.Divisor = resource.MustParse(c.divisor)
		}
		if got, err := v.resource(&v.pod.Spec.Containers[0], ref); got != c.want || err != nil {
			t.Errorf("%s by %q: %q, %v; want %q", c.resource, c.divisor, got, err, c.want)
		}
	}
}

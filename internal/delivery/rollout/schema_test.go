package rollout

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// The API server keeps every field of existing manifests: none is pruned, none refused.
func TestAPIServerKeepsEveryField(t *testing.T) {
	if admin == nil {
		t.Fatal("no control plane is built; run: make controlplane")
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "schema-"}}
	if err := admin.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	for n, file := range []string{
		"../../../api/rollouts/v1alpha1/testdata/canary.yaml",
		"../../../api/rollouts/v1alpha1/testdata/bluegreen.yaml",
		"testdata/analysisrun.yaml", "testdata/experiment.yaml", "testdata/analysistemplate.yaml", "testdata/clusteranalysistemplate.yaml",
	} {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want unstructured.Unstructured
			if err := yaml.Unmarshal(data, &want.Object); err != nil {
				t.Fatal(err)
			}
			want.SetName(fmt.Sprintf("kept-%d", n))
			if want.GetKind() != "ClusterAnalysisTemplate" {
				want.SetNamespace(ns.Name)
			}
			// Another controller's Rollout: ours leaves it alone, and the status stays as it is sent.
			want.SetLabels(map[string]string{"argo-rollouts.argoproj.io/controller-instance-id": "other"})
			got := want.DeepCopy()
			if err := admin.Create(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			if status, ok := want.Object["status"]; ok && want.GetKind() == "Rollout" {
				got.Object["status"] = status
				if err := admin.Status().Update(t.Context(), got); err != nil {
					t.Fatal(err)
				}
			}
			if err := admin.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
				t.Fatal(err)
			}
			for path, lost := range missing("", plain(t, want.Object), plain(t, got.Object)) {
				t.Errorf("%s: %v is lost", path, lost)
			}
		})
	}
}

// plain is a value as encoding/json reads it, so that numbers compare.
func plain(t *testing.T, v any) (out any) {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// missing are the values of want that got does not have, by path.
func missing(path string, want, got any) map[string]any {
	out := map[string]any{}
	add := func(more map[string]any) {
		for p, v := range more {
			out[p] = v
		}
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			out[path] = want
		}
		for key, value := range w {
			add(missing(path+"."+key, value, g[key]))
		}
	case []any:
		g, _ := got.([]any)
		for i, value := range w {
			var held any
			if i < len(g) {
				held = g[i]
			}
			add(missing(path+"[]", value, held))
		}
	default:
		if want != got {
			out[path] = want
		}
	}
	return out
}

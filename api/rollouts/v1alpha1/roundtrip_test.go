package v1alpha1

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// Every field of a manifest survives a read and a write: what is lost here would be lost in users' objects.
func TestManifestsRoundTrip(t *testing.T) {
	for _, file := range []string{"testdata/canary.yaml", "testdata/bluegreen.yaml"} {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var typed Rollout
			if err := yaml.UnmarshalStrict(data, &typed); err != nil {
				t.Fatal(err)
			}
			written, err := json.Marshal(typed)
			if err != nil {
				t.Fatal(err)
			}
			var want, got map[string]any
			if err := yaml.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(written, &got); err != nil {
				t.Fatal(err)
			}
			for path, lost := range missing("", want, got) {
				t.Errorf("%s: %v is lost", path, lost)
			}
		})
	}
}

// missing are the values of want that got does not have, by path.
func missing(path string, want, got any) map[string]any {
	out := map[string]any{}
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for key, value := range w {
			for p, v := range missing(path+"."+key, value, g[key]) {
				out[p] = v
			}
		}
	case []any:
		g, _ := got.([]any)
		for i, value := range w {
			var held any
			if i < len(g) {
				held = g[i]
			}
			for p, v := range missing(path+"[]", value, held) {
				out[p] = v
			}
		}
	default:
		if cmp.Diff(want, got) != "" {
			out[path] = want
		}
	}
	return out
}

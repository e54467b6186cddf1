package v1alpha1

import (
	"testing"

	utiljson "k8s.io/apimachinery/pkg/util/json"
)

func TestWhatCannotBeReadIsNamedAndTheRestIsKept(t *testing.T) {
	for name, row := range map[string]struct{ spec, want string }{
		"a number as image": {`{"minReadySeconds":7,"template":{"spec":{"containers":[{"name":"web","image":5}]}}}`,
			"spec.template.spec.containers.image: number is not possible here; write a value of type string"},
		"too many replicas": {`{"minReadySeconds":7,"replicas":3000000000}`, // by a CRD without formats

			"spec.replicas: number 3000000000 is not possible here; write a value of type int32"},
		"not a quantity": {`{"minReadySeconds":7,"template":{"spec":{"containers":[{"name":"web","resources":{"limits":{"cpu":"much"}}}]}}}`,
			"spec.template: cannot be read; correct it: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"},
		"nothing wrong": {`{"minReadySeconds":7}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r Rollout
			if err := utiljson.Unmarshal([]byte(`{"metadata":{"name":"web"},"spec":`+row.spec+`,"status":{"stableRS":"a"}}`), &r); err != nil {
				t.Fatal(err)
			}
			if r.Spec.Malformed != row.want {
				t.Errorf("malformed\n got %s\nwant %s", r.Spec.Malformed, row.want)
			}
			if r.Name != "web" || r.Spec.MinReadySeconds != 7 || r.Status.StableRS != "a" {
				t.Errorf("%+v", r)
			}
		})
	}
}

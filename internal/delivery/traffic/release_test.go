package traffic

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

const (
	half = `{"Type":"forward","ForwardConfig":{"TargetGroups":[{"ServiceName":"canary","ServicePort":"80","Weight":50},{"ServiceName":"stable","ServicePort":"80","Weight":50}],"TargetGroupStickinessConfig":{"Enabled":true,"DurationSeconds":60}}}`
	all  = `{"Type":"forward","ForwardConfig":{"TargetGroups":[{"ServiceName":"stable","ServicePort":"80","Weight":100}],"TargetGroupStickinessConfig":{"Enabled":true,"DurationSeconds":60}}}`
)

func TestReleasedIngressForwardsToTheStableService(t *testing.T) {
	const stable, root, broken = "x/actions.stable", "x/actions.root", "x/actions.broken"
	ingress := func(record string) *networkingv1.Ingress {
		return &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
			stable: half, root: half, broken: "{", v1alpha1.ManagedALBAnnotation: record, v1alpha1.ObsoleteALBAnnotation: "shop:stable",
		}}}
	}
	for name, row := range map[string]struct {
		record string
		want   map[string]any
	}{
		"by the action's own name":  {`{"shop":["` + stable + `"]}`, map[string]any{stable: all, v1alpha1.ManagedALBAnnotation: nil, v1alpha1.ObsoleteALBAnnotation: nil}},
		"behind a root Service":     {`{"shop":["` + root + `"]}`, map[string]any{root: all, v1alpha1.ManagedALBAnnotation: nil, v1alpha1.ObsoleteALBAnnotation: nil}},
		"others stay":               {`{"other":["` + root + `"],"shop":["` + broken + `"]}`, map[string]any{v1alpha1.ManagedALBAnnotation: `{"other":["` + root + `"]}`, v1alpha1.ObsoleteALBAnnotation: nil}},
		"another has taken it over": {`{"other":["` + stable + `"],"shop":["` + stable + `"]}`, map[string]any{v1alpha1.ManagedALBAnnotation: `{"other":["` + stable + `"]}`, v1alpha1.ObsoleteALBAnnotation: nil}},
	} {
		t.Run(name, func(t *testing.T) {
			i := ingress(row.record)
			if !Manages(i, "shop") || Manages(i, "else") {
				t.Error("Manages is wrong")
			}
			got, err := Released(i, "shop")
			if diff := cmp.Diff(row.want, got); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
	if _, err := Released(ingress("["), "shop"); err == nil {
		t.Error("a broken bookkeeping annotation is no error")
	}
}

func TestFormerActionsAreLetGo(t *testing.T) {
	r := ALB{Rollout: "shop", Action: "root", Key: "x/actions.root"}
	const former, theirs, shared, gone = "x/actions.stable", "x/actions.theirs", "x/actions.shared", "x/actions.gone"
	owns := metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:` + former + `":{},"f:` + shared + `":{}}}}`)
	ingress := func(record string) *networkingv1.Ingress {
		return &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{
			Annotations:   map[string]string{former: half, theirs: half, shared: half, r.Key: half, v1alpha1.ManagedALBAnnotation: record},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: r.FieldManager(), FieldsV1: owns}},
		}}
	}
	for name, row := range map[string]struct {
		record string
		want   map[string]any
	}{
		"nothing was written":           {`{"other":["` + former + `"]}`, nil},
		"only the present one":          {`{"shop":["` + r.Key + `"]}`, nil},
		"ours":                          {`{"shop":["` + former + `"]}`, map[string]any{former: all, v1alpha1.ManagedALBAnnotation: `{}`}},
		"beside the present one":        {`{"shop":["` + former + `","` + r.Key + `"]}`, map[string]any{former: all, v1alpha1.ManagedALBAnnotation: `{"shop":["` + r.Key + `"]}`}},
		"somebody else wrote it since":  {`{"shop":["` + theirs + `"]}`, nil},
		"another rollout writes it too": {`{"else":["` + shared + `"],"shop":["` + shared + `"]}`, map[string]any{v1alpha1.ManagedALBAnnotation: `{"else":["` + shared + `"]}`}},
		"somebody removed it":           {`{"shop":["` + gone + `"]}`, map[string]any{v1alpha1.ManagedALBAnnotation: `{}`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.retired(ingress(row.record))
			if diff := cmp.Diff(row.want, got); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
	if _, err := r.retired(ingress("[")); err == nil {
		t.Error("a broken bookkeeping annotation is no error")
	}
}

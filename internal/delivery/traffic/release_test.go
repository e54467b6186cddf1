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

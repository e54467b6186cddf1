package ingressgroup

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

func TestPassesAreMeasured(t *testing.T) {
	now := time.Unix(0, 0)
	c := &Controller{Options: Options{Name: "measured", Now: func() time.Time { return now }}}
	for _, err := range []error{
		nil, &cloud.BusyError{Operation: "ModifyRule", Until: now.Add(time.Second)},
		apierrors.NewConflict(schema.GroupResource{Resource: "ingresses"}, "web", errors.New("the cache is behind")),
		&ingress.InvalidError{Object: "Ingress shop/web"}, &cloud.APIError{Operation: "CreateRule", Kind: cloud.KindDenied},
	} {
		r := &round{}
		c.stage(r, stageBuild)
		now = now.Add(2 * time.Second)
		c.stage(r, stageDeploy)
		now = now.Add(3 * time.Second)
		c.count(r, err)
		c.stage(r, "")
	}
	got := map[string]float64{}
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			if len(m.Label) == 2 && m.Label[0].GetValue() == "measured" {
				got[family.GetName()+" "+m.Label[1].GetValue()] = m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
			}
		}
	}
	for name, want := range map[string]float64{
		"awslbc_controller_reconcile_stage_duration build_model":      10,
		"awslbc_controller_reconcile_stage_duration deploy_model":     15,
		"awslbc_controller_reconcile_errors_total deploy_model_error": 2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

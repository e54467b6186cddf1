package canary

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

var oneMinute = intstr.FromString("1m")

func contains(s, part string) bool { return strings.Contains(s, part) }

func diff(a, b v1alpha1.RolloutStatus) string { return cmp.Diff(a, b) }

func TestInvalidSpecNamesFieldAndChangesNothing(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*world)
		want string
	}{
		"analysis step":    {func(w *world) { w.step(v1alpha1.CanaryStep{Analysis: &v1alpha1.RolloutAnalysis{}}) }, "spec.strategy.canary.steps[0].analysis"},
		"weight too large": {func(w *world) { w.step(weight(101)) }, "spec.strategy.canary.steps[0].setWeight: 101"},
		"the same Ingress twice": {func(w *world) {
			alb := w.s.Rollout.Spec.Strategy.Canary.TrafficRouting.ALB
			alb.Ingress, alb.Ingresses = "", []string{ingress, ingress}
			w.s.Ingresses = append(w.s.Ingresses, w.s.Ingresses[0])
		}, `spec.strategy.canary.trafficRouting.alb.ingresses[1]: "shop" is named twice`},
		"an Ingress without a name": {func(w *world) {
			alb := w.s.Rollout.Spec.Strategy.Canary.TrafficRouting.ALB
			alb.Ingress, alb.Ingresses = "", []string{""}
		}, "spec.strategy.canary.trafficRouting.alb.ingresses[0]: is empty"},
		"no percentage": {func(w *world) {
			much := intstr.FromString("much")
			w.s.Rollout.Spec.Strategy.Canary.MaxUnavailable = &much
		}, `spec.strategy.canary.maxUnavailable: "much" is neither a number nor a percentage; use a form such as 1 or 25%`},
		"bookkeeping annotation": {func(w *world) { w.s.Ingresses[0].RecordError = "annotation x of Ingress shop is wrong; correct it" }, "annotation x of Ingress shop"},
		"template":               {func(w *world) { w.s.Rollout.Spec.Malformed = "spec.template.spec: number is not possible here" }, "spec.template.spec: number"},
		"missing service":        {func(w *world) { w.s.Services[0].Missing = true }, `Service "shop-canary" does not exist`},
		"missing rule":           {func(w *world) { w.s.Ingresses[0].HasRule = false }, "use-annotation"},
		"blue-green": {func(w *world) {
			w.s.Rollout.Spec.Strategy = v1alpha1.RolloutStrategy{BlueGreen: &v1alpha1.BlueGreenStrategy{}}
		}, "spec.strategy.blueGreen"},
		"basic canary": {func(w *world) { w.s.Rollout.Spec.Strategy.Canary.TrafficRouting = nil }, "trafficRouting"},
	} {
		t.Run(name, func(t *testing.T) {
			w := stable(t, 2, weight(50))
			row.edit(w)
			d := w.once()
			w.wantOps(d)
			if got := d.Status; got.Phase != v1alpha1.PhaseDegraded || !contains(got.Message, row.want) || got.StableRS != "A" {
				t.Errorf("phase %s, message %q", got.Phase, got.Message)
			}
		})
	}
}

func (w *world) step(s v1alpha1.CanaryStep) {
	w.s.Rollout.Spec.Strategy.Canary.Steps = []v1alpha1.CanaryStep{s}
}

func TestWhatIsWrongIsToldOnceAsAnEvent(t *testing.T) {
	w := stable(t, 2, weight(50))
	w.step(weight(101))
	d := w.once()
	if len(d.Events) != 1 || !d.Events[0].Warning || d.Events[0].Reason != v1alpha1.ConditionInvalidSpec || !contains(d.Events[0].Message, "setWeight: 101") {
		t.Errorf("events %+v", d.Events)
	}
	if d = w.once(); len(d.Events) != 0 {
		t.Errorf("told again: %+v", d.Events)
	}
	w.step(weight(102))
	if d = w.once(); len(d.Events) != 1 {
		t.Errorf("another mistake gives events %+v", d.Events)
	}
}

// An Ingress is let go at once, a Service when no weight leads to it any more.
func TestWhatTheSpecNamesNoMoreIsReleased(t *testing.T) {
	w := atHalf(t, nil)
	w.s.StrayServices, w.s.StrayIngresses = []string{"before"}, []string{"old"}
	w.wantOps(w.once(), "release Ingress old")
	w.wantOps(w.once())
	w.s.Now = w.s.Now.Add(151 * time.Second)
	w.wantOps(w.once(), "release Service before")
	w.s.StrayServices, w.s.Rollout.Spec.Strategy.Canary.CanaryService = []string{"before"}, "missing"
	w.wantOps(w.once()) // A mistake in the spec changes nothing.
}

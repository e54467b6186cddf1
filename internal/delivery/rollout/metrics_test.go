package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
)

// series are the gauges and counters with a label of this value, as "name{labels} value" without namespace and name.
func series(t *testing.T, namespace string) []string {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			ours := false
			for _, l := range m.GetLabel() {
				switch {
				case l.GetName() == "namespace":
					ours = l.GetValue() == namespace
				case l.GetName() != "name":
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue(); ours {
				out = append(out, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), value))
			}
		}
	}
	return out
}

func canaryRollout(namespace string) *v1alpha1.Rollout {
	r := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}}
	r.Spec.Replicas = new(int32(5))
	r.Spec.Strategy.Canary = &v1alpha1.CanaryStrategy{TrafficRouting: &v1alpha1.RolloutTrafficRouting{ALB: &v1alpha1.ALBTrafficRouting{}}}
	return r
}

func TestMetricsOfARolloutFollowItsStatusAndGoWithIt(t *testing.T) {
	r := canaryRollout("metrics-1")
	measure(r, v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseProgressing})
	measure(r, v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseHealthy, Replicas: 6, UpdatedReplicas: 5, AvailableReplicas: 4})
	eventsTotal.WithLabelValues("metrics-1", "web", "Normal", "RolloutUpdated").Inc()
	got := series(t, "metrics-1")
	for _, want := range []string{
		"rollout_info{phase=Completed,strategy=canary,traffic_router=ALB} 1",
		"rollout_phase{phase=Completed,strategy=canary} 1", "rollout_phase{phase=Progressing,strategy=canary} 0",
		"rollout_info_replicas_desired{} 5", "rollout_info_replicas_updated{} 5",
		"rollout_info_replicas_available{} 4", "rollout_info_replicas_unavailable{} 2",
		"rollout_events_total{reason=RolloutUpdated,type=Normal} 1",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, strings.Join(got, "\n"))
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !strings.HasPrefix(s, "rollout_info{") })); n != 1 {
		t.Errorf("%d series of rollout_info: the phase of before is still there", n)
	}
	r.Spec.Strategy = v1alpha1.RolloutStrategy{BlueGreen: &v1alpha1.BlueGreenStrategy{}}
	measure(r, v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseHealthy})
	if got := series(t, "metrics-1"); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "strategy=canary") }) {
		t.Errorf("left of the strategy before: %v", got)
	}
	forget(types.NamespacedName{Namespace: "metrics-1", Name: "web"})
	if got := series(t, "metrics-1"); len(got) > 0 {
		t.Errorf("left after deletion: %v", got)
	}
}

func TestPhasesOfTheMetrics(t *testing.T) {
	condition := func(kind, reason string) v1alpha1.RolloutStatus {
		return v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseDegraded, Conditions: []v1alpha1.RolloutCondition{{Type: kind, Reason: reason}}}
	}
	for want, status := range map[string]v1alpha1.RolloutStatus{
		phaseInvalid: condition(v1alpha1.ConditionInvalidSpec, v1alpha1.ConditionInvalidSpec), phaseAbort: condition(v1alpha1.ConditionProgressing, "RolloutAborted"),
		phaseTimeout: condition(v1alpha1.ConditionProgressing, "ProgressDeadlineExceeded"), phaseError: condition(v1alpha1.ConditionProgressing, "ReplicaSetCreateError"),
		phasePaused: {Phase: v1alpha1.PhasePaused}, phaseCompleted: {Phase: v1alpha1.PhaseHealthy}, phaseProgressing: {Phase: v1alpha1.PhaseProgressing},
	} {
		if got := phaseOf(canaryRollout("x"), status); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestDurationsAreObservedOnceAtTheEnd(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) *metav1.Time {
		return new(metav1.NewTime(start.Add(time.Duration(seconds) * time.Second)))
	}
	running := &v1alpha1.DurationStatus{RolloutStartedAt: at(0), TotalManualPauseDurationSeconds: 60}
	ended := &v1alpha1.DurationStatus{RolloutStartedAt: at(0), TotalManualPauseDurationSeconds: 60, FinishedAt: at(100), CompletionStatus: "Ended"}
	next := &v1alpha1.DurationStatus{RolloutStartedAt: at(90)}
	before := sums(t)
	measureEnd(nil, running, start)
	measureEnd(running, running, start.Add(time.Hour))
	measureEnd(running, ended, start.Add(time.Hour))
	measureEnd(ended, ended, start.Add(time.Hour))
	measureEnd(running, next, start.Add(90*time.Second))
	after := sums(t)
	for name, want := range map[string]float64{
		"rollout_duration_seconds/Ended": 100, "rollout_progression_duration_seconds/Ended": 40, "rollout_manual_pause_duration_seconds/Ended": 60,
		"rollout_duration_seconds/Superseded": 90, "rollout_progression_duration_seconds/Superseded": 30,
	} {
		// Other tests have updates that are superseded at the same time.
		if got := after[name] - before[name]; got < want || got > want && !strings.HasSuffix(name, canary.CompletedSuperseded) {
			t.Errorf("%s: %v s, want %v", name, got, want)
		}
	}
}

// sums are the sums of the histograms of durations by name and end.
func sums(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil && strings.HasSuffix(f.GetName(), "duration_seconds") && len(m.GetLabel()) == 1 {
				out[f.GetName()+"/"+m.GetLabel()[0].GetValue()] = h.GetSampleSum()
			}
		}
	}
	return out
}

// A look at one Rollout does not search the series of all others.
func TestMeasuringWhatHasNotChangedAddsNoSearch(t *testing.T) {
	r := canaryRollout("metrics-many")
	status := v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseHealthy}
	measure(r, status)
	info.WithLabelValues("metrics-many", "web", "canary", "ALB", "planted").Set(1) // a search would find it
	measure(r, status)
	if got := series(t, "metrics-many"); !slices.Contains(got, "rollout_info{phase=planted,strategy=canary,traffic_router=ALB} 1") {
		t.Errorf("the series were searched: %v", got)
	}
	forget(types.NamespacedName{Namespace: "metrics-many", Name: "web"})
}

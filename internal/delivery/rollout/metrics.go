package rollout

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
)

// The metrics keep the names under which existing dashboards know them.
var (
	reconcileSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rollout_reconcile", Help: "Time of one look at a Rollout, in seconds.", Buckets: []float64{.01, .15, .25, .5, 1},
	}, perRollout())
	reconcileErrors = counter("rollout_reconcile_error", "Looks at a Rollout that ended in an error.")
	eventsTotal     = counter("rollout_events_total", "Events recorded on a Rollout.", "type", "reason")

	info                = gauge("rollout_info", "Strategy, router and phase of a Rollout; 1.", "strategy", "traffic_router", "phase")
	phases              = gauge("rollout_phase", "1 for the phase of a Rollout, 0 for the others. Deprecated: use rollout_info.", "strategy", "phase")
	replicasDesired     = gauge("rollout_info_replicas_desired", "Pods that the Rollout should have.")
	replicasUpdated     = gauge("rollout_info_replicas_updated", "Pods of the present template.")
	replicasAvailable   = gauge("rollout_info_replicas_available", "Available pods.")
	replicasUnavailable = gauge("rollout_info_replicas_unavailable", "Pods that are not available.")

	durationSeconds    = durations("rollout_duration_seconds", "Time from the beginning of an update to its end, by its end.")
	progressionSeconds = durations("rollout_progression_duration_seconds", "The same, without the time in which a person was waited for.")
	manualPauseSeconds = durations("rollout_manual_pause_duration_seconds", "Time of an update in which a person was waited for.")
)

func perRollout(more ...string) []string { return append([]string{"namespace", "name"}, more...) }

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, perRollout(labels...))
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, perRollout(labels...))
}

// durations has buckets from half a minute to a day and a half.
func durations(name, help string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(30, 2, 13)}, []string{"status"})
}

func init() {
	metrics.Registry.MustRegister(reconcileSeconds, reconcileErrors, eventsTotal, info, phases,
		replicasDesired, replicasUpdated, replicasAvailable, replicasUnavailable, durationSeconds, progressionSeconds, manualPauseSeconds)
}

// Phases as the metrics name them.
const (
	phaseCompleted   = "Completed"
	phaseProgressing = "Progressing"
	phasePaused      = "Paused"
	phaseTimeout     = "Timeout"
	phaseError       = "Error"
	phaseAbort       = "Abort"
	phaseInvalid     = "InvalidSpec"
)

// labels are those under which a Rollout is shown now.
type labels struct{ strategy, router, phase string }

// shown has the series of each Rollout by types.NamespacedName. A search in the vectors would look at those of all.
var shown sync.Map

// measure brings the gauges of a Rollout up to date with its published status.
func measure(r *v1alpha1.Rollout, s v1alpha1.RolloutStatus) {
	key, at := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, prometheus.Labels{"namespace": r.Namespace, "name": r.Name}
	now := labels{phase: phaseOf(r, s)}
	now.strategy, now.router = kindOf(r.Spec.Strategy)
	if old, had := shown.Swap(key, now); old != now {
		if had {
			info.DeleteLabelValues(r.Namespace, r.Name, old.(labels).strategy, old.(labels).router, old.(labels).phase)
		}
		if had && old.(labels).strategy != now.strategy {
			phases.DeletePartialMatch(at)
		}
		info.WithLabelValues(r.Namespace, r.Name, now.strategy, now.router, now.phase).Set(1)
		for _, phase := range []string{phaseCompleted, phaseProgressing, phasePaused, phaseTimeout, phaseError, phaseAbort, phaseInvalid} {
			value := 0.0
			if phase == now.phase {
				value = 1
			}
			phases.WithLabelValues(r.Namespace, r.Name, now.strategy, phase).Set(value)
		}
	}
	desired := int32(1)
	if r.Spec.Replicas != nil {
		desired = *r.Spec.Replicas
	}
	for vec, n := range map[*prometheus.GaugeVec]int32{
		replicasDesired: desired, replicasUpdated: s.UpdatedReplicas,
		replicasAvailable: s.AvailableReplicas, replicasUnavailable: s.Replicas - s.AvailableReplicas,
	} {
		vec.With(at).Set(float64(n))
	}
}

// kindOf names the strategy and the router.
func kindOf(s v1alpha1.RolloutStrategy) (strategy, router string) {
	switch {
	case s.BlueGreen != nil:
		return "blueGreen", ""
	case s.Canary == nil:
		return "", ""
	case s.Canary.TrafficRouting != nil && s.Canary.TrafficRouting.ALB != nil:
		return "canary", "ALB"
	}
	return "canary", ""
}

// phaseOf is the phase as the metrics name it.
func phaseOf(r *v1alpha1.Rollout, s v1alpha1.RolloutStatus) string {
	reason := ""
	for _, c := range s.Conditions {
		switch c.Type {
		case v1alpha1.ConditionInvalidSpec:
			return phaseInvalid
		case v1alpha1.ConditionProgressing:
			reason = c.Reason
		}
	}
	switch {
	case reason == "RolloutAborted":
		return phaseAbort
	case reason == "ProgressDeadlineExceeded":
		return phaseTimeout
	case reason == "ReplicaSetCreateError":
		return phaseError
	case r.Spec.Paused || s.Phase == v1alpha1.PhasePaused:
		return phasePaused
	case s.Phase == v1alpha1.PhaseHealthy:
		return phaseCompleted
	}
	return phaseProgressing
}

// measureEnd observes how long an update took that has ended with this status.
func measureEnd(old, now *v1alpha1.DurationStatus, at time.Time) {
	if old == nil || old.RolloutStartedAt == nil || old.FinishedAt != nil || now == nil {
		return
	}
	ended, end, how := old, at, canary.CompletedSuperseded
	switch {
	case !now.RolloutStartedAt.Equal(old.RolloutStartedAt):
	case now.FinishedAt != nil:
		ended, end, how = now, now.FinishedAt.Time, now.CompletionStatus
	default:
		return
	}
	total, paused := end.Sub(ended.RolloutStartedAt.Time), manualPause(ended, end)
	durationSeconds.WithLabelValues(how).Observe(total.Seconds())
	progressionSeconds.WithLabelValues(how).Observe((total - paused).Seconds())
	manualPauseSeconds.WithLabelValues(how).Observe(paused.Seconds())
}

// manualPause is the time in which a person was waited for, up to an end.
func manualPause(d *v1alpha1.DurationStatus, end time.Time) time.Duration {
	paused := time.Duration(d.TotalManualPauseDurationSeconds) * time.Second
	if d.ManualPauseStartedAt != nil {
		paused += max(0, end.Sub(d.ManualPauseStartedAt.Time))
	}
	return paused
}

// forget drops the series of a Rollout that is deleted.
func forget(key types.NamespacedName) {
	at := prometheus.Labels{"namespace": key.Namespace, "name": key.Name}
	shown.Delete(key)
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{reconcileSeconds, reconcileErrors, eventsTotal, info, phases, replicasDesired, replicasUpdated, replicasAvailable, replicasUnavailable} {
		vec.DeletePartialMatch(at)
	}
}

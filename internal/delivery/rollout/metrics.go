package rollout

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// The metrics keep the names under which existing dashboards know them.
var (
	reconcileSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rollout_reconcile", Help: "Time of one look at a Rollout, in seconds.", Buckets: []float64{.01, .15, .25, .5, 1},
	}, []string{"namespace", "name"})
	reconcileErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollout_reconcile_error", Help: "Looks at a Rollout that ended in an error.",
	}, []string{"namespace", "name"})
)

func init() { metrics.Registry.MustRegister(reconcileSeconds, reconcileErrors) }

package ingressgroup

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// The metrics keep the names, and the stages and categories, under which existing dashboards know them.
var (
	stageSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "awslbc_controller_reconcile_stage_duration", Help: "Time of one stage of a pass, in seconds.",
	}, []string{"controller", "reconcile_stage"})
	passErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "awslbc_controller_reconcile_errors_total", Help: "Passes that ended in an error; waiting for AWS's rate limits and a stale cache are none.",
	}, []string{"controller", "error_category"})
)

func init() { metrics.Registry.MustRegister(stageSeconds, passErrors) }

const (
	stageFetch  = "fetch_ingress"
	stageBuild  = "build_model"
	stageDeploy = "deploy_model"
)

// stage notes that a pass enters a stage, and how long the one before took.
func (c *Controller) stage(r *round, next string) {
	now := c.Now()
	if r.stage != "" {
		stageSeconds.WithLabelValues(c.Name, r.stage).Observe(now.Sub(r.stageBegun).Seconds())
	}
	r.stage, r.stageBegun = next, now
}

// count counts an error by the stage in which it came up.
func (c *Controller) count(r *round, err error) {
	_, later := cloud.RetryAfter(err)
	_, invalid := errors.AsType[*ingress.InvalidError](err)
	real := errors.Is(err, cloud.ErrDenied) || errors.Is(err, cloud.ErrLimit) || errors.Is(err, cloud.ErrInvalid)
	if err == nil || apierrors.IsConflict(err) || later && !real && !invalid {
		return
	}
	passErrors.WithLabelValues(c.Name, r.stage+"_error").Inc()
}

// timing is the part of a round that measures it.
type timing struct {
	stage      string
	stageBegun time.Time
}

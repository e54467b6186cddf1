package cloud

import (
	"errors"
	"strconv"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
)

// metrics are the collectors of the calls. The aws_api_* names and labels are those that existing
// dashboards of load balancer controllers read; lockstep_* adds what they cannot say: the lanes.
type metrics struct {
	requests   *prometheus.CounterVec
	kinds      map[Kind]*prometheus.CounterVec
	duration   *prometheus.HistogramVec
	laneWait   *prometheus.HistogramVec
	laneCalls  *prometheus.CounterVec
	seenWithin prometheus.Histogram
	calls      *callMetrics
}

func newMetrics(registry prometheus.Registerer) *metrics {
	four := []string{"service", "operation", "status_code", "error_code"}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		calls:    newCallMetrics(registry),
		requests: counter("aws_api_requests_total", "Requests sent to AWS, each attempt counted.", four),
		kinds: map[Kind]*prometheus.CounterVec{
			KindDenied:    counter("aws_api_call_permission_errors_total", "Requests that AWS denied.", four),
			KindLimit:     counter("aws_api_call_service_limit_exceeded_errors_total", "Requests over a limit of the account.", four),
			KindThrottled: counter("aws_api_call_throttled_errors_total", "Requests that AWS throttled.", four),
			KindInvalid:   counter("aws_api_call_validation_errors_total", "Requests that AWS refused as invalid.", four),
		},
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "aws_api_request_duration_seconds",
			Help: "Duration of a request to AWS."}, []string{"service", "operation"}),
		laneWait: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lockstep_aws_token_wait_seconds",
			Help: "Time that a call waited for its token.", Buckets: []float64{0.001, 0.01, 0.1, 0.5, 1, 2, 5, 15, 60}}, []string{"lane"}),
		laneCalls: counter("lockstep_aws_calls_total", "AWS requests by lane and outcome (ok, busy, or the kind of error).", []string{"lane", "operation", "outcome"}),
		seenWithin: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lockstep_aws_write_seen_seconds",
			Help: "Time from an accepted traffic write to the read that shows it.", Buckets: []float64{0.05, 0.1, 0.5, 1, 2, 5, 15, 60, 120}}),
	}
	if registry != nil {
		registry.MustRegister(m.requests, m.duration, m.laneWait, m.laneCalls, m.seenWithin)
		for _, counter := range m.kinds {
			registry.MustRegister(counter)
		}
	}
	return m
}

func (m *metrics) refused(lane budget.Lane, operation string) {
	m.laneCalls.WithLabelValues(lane.String(), operation, "busy").Inc()
}

func (m *metrics) waited(lane budget.Lane, wait time.Duration) {
	m.laneWait.WithLabelValues(lane.String()).Observe(wait.Seconds())
}

func (m *metrics) request(lane budget.Lane, service, operation string, err error, code string, took time.Duration) {
	status := "200"
	outcome := "ok"
	var kind Kind
	if err != nil {
		status = ""
		if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
			status = strconv.Itoa(response.HTTPStatusCode())
		}
		kind = KindUnavailable
		if code != "" {
			kind = kindOf(code, faultOf(err))
		}
		outcome = string(kind)
	}
	m.requests.WithLabelValues(service, operation, status, code).Inc()
	m.duration.WithLabelValues(service, operation).Observe(took.Seconds())
	m.laneCalls.WithLabelValues(lane.String(), operation, outcome).Inc()
	if counter, ok := m.kinds[kind]; ok {
		counter.WithLabelValues(service, operation, status, code).Inc()
	}
}

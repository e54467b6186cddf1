package kube

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// The metrics keep the names under which existing dashboards know them; a webhook is named by its path.
var (
	validationFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "awslbc_webhook_validation_failure_total", Help: "Objects that a validating webhook refused.",
	}, []string{"webhook_name", "error_category"})
	mutationFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "awslbc_webhook_mutation_failure_total", Help: "Objects that a mutating webhook refused.",
	}, []string{"webhook_name", "error_category"})
)

func init() { metrics.Registry.MustRegister(validationFailures, mutationFailures) }

// counted is the webhook's handler, whose refusals are counted by the reason of the answer: Forbidden for what
// the user can put right.
func (w Webhook) counted() admission.Handler {
	failures := validationFailures
	if w.Mutating {
		failures = mutationFailures
	}
	return admission.HandlerFunc(func(ctx context.Context, r admission.Request) admission.Response {
		response := w.Handler.Handle(ctx, r)
		if !response.Allowed {
			category := "Error"
			if response.Result != nil && response.Result.Reason != "" {
				category = string(response.Result.Reason)
			}
			failures.WithLabelValues(w.Path, category).Inc()
		}
		return response
	})
}

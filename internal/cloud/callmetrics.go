package cloud

import (
	"context"
	"errors"
	"strconv"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
)

// callMetrics count calls, where metrics counts their attempts: what a caller of the SDK waits for, retries
// and the wait for tokens included.
type callMetrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	retries  *prometheus.HistogramVec
}

func newCallMetrics(registry prometheus.Registerer) *callMetrics {
	m := &callMetrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aws_api_calls_total",
			Help: "Calls of AWS operations, retries not counted."}, []string{"service", "operation", "status_code", "error_code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "aws_api_call_duration_seconds",
			Help: "Duration of a call with its retries."}, []string{"service", "operation"}),
		retries: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "aws_api_call_retries",
			Help: "Retries of a call.", Buckets: prometheus.LinearBuckets(0, 1, 11)}, []string{"service", "operation"}),
	}
	if registry != nil {
		registry.MustRegister(m.calls, m.duration, m.retries)
	}
	return m
}

// observe counts each call of the stack's client. One for which there was no token is not counted: AWS has not
// seen it, and it is made again.
func (m *callMetrics) observe(now func() time.Time) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("LockstepCallMetrics", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			begun := now()
			out, metadata, err := next.HandleInitialize(ctx, in)
			if _, busy := errors.AsType[*budget.BusyError](err); busy {
				return out, metadata, err
			}
			service, operation := awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx)
			status := ""
			if response, answered := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response); answered {
				status = strconv.Itoa(response.StatusCode)
			} else if response, answered := errors.AsType[*smithyhttp.ResponseError](err); answered {
				status = strconv.Itoa(response.HTTPStatusCode())
			}
			m.calls.WithLabelValues(service, operation, status, errorCode(err)).Inc()
			m.duration.WithLabelValues(service, operation).Observe(now().Sub(begun).Seconds())
			again := 0
			if attempts, known := retry.GetAttemptResults(metadata); known {
				for _, attempt := range attempts.Results {
					if attempt.Retried {
						again++
					}
				}
			}
			m.retries.WithLabelValues(service, operation).Observe(float64(again))
			return out, metadata, err
		}), middleware.After)
	}
}

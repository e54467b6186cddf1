package cloud

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// call is what is known of a call when it fails.
type call struct {
	lane               budget.Lane
	service, operation string
	resource           string
}

// trace is carried by a call's context, so that the gate can tell when the call really began.
type trace struct {
	// begun is the moment before the last attempt was sent; zero when none was.
	begun mirror.Moment
	// background lets the call wait for a token without limit.
	background bool
}

type traceKey struct{}

type backgroundKey struct{}

// withoutHurry marks the context of a call on nobody's behalf: it may wait for a token without limit.
func withoutHurry(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// gate is the one place that every call passes: after the SDK's retry loop, so that each attempt counts,
// and before signing, so that a call that had to wait is not signed in the past.
func (c *Cloud) gate(lane budget.Lane) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("LockstepBudget", func(
			ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
		) (middleware.FinalizeOutput, middleware.Metadata, error) {
			service, operation := awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx)
			t, _ := ctx.Value(traceKey{}).(*trace)
			asked := c.now()
			if err := c.takeToken(ctx, lane, service, operation, t); err != nil {
				c.metrics.refused(lane, operation)
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
			c.metrics.waited(lane, c.now().Sub(asked))
			if t != nil {
				t.begun = c.moment()
			}
			sent := c.now()
			out, metadata, err := next.HandleFinalize(ctx, in)
			code := errorCode(err)
			if throttleCodes[code] {
				c.budget.Throttled(service, operation)
			}
			c.metrics.request(lane, service, operation, err, code, c.now().Sub(sent))
			return out, metadata, err
		}), "Signing", middleware.Before)
	}
}

func (c *Cloud) takeToken(ctx context.Context, lane budget.Lane, service, operation string, t *trace) error {
	if !budget.ReadOnly(operation) {
		return c.budget.Take(lane, service, operation)
	}
	return c.budget.Wait(ctx, lane, service, operation, t != nil && t.background)
}

func userAgent(version string) func(*middleware.Stack) error {
	if version == "" {
		version = "development"
	}
	return awsmiddleware.AddUserAgentKeyValue("lockstep", version)
}

func errorCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// readRetryer retries reads a bounded number of times; the pace is the budget's, which throttling slows.
type readRetryer struct {
	aws.NopRetryer
	attempts int
	backoff  time.Duration
}

// IsErrorRetryable is the SDK's own judgement of AWS's answers, and true for an answer that came broken. A
// missing token is not to be asked for again.
func (r readRetryer) IsErrorRetryable(err error) bool {
	if _, busy := errors.AsType[*budget.BusyError](err); busy || interrupted(err) {
		return false
	}
	if _, broken := errors.AsType[*smithy.DeserializationError](err); broken {
		return true
	}
	return retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err).Bool() || throttleCodes[errorCode(err)]
}

// MaxAttempts counts the first attempt too.
func (r readRetryer) MaxAttempts() int { return r.attempts }

// RetryDelay doubles, with jitter of a half.
func (r readRetryer) RetryDelay(attempt int, _ error) (time.Duration, error) {
	delay := r.backoff << min(attempt-1, 6)
	return delay/2 + time.Duration(rand.Int64N(int64(delay))), nil
}

// method is an operation of an SDK client, as a method expression.
type method[C, O, In, Out any] func(C, context.Context, *In, ...func(O)) (*Out, error)

// readELB calls an ELBv2 operation that changes nothing and returns also when the answered attempt began.
func readELB[In, Out any](ctx context.Context, c *Cloud, lane budget.Lane, resource string, m method[*elb.Client, *elb.Options, In, Out], in *In) (*Out, mirror.Moment, error) {
	return invoke(ctx, c, lane, resource, c.lanes[lane].elb, m, in, func(o *elb.Options) { o.Retryer = c.retries })
}

// readEC2 is readELB for EC2.
func readEC2[In, Out any](ctx context.Context, c *Cloud, lane budget.Lane, resource string, m method[*ec2.Client, *ec2.Options, In, Out], in *In) (*Out, mirror.Moment, error) {
	return invoke(ctx, c, lane, resource, c.lanes[lane].ec2, m, in, func(o *ec2.Options) { o.Retryer = c.retries })
}

// writeELB calls an ELBv2 operation that changes something: once, without waiting for a token.
func writeELB[In, Out any](ctx context.Context, c *Cloud, lane budget.Lane, resource string, m method[*elb.Client, *elb.Options, In, Out], in *In) (*Out, error) {
	ctx, cancel := context.WithTimeout(ctx, c.settings.CallTimeout)
	defer cancel()
	out, _, err := invoke(ctx, c, lane, resource, c.lanes[lane].elb, m, in)
	return out, err
}

// writeEC2 is writeELB for EC2.
func writeEC2[In, Out any](ctx context.Context, c *Cloud, lane budget.Lane, resource string, m method[*ec2.Client, *ec2.Options, In, Out], in *In) (*Out, error) {
	ctx, cancel := context.WithTimeout(ctx, c.settings.CallTimeout)
	defer cancel()
	out, _, err := invoke(ctx, c, lane, resource, c.lanes[lane].ec2, m, in)
	return out, err
}

func invoke[C, O, In, Out any](ctx context.Context, c *Cloud, lane budget.Lane, resource string, client C, m method[C, O, In, Out], in *In, options ...func(O)) (*Out, mirror.Moment, error) {
	t := &trace{}
	t.background, _ = ctx.Value(backgroundKey{}).(bool)
	out, err := m(client, context.WithValue(ctx, traceKey{}, t), in, options...)
	about := call{lane: lane, resource: resource}
	if operation, ok := errors.AsType[*smithy.OperationError](err); ok {
		about.service, about.operation = operation.ServiceID, operation.OperationName
	}
	return out, t.begun, c.explain(about, err)
}

// result says how a write ended, for the mirror.
func result(err error) mirror.Result {
	switch api, ok := errors.AsType[*APIError](err); {
	case err == nil:
		return mirror.Accepted
	case errors.Is(err, ErrBusy):
		return mirror.Refused
	case ok && (api.Kind == KindNotFound || api.Kind == KindConflict):
		return mirror.Refuted
	case ok && api.Kind != KindUnavailable:
		return mirror.Refused
	}
	return mirror.Unanswered
}

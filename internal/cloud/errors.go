package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
)

// Kind says what is to be done about an error of AWS; each kind has a sentinel for errors.Is.
type Kind string

// The kinds. Unknown codes of AWS's side (5xx) and broken connections are KindUnavailable.
const (
	KindThrottled   Kind = "Throttled"
	KindNotFound    Kind = "NotFound"
	KindConflict    Kind = "Conflict"
	KindDenied      Kind = "Denied"
	KindInvalid     Kind = "Invalid"
	KindLimit       Kind = "Limit"
	KindUnavailable Kind = "Unavailable"
)

// Sentinels for errors.Is, one for each kind, and ErrBusy for a *BusyError.
var (
	// ErrThrottled: AWS refused the call for its rate; RetryAfter says when to come again.
	ErrThrottled = errors.New("throttled by AWS")
	// ErrBusy: the own budget has no token for the call; nothing was sent.
	ErrBusy = errors.New("no token in the call budget")
	// ErrNotFound: the resource does not exist (or AWS does not show it yet).
	ErrNotFound = errors.New("not found in AWS")
	// ErrConflict: the resource is in use, or something with the same identity exists.
	ErrConflict = errors.New("in conflict with what AWS has")
	// ErrDenied: a permission or the credentials are missing.
	ErrDenied = errors.New("denied by AWS")
	// ErrInvalid: AWS does not accept the values.
	ErrInvalid = errors.New("refused by AWS as invalid")
	// ErrLimit: a quota of the account is reached.
	ErrLimit = errors.New("over a limit of AWS")
	// ErrUnavailable: AWS could not be reached or failed; whether a mutation happened is not known.
	ErrUnavailable = errors.New("no answer from AWS")
)

var sentinels = map[Kind]error{
	KindThrottled: ErrThrottled, KindNotFound: ErrNotFound, KindConflict: ErrConflict, KindDenied: ErrDenied,
	KindInvalid: ErrInvalid, KindLimit: ErrLimit, KindUnavailable: ErrUnavailable,
}

// BusyError is returned when the call budget has no token for a call: nothing was sent to AWS.
type BusyError struct {
	// Until is when a token can be had at the earliest, if no other call takes it.
	Until time.Time
	// Operation is the AWS operation that was not called.
	Operation string
}

// Error leaves Until out: the text ends in conditions, where a time that changes would be written over and over.
func (e *BusyError) Error() string {
	return fmt.Sprintf("cannot call %s now: no token in the call budget", e.Operation)
}

// Is makes errors.Is(err, ErrBusy) true.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// APIError is an error of an AWS call.
type APIError struct {
	Service   string
	Operation string
	// Code and Message are AWS's own; Code is empty when no answer came.
	Code    string
	Message string
	Kind    Kind
	// Resource is the ARN, id or name that the call was about.
	Resource string
	// Permission is the IAM action to grant; set when Kind is KindDenied and the credentials were accepted.
	Permission string

	retryAfter time.Duration
	err        error
}

func (e *APIError) Error() string {
	on := e.Operation
	if e.Resource != "" {
		on += " on " + e.Resource
	}
	switch {
	case e.Kind == KindDenied && e.Permission != "":
		return fmt.Sprintf("denied %s on %s: grant it in the controller's IAM policy (AWS: %s)", e.Permission, orAny(e.Resource), e.Message)
	case e.Kind == KindDenied:
		return fmt.Sprintf("cannot call %s: AWS refuses the credentials (%s: %s)", on, e.Code, e.Message)
	case e.Kind == KindLimit:
		return fmt.Sprintf("cannot call %s: the limit %s of the account is reached; ask AWS to raise it or use less (AWS: %s)", on, e.Code, e.Message)
	case e.Kind == KindThrottled:
		return fmt.Sprintf("cannot call %s: AWS throttles the account's calls (%s)", on, e.Code)
	case e.Code == "":
		return fmt.Sprintf("cannot call %s: no answer from AWS: %v", on, e.err)
	}
	return fmt.Sprintf("cannot call %s: %s: %s", on, e.Code, e.Message)
}

func orAny(resource string) string {
	if resource == "" {
		return "any resource"
	}
	return resource
}

// Is makes errors.Is true for the sentinel of the error's kind.
func (e *APIError) Is(target error) bool { return sentinels[e.Kind] == target }

// Unwrap gives the SDK's error.
func (e *APIError) Unwrap() error { return e.err }

// RetryAfter tells in how long to come again, and whether the error is one that goes away by waiting for
// tokens: a *BusyError, or a throttled call.
func RetryAfter(err error) (time.Duration, bool) {
	if busy, ok := errors.AsType[*BusyError](err); ok {
		return max(time.Until(busy.Until), 0), true
	}
	if api, ok := errors.AsType[*APIError](err); ok && api.Kind == KindThrottled {
		return api.retryAfter, true
	}
	return 0, false
}

// throttleCodes are what AWS's services answer to a call above their rates.
var throttleCodes = codes("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
	"RequestLimitExceeded", "TooManyRequestsException", "PriorRequestNotComplete", "SlowDown", "EC2ThrottledException", "BandwidthLimitExceeded")

// kinds is the one table from AWS's codes to kinds. A code that is not here is judged by its form (kindOf).
var kinds = func() map[string]Kind {
	table := map[string]Kind{}
	for kind, set := range map[Kind]map[string]bool{
		KindThrottled: throttleCodes,
		KindNotFound: codes("LoadBalancerNotFound", "ListenerNotFound", "RuleNotFound", "TargetGroupNotFound", "SubnetNotFound",
			"CertificateNotFound", "SSLPolicyNotFound", "TrustStoreNotFound", "AllocationIdNotFound", "ALPNPolicyNotFound"),
		KindConflict: codes("ResourceInUse", "DependencyViolation", "DuplicateLoadBalancerName", "DuplicateTargetGroupName",
			"DuplicateListener", "PriorityInUse", "InvalidGroup.Duplicate", "InvalidPermission.Duplicate", "InvalidGroup.InUse",
			"OperationNotPermitted", "CapacityReservationPending", "IdempotentParameterMismatch"),
		KindDenied: codes("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthFailure", "InvalidClientTokenId",
			"UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "MissingAuthenticationToken",
			"MissingAuthenticationTokenException", "IncompleteSignature", "OptInRequired", "InvalidSignatureException"),
		KindLimit: codes("TooManyLoadBalancers", "TooManyListeners", "TooManyRules", "TooManyTargetGroups", "TooManyTargets", "TooManyActions",
			"TooManyCertificates", "TooManyTags", "TooManyRegistrationsForTargetId", "TooManyUniqueTargetGroupsPerLoadBalancer",
			"TargetGroupAssociationLimit", "SecurityGroupLimitExceeded", "RulesPerSecurityGroupLimitExceeded",
			"SecurityGroupsPerInterfaceLimitExceeded", "TagLimitExceeded"),
		KindUnavailable: codes("HealthUnavailable", "InsufficientCapacity", "InternalFailure", "InternalError", "ServiceUnavailable",
			"Unavailable", "RequestTimeout", "RequestTimeoutException"),
	} {
		for code := range set {
			table[code] = kind
		}
	}
	return table
}()

// credentialCodes are the denials that no policy can heal: the credentials themselves are refused.
var credentialCodes = codes("AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken",
	"ExpiredTokenException", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature",
	"OptInRequired", "InvalidSignatureException")

func codes(list ...string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, code := range list {
		set[code] = true
	}
	return set
}

// kindOf judges a code of AWS; fault says whose fault the answer's status names.
func kindOf(code string, fault smithy.ErrorFault) Kind {
	kind, known := kinds[code]
	switch {
	case known:
		return kind
	case strings.HasSuffix(code, ".NotFound"), strings.HasSuffix(code, "NotFoundException"):
		return KindNotFound
	case fault == smithy.FaultServer:
		return KindUnavailable
	}
	return KindInvalid
}

// faultOf says whose fault AWS's answer names. An answer with a status of 5xx is the server's.
func faultOf(err error) smithy.ErrorFault {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.HTTPStatusCode() >= 500 {
		return smithy.FaultServer
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorFault()
	}
	return smithy.FaultUnknown
}

// iamPrefix is the service's name in IAM actions, by the SDK's service id.
var iamPrefix = map[string]string{
	"Elastic Load Balancing v2": "elasticloadbalancing",
	"EC2":                       "ec2",
	"STS":                       "sts",
}

// explain turns an SDK error of a call into a *BusyError, the caller's own context error, or an *APIError.
func (c *Cloud) explain(call call, err error) error {
	if err == nil {
		return nil
	}
	if busy, ok := errors.AsType[*budget.BusyError](err); ok {
		return &BusyError{Until: busy.Until, Operation: call.operation}
	}
	out := &APIError{Service: call.service, Operation: call.operation, Resource: call.resource, Kind: KindUnavailable, err: err}
	answer, answered := errors.AsType[smithy.APIError](err)
	if !answered {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("cannot call %s on %s: %w", call.operation, orAny(call.resource), err)
		}
		if wrong, ok := errors.AsType[*smithy.InvalidParamsError](err); ok {
			out.Kind, out.Code, out.Message = KindInvalid, "InvalidParams", wrong.Error()
		}
		return out
	}
	out.Code, out.Message = answer.ErrorCode(), answer.ErrorMessage()
	out.Kind = kindOf(out.Code, faultOf(err))
	switch out.Kind {
	case KindDenied:
		if !credentialCodes[out.Code] {
			out.Permission = iamPrefix[call.service] + ":" + call.operation
		}
	case KindThrottled:
		now := c.now()
		out.retryAfter = max(c.budget.When(call.lane, call.service, call.operation, now).Sub(now), c.settings.ThrottleBackoff)
	}
	return out
}

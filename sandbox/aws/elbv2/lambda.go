package elbv2

import (
	"regexp"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Groups whose target is a Lambda function are kept and shown. There are no functions here: no request reaches one, and a health check of
// one fails.

var functionARN = regexp.MustCompile(`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[a-zA-Z0-9_-]+(:[a-zA-Z0-9$_-]+)?$`)

func (g *targetGroup) lambda() bool { return g.value.Get().TargetType == types.TargetTypeEnumLambda }

// newFunctionGroup validates a request for a group of a function: it has no protocol, port and VPC, and no health checks unless they
// are asked for.
func newFunctionGroup(in *elb.CreateTargetGroupInput, v types.TargetGroup) (types.TargetGroup, error) {
	if in.Protocol != "" || in.Port != nil || deref(in.VpcId) != "" || deref(in.ProtocolVersion) != "" {
		return v, wire.Errorf("ValidationError", "Protocol, protocol version, port and VPC cannot be specified for target groups of type lambda")
	}
	if in.HealthCheckProtocol != "" || in.HealthCheckPort != nil {
		return v, wire.Errorf("ValidationError", "Health check protocol and port cannot be specified for target groups of type lambda")
	}
	v.HealthCheckEnabled = new(false)
	v.HealthCheckIntervalSeconds, v.HealthCheckTimeoutSeconds = new(int32(35)), new(int32(30))
	v.HealthyThresholdCount, v.UnhealthyThresholdCount = new(int32(5)), new(int32(5))
	v.HealthCheckPath, v.Matcher = new("/"), &types.Matcher{HttpCode: new("200")}
	check := healthCheckOf(in)
	check.set(&v)
	return v, checkFunction(v)
}

// checkFunction validates the health check of a function.
func checkFunction(v types.TargetGroup) error {
	interval, timeout := *v.HealthCheckIntervalSeconds, *v.HealthCheckTimeoutSeconds
	switch {
	case interval < 35 || interval > 300:
		return wire.Errorf("ValidationError", "Health check interval '%d' of a function must be between 35 and 300", interval)
	case timeout < 30 || timeout > 120:
		return wire.Errorf("ValidationError", "Health check timeout '%d' of a function must be between 30 and 120", timeout)
	case timeout >= interval:
		return wire.Errorf("ValidationError", "Health check timeout '%d' must be smaller than the interval '%d'", timeout, interval)
	case !strings.HasPrefix(deref(v.HealthCheckPath), "/") || len(*v.HealthCheckPath) > 1024:
		return wire.Errorf("ValidationError", "Health check path '%.60s' must begin with / and have 1 to 1024 characters", deref(v.HealthCheckPath))
	case v.HealthCheckPort != nil || v.HealthCheckProtocol != "":
		return wire.Errorf("InvalidConfigurationRequest", "Health check protocol and port cannot be specified for target groups of type lambda")
	}
	if err := checkThresholds(v); err != nil {
		return err
	}
	v.Protocol = types.ProtocolEnumHttp // as far as codes go
	return checkMatcher(v)
}

// functionTarget makes a function the target of its group: one, which has no port.
func functionTarget(g *targetGroup, t *target, d types.TargetDescription) error {
	switch {
	case !functionARN.MatchString(t.key.ID):
		return wire.Errorf("InvalidTarget", "'%.200s' is not the ARN of a function", t.key.ID)
	case d.Port != nil:
		return wire.Errorf("ValidationError", "A port cannot be specified for a function")
	case deref(d.AvailabilityZone) != "" && *d.AvailabilityZone != "all":
		return wire.Errorf("ValidationError", "The Availability Zone of a function can be 'all' only")
	}
	for _, other := range g.targets {
		if other.key != t.key && !other.draining {
			return wire.Errorf("TooManyTargets", "Target group '%s' has a function as its target, and can have one only", g.name)
		}
	}
	t.zone = "all"
	return nil
}

// functionHealth is the health of a function whose group is in use.
func functionHealth(v types.TargetGroup) types.TargetHealth {
	if !deref(v.HealthCheckEnabled) {
		return health(types.TargetHealthStateEnumUnavailable, types.TargetHealthReasonEnumHealthCheckDisabled, "Health checks are not enabled for this target")
	}
	return health(types.TargetHealthStateEnumUnhealthy, types.TargetHealthReasonEnumFailedHealthChecks, "Health checks failed")
}

// functionGroupAttributes are those of groups of functions. Which there are is not documented as a list.
var functionGroupAttributes = append([]attribute{{"lambda.multi_value_headers.enabled", "false", boolean}, {"stickiness.enabled", "false", boolean}}, groupHealthAttributes[3:]...)

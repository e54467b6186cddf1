package elbv2

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// healthCheck is what a request says of a health check; nil is nothing.
type healthCheck struct {
	enabled            *bool
	protocol           types.ProtocolEnum
	port, path         *string
	interval, timeout  *int32
	healthy, unhealthy *int32
	matcher            *types.Matcher
}

// create sets the health check of a new group: what was asked for, else AWS's defaults, which depend on
// protocol and type.
func (h healthCheck) create(v *types.TargetGroup) error {
	http := layer7(v.Protocol)
	protocol := types.ProtocolEnumTcp
	if http || v.TargetType == types.TargetTypeEnumAlb {
		protocol = types.ProtocolEnumHttp
	}
	v.HealthCheckEnabled = new(true)
	v.HealthCheckProtocol = cmp.Or(h.protocol, protocol)
	v.HealthCheckPort = new("traffic-port")
	v.HealthCheckIntervalSeconds = new(int32(30))
	v.HealthyThresholdCount, v.UnhealthyThresholdCount = new(int32(5)), new(int32(2))
	timeout := int32(5)
	if !http {
		timeout = map[types.ProtocolEnum]int32{types.ProtocolEnumHttp: 6}[v.HealthCheckProtocol]
		timeout = cmp.Or(timeout, 10)
	}
	if interval := deref(h.interval); interval > 0 && interval <= timeout && h.timeout == nil {
		timeout = max(2, interval-1)
	}
	v.HealthCheckTimeoutSeconds = new(timeout)
	if layer7(v.HealthCheckProtocol) {
		h.defaultRequest(v, http)
	}
	h.set(v)
	return h.check(*v)
}

func (h healthCheck) defaultRequest(v *types.TargetGroup, http bool) {
	v.HealthCheckPath = new("/")
	switch {
	case deref(v.ProtocolVersion) == "GRPC":
		v.HealthCheckPath, v.Matcher = new("/AWS.ALB/healthcheck"), &types.Matcher{GrpcCode: new("12")}
	case http:
		v.Matcher = &types.Matcher{HttpCode: new("200")}
	default:
		v.Matcher = &types.Matcher{HttpCode: new("200-399")}
	}
}

// modify changes what is given.
func (h healthCheck) modify(v *types.TargetGroup) error {
	if v.TargetType == types.TargetTypeEnumLambda {
		if h.protocol != "" {
			v.HealthCheckProtocol = h.protocol
		}
		h.set(v)
		return checkFunction(*v)
	}
	if h.protocol != "" && h.protocol != v.HealthCheckProtocol {
		v.HealthCheckProtocol = h.protocol
		if layer7(h.protocol) && v.Matcher == nil {
			h.defaultRequest(v, layer7(v.Protocol))
		}
		if !layer7(h.protocol) {
			v.HealthCheckPath, v.Matcher = nil, nil
		}
	}
	h.set(v)
	return h.check(*v)
}

func (h healthCheck) set(v *types.TargetGroup) {
	if h.enabled != nil {
		v.HealthCheckEnabled = h.enabled
	}
	if h.port != nil {
		v.HealthCheckPort = h.port
	}
	if h.path != nil {
		v.HealthCheckPath = h.path
	}
	if h.matcher != nil && (h.matcher.HttpCode != nil || h.matcher.GrpcCode != nil) {
		v.Matcher = h.matcher
	}
	for _, field := range []struct {
		given *int32
		into  **int32
	}{
		{h.interval, &v.HealthCheckIntervalSeconds}, {h.timeout, &v.HealthCheckTimeoutSeconds},
		{h.healthy, &v.HealthyThresholdCount}, {h.unhealthy, &v.UnhealthyThresholdCount},
	} {
		if field.given != nil {
			*field.into = field.given
		}
	}
}

func (h healthCheck) check(v types.TargetGroup) error {
	interval, timeout := *v.HealthCheckIntervalSeconds, *v.HealthCheckTimeoutSeconds
	http := layer7(v.HealthCheckProtocol)
	switch {
	case !*v.HealthCheckEnabled:
		return wire.Errorf("InvalidConfigurationRequest", "Health checks cannot be disabled for targets of type %s", v.TargetType)
	case !slices.Contains([]types.ProtocolEnum{types.ProtocolEnumHttp, types.ProtocolEnumHttps, types.ProtocolEnumTcp}, v.HealthCheckProtocol):
		return wire.Errorf("InvalidConfigurationRequest", "Health check protocol '%s' must be HTTP, HTTPS or TCP", v.HealthCheckProtocol)
	case !http && (layer7(v.Protocol) || v.TargetType == types.TargetTypeEnumAlb):
		return wire.Errorf("InvalidConfigurationRequest", "Health check protocol '%s' is not supported for target groups with protocol %s", v.HealthCheckProtocol, v.Protocol)
	case interval < 5 || interval > 300:
		return wire.Errorf("ValidationError", "Health check interval '%d' must be between 5 and 300", interval)
	case timeout < 2 || timeout > 120:
		return wire.Errorf("ValidationError", "Health check timeout '%d' must be between 2 and 120", timeout)
	case http && timeout >= interval || timeout > interval:
		return wire.Errorf("ValidationError", "Health check timeout '%d' must be smaller than the interval '%d'", timeout, interval)
	case !http && (v.HealthCheckPath != nil || v.Matcher != nil):
		return wire.Errorf("InvalidConfigurationRequest", "Health check path and matcher are for HTTP and HTTPS checks only")
	case http && (len(deref(v.HealthCheckPath)) < 1 || len(*v.HealthCheckPath) > 1024 || !strings.HasPrefix(*v.HealthCheckPath, "/")):
		return wire.Errorf("ValidationError", "Health check path '%.60s' must begin with / and have 1 to 1024 characters", deref(v.HealthCheckPath))
	}
	if err := checkThresholds(v); err != nil {
		return err
	}
	if port := *v.HealthCheckPort; port != "traffic-port" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return wire.Errorf("ValidationError", "Health check port '%.20s' must be a port number or 'traffic-port'", port)
		}
	}
	return checkMatcher(v)
}

func checkThresholds(v types.TargetGroup) error {
	for _, threshold := range []int32{*v.HealthyThresholdCount, *v.UnhealthyThresholdCount} {
		if threshold < 2 || threshold > 10 {
			return wire.Errorf("ValidationError", "Health check threshold '%d' must be between 2 and 10", threshold)
		}
	}
	return nil
}

var codeList = regexp.MustCompile(`^[0-9]{1,3}(-[0-9]{1,3})?(,[0-9]{1,3}(-[0-9]{1,3})?)*$`)

func checkMatcher(v types.TargetGroup) error {
	if v.Matcher == nil {
		return nil
	}
	codes, low, high := deref(v.Matcher.HttpCode), 200, 499
	switch {
	case deref(v.ProtocolVersion) == "GRPC":
		codes, low, high = deref(v.Matcher.GrpcCode), 0, 99
	case !layer7(v.Protocol):
		high = 599
	}
	if !codeList.MatchString(codes) {
		return wire.Errorf("ValidationError", "Matcher '%.60s' must be codes and ranges of codes, such as 200,202 or 200-299", codes)
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(codes, "-", ","), ",") {
		if code, _ := strconv.Atoi(part); code < low || code > high {
			return wire.Errorf("ValidationError", "Matcher code '%d' must be between %d and %d", code, low, high)
		}
	}
	return nil
}

package elbv2

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const maxAttributesPerCall = 20

// attribute is a key with its default and the values that it takes.
type attribute struct {
	key     string
	initial string
	valid   func(value string) bool
}

func oneOf(values ...string) func(string) bool {
	return func(v string) bool { return slices.Contains(values, v) }
}

func between(low, high int) func(string) bool {
	return func(v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && low <= n && n <= high
	}
}

func either(a, b func(string) bool) func(string) bool {
	return func(v string) bool { return a(v) || b(v) }
}

func anything(string) bool { return true }

var boolean = oneOf("true", "false")

var commonBalancerAttributes = []attribute{
	{"deletion_protection.enabled", "false", boolean},
	{"access_logs.s3.enabled", "false", boolean},
	{"access_logs.s3.bucket", "", anything},
	{"access_logs.s3.prefix", "", anything},
	{"ipv6.deny_all_igw_traffic", "false", boolean},
	{"zonal_shift.config.enabled", "false", boolean},
}

var applicationAttributes = slices.Concat(commonBalancerAttributes, []attribute{
	{"load_balancing.cross_zone.enabled", "true", oneOf("true")},
	{"idle_timeout.timeout_seconds", "60", between(1, 4000)},
	{"client_keep_alive.seconds", "3600", between(60, 604800)},
	{"connection_logs.s3.enabled", "false", boolean},
	{"connection_logs.s3.bucket", "", anything},
	{"connection_logs.s3.prefix", "", anything},
	{"health_check_logs.s3.enabled", "false", boolean},
	{"health_check_logs.s3.bucket", "", anything},
	{"health_check_logs.s3.prefix", "", anything},
	{"routing.http.desync_mitigation_mode", "defensive", oneOf("monitor", "defensive", "strictest")},
	{"routing.http.drop_invalid_header_fields.enabled", "false", boolean},
	{"routing.http.preserve_host_header.enabled", "false", boolean},
	{"routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false", boolean},
	{"routing.http.xff_client_port.enabled", "false", boolean},
	{"routing.http.xff_header_processing.mode", "append", oneOf("append", "preserve", "remove")},
	{"routing.http2.enabled", "true", boolean},
	{"waf.fail_open.enabled", "false", boolean},
})

var networkAttributes = slices.Concat(commonBalancerAttributes, []attribute{
	{"load_balancing.cross_zone.enabled", "false", boolean},
	{"dns_record.client_routing_policy", "any_availability_zone", oneOf("any_availability_zone", "availability_zone_affinity", "partial_availability_zone_affinity")},
	{"secondary_ips.auto_assigned.per_subnet", "0", between(0, 7)},
})

func balancerTable(kind types.LoadBalancerTypeEnum) []attribute {
	if kind == types.LoadBalancerTypeEnumApplication {
		return applicationAttributes
	}
	return networkAttributes
}

func balancerDefaults(kind types.LoadBalancerTypeEnum, scheme types.LoadBalancerSchemeEnum) map[string]string {
	values := defaults(balancerTable(kind))
	if scheme == types.LoadBalancerSchemeEnumInternal {
		values["ipv6.deny_all_igw_traffic"] = "true"
	}
	return values
}

func defaults(table []attribute) map[string]string {
	values := make(map[string]string, len(table))
	for _, a := range table {
		values[a.key] = a.initial
	}
	return values
}

var groupHealthAttributes = []attribute{
	{"deregistration_delay.timeout_seconds", "300", between(0, 3600)},
	{"stickiness.enabled", "false", boolean},
	{"load_balancing.cross_zone.enabled", "use_load_balancer_configuration", oneOf("true", "false", "use_load_balancer_configuration")},
	{"target_group_health.dns_failover.minimum_healthy_targets.count", "1", either(oneOf("off"), between(1, maxTargetsPerGroup))},
	{"target_group_health.dns_failover.minimum_healthy_targets.percentage", "off", either(oneOf("off"), between(1, 100))},
	{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1", between(1, maxTargetsPerGroup)},
	{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off", either(oneOf("off"), between(1, 100))},
}

var applicationGroupAttributes = slices.Concat(groupHealthAttributes, []attribute{
	{"stickiness.type", "lb_cookie", oneOf("lb_cookie", "app_cookie")},
	{"load_balancing.algorithm.type", "round_robin", oneOf("round_robin", "least_outstanding_requests", "weighted_random")},
	{"load_balancing.algorithm.anomaly_mitigation", "off", oneOf("on", "off")},
	{"slow_start.duration_seconds", "0", either(oneOf("0"), between(30, 900))},
	{"stickiness.lb_cookie.duration_seconds", "86400", between(1, 604800)},
	{"stickiness.app_cookie.cookie_name", "", func(v string) bool {
		return v != "AWSALB" && v != "AWSALBAPP" && v != "AWSALBTG" && !strings.HasPrefix(v, "AWSALB")
	}},
	{"stickiness.app_cookie.duration_seconds", "86400", between(1, 604800)},
})

var networkGroupAttributes = slices.Concat(groupHealthAttributes, []attribute{
	{"stickiness.type", "source_ip", oneOf("source_ip")},
	{"deregistration_delay.connection_termination.enabled", "false", boolean},
	{"preserve_client_ip.enabled", "true", boolean},
	{"proxy_protocol_v2.enabled", "false", boolean},
	{"target_health_state.unhealthy.connection_termination.enabled", "true", boolean},
	{"target_health_state.unhealthy.draining_interval_seconds", "0", between(0, 360000)},
})

func groupTable(v types.TargetGroup) []attribute {
	switch {
	case v.TargetType == types.TargetTypeEnumLambda:
		return functionGroupAttributes
	case layer7(v.Protocol):
		return applicationGroupAttributes
	case v.TargetType == types.TargetTypeEnumAlb: // clients are always preserved
		return slices.DeleteFunc(slices.Clone(networkGroupAttributes), func(a attribute) bool { return a.key == "preserve_client_ip.enabled" })
	}
	return networkGroupAttributes
}

func groupDefaults(v types.TargetGroup) map[string]string {
	values := defaults(groupTable(v))
	if layer7(v.Protocol) || v.TargetType == types.TargetTypeEnumLambda {
		return values
	}
	stream := v.Protocol == types.ProtocolEnumTcp || v.Protocol == types.ProtocolEnumTls
	if v.TargetType == types.TargetTypeEnumIp && stream {
		values["preserve_client_ip.enabled"] = "false"
	}
	if !stream {
		values["deregistration_delay.connection_termination.enabled"] = "true"
		values["target_health_state.unhealthy.connection_termination.enabled"] = "false"
	}
	return values
}

var responseHeaders = []string{
	"strict_transport_security", "access_control_allow_origin", "access_control_allow_methods", "access_control_allow_headers",
	"access_control_allow_credentials", "access_control_expose_headers", "access_control_max_age", "content_security_policy",
	"x_content_type_options", "x_frame_options",
}

func listenerTable(p types.ProtocolEnum) []attribute {
	if !layer7(p) {
		if p == types.ProtocolEnumTcp {
			return []attribute{{"tcp.idle_timeout.seconds", "350", between(60, 6000)}}
		}
		return nil
	}
	table := []attribute{{"routing.http.response.server.enabled", "true", boolean}}
	for _, name := range responseHeaders {
		table = append(table, attribute{"routing.http.response." + name + ".header_value", "", anything})
	}
	if p == types.ProtocolEnumHttps {
		for _, name := range []string{
			"x_amzn_mtls_clientcert_serial_number", "x_amzn_mtls_clientcert_issuer", "x_amzn_mtls_clientcert_subject", "x_amzn_mtls_clientcert_validity",
			"x_amzn_mtls_clientcert_leaf", "x_amzn_mtls_clientcert", "x_amzn_tls_version", "x_amzn_tls_cipher_suite",
		} {
			table = append(table, attribute{"routing.http.request." + name + ".header_name", "", anything})
		}
	}
	return table
}

func listenerDefaults(p types.ProtocolEnum) map[string]string { return defaults(listenerTable(p)) }

// pair is an attribute as a request gives it, whatever it belongs to.
type pair struct{ key, value string }

// set validates attributes and returns the values with them; the former map stays what it was.
func set(table []attribute, values map[string]string, pairs []pair) (map[string]string, error) {
	if len(pairs) == 0 || len(pairs) > maxAttributesPerCall {
		return nil, wire.Errorf("ValidationError", "Between 1 and %d attributes must be specified, not %d", maxAttributesPerCall, len(pairs))
	}
	changed := maps.Clone(values)
	for _, p := range pairs {
		i := slices.IndexFunc(table, func(a attribute) bool { return a.key == p.key })
		switch {
		case i < 0:
			return nil, wire.Errorf("ValidationError", "Attribute key '%.100s' is not recognized", p.key)
		case len(p.value) > 1024 || !table[i].valid(p.value):
			return nil, wire.Errorf("InvalidConfigurationRequest", "Attribute value '%.100s' is not valid for '%s'", p.value, p.key)
		}
		changed[p.key] = p.value
	}
	return changed, nil
}

// DescribeLoadBalancerAttributes lists all attributes of a load balancer.
func (s *Service) DescribeLoadBalancerAttributes(r eventual.Reader, in *elb.DescribeLoadBalancerAttributesInput) (*elb.DescribeLoadBalancerAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeLoadBalancerAttributesOutput{Attributes: balancerList(lb.formerly.attributes.read(r, lb.attributes))}, nil
}

func balancerList(values map[string]string) []types.LoadBalancerAttribute {
	list := []types.LoadBalancerAttribute{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, types.LoadBalancerAttribute{Key: new(key), Value: new(values[key])})
	}
	return list
}

// ModifyLoadBalancerAttributes changes attributes of a load balancer.
func (s *Service) ModifyLoadBalancerAttributes(r eventual.Reader, in *elb.ModifyLoadBalancerAttributesInput) (*elb.ModifyLoadBalancerAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for _, a := range in.Attributes {
		pairs = append(pairs, pair{deref(a.Key), deref(a.Value)})
	}
	values, err := set(balancerTable(lb.value.Get().Type), lb.attributes, pairs)
	if err != nil {
		return nil, err
	}
	const secondary = "secondary_ips.auto_assigned.per_subnet"
	if number(values[secondary]) < number(lb.attributes[secondary]) {
		return nil, wire.Errorf("InvalidConfigurationRequest", "The number of secondary addresses per subnet, %s, cannot be decreased", lb.attributes[secondary])
	}
	for _, logs := range []string{"access_logs", "connection_logs", "health_check_logs"} {
		if values[logs+".s3.enabled"] == "true" && values[logs+".s3.bucket"] == "" {
			return nil, wire.Errorf("InvalidConfigurationRequest", "The S3 bucket of %s must be specified when it is enabled", logs)
		}
	}
	lb.formerly.attributes.replace(s.model, "attributes/"+lb.arn, lb.attributes, values)
	lb.attributes = values
	s.propagate(lb, change{key: lb.attributeChange(), what: "ModifyLoadBalancerAttributes " + lb.arn, lane: "attributes", apply: func(n *node) {
		n.attributes, n.stale = values, true
		for _, g := range n.groups {
			g.settingsChanged = true // a group may follow the load balancer in whether it uses all zones
		}
	}})
	return &elb.ModifyLoadBalancerAttributesOutput{Attributes: balancerList(values)}, nil
}

// DescribeTargetGroupAttributes lists all attributes of a target group.
func (s *Service) DescribeTargetGroupAttributes(r eventual.Reader, in *elb.DescribeTargetGroupAttributesInput) (*elb.DescribeTargetGroupAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.targetGroup(r, in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeTargetGroupAttributesOutput{Attributes: groupList(g.formerly.attributes.read(r, g.attributes))}, nil
}

func groupList(values map[string]string) []types.TargetGroupAttribute {
	list := []types.TargetGroupAttribute{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, types.TargetGroupAttribute{Key: new(key), Value: new(values[key])})
	}
	return list
}

// ModifyTargetGroupAttributes changes attributes of a target group.
func (s *Service) ModifyTargetGroupAttributes(r eventual.Reader, in *elb.ModifyTargetGroupAttributesInput) (*elb.ModifyTargetGroupAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.targetGroup(r, in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for _, a := range in.Attributes {
		pairs = append(pairs, pair{deref(a.Key), deref(a.Value)})
	}
	v := g.value.Get()
	values, err := set(groupTable(v), g.attributes, pairs)
	if err != nil {
		return nil, err
	}
	if err := groupRules(v, values); err != nil {
		return nil, err
	}
	g.formerly.attributes.replace(s.model, "attributes/"+g.arn, g.attributes, values)
	g.attributes = values
	s.changeSettings(g, "ModifyTargetGroupAttributes "+g.arn)
	return &elb.ModifyTargetGroupAttributesOutput{Attributes: groupList(values)}, nil
}

// groupRules are those that concern several attributes, or attribute and protocol.
func groupRules(v types.TargetGroup, values map[string]string) error {
	is := func(key, value string) bool { return values[key] == value }
	stream := v.Protocol == types.ProtocolEnumTcp || v.Protocol == types.ProtocolEnumTls
	refuse := func(why string) error { return wire.Errorf("InvalidConfigurationRequest", "%s", why) }
	switch {
	case v.TargetType == types.TargetTypeEnumLambda:
	case layer7(v.Protocol):
		algorithm := values["load_balancing.algorithm.type"]
		if !is("slow_start.duration_seconds", "0") && algorithm != "round_robin" {
			return refuse("Slow start cannot be used with algorithm " + algorithm)
		}
		if is("load_balancing.algorithm.anomaly_mitigation", "on") && algorithm != "weighted_random" {
			return refuse("Anomaly mitigation needs algorithm weighted_random")
		}
		if is("stickiness.enabled", "true") && is("stickiness.type", "app_cookie") && is("stickiness.app_cookie.cookie_name", "") {
			return refuse("Stickiness of type app_cookie needs a cookie name")
		}
	case v.Protocol == types.ProtocolEnumTls && is("stickiness.enabled", "true"):
		return refuse("Stickiness cannot be used by target groups with protocol TLS")
	case !stream && is("preserve_client_ip.enabled", "false"):
		return refuse("Client IP preservation cannot be turned off for protocol " + string(v.Protocol))
	case !stream && is("target_health_state.unhealthy.connection_termination.enabled", "true"):
		return refuse("Connection termination for unhealthy targets cannot be turned on for protocol " + string(v.Protocol))
	case is("target_health_state.unhealthy.connection_termination.enabled", "true") && !is("target_health_state.unhealthy.draining_interval_seconds", "0"):
		return refuse("A draining interval needs connection termination for unhealthy targets to be off")
	}
	return nil
}

// DescribeListenerAttributes lists all attributes of a listener.
func (s *Service) DescribeListenerAttributes(r eventual.Reader, in *elb.DescribeListenerAttributesInput) (*elb.DescribeListenerAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeListenerAttributesOutput{Attributes: listenerList(l.formerly.attributes.read(r, l.attributes))}, nil
}

func listenerList(values map[string]string) []types.ListenerAttribute {
	list := []types.ListenerAttribute{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, types.ListenerAttribute{Key: new(key), Value: new(values[key])})
	}
	return list
}

// ModifyListenerAttributes changes attributes of a listener. The names of headers about client certificates are kept and shown, and
// nothing else: clients are not asked for certificates.
func (s *Service) ModifyListenerAttributes(r eventual.Reader, in *elb.ModifyListenerAttributesInput) (*elb.ModifyListenerAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for _, a := range in.Attributes {
		pairs = append(pairs, pair{deref(a.Key), deref(a.Value)})
	}
	values, err := set(listenerTable(l.value.Get().Protocol), l.attributes, pairs)
	if err != nil {
		return nil, err
	}
	l.formerly.attributes.replace(s.model, "attributes/"+l.arn, l.attributes, values)
	l.attributes = values
	s.changeListenerAt(l.balancer.attributeChange(), l, "ModifyListenerAttributes "+l.arn)
	return &elb.ModifyListenerAttributesOutput{Attributes: listenerList(values)}, nil
}

package elbv2

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// This file turns what the API holds into what the data plane is told.

// listenerDocument is a listener with its rules as it was at one moment.
type listenerDocument struct {
	arn          string
	deleted      bool
	port         uint16
	protocol     dataplane.Protocol
	certificates []string
	alpn         []string
	idle         time.Duration // tcp.idle_timeout.seconds; zero where there is none
	attributes   map[string]string
	mutual       *types.MutualAuthenticationAttributes
	actions      []types.Action
	rules        []types.Rule
}

func (s *Service) listenerDocument(l *listener) listenerDocument {
	v := l.value.Get()
	d := listenerDocument{
		arn: l.arn, deleted: s.listeners[l.arn] != l, port: uint16(deref(v.Port)),
		protocol: dataplane.Protocol(v.Protocol), actions: v.DefaultActions,
		alpn: alpnProtocols[alpnPolicy(v)], idle: seconds(l.attributes["tcp.idle_timeout.seconds"]),
	}
	d.attributes, d.mutual = l.attributes, v.MutualAuthentication
	for _, c := range v.Certificates {
		d.certificates = append(d.certificates, deref(c.CertificateArn))
	}
	d.certificates = append(d.certificates, l.certificates...)
	for _, r := range l.rules {
		if r != l.byDefault {
			d.rules = append(d.rules, r.value.Get())
		}
	}
	return d
}

// groups lists the target groups that the document refers to.
func (d listenerDocument) groups() []string {
	arns := groupsOf(d.actions)
	for _, r := range d.rules {
		arns = append(arns, groupsOf(r.Actions)...)
	}
	return arns
}

// nodeConfig is what the listeners of a node now say.
//
// Certificates are missing, and to be asked for without the lock, by their listeners' ARNs: the certificate manager may look at records
// of Route 53, which in turn may just be asking for a load balancer.
func (s *Service) nodeConfig(n *node) (_ dataplane.NodeConfig, certificates map[string][]string) {
	certificates = map[string][]string{}
	config := dataplane.NodeConfig{Version: n.version, Attributes: balancerAttributes(n.attributes)}
	n.distrust()
	for _, d := range n.listeners {
		l := dataplane.Listener{
			ARN: d.arn, Port: d.port, Protocol: d.protocol, ALPN: d.alpn, FlowIdle: d.idle,
			Default: s.gatedAction(d.actions), Mutual: s.mutual(n, d),
		}
		certificates[d.arn] = d.certificates
		if !n.balancer.application() {
			l.Default = s.gatedAction(d.networkActions())
			config.Listeners = append(config.Listeners, l)
			continue
		}
		d.headers(&l)
		for _, r := range d.rules {
			priority, _ := strconv.Atoi(deref(r.Priority))
			l.Rules = append(l.Rules, dataplane.Rule{
				ARN: *r.RuleArn, Priority: priority, Conditions: dataplaneConditions(r.Conditions), Action: s.gatedAction(r.Actions),
				Rewrites: dataplaneRewrites(r.Transforms),
			})
		}
		config.Listeners = append(config.Listeners, l)
	}
	return config, certificates
}

// headers tells a listener which headers responses get, and what those of TLS are called for targets.
func (d listenerDocument) headers(l *dataplane.Listener) {
	for _, name := range responseHeaders {
		if value := d.attributes["routing.http.response."+name+".header_value"]; value != "" {
			if l.ResponseHeaders == nil {
				l.ResponseHeaders = map[string]string{}
			}
			l.ResponseHeaders[strings.ReplaceAll(name, "_", "-")] = value
		}
	}
	l.WithoutServer = d.attributes["routing.http.response.server.enabled"] == "false"
	l.TLSVersionHeader = d.attributes["routing.http.request.x_amzn_tls_version.header_name"]
	l.TLSCipherHeader = d.attributes["routing.http.request.x_amzn_tls_cipher_suite.header_name"]
}

func balancerAttributes(values map[string]string) dataplane.Attributes {
	return dataplane.Attributes{
		IdleTimeout:         seconds(values["idle_timeout.timeout_seconds"]),
		ClientKeepAlive:     seconds(values["client_keep_alive.seconds"]),
		ForwardedFor:        dataplane.ForwardedFor(values["routing.http.xff_header_processing.mode"]),
		ForwardedClientPort: values["routing.http.xff_client_port.enabled"] == "true",
		PreserveHost:        values["routing.http.preserve_host_header.enabled"] == "true",
		DropInvalidHeaders:  values["routing.http.drop_invalid_header_fields.enabled"] == "true",
		WithoutHTTP2:        values["routing.http2.enabled"] == "false",
		Desync:              dataplane.DesyncMode(values["routing.http.desync_mitigation_mode"]),
		TLSHeaders:          values["routing.http.x_amzn_tls_version_and_cipher_suite.enabled"] == "true",
	}
}

// seconds reads a number that was validated when it was set.
func seconds(text string) time.Duration {
	n, _ := strconv.Atoi(text)
	return time.Duration(n) * time.Second
}

// dataplaneAction is the routing action, the last of the actions.
func dataplaneAction(actions []types.Action) dataplane.Action {
	a := actions[len(actions)-1]
	switch a.Type {
	case types.ActionTypeEnumForward:
		f := &dataplane.Forward{}
		for _, g := range a.ForwardConfig.TargetGroups {
			f.Groups = append(f.Groups, dataplane.WeightedGroup{ARN: *g.TargetGroupArn, Weight: int(deref(g.Weight))})
		}
		if sticky := a.ForwardConfig.TargetGroupStickinessConfig; sticky != nil && deref(sticky.Enabled) {
			f.Stickiness, f.StickySource = time.Duration(deref(sticky.DurationSeconds))*time.Second, true
		}
		return dataplane.Action{Forward: f}
	case types.ActionTypeEnumRedirect:
		c := a.RedirectConfig
		status := 302
		if c.StatusCode == types.RedirectActionStatusCodeEnumHttp301 {
			status = 301
		}
		return dataplane.Action{Redirect: &dataplane.Redirect{
			Protocol: deref(c.Protocol), Host: deref(c.Host), Port: deref(c.Port), Path: deref(c.Path), Query: deref(c.Query), Status: status,
		}}
	default:
		c := a.FixedResponseConfig
		status, _ := strconv.Atoi(deref(c.StatusCode))
		return dataplane.Action{Fixed: &dataplane.FixedResponse{Status: status, ContentType: deref(c.ContentType), Body: deref(c.MessageBody)}}
	}
}

func dataplaneConditions(conditions []types.RuleCondition) []dataplane.Condition {
	var list []dataplane.Condition
	for _, c := range conditions {
		out := dataplane.Condition{Field: dataplane.ConditionField(deref(c.Field))}
		switch {
		case c.HostHeaderConfig != nil:
			out.Values, out.Regexes = c.HostHeaderConfig.Values, c.HostHeaderConfig.RegexValues
		case c.PathPatternConfig != nil:
			out.Values, out.Regexes = c.PathPatternConfig.Values, c.PathPatternConfig.RegexValues
		case c.HttpHeaderConfig != nil:
			out.Name, out.Values = deref(c.HttpHeaderConfig.HttpHeaderName), c.HttpHeaderConfig.Values
			out.Regexes = c.HttpHeaderConfig.RegexValues
		case c.HttpRequestMethodConfig != nil:
			out.Values = c.HttpRequestMethodConfig.Values
		case c.SourceIpConfig != nil:
			out.Values = c.SourceIpConfig.Values
		case c.QueryStringConfig != nil:
			for _, q := range c.QueryStringConfig.Values {
				out.Query = append(out.Query, dataplane.QueryValue{Key: deref(q.Key), Value: deref(q.Value)})
			}
		}
		list = append(list, out)
	}
	return list
}

// groupDocument is the settings of a target group as they were at one moment.
type groupDocument struct {
	group      types.TargetGroup
	attributes map[string]string
}

// settingsOf takes the settings of a group. Attributes are replaced and never changed in place.
func settingsOf(g *targetGroup) groupDocument {
	return groupDocument{group: g.value.Get(), attributes: g.attributes}
}

// dataplane is the group as a node acts on it whose load balancer has the given attributes.
func (d groupDocument) dataplane(arn string, version uint64, balancer map[string]string) dataplane.Group {
	v, a := d.group, d.attributes
	if v.TargetType == types.TargetTypeEnumLambda {
		v.Protocol = types.ProtocolEnumHttp
	}
	out := dataplane.Group{
		ARN: arn, Version: version, Protocol: dataplane.Protocol(v.Protocol), ProtocolVersion: deref(v.ProtocolVersion),
		HealthCheck: dataplane.HealthCheck{
			Protocol: dataplane.Protocol(v.HealthCheckProtocol), Path: deref(v.HealthCheckPath),
			Interval:         time.Duration(deref(v.HealthCheckIntervalSeconds)) * time.Second,
			Timeout:          time.Duration(deref(v.HealthCheckTimeoutSeconds)) * time.Second,
			HealthyThreshold: int(deref(v.HealthyThresholdCount)), UnhealthyThreshold: int(deref(v.UnhealthyThresholdCount)),
		},
		DeregistrationDelay: seconds(a["deregistration_delay.timeout_seconds"]),
		Algorithm:           dataplane.Algorithm(a["load_balancing.algorithm.type"]),
		SameZoneOnly:        !crossZone(a, balancer),
		MinimumHealthy:      number(a["target_group_health.unhealthy_state_routing.minimum_healthy_targets.count"]),
		MinimumHealthyPercent: number(
			a["target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage"]),
	}
	out.DNSMinimumHealthy = number(a["target_group_health.dns_failover.minimum_healthy_targets.count"])
	out.DNSMinimumHealthyPercent = number(a["target_group_health.dns_failover.minimum_healthy_targets.percentage"])
	out.Function = v.TargetType == types.TargetTypeEnumLambda
	out.Mitigate = a["load_balancing.algorithm.anomaly_mitigation"] == "on"
	if port, err := strconv.ParseUint(deref(v.HealthCheckPort), 10, 16); err == nil {
		out.HealthCheck.Port = uint16(port)
	}
	if v.Matcher != nil {
		out.HealthCheck.Matcher = cmp.Or(deref(v.Matcher.HttpCode), deref(v.Matcher.GrpcCode))
	}
	switch {
	case a["stickiness.enabled"] != "true":
	case a["stickiness.type"] == "lb_cookie":
		out.Stickiness = seconds(a["stickiness.lb_cookie.duration_seconds"])
	case a["stickiness.type"] == "app_cookie":
		out.AppCookie = dataplane.AppCookie{
			Name: a["stickiness.app_cookie.cookie_name"], Lasts: seconds(a["stickiness.app_cookie.duration_seconds"]),
		}
	}
	out.SlowStart = seconds(a["slow_start.duration_seconds"])
	if !layer7(v.Protocol) {
		out.Network = networkGroup(v, a)
	}
	return out
}

// crossZone says whether the nodes of a load balancer use the targets of all zones in a group.
func crossZone(group, balancer map[string]string) bool {
	key := "load_balancing.cross_zone.enabled"
	if group[key] == "use_load_balancer_configuration" {
		return balancer[key] == "true"
	}
	return group[key] == "true"
}

func networkGroup(v types.TargetGroup, a map[string]string) dataplane.NetworkGroup {
	on := func(key string) bool { return a[key] == "true" }
	return dataplane.NetworkGroup{
		PreserveClient:        on("preserve_client_ip.enabled") || v.TargetType == types.TargetTypeEnumAlb,
		ProxyProtocol:         on("proxy_protocol_v2.enabled"),
		TerminateDeregistered: on("deregistration_delay.connection_termination.enabled"),
		TerminateUnhealthy:    on("target_health_state.unhealthy.connection_termination.enabled"),
		StickySource:          on("stickiness.enabled"),
	}
}

// number reads a count or "off".
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// groupsOf lists the target groups that actions refer to.
func groupsOf(actions []types.Action) []string {
	var arns []string
	for _, a := range actions {
		if a.ForwardConfig == nil {
			continue
		}
		for _, g := range a.ForwardConfig.TargetGroups {
			if arn := deref(g.TargetGroupArn); !slices.Contains(arns, arn) {
				arns = append(arns, arn)
			}
		}
	}
	return arns
}

// healthCheckPort is the port that is checked for a target, as a number.
func healthCheckPort(v types.TargetGroup, targetPort int32) string {
	if port := deref(v.HealthCheckPort); port != "" && !strings.EqualFold(port, "traffic-port") {
		return port
	}
	return strconv.Itoa(int(targetPort))
}

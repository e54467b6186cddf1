package dataplane

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Config is what a Node is born with and keeps for life. Everything that the control API may change
// later comes through Apply, ApplyGroup, ApplyTargets and RemoveGroup.
type Config struct {
	// LoadBalancer names the load balancer in the journal; nodes of one load balancer give the same
	// name, because the key of the stickiness cookies is derived from it (a cookie that one node
	// sets is understood by the others).
	LoadBalancer string
	// Zone is the availability zone of the node, for example eu-west-1a.
	Zone string
	// Address is the node's private address in its subnet: listeners are bound to it, and targets
	// see it as their peer.
	Address netip.Addr
	// Endpoint maps an address and port of the VPC to the real one. Nil: they are the same.
	Endpoint func(netip.AddrPort) netip.AddrPort
	// Peer maps the real peer of a client connection to the address that rules (source-ip) and
	// X-Forwarded-For see. Nil: they are the same.
	Peer func(netip.AddrPort) netip.AddrPort
	// Firewall is asked about each new connection from a client to the node and from the node to a target. Nil: Open.
	Firewall Firewall
	// Relays tells which clients come by way of a Network Load Balancer. May be nil.
	Relays *Relays

	// Seed makes the draws of the node repeatable: weighted groups, weighted_random, the place
	// where round robin begins, trace ids. Give each node its own.
	Seed uint64
	// Probes carries out the health checks. Nil: the node has its own, so that each node checks each
	// target, as a real load balancer does. Nodes given the same Probes share one stream of checks per
	// target (for groups with thousands of targets); thresholds are still counted by each node.
	Probes *Probes
	// FirstFailureUnhealthy makes one failed check enough for a target in state initial to become
	// unhealthy. Off: the unhealthy threshold counts there too (the documented rule).
	FirstFailureUnhealthy bool
	// ConnectTimeout bounds a connect to a target (and, separately, its TLS handshake). Zero: the
	// 10 s of a real load balancer.
	ConnectTimeout time.Duration

	// Issuers carries what a node asks issuers of tokens. Nil: those on the loopback interface can be asked, and their certificates are not
	// verified.
	Issuers http.RoundTripper
	// Users signs who users are for targets. Nil: the node has its own key.
	Users *Signer

	// Health gets the health changes as this node sees them. Calls for one target come in order;
	// calls for several targets may come at the same time. It must not block and must not call the
	// node. May be nil.
	Health func(HealthChange)
	// Journal gets the events of the data plane, never one per request. It must not block and must
	// not call the node. May be nil.
	Journal func(Event)
	// Log is for surprises only. Nil: slog.Default().
	Log *slog.Logger
}

// NodeConfig is everything that the listeners of a load balancer say, in one version: a request is
// served by one version from the match to the last byte.
type NodeConfig struct {
	// Version grows with each change. A node ignores a version that is not newer than the one it has
	// (late and repeated deliveries are harmless). Zero is always applied.
	Version    uint64
	Attributes Attributes
	Listeners  []Listener
}

// Attributes are the load balancer attributes that requests can feel. The zero value holds the
// defaults of AWS.
type Attributes struct {
	// IdleTimeout is idle_timeout.timeout_seconds. Zero: 60 s. It is read at each use; only client connections that speak HTTP/2 keep the value
	// that was in force when their listener was opened.
	IdleTimeout time.Duration
	// ClientKeepAlive is client_keep_alive.seconds: after it a connection is closed with the next
	// response. Zero: 3600 s.
	ClientKeepAlive time.Duration
	// ForwardedFor is routing.http.xff_header_processing.mode. Empty: append.
	ForwardedFor ForwardedFor
	// ForwardedClientPort is routing.http.xff_client_port.enabled.
	ForwardedClientPort bool
	// PreserveHost is routing.http.preserve_host_header.enabled.
	PreserveHost bool
	// DropInvalidHeaders is routing.http.drop_invalid_header_fields.enabled.
	DropInvalidHeaders bool
	// Desync is routing.http.desync_mitigation_mode. Empty: defensive.
	Desync DesyncMode
	// WithoutHTTP2 is routing.http2.enabled = false: HTTPS listeners agree to HTTP/1.1 only.
	WithoutHTTP2 bool
	// TLSHeaders is routing.http.x_amzn_tls_version_and_cipher_suite.enabled.
	TLSHeaders bool
}

// ForwardedFor says what happens to the header X-Forwarded-For.
type ForwardedFor string

// The modes of X-Forwarded-For.
const (
	ForwardedForAppend   ForwardedFor = "append"
	ForwardedForPreserve ForwardedFor = "preserve"
	ForwardedForRemove   ForwardedFor = "remove"
)

// Protocol is what is spoken on a listener or to a target.
type Protocol string

// The protocols. HTTP and HTTPS are those of an Application Load Balancer, the others those of a Network Load Balancer;
// health checks use HTTP, HTTPS or TCP.
const (
	HTTP   Protocol = "HTTP"
	HTTPS  Protocol = "HTTPS"
	TCP    Protocol = "TCP"
	TLS    Protocol = "TLS"
	UDP    Protocol = "UDP"
	TCPUDP Protocol = "TCP_UDP"
	// QUIC is carried as UDP is: by addresses and ports, not by connection ids.
	QUIC    Protocol = "QUIC"
	TCPQUIC Protocol = "TCP_QUIC"
)

// The versions of HTTP that are spoken to targets; empty is HTTP1 too.
const (
	HTTP1 = "HTTP1"
	HTTP2 = "HTTP2"
	GRPC  = "GRPC"
)

// Listener is one port of the load balancer.
type Listener struct {
	ARN      string
	Port     uint16
	Protocol Protocol
	// Certificates of an HTTPS listener, the default one first; the others are chosen by SNI.
	Certificates []tls.Certificate
	// Mutual asks clients of an HTTPS listener for certificates. Nil: none are asked for.
	Mutual *MutualTLS
	// Rules in any order; they are tried by ascending Priority.
	Rules []Rule
	// Default is what happens when no rule matches.
	Default Action
	// ResponseHeaders are routing.http.response.*.header_value: what every response of the listener says, whatever the target has said.
	ResponseHeaders map[string]string
	// WithoutServer is routing.http.response.server.enabled = false: no response says which server it comes from.
	WithoutServer bool
	// TLSVersionHeader and TLSCipherHeader are routing.http.request.x_amzn_tls_*.header_name. Empty: the names that load balancers use.
	TLSVersionHeader, TLSCipherHeader string
	// ALPN are the protocols that a TLS listener of a Network Load Balancer agrees to, the preferred one first. Empty: it does
	// not negotiate.
	ALPN []string
	// FlowIdle is tcp.idle_timeout.seconds of a Network Load Balancer's listener. Zero: 350 s.
	FlowIdle time.Duration
}

// Rule is one listener rule: when all Conditions hold, Action is taken.
type Rule struct {
	ARN        string
	Priority   int
	Conditions []Condition
	Action     Action
	// Rewrites change the request on its way to a target, after the match. At most one of each kind.
	Rewrites []Rewrite
}

// ConditionField says what a condition looks at; the values are those of the AWS API.
type ConditionField string

// The fields of conditions.
const (
	HostHeader    ConditionField = "host-header"
	PathPattern   ConditionField = "path-pattern"
	HTTPHeader    ConditionField = "http-header"
	RequestMethod ConditionField = "http-request-method"
	QueryString   ConditionField = "query-string"
	SourceIP      ConditionField = "source-ip"
)

// Condition holds when any of its values matches.
type Condition struct {
	Field ConditionField
	// Name of the header, for HTTPHeader.
	Name string
	// Values are patterns (HostHeader, PathPattern, HTTPHeader), methods or CIDRs.
	Values []string
	// Regexes are regular expressions (HostHeader, PathPattern, HTTPHeader) that match when they are found anywhere.
	Regexes []string
	// Query is for QueryString instead of Values.
	Query []QueryValue
}

// QueryValue matches one key=value pair of the query; an empty Key matches the value of any key.
type QueryValue struct {
	Key, Value string
}

// Action is exactly one of Forward, Redirect and Fixed.
type Action struct {
	// Gates come first, in this order. On HTTPS listeners only.
	Gates    []Gate
	Forward  *Forward
	Redirect *Redirect
	Fixed    *FixedResponse
}

// Forward sends the request to one of the groups.
type Forward struct {
	// Groups with their weights; with a single group its weight does not matter.
	Groups []WeightedGroup
	// Stickiness keeps a client on the group that was drawn for it, for this long. Zero: off.
	Stickiness time.Duration
	// StickySource keeps the flows of one client address on one group: what stickiness is on a Network Load Balancer.
	StickySource bool
}

// WeightedGroup is a target group and its share, 0 to 999.
type WeightedGroup struct {
	ARN    string
	Weight int
}

// Redirect answers 301 or 302. The parts may hold #{protocol}, #{host}, #{port}, #{path} (without its leading
// slash) and #{query}.
type Redirect struct {
	// Empty parts mean the part of the request, as #{protocol}, #{host}, #{port} and /#{path} do.
	Protocol, Host, Port, Path string
	// Query without the question mark. Empty: none. (The default of the AWS API is "#{query}".)
	Query string
	// Status is 301 or 302.
	Status int
}

// FixedResponse answers without a target.
type FixedResponse struct {
	Status      int
	ContentType string
	Body        string
}

// Group is the settings of a target group as one node knows them. The targets come separately, since they reach
// a node at their own moments. Health checks run for every group that has been applied: a group that is in no
// listener or rule of the load balancer must not be applied, or be removed.
type Group struct {
	ARN string
	// Version works as NodeConfig.Version does.
	Version uint64
	// Protocol spoken to targets: HTTP or HTTPS (certificates of targets are not verified).
	Protocol Protocol
	// ProtocolVersion is HTTP1, HTTP2 or GRPC. Empty: HTTP1.
	ProtocolVersion string
	HealthCheck     HealthCheck
	// DeregistrationDelay is deregistration_delay.timeout_seconds. It is used when a Target does not say
	// DrainUntil. Zero means no delay (the default of AWS, 300 s, must be given).
	DeregistrationDelay time.Duration
	// Algorithm is load_balancing.algorithm.type. Empty: round_robin.
	Algorithm Algorithm
	// Stickiness is stickiness.lb_cookie.duration_seconds when stickiness of type lb_cookie is on. Zero: off.
	Stickiness time.Duration
	// AppCookie is how targets are stuck to by a cookie of their own. The zero value: off.
	AppCookie AppCookie
	// SlowStart is slow_start.duration_seconds. Zero: off.
	SlowStart time.Duration
	// SameZoneOnly is load_balancing.cross_zone.enabled = false.
	SameZoneOnly bool
	// MinimumHealthy and MinimumHealthyPercent are target_group_health.unhealthy_state_routing.*: with fewer
	// healthy targets the group fails open. Zero: 1 target, and no percentage.
	MinimumHealthy        int
	MinimumHealthyPercent int
	// DNSMinimumHealthy and DNSMinimumHealthyPercent are target_group_health.dns_failover.*, which the node only counts. Zero: off.
	DNSMinimumHealthy        int
	DNSMinimumHealthyPercent int
	// Function: the target is a function, of which there are none here. Requests for a registered one are answered 502, those with a body of
	// more than 1 MB 413.
	Function bool
	// Mitigate is load_balancing.algorithm.anomaly_mitigation, for weighted_random.
	Mitigate bool
	// Network is for groups of a Network Load Balancer.
	Network NetworkGroup
}

// AppCookie is stickiness of type app_cookie: a client that carries the target's cookie Name stays with the target for the time Lasts.
// It does nothing in a forward over several groups.
type AppCookie struct {
	Name  string
	Lasts time.Duration
}

// NetworkGroup is what a target group of a Network Load Balancer has besides.
type NetworkGroup struct {
	// PreserveClient is preserve_client_ip.enabled: targets see the address of the client and not that of the node.
	PreserveClient bool
	// ProxyProtocol is proxy_protocol_v2.enabled: a header with the addresses of client and node goes ahead of the data.
	ProxyProtocol bool
	// TerminateDeregistered is deregistration_delay.connection_termination.enabled: flows that are left when the delay is over
	// are cut. Off: they go on.
	TerminateDeregistered bool
	// TerminateUnhealthy is target_health_state.unhealthy.connection_termination.enabled: flows of a target that becomes
	// unhealthy are cut, unless the group fails open. Off: they go on.
	TerminateUnhealthy bool
	// StickySource is stickiness of type source_ip.
	StickySource bool
}

// Algorithm chooses a target within a group.
type Algorithm string

// The algorithms.
const (
	RoundRobin       Algorithm = "round_robin"
	LeastOutstanding Algorithm = "least_outstanding_requests"
	WeightedRandom   Algorithm = "weighted_random"
)

// HealthCheck is how targets are checked. All times are real time.
type HealthCheck struct {
	// Protocol: HTTP, HTTPS or TCP. Empty: HTTP.
	Protocol Protocol
	// Port to check. Zero: the port of the target (traffic-port).
	Port uint16
	// Path with query. Empty: /.
	Path string
	// Interval from the start of a check to the start of the next; Timeout of one check. Zero: 30 s and 5 s.
	Interval, Timeout time.Duration
	// Consecutive results that change the state. Zero: 5 and 2.
	HealthyThreshold, UnhealthyThreshold int
	// Matcher is the HttpCode of the API: "200", "200,202", "200-299"; or the GrpcCode when Version is GRPC. Empty: 200, and 12.
	Matcher string
	// Version is HTTP1, HTTP2 or GRPC, that of the group. Empty: HTTP1.
	Version string
	// ProxyProtocol sends a header of the PROXY protocol, version 2, ahead of the check: LOCAL, without addresses.
	ProxyProtocol bool
}

// TargetSet is all targets of a group that a node knows of, in one version.
type TargetSet struct {
	// Version works as NodeConfig.Version does, per group.
	Version uint64
	Targets []Target
}

// Target is one registration.
type Target struct {
	// ID as registered: an address or an instance. Empty: Address. A target is known by ID and Port.
	ID string
	// Address and Port in the VPC.
	Address netip.Addr
	Port    uint16
	// Zone of the target, or "all".
	Zone  string
	State TargetState
	// DrainUntil is when requests still in flight to a draining target are cut off. Zero: the node adds the
	// group's deregistration delay to the moment it learned that the target is draining.
	DrainUntil time.Time
}

// TargetState is what the control API wants of a target.
type TargetState int

const (
	// Registered targets are health-checked and get requests when healthy (or when the group fails open).
	Registered TargetState = iota
	// Draining targets get no new request and are not checked; requests in flight may end until
	// DrainUntil, then their connections are closed (the client sees 502 if no response had begun).
	//
	// A target that leaves the set altogether is cut off at once. So the control API keeps a
	// deregistered target in the set as Draining until its delay is over.
	Draining
)

// TargetKey identifies a target within its group.
type TargetKey struct {
	ID   string
	Port uint16
}

// Key returns the identity of the target.
func (t Target) Key() TargetKey {
	if t.ID == "" {
		return TargetKey{ID: t.Address.String(), Port: t.Port}
	}
	return TargetKey{ID: t.ID, Port: t.Port}
}

// HealthState is the state of a target as DescribeTargetHealth words it. A node reports initial,
// healthy and unhealthy; the other states (unused, draining, unavailable) are the control API's to know.
type HealthState string

// The states that a node reports.
const (
	Initial   HealthState = "initial"
	Healthy   HealthState = "healthy"
	Unhealthy HealthState = "unhealthy"
)

// The reasons that a node reports.
const (
	ReasonInitialHealthChecking = "Elb.InitialHealthChecking"
	ReasonResponseCodeMismatch  = "Target.ResponseCodeMismatch"
	ReasonTimeout               = "Target.Timeout"
	ReasonFailedHealthChecks    = "Target.FailedHealthChecks"
)

// TargetHealth is one node's view of one target.
type TargetHealth struct {
	State HealthState
	// Reason and Description are empty when healthy.
	Reason, Description string
}

// HealthChange says that one node sees a target differently from At on. The first report of a target is
// always initial, given while ApplyTargets runs. Nothing is reported when a target leaves or drains.
type HealthChange struct {
	LoadBalancer, Zone string
	Group              string
	Target             TargetKey
	TargetHealth
	At time.Time
	// Anomalous: more of the target's answers fail than those of others. Mitigated: it gets fewer requests for that.
	Anomalous, Mitigated bool
}

// EventKind is a kind of journal event.
type EventKind string

// The events of the journal.
const (
	// ConfigApplied: the node serves NodeConfig Version from now on.
	ConfigApplied EventKind = "ConfigApplied"
	// ListenerOpened and ListenerClosed: Port is bound, or no longer.
	ListenerOpened EventKind = "ListenerOpened"
	ListenerClosed EventKind = "ListenerClosed"
	// GroupApplied, TargetsApplied, GroupRemoved: the node uses Version of the group, or of its targets.
	GroupApplied   EventKind = "GroupApplied"
	TargetsApplied EventKind = "TargetsApplied"
	GroupRemoved   EventKind = "GroupRemoved"
	// TargetFirstRequest: a target got its first request from this node.
	TargetFirstRequest EventKind = "TargetFirstRequest"
	// TargetDraining: the node sends no new request from now on.
	TargetDraining EventKind = "TargetDraining"
	// TargetGone: the target left, or its deregistration delay is over. Usage is what it has served, and
	// Cut the number of requests that were still in flight and were cut off.
	TargetGone EventKind = "TargetGone"
	// FlowsCut: a Network Load Balancer has cut Cut flows to a target, or to all of Group, for the Reason given.
	FlowsCut EventKind = "FlowsCut"
)

// Event is one line of the data-plane journal. Fields that do not belong to its kind are zero.
type Event struct {
	At           time.Time
	Kind         EventKind
	LoadBalancer string
	Zone         string
	Version      uint64      `json:",omitzero"`
	Port         uint16      `json:",omitzero"`
	Group        string      `json:",omitzero"`
	Target       TargetKey   `json:",omitzero"`
	Usage        TargetUsage `json:",omitzero"`
	Cut          int         `json:",omitzero"`
	Reason       string      `json:",omitzero"`
}

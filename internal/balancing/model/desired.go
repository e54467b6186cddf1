package model

import "time"

// Stack is the desired state of one group of Ingresses. A Stack without LoadBalancer asks for the
// deletion of everything that the group owns.
type Stack struct {
	// ID is the value of the stack tag: "<namespace>/<ingress>" for an implicit group, "<group>" for an explicit one.
	ID             string
	LoadBalancer   *LoadBalancer
	SecurityGroups []SecurityGroup
	TargetGroups   []TargetGroup
	Listeners      []Listener
	Bindings       []Binding
	// BackendGroup is the security group that the cluster's load balancers share, where the stack uses it.
	// Its rules are not managed.
	BackendGroup *SecurityGroup
}

// Scheme says who can reach a load balancer (ELBv2 API, LoadBalancer.Scheme).
type Scheme string

// The schemes of the ELBv2 API.
const (
	Internal       Scheme = "internal"
	InternetFacing Scheme = "internet-facing"
)

// LoadBalancer is one Application Load Balancer.
type LoadBalancer struct {
	ResourceID    string
	Name          string
	Scheme        Scheme
	IPAddressType string
	// SubnetIDs hold one subnet per zone. Empty on an existing load balancer: keep what it has.
	SubnetIDs []string
	// SecurityGroups are attached in this order.
	SecurityGroups []SecurityGroupRef
	// Attributes are only ever set; an attribute that is not named is left as it is.
	Attributes map[string]string
	Tags       map[string]string
}

// SecurityGroupRef names a security group of the stack by ResourceID, or an existing one by ID.
type SecurityGroupRef struct {
	ResourceID string
	GroupID    string
	// Backend marks the security group that all load balancers of the cluster share.
	Backend bool
}

// SecurityGroup is a managed security group of the load balancer. All its ingress rules are owned.
type SecurityGroup struct {
	ResourceID  string
	Name        string
	Description string
	Ingress     []Permission
	Tags        map[string]string
}

// Permission is one ingress rule with exactly one source.
type Permission struct {
	// Protocol is tcp, udp, icmp, icmpv6 or -1 for all.
	Protocol string
	FromPort int32
	ToPort   int32
	// One of the following is set.
	CIDR          string
	IPv6CIDR      string
	PrefixListID  string
	SourceGroupID string

	Description string
}

// TargetGroup is one target group.
type TargetGroup struct {
	ResourceID      string
	Name            string
	TargetType      TargetType
	Port            int32
	Protocol        string
	ProtocolVersion string
	IPAddressType   string
	HealthCheck     HealthCheck
	Attributes      map[string]string
	Tags            map[string]string
}

// TargetType says what a target of a group is.
type TargetType string

// The target types that Kubernetes objects ask for.
const (
	TargetInstance TargetType = "instance"
	TargetIP       TargetType = "ip"
)

// HealthCheck is how a target group's targets are checked.
type HealthCheck struct {
	Protocol string
	// Port is "traffic-port" or a number.
	Port               string
	Path               string
	Interval           time.Duration
	Timeout            time.Duration
	HealthyThreshold   int32
	UnhealthyThreshold int32
	// HTTPCodes or GRPCCodes is set, such as "200-399".
	HTTPCodes string
	GRPCCodes string
}

// Listener is one port of the load balancer.
type Listener struct {
	ResourceID     string
	Port           int32
	Protocol       string
	DefaultActions []Action
	// Hold asks to keep the live default actions, as Rule.Hold does for a rule.
	Hold string
	// Certificates are ARNs, the default certificate first; HTTPS only.
	Certificates []string
	SSLPolicy    string
	Attributes   map[string]string
	Rules        []Rule
	Tags         map[string]string
}

// Rule is one rule of a listener, without its default one.
type Rule struct {
	ResourceID string
	Priority   int32
	Conditions []Condition
	Actions    []Action
	Tags       map[string]string
	// Hold asks to keep the actions of the live rule with this priority and these conditions, because the
	// action that Kubernetes gives cannot be used (it says why). Without a live rule, Actions apply.
	Hold string
}

// Condition is one condition of a rule; Field says which of the others is set.
type Condition struct {
	// Field is host-header, path-pattern, http-header, http-request-method, query-string or source-ip.
	Field       string
	HeaderName  string
	Values      []string
	RegexValues []string
	Query       []QueryPair
}

// QueryPair is one pair of a query-string condition; an empty key matches any key.
type QueryPair struct {
	Key   string
	Value string
}

// ActionType is the kind of a rule's or listener's action (ELBv2 API, Action.Type).
type ActionType string

// The action types that the slice translates.
const (
	ActionForward       ActionType = "forward"
	ActionRedirect      ActionType = "redirect"
	ActionFixedResponse ActionType = "fixed-response"
)

// Action is one action; Type says which of the others is set.
type Action struct {
	Type          ActionType
	Forward       *Forward
	Redirect      *Redirect
	FixedResponse *FixedResponse
}

// Forward is a weighted forward to target groups.
type Forward struct {
	TargetGroups []WeightedTargetGroup
	// Stickiness is the group stickiness, zero when off.
	Stickiness time.Duration
}

// WeightedTargetGroup is one target group of a forward and its weight, 0 to 999.
type WeightedTargetGroup struct {
	// ResourceID names a target group of the stack; empty for one that the user named by ARN.
	ResourceID string
	// ARN is set in observed state, and in desired state where ResourceID is empty.
	ARN    string
	Weight int32
}

// Redirect answers with a redirect; fields hold ALB placeholders such as #{host} where unset by the user.
type Redirect struct {
	Protocol, Host, Port, Path, Query string
	// StatusCode is HTTP_301 or HTTP_302.
	StatusCode string
}

// FixedResponse answers without a target.
type FixedResponse struct {
	ContentType, Body, StatusCode string
}

// Binding is the TargetGroupBinding object that says which Service's pods are the targets of a target group.
type Binding struct {
	Namespace string
	// Name is the target group's name, for a new object; an existing one is found by labels and ARN.
	Name string
	// TargetGroup is the ResourceID of the target group.
	TargetGroup string
	Service     string
	// ServicePort is the Service's port as written in the Ingress (number or name).
	ServicePort string
	TargetType  TargetType
	Protocol    string
	// IPAddressType is ipv4 or ipv6.
	IPAddressType string
	// Ingress are the ports that the security groups of nodes and pods must allow from SourceGroups.
	Ingress []BindingIngress
	Labels  map[string]string
}

// BindingIngress allows TCP traffic to one port, from the load balancer's or the shared backend security group.
type BindingIngress struct {
	Source SecurityGroupRef
	// Port is a number or a pod port name.
	Port string
}

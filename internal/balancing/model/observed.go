package model

import "time"

// Observed is what AWS has for one stack: only resources that carry the cluster's and the stack's
// ownership tags. Values are copies; a reader may keep them.
type Observed struct {
	LoadBalancers  []ObservedLoadBalancer
	TargetGroups   []ObservedTargetGroup
	SecurityGroups []ObservedSecurityGroup
	// Complete is false while part of the stack has not been read yet; Missing says what. Nothing may be
	// deleted, and nothing created that may exist, on the word of an incomplete observation.
	Complete bool
	Missing  string
}

// ObservedLoadBalancer is a load balancer with its listeners and rules.
type ObservedLoadBalancer struct {
	LoadBalancer
	ARN     string
	DNSName string
	// HostedZoneID is the canonical hosted zone of the DNS name.
	HostedZoneID string
	VPCID        string
	// State is AWS's: provisioning, active, active_impaired or failed.
	State string
	// SecurityGroupIDs are the attached ones.
	SecurityGroupIDs []string
	Listeners        []ObservedListener
	SeenAt           time.Time
}

// ObservedListener is a listener with all its rules.
type ObservedListener struct {
	Listener
	ARN   string
	Rules []ObservedRule
	// SeenAt is when the read of this listener or of its rules began, the earlier of the two.
	SeenAt time.Time
}

// ObservedRule is a rule; the listener's default rule is in Listener.DefaultActions instead.
type ObservedRule struct {
	Rule
	ARN string
}

// ObservedTargetGroup is a target group and, where somebody watches it, its targets.
type ObservedTargetGroup struct {
	TargetGroup
	ARN   string
	VPCID string
	// LoadBalancerARNs are the load balancers that use it.
	LoadBalancerARNs []string
	SeenAt           time.Time
	Targets          []TargetHealth
	// TargetsSeenAt is when the read of the targets began; zero when they were never read.
	TargetsSeenAt time.Time
}

// TargetHealth is one target as DescribeTargetHealth gives it.
type TargetHealth struct {
	Target
	// State is initial, healthy, unhealthy, unhealthy.draining, draining, unused or unavailable.
	State       string
	Reason      string
	Description string
}

// Target is what is registered in a target group.
type Target struct {
	// ID is an IP address or an instance id, by the group's target type.
	ID   string
	Port int32
	// Zone is empty, a zone name, or "all" for addresses outside the VPC.
	Zone string
}

// ObservedSecurityGroup is a security group with its ingress rules.
type ObservedSecurityGroup struct {
	SecurityGroup
	GroupID string
	VPCID   string
	SeenAt  time.Time
}

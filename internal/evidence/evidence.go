// Package evidence says what is known of traffic, and since when: the one small interface between the
// half of Lockstep that moves pods and the half that moves traffic.
//
// Evidence is what AWS itself says, from a read begun after our own last write returned: the weights in
// every rule and listener that holds an action, and for each target group its targets by pod. It never
// holds counts alone, since one target group may hold pods of three versions at once. The package has
// plain values only; the readers live in the cloud room.
package evidence

import (
	"context"
	"time"
)

// Query names the split whose evidence is wanted: one action of one Ingress.
type Query struct {
	Namespace string
	Ingress   string
	// Action is the name of the actions annotation: the rollout's root Service, by default its stable one.
	Action string
	// Services are the Services of the split, each with its port as written in the action.
	Services []ServicePort
}

// ServicePort is a Service and its port as the user wrote it (number or name).
type ServicePort struct {
	Service string
	Port    string
}

// Snapshot is everything that AWS said about one split.
type Snapshot struct {
	// SeenAt is when the oldest of the reads behind Placements began, never before a write of ours to any of
	// them returned. The targets are read on their own: Group.SeenAt. With notBefore, all began at or after it.
	SeenAt time.Time
	// Problem is why nothing or not everything could be seen, in words for a person; empty when complete.
	Problem string
	// UnansweredUntil is until when a write of ours, whose answer never came, may still change the weights from
	// what they are; zero when there is none. Nothing that cannot be taken back should rely on the weights before.
	UnansweredUntil time.Time
	// OutdatedUntil is until when AWS may still answer with weights from before the last write: one of ours that the
	// answer does not show, or, as long as there is none of ours, one that a predecessor of this process may have made
	// right before it ended. Zero when the answer shows our own write. An answer from before it proves no write.
	OutdatedUntil time.Time
	// Delay says that a weight is to be written to one of the placements and cannot be sent; its zero value when
	// none waits.
	Delay Delay
	// LoadBalancer is the load balancer that carries the action; its zero value means that none exists yet.
	LoadBalancer LoadBalancer
	// Placements are all the rules and listener default actions that hold the action.
	Placements []Placement
	// Groups are the target groups behind the Services of the query, in its order.
	Groups []Group
}

// Delay is why a weight could not be sent to AWS yet.
type Delay struct {
	// Since is when it was first tried; zero when nothing waits.
	Since time.Time
	// Reason is in words for a person: AWS throttles, or the own budget of calls has no token.
	Reason string
}

// LoadBalancer is what must be known of a load balancer to judge its traffic.
type LoadBalancer struct {
	ARN     string
	DNSName string
	// Active is false while AWS is still provisioning it.
	Active bool
}

// Placement is one rule, or one listener's default action, that forwards to the groups.
type Placement struct {
	// ARN is the rule's, or the listener's for a default action.
	ARN string
	// Weights are by Service name. A group that the placement does not name is absent, and gets nothing.
	Weights map[string]int32
}

// Group is one target group and its targets.
type Group struct {
	Service string
	ARN     string
	// Stickiness is how long a client stays with this group after its weight became 0; zero when off.
	Stickiness time.Duration
	Targets    []Target
	// SeenAt is when the read of the targets began.
	SeenAt time.Time
}

// Target is one registered address of a target group.
type Target struct {
	// Address is ip:port.
	Address string
	// PodUID is the pod that has the address now; empty when there is none any more.
	PodUID string
	// PodTemplateHash is the pod's label that names its ReplicaSet; empty when there is no pod.
	PodTemplateHash string
	State           TargetState
	// Reason is AWS's reason code, such as Target.FailedHealthChecks; empty when healthy.
	Reason string
}

// TargetState is the health of a target as DescribeTargetHealth gives it (ELBv2 API, TargetHealth.State).
type TargetState string

// The states of the ELBv2 API.
const (
	Initial          TargetState = "initial"
	Healthy          TargetState = "healthy"
	Unhealthy        TargetState = "unhealthy"
	UnhealthyDrain   TargetState = "unhealthy.draining"
	Draining         TargetState = "draining"
	Unused           TargetState = "unused"
	StateUnavailable TargetState = "unavailable"
)

// Live reports whether the target may still get new requests: it is registered and not draining.
func (t Target) Live() bool { return t.State != Draining && t.State != UnhealthyDrain }

// Group returns the group of a Service, and whether it was seen.
func (s Snapshot) Group(service string) (Group, bool) {
	for _, g := range s.Groups {
		if g.Service == service && g.ARN != "" {
			return g, true
		}
	}
	return Group{}, false
}

// Weight returns the weight of a Service when every placement agrees on it, and false when there is no
// placement or two of them differ.
func (s Snapshot) Weight(service string) (int32, bool) {
	var weight int32
	for i, p := range s.Placements {
		if i > 0 && p.Weights[service] != weight {
			return 0, false
		}
		weight = p.Weights[service]
	}
	return weight, len(s.Placements) > 0
}

// Healthy counts the group's healthy live targets that belong to the ReplicaSet with the given pod-template hash.
func (g Group) Healthy(podTemplateHash string) int {
	n := 0
	for _, t := range g.Targets {
		if t.State == Healthy && t.PodTemplateHash == podTemplateHash {
			n++
		}
	}
	return n
}

// LiveOthers counts the group's live targets that do not belong to the ReplicaSet with the given hash.
// A target whose pod is gone counts too: AWS still sends requests to its address.
func (g Group) LiveOthers(podTemplateHash string) int {
	n := 0
	for _, t := range g.Targets {
		if t.Live() && t.PodTemplateHash != podTemplateHash {
			n++
		}
	}
	return n
}

// Holding counts all targets of the ReplicaSet with the given hash, draining ones included.
func (g Group) Holding(podTemplateHash string) int {
	n := 0
	for _, t := range g.Targets {
		if t.PodTemplateHash == podTemplateHash {
			n++
		}
	}
	return n
}

// Source gives evidence. Implementations must be safe for concurrent use.
type Source interface {
	// Observe returns what AWS says. The result may come from earlier reads as long as all of them began at
	// or after notBefore (zero: whatever is known); otherwise AWS is asked again. An error means that
	// AWS could not be asked (throttled, denied, unreachable) and wraps the cause.
	Observe(ctx context.Context, query Query, notBefore time.Time) (Snapshot, error)
	// Subscribe calls changed whenever the evidence of an Ingress of this namespace and name may have
	// changed. It must not block. Cancel ends the subscription.
	Subscribe(changed func(namespace, ingress string)) (cancel func())
}

// DrainAnnotation on a pod asks the traffic half to take the pod out of its target groups while it is
// Ready: the delivery half sets it before it makes a ReplicaSet smaller, and makes it smaller only when
// the pod is gone from AWS's answer. A pod without the annotation is a target again.
const DrainAnnotation = "lockstep.dev/drain"

// Values of DrainAnnotation. A value that is not known is read as DrainWhenCovered.
const (
	// DrainWhenCovered: leave once enough other targets are healthy (make before break).
	DrainWhenCovered = "true"
	// DrainAnyway: the user wants no pods at all (replicas 0), so nobody is waited for.
	DrainAnyway = "anyway"
)

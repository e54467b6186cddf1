package plan

import (
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// Snapshot is everything that a decision about one binding of target type ip depends on.
type Snapshot struct {
	Now time.Time
	// Fresh says that the Service, the targets, the share, the drain marks and the owners of unknown addresses were
	// all read from their sources in this round. Without it no target leaves that may still be needed.
	Fresh bool
	// Removal is why every pod is meant to leave, such as "the Service is deleted"; empty when it is not.
	Removal string
	// Deleted says that the binding itself is removed: then targets that belong to no pod leave too.
	Deleted bool
	// Pods are the pods that the Service selects, those that own a registered address, and those that wait on
	// the binding's readiness gate. No two of them have one UID.
	Pods []Pod
	// Targets are what AWS has in the target group, draining targets included.
	Targets []Target
	// Replicas is how many pods the version that the Service selects is meant to have (its ReplicaSets'
	// spec.replicas), so that pods still to come are waited for; zero when it is not known.
	Replicas int
	Share    Share
	Settings Settings
}

// Settings are the durations and limits of the controller.
type Settings struct {
	// Settle is how long after a weight was first seen in all rules the last load balancer node may still
	// act on the older one.
	Settle time.Duration
	// Freshness is how old an observation of the share may be before an act that cannot be taken back.
	Freshness time.Duration
	// MaxTargets caps the targets of the group; zero is no cap.
	MaxTargets int
}

// Life is how far a pod is from serving, as Kubernetes tells it.
type Life int

const (
	// Unready pods are starting, or their readiness probes fail.
	Unready Life = iota
	// Waiting pods have ready containers and miss nothing but readiness gates.
	Waiting
	// Ready pods are Ready.
	Ready
	// Lost pods have ready containers but their node does not answer.
	Lost
	// Dying pods are being deleted, or their containers have ended for good.
	Dying
)

// Drain says whether a pod is marked to leave its target groups before it is scaled down.
type Drain int

const (
	// Stay is no mark.
	Stay Drain = iota
	// WhenCovered pods leave once enough others are healthy.
	WhenCovered
	// Anyway pods leave without waiting for others: the user wants no pods at all.
	Anyway
)

// Pod is what matters of a pod for one binding.
type Pod struct {
	Namespace, Name, UID string
	// IP is the address in the binding's address family; empty while the pod has none.
	IP string
	// Port is the Service port's target port in this pod; zero when the pod has no such port.
	Port int32
	// Selected says that the Service's selector matches.
	Selected bool
	// OtherVersion says that the selector would match but for the pod-template hash of a rollout.
	OtherVersion bool
	// Owned says that a controller owns the pod. A pod without one was taken out by hand, or was never counted on.
	Owned bool
	Drain Drain
	Life  Life
	// Gate is the pod's readiness gate for this binding; nil when it has none.
	Gate *Gate
}

// GateStatus is the status of a pod condition.
type GateStatus string

// The statuses of a pod condition; Absent is one that has never been written.
const (
	GateTrue    GateStatus = "True"
	GateFalse   GateStatus = "False"
	GateUnknown GateStatus = "Unknown"
	GateAbsent  GateStatus = ""
)

// Gate is the condition that answers a readiness gate.
type Gate struct {
	Status  GateStatus
	Reason  string
	Message string
}

// Target is a registered address.
type Target struct {
	model.TargetHealth
	// RegisteredUID is the pod for which this process registered the address; empty when another did.
	RegisteredUID string
	// Gone says that this process saw the last pod with this address disappear.
	Gone bool
	// TakenBy names a pod outside the binding's namespace that has the address now; empty when there is none.
	TakenBy string
}

// Share is what the target group gets of the traffic.
type Share struct {
	// Known is false when the rules that may forward to the group could not be seen, or are not ours to see.
	Known bool
	// Weight is the highest weight that any rule or listener gives the group.
	Weight int32
	// Since is when Weight was first seen in all of them; zero when that is not known.
	Since time.Time
	// Stickiness is the longest time that a client stays with the group after its weight became 0.
	Stickiness time.Duration
	// SeenAt is when the oldest read behind Weight began.
	SeenAt time.Time
}

// settledAt is when no request can be on its way to the group any more; zero when that cannot be said.
func (s Share) settledAt(settle time.Duration) time.Time {
	if !s.Known || s.Weight != 0 || s.Since.IsZero() {
		return time.Time{}
	}
	return s.Since.Add(settle + s.Stickiness)
}

// Live reports whether the target may get new requests: it is registered and not draining.
func (t Target) Live() bool { return t.State != draining && t.State != unhealthyDraining }

// The target states of the ELBv2 API.
const (
	healthy           = "healthy"
	unhealthy         = "unhealthy"
	unused            = "unused"
	draining          = "draining"
	unhealthyDraining = "unhealthy.draining"
)

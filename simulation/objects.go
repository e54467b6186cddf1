package simulation

import (
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	bindings "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
)

// The names of the one rollout of a world.
const (
	namespace     = "shop"
	rolloutName   = "shop"
	ingressName   = "shop"
	canaryService = "shop-canary"
	stableService = "shop-stable"
	cluster       = "simulated"
	port          = 8080
	// ours is the field manager of the controller.
	ours = "lockstep"
	// stepHash is that of the steps, which nobody changes.
	stepHash = "steps"
)

// rollout is the Rollout; its image is also the hash of its template.
type rollout struct {
	generation int64
	revision   int64
	image      string
	spec       v1alpha1.RolloutSpec
	status     v1alpha1.RolloutStatus
}

// replicaSet is a ReplicaSet with its status.
type replicaSet struct {
	hash       string
	created    time.Time
	revision   int64
	replicas   int32
	desired    int32
	minReady   int32
	deadline   time.Time
	generation int64
	observed   int64
	current    int32
	ready      int32
	available  int32
}

// service is a Service; an empty hash selects all pods of the rollout.
type service struct {
	hash      string
	managedBy string
}

// ingress is the Ingress with its action annotation and who wrote it.
type ingress struct {
	action string
	// writer and writtenAt are of the annotation, or of the write that took it away.
	writer    string
	writtenAt time.Time
	// other is the newest writer that is not ours.
	other   string
	otherAt time.Time
	// recorded: the bookkeeping annotation names the rollout.
	recorded bool
}

// pod is a pod as Kubernetes tells it. What it really does is in process.
type pod struct {
	uid       string
	hash      string
	created   time.Time
	ip        string
	scheduled bool
	running   bool
	// containersReady is what probes say, ready adds the gates.
	containersReady bool
	ready           bool
	readySince      time.Time
	terminating     bool
	drain           string
	gates           []gate
}

// gate is a readiness gate of a pod and its answer.
type gate struct {
	service string
	bindings.Gate
}

// process is what really runs at an address.
type process struct {
	pod  string
	uid  string
	hash string
	ip   string
	// serving: it answers requests.
	serving bool
	// faulty: a fault of the run stopped it, which is nobody's mistake.
	faulty bool
}

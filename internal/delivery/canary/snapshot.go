package canary

import (
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Snapshot is everything that a decision may depend on.
type Snapshot struct {
	// Now is when the snapshot was complete.
	Now time.Time
	// Asked and Confirming are Wait.Fresh and Wait.Confirm of the decision that this snapshot answers;
	// zero in the first look of a round. All of the snapshot was read at or after Asked.
	Asked      time.Time
	Confirming []string

	Settings    Settings
	Rollout     Rollout
	ReplicaSets []ReplicaSet
	// Services are those named by the strategy: the canary and the stable one.
	Services []Service
	// Ingresses are those of trafficRouting.alb, in the order of the spec.
	Ingresses []Ingress
	// StrayServices and StrayIngresses still carry the rollout's mark, but its spec names them no more.
	StrayServices  []string
	StrayIngresses []string
}

// Settings are the controller's, after the rollout's own settings were applied.
type Settings struct {
	// Settle is how long a weight must have been seen before an act that cannot be taken back.
	Settle time.Duration
	// Poll is the age at which evidence that somebody waits for is read again.
	Poll time.Duration
	// Contest is the window in which ContestLimit foreign writes of the annotation mean a dispute.
	Contest      time.Duration
	ContestLimit int
	// EvidenceTimeout is how long an answer of AWS is waited for before the wait is told as a warning. The
	// rollout's own one, which also lets progressDeadlineAbort abort the update then; zero: its progress
	// deadline, and no abort.
	EvidenceTimeout time.Duration
}

// DefaultSettings: the settle time is the far end of the times that a load balancer's nodes have been
// seen to need for a rule change (pessimistic profile, cut at twice the 99th percentile).
func DefaultSettings() Settings {
	return Settings{Settle: 150 * time.Second, Poll: 5 * time.Second, Contest: 10 * time.Minute, ContestLimit: 3}
}

// Rollout is the object, with what observe has computed from it.
type Rollout struct {
	Namespace  string
	Name       string
	Generation int64
	// Revision is the revision annotation, 0 when absent.
	Revision int64
	Spec     v1alpha1.RolloutSpec
	Status   v1alpha1.RolloutStatus
	// Hash names the ReplicaSet of the present template: the label of the one that has it, or else the
	// computed hash.
	Hash string
	// StepHash is the hash of the canary steps.
	StepHash string
	// SettingError is what is wrong with an annotation that is a setting, as "field: problem; remedy".
	SettingError string
	// TemplateError is why the selector or the pod template cannot be used, as "field: problem; remedy";
	// empty when they can.
	TemplateError string
}

// ReplicaSet is one ReplicaSet that the Rollout owns.
type ReplicaSet struct {
	Name      string
	Hash      string
	CreatedAt time.Time
	Revision  int64
	// Replicas is spec.replicas; the next three are from the status.
	Replicas  int32
	Current   int32
	Ready     int32
	Available int32
	// DesiredReplicas is the annotation, -1 when absent.
	DesiredReplicas int32
	MinReadySeconds int32
	// ScaleDownDeadline is zero when there is none.
	ScaleDownDeadline time.Time
	// Observed: the ReplicaSet controller has seen the newest spec.
	Observed bool
	Deleting bool
	// Failure is the message of the ReplicaFailure condition, FailureReason its reason; empty without one.
	Failure       string
	FailureReason string
	Pods          []Pod
}

// Pod is one pod of a ReplicaSet.
type Pod struct {
	Name        string
	UID         string
	CreatedAt   time.Time
	Scheduled   bool
	Running     bool
	Ready       bool
	Terminating bool
	// Drain is the value of the drain mark; empty without it.
	Drain string
}

// Service is one Service that the strategy names.
type Service struct {
	Name    string
	Missing bool
	// Hash is the pod-template hash in the selector; empty when the Service is not managed yet.
	Hash string
	// ManagedBy is the rollout that the annotation names.
	ManagedBy string
	// Mismatch names a selector label that the pod template does not have; empty when all fit.
	Mismatch string
}

// Ingress is one Ingress that carries the split, and what AWS shows of it.
type Ingress struct {
	Name    string
	Missing bool
	// HasRule: some rule has the root Service as its backend.
	HasRule bool
	// Action is the value of the actions annotation; empty when absent.
	Action string
	// Ours: the field manager of this controller owns the annotation's present value.
	Ours bool
	// Writer and WrittenAt are the newest other field manager of the annotation, or of the object when
	// the annotation is gone, and the time of its write.
	Writer    string
	WrittenAt time.Time
	// ChangedAt is when the annotation's present value was last written by anybody, in whole seconds of the API
	// server's clock; zero when it is not known.
	ChangedAt time.Time
	// Recorded: the bookkeeping annotation names this rollout and this action.
	Recorded bool
	// RecordError is why that annotation cannot be read, and what to do; empty when it can.
	RecordError string

	Evidence evidence.Snapshot
	// EvidenceError is why AWS could not be asked; empty otherwise.
	EvidenceError string
}

// Round looks and decides until a decision needs nothing fresher, at most four times: poll, act wanted,
// act confirmed, and one more for an act that only then became possible. What is still wanted fresher
// after that is left to the next round.
func Round(look func(notBefore time.Time) (Snapshot, error)) (Decision, error) {
	var decision Decision
	for range 4 {
		s, err := look(decision.Wait.Fresh)
		if err != nil {
			return Decision{}, err
		}
		s.Asked, s.Confirming = decision.Wait.Fresh, decision.Wait.Confirm
		decision = Decide(s)
		if decision.Wait.Fresh.IsZero() || len(decision.Operations) > 0 {
			break
		}
	}
	return decision, nil
}

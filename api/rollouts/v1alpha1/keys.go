package v1alpha1

// Labels, annotations and field managers: the names are a contract with existing objects, tools and people.
const (
	// HashLabel is the pod-template hash: label of ReplicaSets and pods, selector of ReplicaSets and managed Services.
	HashLabel = "rollouts-pod-template-hash"

	RevisionAnnotation        = "rollout.argoproj.io/revision"
	RevisionHistoryAnnotation = "rollout.argoproj.io/revision-history"
	DesiredReplicasAnnotation = "rollout.argoproj.io/desired-replicas"
	EphemeralAnnotation       = "rollout.argoproj.io/ephemeral-metadata"
	NotifiedAnnotation        = "notified.notifications.argoproj.io"
	// ScaleDownDeadlineAnnotation on a ReplicaSet is the RFC 3339 time after which it may be scaled to 0.
	ScaleDownDeadlineAnnotation = "scale-down-deadline"
	// ManagedByAnnotation on a Service names the Rollout that writes its selector.
	ManagedByAnnotation = "argo-rollouts.argoproj.io/managed-by-rollouts"
	// ManagedALBAnnotation on an Ingress lists, per Rollout, the action annotations that it writes.
	ManagedALBAnnotation = "rollouts.argoproj.io/managed-alb-annotations"
	// ObsoleteALBAnnotation is an older form of ManagedALBAnnotation, which is only removed.
	ObsoleteALBAnnotation = "rollouts.argoproj.io/managed-alb-actions"
	// InstanceIDLabel assigns an object to one of several controllers.
	InstanceIDLabel = "argo-rollouts.argoproj.io/controller-instance-id"

	// SettleTimeAnnotation on a Rollout is the time, as a Go duration, that a weight must have been in place
	// before an act that cannot be taken back; it overrides the controller's setting.
	SettleTimeAnnotation = "lockstep.dev/settle-time"
	// EvidenceTimeoutAnnotation on a Rollout is how long, as a Go duration, AWS's answer may be waited for before
	// TrafficVerified has the reason EvidenceOverdue; progressDeadlineSeconds without it. With it,
	// progressDeadlineAbort also aborts an update that is not answered. An update never goes on unanswered.
	EvidenceTimeoutAnnotation = "lockstep.dev/evidence-timeout"
)

// Reasons of pause conditions.
const (
	PauseReasonCanaryPauseStep = "CanaryPauseStep"
	PauseReasonBlueGreenPause  = "BlueGreenPause"
	PauseReasonInconclusive    = "InconclusiveAnalysisRun"
)

// Types of conditions. TrafficVerified and TrafficContested are Lockstep's own.
const (
	ConditionInvalidSpec    = "InvalidSpec"
	ConditionAvailable      = "Available"
	ConditionProgressing    = "Progressing"
	ConditionPaused         = "Paused"
	ConditionCompleted      = "Completed"
	ConditionHealthy        = "Healthy"
	ConditionReplicaFailure = "ReplicaFailure"
	// ConditionTrafficVerified is False while the rollout waits for evidence from AWS.
	ConditionTrafficVerified = "TrafficVerified"
	// ConditionTrafficContested is True while somebody else keeps writing the action annotation.
	ConditionTrafficContested = "TrafficContested"
	// ConditionStableLost is True, since its transition, while no target of the stable version is healthy beside
	// a canary that serves.
	ConditionStableLost = "StableLost"
)

// ReasonEvidenceOverdue of TrafficVerified: AWS's answer is waited for longer than the evidence timeout.
const ReasonEvidenceOverdue = "EvidenceOverdue"

// Phases of a Rollout.
const (
	PhaseHealthy     = "Healthy"
	PhaseDegraded    = "Degraded"
	PhaseProgressing = "Progressing"
	PhasePaused      = "Paused"
)

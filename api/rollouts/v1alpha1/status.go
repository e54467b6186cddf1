package v1alpha1

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RolloutStatus is what the controller has seen and decided. Clients (the kubectl plugin, dashboards)
// write abort, promoteFull, pauseConditions, controllerPause and currentStepIndex.
type RolloutStatus struct {
	Abort           bool             `json:"abort,omitempty"`
	AbortedAt       *metav1.Time     `json:"abortedAt,omitempty"`
	PauseConditions []PauseCondition `json:"pauseConditions,omitempty"`
	// ControllerPause is true while the controller has put pause conditions there; true without any means
	// that a person has just resumed.
	ControllerPause            bool               `json:"controllerPause,omitempty"`
	CurrentPodHash             string             `json:"currentPodHash,omitempty"`
	CurrentStepHash            string             `json:"currentStepHash,omitempty"`
	Replicas                   int32              `json:"replicas,omitempty"`
	UpdatedReplicas            int32              `json:"updatedReplicas,omitempty"`
	ReadyReplicas              int32              `json:"readyReplicas,omitempty"`
	AvailableReplicas          int32              `json:"availableReplicas,omitempty"`
	CurrentStepIndex           *int32             `json:"currentStepIndex,omitempty"`
	CollisionCount             *int32             `json:"collisionCount,omitempty"`
	ObservedGeneration         string             `json:"observedGeneration,omitempty"`
	Conditions                 []RolloutCondition `json:"conditions,omitempty"`
	Canary                     CanaryStatus       `json:"canary,omitempty"`
	BlueGreen                  BlueGreenStatus    `json:"blueGreen,omitempty"`
	HPAReplicas                int32              `json:"HPAReplicas,omitempty"`
	Selector                   string             `json:"selector,omitempty"`
	StableRS                   string             `json:"stableRS,omitempty"`
	RestartedAt                *metav1.Time       `json:"restartedAt,omitempty"`
	PromoteFull                bool               `json:"promoteFull,omitempty"`
	Phase                      string             `json:"phase,omitempty"`
	Message                    string             `json:"message,omitempty"`
	WorkloadObservedGeneration string             `json:"workloadObservedGeneration,omitempty"`
	ALB                        *ALBStatus         `json:"alb,omitempty"`
	ALBs                       []ALBStatus        `json:"albs,omitempty"`
	Duration                   *DurationStatus    `json:"duration,omitempty"`

	// Traffic is what AWS has shown of the rollout's weights and since when, one entry per Ingress.
	//
	// +listType=map
	// +listMapKey=group
	Traffic []TrafficStatus `json:"traffic,omitempty"`
	// Drains are the ReplicaSets with pods that are on their way out of the target groups.
	//
	// +listType=map
	// +listMapKey=podTemplateHash
	Drains []DrainStatus `json:"drains,omitempty"`
}

// TrafficStatus is the life of the newest split at one Ingress: decided, written, seen, settled.
type TrafficStatus struct {
	// Group names the Ingress whose rules carry the split.
	Group string `json:"group"`
	// Intended are the weights by Service that the rollout wants.
	Intended map[string]int32 `json:"intended,omitempty"`
	// Weights are the weights by Service that AWS shows in every rule; absent while unknown or mixed.
	Weights map[string]int32 `json:"weights,omitempty"`
	// Since is when the read began that first showed Weights, without a different answer since.
	Since *metav1.MicroTime `json:"since,omitempty"`
	// DecidedAt is when Intended was decided.
	DecidedAt *metav1.MicroTime `json:"decidedAt,omitempty"`
	// WrittenAt is when Intended was in the Ingress.
	WrittenAt *metav1.MicroTime `json:"writtenAt,omitempty"`
	// SettledAt is when the settle time after Since had passed; absent before.
	SettledAt *metav1.MicroTime `json:"settledAt,omitempty"`
	// ForeignWrites are the writes of others to the action annotation in the last ten minutes.
	ForeignWrites []ForeignWrite `json:"foreignWrites,omitempty"`
}

// ForeignWrite is a change of the action annotation by somebody else.
type ForeignWrite struct {
	// Manager is the field manager that wrote it.
	Manager string           `json:"manager"`
	At      metav1.MicroTime `json:"at"`
}

// DrainStatus is a ReplicaSet that is about to become smaller.
type DrainStatus struct {
	PodTemplateHash string `json:"podTemplateHash"`
	// Pods is the number of pods that are to leave.
	Pods int32 `json:"pods"`
	// MarkedAt is when the last of them was marked.
	MarkedAt *metav1.MicroTime `json:"markedAt,omitempty"`
	// Since is when the read began that first showed none of them as a live target.
	Since *metav1.MicroTime `json:"since,omitempty"`
}

// PauseCondition is a reason to wait for a person or a timer.
type PauseCondition struct {
	Reason    string      `json:"reason"`
	StartTime metav1.Time `json:"startTime"`
}

// RolloutCondition is one condition of a Rollout.
type RolloutCondition struct {
	Type               string                 `json:"type"`
	Status             metav1.ConditionStatus `json:"status"`
	LastUpdateTime     metav1.Time            `json:"lastUpdateTime,omitempty"`
	LastTransitionTime metav1.Time            `json:"lastTransitionTime,omitempty"`
	Reason             string                 `json:"reason"`
	Message            string                 `json:"message"`
}

// CanaryStatus is the part of the status that only canaries have.
type CanaryStatus struct {
	CurrentStepAnalysisRunStatus       *RolloutAnalysisRunStatus `json:"currentStepAnalysisRunStatus,omitempty"`
	CurrentBackgroundAnalysisRunStatus *RolloutAnalysisRunStatus `json:"currentBackgroundAnalysisRunStatus,omitempty"`
	CurrentExperiment                  string                    `json:"currentExperiment,omitempty"`
	Weights                            *TrafficWeights           `json:"weights,omitempty"`
	StablePingPong                     string                    `json:"stablePingPong,omitempty"`
	StepPluginStatuses                 []StepPluginStatus        `json:"stepPluginStatuses,omitempty"`
}

// TrafficWeights is the split that the rollout intends.
type TrafficWeights struct {
	Canary     WeightDestination   `json:"canary"`
	Stable     WeightDestination   `json:"stable"`
	Additional []WeightDestination `json:"additional,omitempty"`
	// Verified says whether AWS shows the split.
	Verified *bool `json:"verified,omitempty"`
}

// WeightDestination is one side of the split.
type WeightDestination struct {
	Weight          int32  `json:"weight"`
	ServiceName     string `json:"serviceName,omitempty"`
	PodTemplateHash string `json:"podTemplateHash,omitempty"`
}

// StepPluginStatus is the state of a step plugin.
type StepPluginStatus struct {
	Index      int32        `json:"index"`
	Name       string       `json:"name"`
	Operation  string       `json:"operation,omitempty"`
	Phase      string       `json:"phase,omitempty"`
	Message    string       `json:"message,omitempty"`
	StartedAt  *metav1.Time `json:"startedAt,omitempty"`
	UpdatedAt  *metav1.Time `json:"updatedAt,omitempty"`
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
	Backoff    string       `json:"backoff,omitempty"`
	Executions int32        `json:"executions,omitempty"`
	Disabled   bool         `json:"disabled,omitempty"`
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Status json.RawMessage `json:"status,omitempty"`
}

// BlueGreenStatus is the part of the status that only blue-green rollouts have.
type BlueGreenStatus struct {
	PreviewSelector                string                    `json:"previewSelector,omitempty"`
	ActiveSelector                 string                    `json:"activeSelector,omitempty"`
	ScaleUpPreviewCheckPoint       bool                      `json:"scaleUpPreviewCheckPoint,omitempty"`
	PrePromotionAnalysisRunStatus  *RolloutAnalysisRunStatus `json:"prePromotionAnalysisRunStatus,omitempty"`
	PostPromotionAnalysisRunStatus *RolloutAnalysisRunStatus `json:"postPromotionAnalysisRunStatus,omitempty"`
}

// RolloutAnalysisRunStatus names an AnalysisRun and its phase.
type RolloutAnalysisRunStatus struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

// ALBStatus names the AWS resources of an Ingress.
type ALBStatus struct {
	LoadBalancer      AWSResourceRef `json:"loadBalancer,omitempty"`
	CanaryTargetGroup AWSResourceRef `json:"canaryTargetGroup,omitempty"`
	StableTargetGroup AWSResourceRef `json:"stableTargetGroup,omitempty"`
	Ingress           string         `json:"ingress,omitempty"`
}

// AWSResourceRef names an AWS resource; FullName is the form of CloudWatch dimensions.
type AWSResourceRef struct {
	Name     string `json:"name"`
	ARN      string `json:"arn"`
	FullName string `json:"fullName"`
}

// DurationStatus is how long the update took.
type DurationStatus struct {
	RolloutStartedAt                *metav1.Time `json:"rolloutStartedAt,omitempty"`
	ManualPauseStartedAt            *metav1.Time `json:"manualPauseStartedAt,omitempty"`
	TotalManualPauseDurationSeconds int64        `json:"totalManualPauseDurationSeconds,omitempty"`
	FinishedAt                      *metav1.Time `json:"finishedAt,omitempty"`
	CompletionStatus                string       `json:"completionStatus,omitempty"`
}

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rollout is a workload whose updates move pods and traffic step by step.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=rollouts,shortName=ro
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.HPAReplicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Desired",type="integer",JSONPath=".spec.replicas",description="Number of desired pods"
// +kubebuilder:printcolumn:name="Current",type="integer",JSONPath=".status.replicas",description="Total number of non-terminated pods targeted by this rollout"
// +kubebuilder:printcolumn:name="Up-to-date",type="integer",JSONPath=".status.updatedReplicas",description="Total number of non-terminated pods targeted by this rollout that have the desired template spec"
// +kubebuilder:printcolumn:name="Available",type="integer",JSONPath=".status.availableReplicas",description="Total number of available pods (ready for at least minReadySeconds) targeted by this rollout"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type Rollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   RolloutSpec   `json:"spec"`
	Status RolloutStatus `json:"status,omitempty"`
}

// RolloutList is a list of Rollouts.
//
// +kubebuilder:object:root=true
type RolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Rollout `json:"items"`
}

// RolloutSpec is what the user wants.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.selector) || (has(self.selector) && self.selector == oldSelf.selector)",message="selector is immutable"
type RolloutSpec struct {
	// Replicas is the number of pods; the controller writes 1 when it is absent.
	Replicas *int32 `json:"replicas,omitempty"`
	// Selector must match the labels of the template; it cannot be changed.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// Template of the pods; empty when WorkloadRef is set.
	//
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Template corev1.PodTemplateSpec `json:"template,omitempty"`
	// WorkloadRef takes the template from another object instead.
	WorkloadRef *ObjectRef `json:"workloadRef,omitempty"`
	// MinReadySeconds is how long a pod must be ready to count as available.
	MinReadySeconds int32           `json:"minReadySeconds,omitempty"`
	Strategy        RolloutStrategy `json:"strategy,omitempty"`
	// RevisionHistoryLimit is the number of old ReplicaSets that are kept; 10 when absent.
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`
	// Paused stops the update where it is.
	Paused bool `json:"paused,omitempty"`
	// ProgressDeadlineSeconds is how long an update may make no progress; 600 when absent.
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds,omitempty"`
	// ProgressDeadlineAbort aborts the update at the deadline.
	ProgressDeadlineAbort bool `json:"progressDeadlineAbort,omitempty"`
	// RestartAt asks for a restart of all pods created before it.
	RestartAt      *metav1.Time         `json:"restartAt,omitempty"`
	Analysis       *AnalysisRunStrategy `json:"analysis,omitempty"`
	RollbackWindow *RollbackWindowSpec  `json:"rollbackWindow,omitempty"`
	// Malformed is the first field that could not be read, as "field: what is wrong; remedy"; it is not
	// part of the object.
	Malformed string `json:"-"`
}

// ObjectRef names a workload of the same namespace.
type ObjectRef struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Name       string `json:"name,omitempty"`
	// ScaleDown is never, onsuccess or progressively.
	ScaleDown string `json:"scaleDown,omitempty"`
}

// AnalysisRunStrategy limits the history of AnalysisRuns and Experiments.
type AnalysisRunStrategy struct {
	SuccessfulRunHistoryLimit   *int32 `json:"successfulRunHistoryLimit,omitempty"`
	UnsuccessfulRunHistoryLimit *int32 `json:"unsuccessfulRunHistoryLimit,omitempty"`
}

// RollbackWindowSpec lets a recent revision skip the steps.
type RollbackWindowSpec struct {
	Revisions int32 `json:"revisions,omitempty"`
}

// RolloutStrategy is exactly one of its fields.
type RolloutStrategy struct {
	BlueGreen *BlueGreenStrategy `json:"blueGreen,omitempty"`
	Canary    *CanaryStrategy    `json:"canary,omitempty"`
}

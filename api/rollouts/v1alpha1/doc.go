// Package v1alpha1 holds the types of group argoproj.io, version v1alpha1: Rollout in full, so that every
// field of an existing manifest survives a read and a write, and the kinds that Lockstep only stores for
// now (AnalysisRun, AnalysisTemplate, ClusterAnalysisTemplate, Experiment) with free content.
//
// The schemas are never stricter than those of the original definitions. Pod templates, and the parts
// that only plugins read, are kept as they come (preserve-unknown-fields): the API server validates
// pods when they are created, and the controller validates the template by a dry run.
//
// Start reading at Rollout (rollout.go); its status is in status.go, the strategies in strategy.go.
//
// +kubebuilder:object:generate=true
// +groupName=argoproj.io
package v1alpha1

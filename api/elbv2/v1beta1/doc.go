// Package v1beta1 holds the Kubernetes API types of group elbv2.k8s.aws: TargetGroupBinding, which says
// whose pods or nodes are the targets of a target group, and IngressClassParams, the settings that an
// IngressClass shares among its Ingresses. Fields, defaults and printer columns are those that existing
// manifests and objects use, so that a cluster can be taken over as it is.
//
// The package has no logic; webhooks and controllers live in internal/balancing.
//
// +kubebuilder:object:generate=true
// +groupName=elbv2.k8s.aws
package v1beta1

package model

import "cmp"

// The tracking tags by which resources are found again and ownership is known (the same keys that
// existing load balancer controllers write).
const (
	TagCluster = "elbv2.k8s.aws/cluster"
	// TagLegacyCluster stands for TagCluster on what controllers of version 1 (1.1.3 and later) made.
	TagLegacyCluster = "ingress.k8s.aws/cluster"
	TagStack         = "ingress.k8s.aws/stack"
	TagResource      = "ingress.k8s.aws/resource"
	// TagBackendResource is TagResource's counterpart on the shared backend security group.
	TagBackendResource   = "elbv2.k8s.aws/resource"
	BackendSecurityGroup = "backend-sg"
)

// ClusterOf is the cluster that owns the resource with these tags; empty when none does.
func ClusterOf(tags map[string]string) string {
	return cmp.Or(tags[TagCluster], tags[TagLegacyCluster])
}

// TrackingTags are the tags that make a resource of a stack this cluster's own.
func TrackingTags(cluster, stackID, resourceID string) map[string]string {
	return map[string]string{TagCluster: cluster, TagStack: stackID, TagResource: resourceID}
}

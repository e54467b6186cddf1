package model

// The tracking tags by which resources are found again and ownership is known (the same keys that
// existing load balancer controllers write).
const (
	TagCluster  = "elbv2.k8s.aws/cluster"
	TagStack    = "ingress.k8s.aws/stack"
	TagResource = "ingress.k8s.aws/resource"
	// TagBackendResource is TagResource's counterpart on the shared backend security group.
	TagBackendResource   = "elbv2.k8s.aws/resource"
	BackendSecurityGroup = "backend-sg"
)

// TrackingTags are the tags that make a resource of a stack this cluster's own.
func TrackingTags(cluster, stackID, resourceID string) map[string]string {
	return map[string]string{TagCluster: cluster, TagStack: stackID, TagResource: resourceID}
}

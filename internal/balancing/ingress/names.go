package ingress

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// The resource ids of the tracking tag, and fixed names (the same as existing controllers write, so that
// what they made is found again).
const (
	resourceLoadBalancer  = "LoadBalancer"
	resourceSecurityGroup = "ManagedLBSecurityGroup"

	managedGroupDescription = "[k8s] Managed SecurityGroup for LoadBalancer"
	backendGroupDescription = "[k8s] Shared Backend SecurityGroup for LoadBalancer"
)

// digest is the lower-case hex SHA-256 of the parts, joined without separators.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// clean drops every character that AWS does not allow in a name.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

func loadBalancerName(cluster, namespace, name, scheme string) string {
	return fmt.Sprintf("k8s-%.8s-%.8s-%.10s", clean(namespace), clean(name), digest(cluster, namespace+"/"+name, scheme))
}

func securityGroupName(cluster, namespace, name string) string {
	return fmt.Sprintf("k8s-%.8s-%.8s-%.10s", clean(namespace), clean(name), digest(cluster, namespace+"/"+name))
}

func backendGroupName(cluster string) string {
	return fmt.Sprintf("k8s-traffic-%.232s-%.10s", clean(cluster), digest(cluster))
}

func targetGroupName(serviceNamespace, service string, hashed ...string) string {
	return fmt.Sprintf("k8s-%.8s-%.8s-%.10s", clean(serviceNamespace), clean(service), digest(hashed...))
}

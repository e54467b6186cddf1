package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The names by which bindings, their pods and earlier controllers find each other.
const (
	// FinalizerResources keeps a binding until its targets and security-group rules are gone.
	FinalizerResources = "elbv2.k8s.aws/resources"
	// AnnotationCheckpoint holds a digest of the endpoints and the spec that were last carried out.
	AnnotationCheckpoint = "elbv2.k8s.aws/checkpoint"
	// AnnotationCheckpointTimestamp holds when the checkpoint was taken, in Unix seconds.
	AnnotationCheckpointTimestamp = "elbv2.k8s.aws/checkpoint-timestamp"
	// ReadinessGatePrefix and a binding's name make the type of a pod's readiness gate.
	ReadinessGatePrefix = "target-health.elbv2.k8s.aws/"
	// LegacyReadinessGatePrefix begins the gates of version 1 controllers, which nobody answers any more.
	LegacyReadinessGatePrefix = "target-health.alb.ingress.k8s.aws"
	// LabelReadinessGateInject is the namespace label that opts pods in to readiness gates ("enabled").
	LabelReadinessGateInject = "elbv2.k8s.aws/pod-readiness-gate-inject"
)

// TargetType says what a target of the target group is.
// +kubebuilder:validation:Enum=instance;ip
type TargetType string

// The target types that a binding can serve.
const (
	TargetTypeInstance TargetType = "instance"
	TargetTypeIP       TargetType = "ip"
)

// TargetGroupIPAddressType is the address family of a target group.
// +kubebuilder:validation:Enum=ipv4;ipv6
type TargetGroupIPAddressType string

// The address families of the ELBv2 API.
const (
	TargetGroupIPAddressTypeIPv4 TargetGroupIPAddressType = "ipv4"
	TargetGroupIPAddressTypeIPv6 TargetGroupIPAddressType = "ipv6"
)

// Protocol is the protocol of a target group.
// +kubebuilder:validation:Enum=HTTP;HTTPS;TCP;TLS;UDP;TCP_UDP;QUIC;TCP_QUIC
type Protocol string

// The protocols of the ELBv2 API.
const (
	ProtocolHTTP    Protocol = "HTTP"
	ProtocolHTTPS   Protocol = "HTTPS"
	ProtocolTCP     Protocol = "TCP"
	ProtocolTLS     Protocol = "TLS"
	ProtocolUDP     Protocol = "UDP"
	ProtocolTCPUDP  Protocol = "TCP_UDP"
	ProtocolQUIC    Protocol = "QUIC"
	ProtocolTCPQUIC Protocol = "TCP_QUIC"
)

// NetworkingProtocol is a protocol of a security-group rule.
// +kubebuilder:validation:Enum=TCP;UDP
type NetworkingProtocol string

// The protocols that a binding can open.
const (
	NetworkingProtocolTCP NetworkingProtocol = "TCP"
	NetworkingProtocolUDP NetworkingProtocol = "UDP"
)

// ServiceReference names a port of a Service in the binding's namespace.
type ServiceReference struct {
	// name of the Service.
	Name string `json:"name"`
	// port of the Service, by number or by name.
	Port intstr.IntOrString `json:"port"`
}

// IPBlock is a range of addresses.
type IPBlock struct {
	// cidr of IPv4 or IPv6 addresses.
	CIDR string `json:"cidr"`
}

// SecurityGroup names an EC2 security group.
type SecurityGroup struct {
	// groupID is the id of the security group.
	GroupID string `json:"groupID"`
}

// NetworkingPeer is a source of traffic. Exactly one field is set.
type NetworkingPeer struct {
	// ipBlock allows traffic from a range of addresses.
	// +optional
	IPBlock *IPBlock `json:"ipBlock,omitempty"`
	// securityGroup allows traffic from interfaces that carry a security group.
	// +optional
	SecurityGroup *SecurityGroup `json:"securityGroup,omitempty"`
}

// NetworkingPort is a port of the targets.
type NetworkingPort struct {
	// protocol is TCP where it is not given.
	// +optional
	Protocol *NetworkingProtocol `json:"protocol,omitempty"`
	// port by number or, for pods, by name. All ports where it is not given.
	// +optional
	Port *intstr.IntOrString `json:"port,omitempty"`
}

// NetworkingIngressRule allows every peer of from to reach every port of ports.
type NetworkingIngressRule struct {
	// from lists the peers.
	From []NetworkingPeer `json:"from"`
	// ports lists the ports; an empty list means all TCP ports.
	Ports []NetworkingPort `json:"ports"`
}

// TargetGroupBindingNetworking says which traffic the targets' security groups must let in.
type TargetGroupBindingNetworking struct {
	// ingress lists what must be let in.
	// +optional
	Ingress []NetworkingIngressRule `json:"ingress,omitempty"`
}

// TargetGroupBindingSpec is the wanted state of a TargetGroupBinding.
type TargetGroupBindingSpec struct {
	// targetGroupARN is the ARN of the target group.
	// +optional
	TargetGroupARN string `json:"targetGroupARN,omitempty"`
	// targetGroupName is the name of the target group; its ARN is looked up on admission.
	// +optional
	TargetGroupName string `json:"targetGroupName,omitempty"`
	// multiClusterTargetGroup says that other clusters register targets in the group too.
	// +optional
	MultiClusterTargetGroup bool `json:"multiClusterTargetGroup,omitempty"`
	// targetType of the target group; taken from AWS where it is not given.
	// +optional
	TargetType *TargetType `json:"targetType,omitempty"`
	// targetGroupProtocol of the target group; taken from AWS where it is not given.
	// +optional
	TargetGroupProtocol *Protocol `json:"targetGroupProtocol,omitempty"`
	// serviceRef names the Service and port whose endpoints are the targets.
	ServiceRef ServiceReference `json:"serviceRef"`
	// networking lists the traffic that must reach the targets. Security groups are left alone where it is not given.
	// +optional
	Networking *TargetGroupBindingNetworking `json:"networking,omitempty"`
	// nodeSelector picks the nodes of an instance target group.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// ipAddressType of the target group; taken from AWS where it is not given.
	// +optional
	IPAddressType *TargetGroupIPAddressType `json:"ipAddressType,omitempty"`
	// vpcID of the target group; taken from AWS where it is not given.
	// +optional
	VpcID string `json:"vpcID,omitempty"`
	// iamRoleArnToAssume is the role through which a target group of another account is reached.
	// +optional
	IamRoleArnToAssume string `json:"iamRoleArnToAssume,omitempty"`
	// assumeRoleExternalId is the external id given when the role is assumed.
	// +optional
	AssumeRoleExternalId string `json:"assumeRoleExternalId,omitempty"`
}

// TargetGroupBindingStatus is what is known of a TargetGroupBinding.
type TargetGroupBindingStatus struct {
	// conditions of the binding.
	// +optional
	// +patchMergeKey=type
	// +patchStrategy=merge
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`
	// observedGeneration is the generation of the spec that was last carried out.
	// +optional
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`
}

// TargetGroupBinding says that the endpoints of a Service port are the targets of a target group.
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=all
// +kubebuilder:printcolumn:name="SERVICE-NAME",type="string",JSONPath=".spec.serviceRef.name",description="The Service"
// +kubebuilder:printcolumn:name="SERVICE-PORT",type="string",JSONPath=".spec.serviceRef.port",description="The port of the Service"
// +kubebuilder:printcolumn:name="TARGET-TYPE",type="string",JSONPath=".spec.targetType",description="The target type of the target group"
// +kubebuilder:printcolumn:name="ARN",type="string",JSONPath=".spec.targetGroupARN",description="The ARN of the target group",priority=1
// +kubebuilder:printcolumn:name="NAME",type="string",JSONPath=".spec.targetGroupName",description="The name of the target group",priority=2
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"
type TargetGroupBinding struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TargetGroupBindingSpec   `json:"spec,omitempty"`
	Status TargetGroupBindingStatus `json:"status,omitempty"`
}

// TargetGroupBindingList is a list of TargetGroupBindings.
// +kubebuilder:object:root=true
type TargetGroupBindingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []TargetGroupBinding `json:"items"`
}

// ReadinessGate is the condition type of the readiness gate that a binding answers.
func ReadinessGate(binding string) corev1.PodConditionType {
	return corev1.PodConditionType(ReadinessGatePrefix + binding)
}

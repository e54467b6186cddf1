package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// LoadBalancerScheme says who can reach a load balancer.
// +kubebuilder:validation:Enum=internal;internet-facing
type LoadBalancerScheme string

// The schemes of the ELBv2 API.
const (
	LoadBalancerSchemeInternal       LoadBalancerScheme = "internal"
	LoadBalancerSchemeInternetFacing LoadBalancerScheme = "internet-facing"
)

// IPAddressType is the kind of addresses that a load balancer has.
// +kubebuilder:validation:Enum=ipv4;dualstack;dualstack-without-public-ipv4
type IPAddressType string

// The address types of the ELBv2 API.
const (
	IPAddressTypeIPv4                       IPAddressType = "ipv4"
	IPAddressTypeDualStack                  IPAddressType = "dualstack"
	IPAddressTypeDualStackWithoutPublicIPv4 IPAddressType = "dualstack-without-public-ipv4"
)

// IngressGroup is the group that all Ingresses of a class belong to.
type IngressGroup struct {
	// name of the group.
	Name string `json:"name"`
}

// Tag is one AWS tag.
type Tag struct {
	// key of the tag.
	Key string `json:"key"`
	// value of the tag.
	Value string `json:"value"`
}

// Attribute is one attribute of a load balancer or listener.
type Attribute struct {
	// key of the attribute.
	Key string `json:"key"`
	// value of the attribute.
	Value string `json:"value"`
}

// SubnetID is the id of a subnet.
// +kubebuilder:validation:Pattern=subnet-[0-9a-f]+
type SubnetID string

// SubnetSelector picks subnets by ids or by tags; exactly one of the two is given.
type SubnetSelector struct {
	// ids of the subnets.
	// +kubebuilder:validation:MinItems=1
	// +optional
	IDs []SubnetID `json:"ids,omitempty"`
	// tags that a subnet must have: any of a key's values, for every key.
	// +optional
	Tags map[string][]string `json:"tags,omitempty"`
}

// Listener holds the settings of the listener on one port.
type Listener struct {
	// protocol of the listener.
	// +optional
	Protocol string `json:"protocol,omitempty"`
	// port of the listener.
	// +optional
	Port int32 `json:"port,omitempty"`
	// listenerAttributes of the listener.
	// +optional
	ListenerAttributes []Attribute `json:"listenerAttributes,omitempty"`
}

// MinimumLoadBalancerCapacity reserves capacity of a load balancer.
type MinimumLoadBalancerCapacity struct {
	// capacityUnits is the number of load balancer capacity units.
	CapacityUnits int32 `json:"capacityUnits"`
}

// IPAMConfiguration names the pools that a load balancer's addresses come from.
type IPAMConfiguration struct {
	// ipv4IPAMPoolId is the id of the pool of public IPv4 addresses.
	// +optional
	IPv4IPAMPoolId *string `json:"ipv4IPAMPoolId,omitempty"`
}

// IngressClassParamsSpec is what an IngressClass sets for its Ingresses. A value here wins over the
// annotation of the same meaning.
// +kubebuilder:validation:XValidation:rule="!(has(self.prefixListsIDs) && has(self.PrefixListsIDs))",message="use prefixListsIDs or PrefixListsIDs, not both"
type IngressClassParamsSpec struct {
	// certificateArn lists the certificates of HTTPS listeners.
	// +optional
	CertificateArn []string `json:"certificateArn,omitempty"`
	// namespaceSelector picks the namespaces whose Ingresses may use the class.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// group that all Ingresses of the class belong to.
	// +optional
	Group *IngressGroup `json:"group,omitempty"`
	// scheme of the load balancers.
	// +optional
	Scheme *LoadBalancerScheme `json:"scheme,omitempty"`
	// inboundCIDRs may reach the load balancers.
	// +optional
	InboundCIDRs []string `json:"inboundCIDRs,omitempty"`
	// sslPolicy of HTTPS listeners.
	// +optional
	SSLPolicy string `json:"sslPolicy,omitempty"`
	// sslRedirectPort is the port that HTTP requests are redirected to.
	// +optional
	SSLRedirectPort string `json:"sslRedirectPort,omitempty"`
	// subnets of the load balancers.
	// +optional
	Subnets *SubnetSelector `json:"subnets,omitempty"`
	// ipAddressType of the load balancers.
	// +optional
	IPAddressType *IPAddressType `json:"ipAddressType,omitempty"`
	// tags of all AWS resources of the class's Ingresses.
	// +optional
	Tags []Tag `json:"tags,omitempty"`
	// targetType of the target groups.
	// +optional
	TargetType TargetType `json:"targetType,omitempty"`
	// loadBalancerName of the load balancer.
	// +optional
	LoadBalancerName string `json:"loadBalancerName,omitempty"`
	// loadBalancerAttributes of the load balancers.
	// +optional
	LoadBalancerAttributes []Attribute `json:"loadBalancerAttributes,omitempty"`
	// listeners holds settings by port.
	// +optional
	Listeners []Listener `json:"listeners,omitempty"`
	// minimumLoadBalancerCapacity of the load balancers.
	// +optional
	MinimumLoadBalancerCapacity *MinimumLoadBalancerCapacity `json:"minimumLoadBalancerCapacity,omitempty"`
	// ipamConfiguration of the load balancers.
	// +optional
	IPAMConfiguration *IPAMConfiguration `json:"ipamConfiguration,omitempty"`
	// prefixListsIDs may reach the load balancers.
	// +optional
	PrefixListsIDs []string `json:"prefixListsIDs,omitempty"`
	// PrefixListsIDs is the older spelling of prefixListsIDs.
	// +optional
	PrefixListsIDsLegacy []string `json:"PrefixListsIDs,omitempty"`
	// wafv2AclArn is the ARN of the web ACL of the load balancers.
	// +optional
	WAFv2ACLArn string `json:"wafv2AclArn,omitempty"`
	// wafv2AclName is the name of the web ACL of the load balancers.
	// +optional
	WAFv2ACLName string `json:"wafv2AclName,omitempty"`
}

// IngressClassParams holds the settings that an IngressClass refers to.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="GROUP-NAME",type="string",JSONPath=".spec.group.name",description="The Ingress group"
// +kubebuilder:printcolumn:name="SCHEME",type="string",JSONPath=".spec.scheme",description="The scheme of the load balancers"
// +kubebuilder:printcolumn:name="IP-ADDRESS-TYPE",type="string",JSONPath=".spec.ipAddressType",description="The address type of the load balancers"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"
type IngressClassParams struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IngressClassParamsSpec `json:"spec,omitempty"`
}

// IngressClassParamsList is a list of IngressClassParams.
// +kubebuilder:object:root=true
type IngressClassParamsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IngressClassParams `json:"items"`
}

package cloud

// VPC is the virtual network that the cluster lives in.
type VPC struct {
	ID string
	// CIDRs are its IPv4 and IPv6 ranges.
	CIDRs []string
}

// Subnet is one subnet of the VPC.
type Subnet struct {
	ID   string
	Zone string
	// CIDR is the IPv4 range, IPv6CIDR the IPv6 one; empty where the subnet has none.
	CIDR     string
	IPv6CIDR string
	// FreeAddresses is the number of IPv4 addresses that are still available.
	FreeAddresses int32
	Tags          map[string]string
	// Public is true when the subnet's route table, or the main one, has a route to an internet gateway.
	Public bool
}

// NetworkInterface is an elastic network interface.
type NetworkInterface struct {
	ID string
	// Groups are the attached security groups.
	Groups []string
	// Addresses are all private IPv4 and IPv6 addresses.
	Addresses []string
	// InstanceID is the instance it is attached to, empty otherwise.
	InstanceID string
}

// Change says that something which AWS has is known to be different, or has been seen again after a write.
type Change struct {
	// StackID is the stack tag's value of the resource; empty when the resource has none.
	StackID string
	// TargetGroupARN is set when the change is about one target group.
	TargetGroupARN string
	Kind           ChangeKind
}

// ChangeKind says what a change is about.
type ChangeKind string

// The kinds of change.
const (
	// ChangeTraffic: rules or default actions of a listener were written or seen anew.
	ChangeTraffic ChangeKind = "Traffic"
	// ChangeTargets: the targets of a group, or their health.
	ChangeTargets ChangeKind = "Targets"
	// ChangeConfiguration: everything else, such as a load balancer that became active, or drift.
	ChangeConfiguration ChangeKind = "Configuration"
)

// PodFinder finds the pod that has an address now. It is asked often and must answer from memory.
type PodFinder interface {
	// PodByAddress returns the UID and the pod-template-hash label of the pod of this namespace that has the
	// IP address, and false when there is none.
	PodByAddress(namespace, ip string) (uid, podTemplateHash string, ok bool)
}

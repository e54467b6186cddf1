package budget

import "strings"

// Lane ranks calls, the most urgent first.
type Lane int

// The lanes. Weights never queue behind anything, health of targets only behind weights.
const (
	Traffic Lane = iota
	Targets
	Firewall
	Configuration
	Audit
)

// Lanes are all lanes, the most urgent first.
var Lanes = []Lane{Traffic, Targets, Firewall, Configuration, Audit}

var laneNames = [...]string{"traffic", "targets", "firewall", "configuration", "audit"}

func (l Lane) String() string { return laneNames[l] }

// reserves is the share of a bucket that a lane leaves to the lanes above it.
var reserves = [...]float64{Traffic: 0, Targets: 0.1, Firewall: 0.2, Configuration: 0.4, Audit: 0.6}

// Limit is a token bucket of AWS: its size and its refill per second.
type Limit struct {
	Burst float64
	Rate  float64
}

// The service ids of the SDK whose limits are known.
const (
	ELBv2 = "Elastic Load Balancing v2"
	EC2   = "EC2"
)

// The buckets of ELBv2 (ELB API throttling page): every call counts in its category and in the account's.
const (
	account         = ELBv2 + "/account"
	elbIntensive    = ELBv2 + "/resource-intensive"
	elbRegistration = ELBv2 + "/registration"
	elbNonMutating  = ELBv2 + "/non-mutating"
	elbMutating     = ELBv2 + "/mutating"
	unknownService  = "/all"
)

var elbLimits = map[string]Limit{
	account:         {40, 10},
	elbIntensive:    {10, 0.2},
	elbRegistration: {20, 4},
	elbNonMutating:  {40, 10},
	elbMutating:     {20, 3},
}

// The categories of EC2 (EC2 API throttling page): each operation has its own bucket of its category's size.
var (
	ec2Read        = Limit{100, 20}
	ec2Mutating    = Limit{50, 5}
	ec2Tags        = Limit{100, 10}
	otherServices  = Limit{20, 5}
	ec2Unpaginated = Limit{50, 10}
)

// ec2UnpaginatedReads have the smaller bucket when they are called without filter and page size; it is
// assumed always, since what a call carries is not looked at.
var ec2UnpaginatedReads = map[string]bool{
	"DescribeInstances": true, "DescribeNetworkInterfaces": true, "DescribeSecurityGroups": true,
}

// ReadOnly reports whether an operation changes nothing: by AWS's naming, Describe, Get, List and Search.
func ReadOnly(operation string) bool {
	for _, prefix := range []string{"Describe", "Get", "List", "Search"} {
		if strings.HasPrefix(operation, prefix) {
			return true
		}
	}
	return false
}

// counted is a bucket in which AWS counts an operation.
type counted struct {
	name  string
	limit Limit
}

// bucketsOf gives the buckets of an operation, its own category's first.
func bucketsOf(service, operation string) []counted {
	switch service {
	case ELBv2:
		name := elbMutating
		switch {
		case ReadOnly(operation):
			name = elbNonMutating
		case operation == "CreateLoadBalancer", operation == "SetSubnets":
			name = elbIntensive
		case operation == "RegisterTargets", operation == "DeregisterTargets":
			name = elbRegistration
		}
		return []counted{{name, elbLimits[name]}, {account, elbLimits[account]}}
	case EC2:
		limit := ec2Mutating
		switch {
		case ec2UnpaginatedReads[operation]:
			limit = ec2Unpaginated
		case ReadOnly(operation):
			limit = ec2Read
		case operation == "CreateTags", operation == "DeleteTags":
			limit = ec2Tags
		}
		return []counted{{EC2 + "/" + operation, limit}}
	}
	return []counted{{service + unknownService, otherServices}}
}

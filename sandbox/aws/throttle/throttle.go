// Package throttle limits calls as AWS does: token buckets per category of operation for ELBv2, one
// bucket for each operation for EC2 and most others, and an account-wide bucket for ELBv2 on top.
//
// The sizes are AWS's published defaults. A refused call takes no token.
package throttle

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Limit is the size of a bucket and how many tokens flow into it per second.
type Limit struct {
	Burst  float64
	Refill float64
}

// Limits of ELBv2 per category, and of EC2 per operation of a category.
var (
	account           = Limit{40, 10}
	resourceIntensive = Limit{10, 0.2}
	registration      = Limit{20, 4}
	reads             = Limit{40, 10}
	mutations         = Limit{20, 3}
	trustStoreChange  = Limit{10, 0.2}
	trustStoreGet     = Limit{20, 4}

	ec2Reads      = Limit{100, 20}
	ec2Unfiltered = Limit{50, 10}
	ec2Mutations  = Limit{50, 5}
	ec2Tags       = Limit{100, 10}
	ec2Interfaces = Limit{100, 5}
	ec2Instances  = Limit{1000, 2} // of each of the calls that start or end instances, in addition

	stsCalls = Limit{600, 600}
)

// Call is what the category of a call depends on.
type Call struct {
	// Service is the name in policies: elasticloadbalancing, ec2, tag.
	Service   string
	Operation string
	// Unfiltered is true for a call without filters, ids and page size.
	Unfiltered bool
	// Instances is how many instances a call starts, stops or ends: each takes a token of its own.
	Instances int
}

// Buckets are the buckets of one account in one region.
type Buckets struct {
	account bool

	mu      sync.Mutex
	buckets map[string]*bucket
}

// New returns full buckets. Without account the bucket that all calls of ELBv2 share is left out: the
// page that documents it reads as if it were enforced, but some users see categories exceed it.
func New(account bool) *Buckets {
	return &Buckets{account: account, buckets: map[string]*bucket{}}
}

// Reset fills every bucket.
func (b *Buckets) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.buckets)
}

// Take takes the tokens that a call costs. It returns the error to answer if there are none.
func (b *Buckets) Take(c Call) *wire.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	needed := map[string]*bucket{}
	for name, limit := range b.costs(c) {
		known := b.buckets[name]
		if known == nil {
			known = &bucket{limit: limit, tokens: limit.Burst, at: now}
			b.buckets[name] = known
		}
		known.fill(now)
		if known.tokens < c.tokens(name) {
			return Refusal(c.Service)
		}
		needed[name] = known
	}
	for name, one := range needed {
		one.tokens -= c.tokens(name)
	}
	return nil
}

// instances is the end of the names of the buckets that count instances, not calls.
const instances = "/instances"

// tokens is what a call takes of a bucket.
func (c Call) tokens(bucket string) float64 {
	if strings.HasSuffix(bucket, instances) {
		return float64(c.Instances)
	}
	return 1
}

// Refusal is the error with which a service answers a throttled call.
func Refusal(service string) *wire.Error {
	switch service {
	case "ec2":
		return wire.Errorf("RequestLimitExceeded", "Request limit exceeded.").WithStatus(http.StatusServiceUnavailable)
	case "acm", "wafv2", "waf-regional", "shield", "globalaccelerator":
		return wire.Errorf("ThrottlingException", "Rate exceeded")
	case "tag":
		return wire.Errorf("ThrottledException", "Rate exceeded")
	}
	return wire.Errorf("Throttling", "Rate exceeded")
}

// costs names the buckets of which a call takes a token.
func (b *Buckets) costs(c Call) map[string]Limit {
	switch c.Service {
	case "elasticloadbalancing":
		category, limit := elbv2Category(c.Operation)
		all := map[string]Limit{"elasticloadbalancing/" + category: limit}
		if b.account {
			all["elasticloadbalancing"] = account
		}
		return all
	case "ec2":
		category, limit := ec2Category(c)
		all := map[string]Limit{"ec2/" + c.Operation + "/" + category: limit}
		if c.Instances > 0 {
			all["ec2/"+c.Operation+instances] = ec2Instances
		}
		return all
	}
	name, limit := otherLimit(c)
	return map[string]Limit{name: limit}
}

// otherLimit names the one bucket of a call of the other services. AWS does not publish that of the tagging
// API, Shield and WAF Regional; the limits here are assumptions.
func otherLimit(c Call) (string, Limit) {
	each := c.Service + "/" + c.Operation
	switch c.Service {
	case "sts":
		return "sts", stsCalls
	case "route53": // five a second over all operations
		return "route53", perSecond(5)
	case "cloudwatch":
		if c.Operation == "GetMetricStatistics" {
			return each, perSecond(400)
		}
		return each, perSecond(500)
	case "acm":
		switch c.Operation {
		case "ListCertificates":
			return each, perSecond(8)
		case "RequestCertificate", "AddTagsToCertificate", "RemoveTagsFromCertificate", "ImportCertificate":
			return each, perSecond(5)
		}
		return each, perSecond(10)
	case "wafv2":
		switch {
		case c.Operation == "AssociateWebACL" || c.Operation == "DisassociateWebACL":
			return each, Limit{1, 0.5}
		case c.Operation == "GetWebACLForResource" || c.Operation == "ListResourcesForWebACL":
			return each, perSecond(1)
		case strings.HasPrefix(c.Operation, "Get") || strings.HasPrefix(c.Operation, "List"):
			return each, perSecond(5)
		}
		return each, perSecond(1)
	case "tag":
		return each, Limit{15, 5}
	}
	return c.Service, Limit{10, 5}
}

// perSecond is a limit that lets a second's worth of calls come at once.
func perSecond(n float64) Limit { return Limit{n, n} }

func elbv2Category(operation string) (string, Limit) {
	read := strings.HasPrefix(operation, "Describe")
	switch {
	case operation == "CreateLoadBalancer" || operation == "SetSubnets":
		return "resource-intensive", resourceIntensive
	case operation == "RegisterTargets" || operation == "DeregisterTargets":
		return "registration", registration
	case operation == "CreateTrustStore":
		return "trust-store-creation", trustStoreChange
	case strings.Contains(operation, "TrustStore") && read:
		return "trust-store-describe", reads
	case strings.Contains(operation, "TrustStore") && strings.HasPrefix(operation, "Get"):
		return "trust-store-get", trustStoreGet
	case strings.Contains(operation, "TrustStore"):
		return "trust-store-change", trustStoreChange
	case read:
		return "read", reads
	default:
		return "mutation", mutations
	}
}

func ec2Category(c Call) (string, Limit) {
	switch c.Operation {
	case "DescribeInstances", "DescribeInstanceStatus", "DescribeNetworkInterfaces", "DescribeSecurityGroups", "DescribeVolumes":
		if c.Unfiltered {
			return "unfiltered", ec2Unfiltered
		}
	case "CreateTags", "DeleteTags":
		return "tags", ec2Tags
	case "CreateNetworkInterface", "DeleteNetworkInterface":
		return "interfaces", ec2Interfaces
	}
	for _, prefix := range []string{"Describe", "Get", "Search"} {
		if strings.HasPrefix(c.Operation, prefix) {
			return "read", ec2Reads
		}
	}
	return "mutation", ec2Mutations
}

type bucket struct {
	limit  Limit
	tokens float64
	at     time.Time
}

func (b *bucket) fill(now time.Time) {
	b.tokens = min(b.limit.Burst, b.tokens+now.Sub(b.at).Seconds()*b.limit.Refill)
	b.at = now
}

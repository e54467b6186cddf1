package throttle_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
)

func elb(operation string) throttle.Call {
	return throttle.Call{Service: "elasticloadbalancing", Operation: operation}
}

// taken is how many calls of one kind go through at this moment.
func taken(b *throttle.Buckets, c throttle.Call) int {
	for n := 0; ; n++ {
		if b.Take(c) != nil {
			return n
		}
	}
}

func TestBucketsHaveTheirSizesAndRefills(t *testing.T) {
	for _, tt := range []struct {
		call      throttle.Call
		burst     int
		perMinute int // tokens that flow in within a minute, at most burst
	}{
		{elb("ModifyRule"), 20, 20},
		{elb("SetRulePriorities"), 20, 20},
		{elb("RegisterTargets"), 20, 20},
		{elb("DescribeRules"), 40, 40},
		{elb("CreateLoadBalancer"), 10, 10},
		{throttle.Call{Service: "ec2", Operation: "DescribeSubnets"}, 100, 100},
		{throttle.Call{Service: "ec2", Operation: "DescribeInstances", Unfiltered: true}, 50, 50},
		{throttle.Call{Service: "ec2", Operation: "AuthorizeSecurityGroupIngress"}, 50, 50},
		{throttle.Call{Service: "ec2", Operation: "CreateTags"}, 100, 100},
		{throttle.Call{Service: "route53", Operation: "ListHostedZones"}, 5, 5},
		{throttle.Call{Service: "acm", Operation: "ListCertificates"}, 8, 8},
		{throttle.Call{Service: "acm", Operation: "DescribeCertificate"}, 10, 10},
		{throttle.Call{Service: "wafv2", Operation: "AssociateWebACL"}, 1, 1},
		{throttle.Call{Service: "wafv2", Operation: "ListWebACLs"}, 5, 5},
		{throttle.Call{Service: "tag", Operation: "GetResources"}, 15, 15},
		{throttle.Call{Service: "shield", Operation: "DescribeProtection"}, 10, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := throttle.New(false)
			if got := taken(b, tt.call); got != tt.burst {
				t.Errorf("%s: burst of %d, want %d", tt.call.Operation, got, tt.burst)
			}
			time.Sleep(time.Minute)
			if got := taken(b, tt.call); got != tt.perMinute {
				t.Errorf("%s: %d after a minute, want %d", tt.call.Operation, got, tt.perMinute)
			}
		})
	}
}

func TestRefillPerSecond(t *testing.T) {
	for operation, want := range map[string]int{"ModifyRule": 9, "RegisterTargets": 12, "DescribeTags": 30, "SetSubnets": 0} {
		synctest.Test(t, func(t *testing.T) {
			b := throttle.New(false)
			taken(b, elb(operation))
			time.Sleep(3*time.Second + time.Millisecond)
			if got := taken(b, elb(operation)); got != want {
				t.Errorf("%s: %d tokens after 3 s, want %d", operation, got, want)
			}
		})
	}
}

func TestAccountBucketIsSharedAndCanBeSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := throttle.New(true)
		if got := taken(b, elb("DescribeRules")); got != 40 {
			t.Errorf("%d reads", got)
		}
		if got := taken(b, elb("ModifyRule")); got != 0 {
			t.Errorf("%d mutations went through after 40 reads", got)
		}
		// A refused call takes no token of its own category either.
		time.Sleep(4 * time.Second)
		if got := taken(b, elb("ModifyRule")); got != 20 {
			t.Errorf("%d mutations after 4 s, want the whole bucket", got)
		}
		b = throttle.New(false)
		taken(b, elb("DescribeRules"))
		if got := taken(b, elb("ModifyRule")); got != 20 {
			t.Errorf("without the account's bucket %d mutations went through", got)
		}
	})
}

// Each service says in words of its own that it is too much; SDKs know them all.
func TestRefusalsOfEachService(t *testing.T) {
	t.Parallel()
	for service, code := range map[string]string{
		"elasticloadbalancing": "Throttling", "ec2": "RequestLimitExceeded", "sts": "Throttling", "route53": "Throttling", "cloudwatch": "Throttling",
		"acm": "ThrottlingException", "wafv2": "ThrottlingException", "waf-regional": "ThrottlingException", "shield": "ThrottlingException", "tag": "ThrottledException",
	} {
		if got := throttle.Refusal(service).Code; got != code {
			t.Errorf("%s refuses with %s, want %s", service, got, code)
		}
	}
}

// All operations of Route 53 share one bucket.
func TestRoute53SharesItsBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := throttle.New(true)
		taken(b, throttle.Call{Service: "route53", Operation: "ListHostedZones"})
		if b.Take(throttle.Call{Service: "route53", Operation: "GetChange"}) == nil {
			t.Error("another operation still goes through")
		}
	})
}

// Calls that start instances take a token for each of them, besides one for the call.
func TestInstancesHaveABucketOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := throttle.New(true)
		run := throttle.Call{Service: "ec2", Operation: "RunInstances", Instances: 400}
		for i, want := range []bool{true, true, false} {
			if got := b.Take(run) == nil; got != want {
				t.Errorf("call %d is let through: %v", i, got)
			}
		}
		run.Instances = 200
		if b.Take(run) != nil {
			t.Error("the 200 that are left cannot be started")
		}
		time.Sleep(10 * time.Second)
		run.Instances = 20
		if b.Take(run) != nil || b.Take(run) == nil {
			t.Error("two a second come back")
		}
	})
}

package cloud_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

func TestAWeightChangeOverTheWire(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	maker := a.connect(t, cloud.Settings{})
	w := create(t, maker)
	maker.Close() // ends its reads after the creations
	c := a.connect(t, cloud.Settings{ProvisioningInterval: 20 * time.Millisecond})
	source := c.Evidence(pods{"10.78.0.10": {"pod-1", "aaa"}})
	var snapshot evidence.Snapshot
	eventually(t, "evidence shows the new stack", func() bool {
		snapshot = must(source.Observe(t.Context(), webQuery, time.Time{}))(t)
		weight, ok := snapshot.Weight("stable")
		return ok && weight == 100 && snapshot.LoadBalancer.Active && snapshot.Problem == ""
	})
	stable, _ := snapshot.Group("stable")
	if len(stable.Targets) != 2 || stable.Targets[0].PodUID != "pod-1" || stable.Targets[1].PodUID != "" || stable.Stickiness != time.Hour {
		t.Errorf("the stable group: %+v", stable)
	}
	told := make(chan struct{}, 100)
	defer source.Subscribe(func(string, string) { told <- struct{}{} })()

	described := func() int { return a.calls("Describe") - a.calls("DescribeTargetHealth") }
	modified, reads := a.calls("Modify"), described()
	for len(told) > 0 {
		<-told
	}
	wrote := time.Now()
	check(t, c.ModifyRule(t.Context(), w.rule, w.split(90, 10), nil))
	eventually(t, "evidence shows the new weight", func() bool {
		select {
		case <-told:
		case <-time.After(5 * time.Second):
			t.Fatal("nobody was told of the weight")
		}
		snapshot = must(source.Observe(t.Context(), webQuery, time.Time{}))(t)
		weight, _ := snapshot.Weight("canary")
		return weight == 10
	})
	if snapshot.SeenAt.Before(wrote) {
		t.Errorf("evidence of a weight written at %s is from %s", wrote, snapshot.SeenAt)
	}
	t.Logf("seen %s after the write began", time.Since(wrote))
	if n := a.calls("Modify") - modified; n != 1 {
		t.Errorf("%d calls of Modify*, want 1", n)
	}
	if n := described() - reads; n < 1 || n > 2 {
		t.Errorf("%d reads, want 1 or 2", n)
	}
}

// Every second read of rules lags: each weight is sent once all the same, and is seen in the end.
func TestStaleReadsCauseNoSecondWrite(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{SeeAgainBackoff: 10 * time.Millisecond})
	w := create(t, c)
	source := c.Evidence(pods{})
	must(a.Faults().Add(fault.Fault{Kind: fault.Stale, Operations: []string{"elasticloadbalancing:DescribeRules"}, Every: 2, Delay: 300 * time.Millisecond}))(t)
	before := a.calls("ModifyRule")
	for weight := int32(10); weight <= 60; weight += 10 {
		eventually(t, "the weight is seen", func() bool {
			observed := must(c.Stack(t.Context(), stackID))(t)
			for _, rule := range observed.LoadBalancers[0].Listeners[0].Rules {
				if rule.ARN == w.rule && rule.Actions[0].Forward.TargetGroups[0].Weight != weight { // what a plan does
					check(t, c.ModifyRule(t.Context(), w.rule, w.split(100-weight, weight), nil))
				}
			}
			snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
			if err != nil && !errors.Is(err, cloud.ErrNotFound) { // AWS may not show the new listener yet
				t.Fatal(err)
			}
			seen, _ := snapshot.Weight("canary")
			return seen == weight
		})
	}
	if n := a.calls("ModifyRule") - before; n != 6 {
		t.Errorf("%d writes for 6 weights", n)
	}
}

// An action that is in two listeners is seen as of the last write to any of them.
func TestTheAgeOfEvidenceCoversAllListeners(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	w := create(t, c)
	ctx := t.Context()
	second := must(c.CreateListener(ctx, w.lb, model.Listener{Port: 8080, Protocol: "HTTP", Tags: owned("8080"), DefaultActions: w.split(100, 0)}))(t)
	source := c.Evidence(pods{})
	snapshot := must(source.Observe(ctx, webQuery, time.Time{}))(t)
	if len(snapshot.Placements) != 2 || snapshot.Placements[1].ARN != second.ARN {
		t.Fatalf("placements %+v, want the rule and the second listener's default action", snapshot.Placements)
	}
	check(t, c.ModifyListener(ctx, second.ARN, model.Listener{DefaultActions: w.split(50, 50)}))
	if _, agreed := must(source.Observe(ctx, webQuery, time.Time{}))(t).Weight("canary"); agreed {
		t.Error("two placements with different weights agree")
	}
	check(t, c.ModifyRule(ctx, w.rule, w.split(50, 50), nil))
	wrote := time.Now()
	snapshot = must(source.Observe(ctx, webQuery, time.Time{}))(t)
	if weight, agreed := snapshot.Weight("canary"); weight != 50 || !agreed || snapshot.SeenAt.Before(wrote) {
		t.Errorf("weight %d (agreed %v) seen at %s, want 50 after %s", weight, agreed, snapshot.SeenAt, wrote)
	}
}

// A load balancer of another controller, made after we began, is found by its tags and seen afresh.
func TestEvidenceOfAnotherControllersLoadBalancer(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	other := a.connect(t, cloud.Settings{})
	c, err := cloud.New(t.Context(), cloud.Config{
		ClusterName: "ours", EvidenceCluster: "test", VPCID: a.EC2().VPC(), Region: "eu-west-1", Logger: slog.New(slog.DiscardHandler),
		Endpoints:   map[string]string{budget.ELBv2: a.endpoint, budget.EC2: a.endpoint},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	})
	check(t, err)
	defer c.Close()
	ctx, source := t.Context(), c.Evidence(pods{})
	snapshot := must(source.Observe(ctx, webQuery, time.Time{}))(t)
	if snapshot.LoadBalancer.ARN != "" || snapshot.Problem != "" || snapshot.SeenAt.IsZero() {
		t.Errorf("before: %+v", snapshot)
	}
	w := create(t, other)
	lists := a.calls("DescribeLoadBalancers")
	must(source.Observe(ctx, webQuery, time.Time{}))(t)
	if a.calls("DescribeLoadBalancers") != lists {
		t.Error("whatever is known was asked for, and everything was listed again within ListInterval")
	}
	snapshot = must(source.Observe(ctx, webQuery, time.Now()))(t)
	if weight, ok := snapshot.Weight("stable"); !ok || weight != 100 || snapshot.LoadBalancer.ARN != w.lb || snapshot.Problem != "" {
		t.Errorf("after: %+v", snapshot)
	}
	check(t, other.ModifyRule(ctx, w.rule, w.split(60, 40), nil))
	if weight, _ := must(source.Observe(ctx, webQuery, time.Now()))(t).Weight("canary"); weight != 40 {
		t.Errorf("weight %d, want the 40 that the other controller wrote", weight)
	}
	if observed := must(c.Stack(ctx, stackID))(t); len(observed.LoadBalancers)+len(observed.TargetGroups)+len(observed.SecurityGroups) > 0 {
		t.Errorf("another cluster's resources pass for ours: %+v", observed)
	}
}

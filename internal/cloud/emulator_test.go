package cloud_test

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// account is an emulated AWS account without traffic, behind a real HTTP listener.
type account struct {
	*aws.Emulator
	endpoint string
}

func newAccount(t *testing.T, change ...func(*aws.Config)) account {
	t.Helper()
	config := aws.Config{VPC: address.Mapping{Octet: 78}, WithoutTraffic: true, Unthrottled: true, Seed: 1, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&config)
	}
	emulator, err := aws.New(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- emulator.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(emulator.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return account{emulator, "http://" + l.Addr().String()}
}

// connect makes a cloud on the account; it ends with the test. Its budget is far larger than AWS's unless
// the test says otherwise.
func (a account) connect(t *testing.T, settings cloud.Settings) *cloud.Cloud {
	t.Helper()
	if settings.CallMargin == 0 {
		settings.CallMargin = 100
	}
	c, err := cloud.New(t.Context(), cloud.Config{
		ClusterName: "test", VPCID: a.EC2().VPC(), Region: "eu-west-1", Settings: settings, Logger: slog.New(slog.DiscardHandler),
		Endpoints:   map[string]string{budget.ELBv2: a.endpoint, budget.EC2: a.endpoint},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// calls counts the calls of operations with a prefix.
func (a account) calls(prefix string) int {
	n := 0
	for operation, count := range a.Journal().Counts() {
		if _, name, ok := strings.Cut(operation, ":"); ok && strings.HasPrefix(name, prefix) || strings.HasPrefix(operation, prefix) {
			n += count.Calls
		}
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

const stackID = "shop/web"

func owned(resource string) map[string]string {
	return model.TrackingTags("test", stackID, resource)
}

// web is the stack of the tests as it was created.
type web struct {
	groupID, lb, listener, rule string
	stable, canary              string
}

func (w web) split(stable, canary int32) []model.Action {
	return []model.Action{{Type: model.ActionForward, Forward: &model.Forward{Stickiness: time.Hour, TargetGroups: []model.WeightedTargetGroup{
		{ResourceID: "canary", ARN: w.canary, Weight: canary}, {ResourceID: "stable", ARN: w.stable, Weight: stable}}}}}
}

func must[T any](out T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes the whole stack the way that a plan is carried out.
func create(t *testing.T, c *cloud.Cloud) web {
	t.Helper()
	ctx := t.Context()
	var w web
	group := model.SecurityGroup{Name: "k8s-shop-web", Description: "[k8s] Managed SecurityGroup for LoadBalancer", Tags: owned("ManagedLBSecurityGroup")}
	w.groupID = must(c.CreateSecurityGroup(ctx, group))(t)
	check(t, c.AuthorizeIngress(ctx, w.groupID, []model.Permission{
		{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "0.0.0.0/0"}, {Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "10.0.0.0/8", Description: "inside"},
		{Protocol: "tcp", FromPort: 443, ToPort: 443, CIDR: "0.0.0.0/0"}}))
	check(t, c.RevokeIngress(ctx, w.groupID, []model.Permission{{Protocol: "tcp", FromPort: 443, ToPort: 443, CIDR: "0.0.0.0/0"}}))
	for _, service := range []struct {
		name string
		arn  *string
	}{{"stable", &w.stable}, {"canary", &w.canary}} {
		created := must(c.CreateTargetGroup(ctx, model.TargetGroup{
			Name: "k8s-shop-" + service.name, TargetType: model.TargetIP, Port: 8080, Protocol: "HTTP", ProtocolVersion: "HTTP1", IPAddressType: "ipv4",
			HealthCheck: model.HealthCheck{Protocol: "HTTP", Port: "traffic-port", Path: "/healthz", Interval: 15 * time.Second, Timeout: 5 * time.Second,
				HealthyThreshold: 2, UnhealthyThreshold: 2, HTTPCodes: "200"},
			Tags: owned(stackID + "-" + service.name + ":80"),
		}))(t)
		*service.arn = created.ARN
		check(t, c.ModifyTargetGroupAttributes(ctx, created.ARN, map[string]string{"deregistration_delay.timeout_seconds": "5"}))
	}
	var subnets []string
	for _, subnet := range must(c.Subnets(ctx))(t) {
		if !subnet.Public {
			subnets = append(subnets, subnet.ID)
		}
	}
	lb := must(c.CreateLoadBalancer(ctx, model.LoadBalancer{
		Name: "k8s-shop-web-0123456789", Scheme: model.Internal, IPAddressType: "ipv4", SubnetIDs: subnets, Tags: owned("LoadBalancer"),
	}, []string{w.groupID}))(t)
	w.lb = lb.ARN
	check(t, c.ModifyLoadBalancerAttributes(ctx, lb.ARN, map[string]string{"idle_timeout.timeout_seconds": "61"}))
	listener := must(c.CreateListener(ctx, lb.ARN, model.Listener{
		Port: 80, Protocol: "HTTP", Tags: owned("80"),
		DefaultActions: []model.Action{{Type: model.ActionFixedResponse, FixedResponse: &model.FixedResponse{StatusCode: "404", ContentType: "text/plain"}}},
	}))(t)
	w.listener = listener.ARN
	must(c.CreateRule(ctx, listener.ARN, model.Rule{
		Priority: 7, Tags: owned("80:7"),
		Conditions: []model.Condition{
			{Field: "host-header", Values: []string{"shop.example"}}, {Field: "http-header", HeaderName: "X-Old", Values: []string{"1"}},
			{Field: "query-string", Query: []model.QueryPair{{Key: "a", Value: "b"}, {Value: "c"}}}},
		Actions: []model.Action{{Type: model.ActionRedirect, Redirect: &model.Redirect{Protocol: "HTTPS", Host: "#{host}", Port: "443", Path: "/#{path}", Query: "#{query}", StatusCode: "HTTP_301"}}},
	}))(t)
	rule := must(c.CreateRule(ctx, listener.ARN, model.Rule{
		Priority: 2, Tags: owned("80:2"), Conditions: []model.Condition{{Field: "path-pattern", Values: []string{"/*"}}}, Actions: w.split(100, 0),
	}))(t)
	w.rule = rule.ARN
	check(t, c.SetRulePriorities(ctx, map[string]int32{rule.ARN: 1}))
	check(t, c.AddTags(ctx, rule.ARN, owned("80:1")))
	check(t, c.AddTags(ctx, w.groupID, map[string]string{"team": "shop", "old": "1"}))
	check(t, c.RemoveTags(ctx, w.groupID, []string{"old"}))
	check(t, c.RegisterTargets(ctx, w.stable, []model.Target{{ID: "10.78.0.10", Port: 8080}, {ID: "10.78.0.11", Port: 8080}}))
	return w
}

// What is written through must be what a reader finds who has seen nothing of the writing. Attributes are
// compared as far as they were written, since the writer does not know AWS's defaults.
func TestWhatIsWrittenThroughIsWhatAWSHas(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	writer := a.connect(t, cloud.Settings{ProvisioningInterval: 20 * time.Millisecond})
	w := create(t, writer)
	check(t, writer.ModifyRule(t.Context(), w.rule, w.split(75, 25), nil))
	check(t, writer.ModifyTargetGroup(t.Context(), w.canary, model.HealthCheck{Path: "/ready", Interval: 10 * time.Second}))
	written := must(writer.Stack(t.Context(), stackID))(t)
	if !written.Complete {
		t.Fatalf("after writing everything %s is missing", written.Missing)
	}
	eventually(t, "the load balancer is seen active", func() bool {
		written = must(writer.Stack(t.Context(), stackID))(t)
		return written.LoadBalancers[0].State == "active"
	})

	reader := a.connect(t, cloud.Settings{})
	go func() { _ = reader.Start(t.Context()) }()
	read := must(reader.Stack(t.Context(), stackID))(t)
	complete := func() bool {
		read = must(reader.Stack(t.Context(), stackID))(t)
		return read.LoadBalancers[0].Attributes != nil && read.LoadBalancers[0].Listeners[0].Rules[1].Tags != nil &&
			read.TargetGroups[0].Attributes != nil && read.TargetGroups[1].Attributes != nil && read.LoadBalancers[0].Listeners[0].Attributes != nil
	}
	eventually(t, "attributes and tags are completed", complete)
	if got := read.LoadBalancers[0].Attributes["idle_timeout.timeout_seconds"]; got != "61" {
		t.Errorf("idle time-out %q, want 61", got)
	}
	for _, group := range read.TargetGroups {
		if got := group.Attributes["deregistration_delay.timeout_seconds"]; got != "5" {
			t.Errorf("deregistration delay %q, want 5", got)
		}
	}
	ignore := []cmp.Option{
		cmpopts.IgnoreFields(model.ObservedLoadBalancer{}, "SeenAt", "Attributes"), cmpopts.IgnoreFields(model.ObservedListener{}, "SeenAt", "Attributes"),
		cmpopts.IgnoreFields(model.ObservedTargetGroup{}, "SeenAt", "Attributes", "Targets", "TargetsSeenAt", "LoadBalancerARNs"),
		cmpopts.IgnoreFields(model.ObservedSecurityGroup{}, "SeenAt"), cmpopts.EquateEmpty(),
	}
	// Attributes are promoted from embedded structs: take them off.
	for _, observed := range []*model.Observed{&written, &read} {
		observed.LoadBalancers[0].Attributes = nil
		observed.LoadBalancers[0].Listeners[0].Attributes = nil
		for i := range observed.TargetGroups {
			observed.TargetGroups[i].Attributes = nil
		}
	}
	if diff := cmp.Diff(read, written, ignore...); diff != "" {
		t.Errorf("written through (+) is not what AWS has (-):\n%s", diff)
	}
}

func TestAWeightChangeOverTheWire(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{ProvisioningInterval: 20 * time.Millisecond})
	w := create(t, c)
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
	eventually(t, "the reads after the creations are over", func() bool {
		before := described()
		time.Sleep(1200 * time.Millisecond) // they come within a second
		return described() == before
	})
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

func TestEverythingCanBeDeletedTwice(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	w := create(t, c)
	ctx := t.Context()
	if err := c.DeleteTargetGroup(ctx, w.stable); !errors.Is(err, cloud.ErrConflict) {
		t.Errorf("deleting a used target group gives %v, want ErrConflict", err)
	}
	for range 2 {
		check(t, c.DeleteRule(ctx, w.rule))
		check(t, c.DeleteListener(ctx, w.listener))
		check(t, c.DeleteLoadBalancer(ctx, w.lb))
		check(t, c.DeleteTargetGroup(ctx, w.stable))
		check(t, c.DeleteTargetGroup(ctx, w.canary))
		check(t, c.DeleteSecurityGroup(ctx, w.groupID))
	}
	observed := must(c.Stack(ctx, stackID))(t)
	if diff := cmp.Diff(model.Observed{Complete: true}, observed); diff != "" {
		t.Errorf("after deletion:\n%s", diff)
	}
}

// The budget is a little below AWS's own: whoever spends what it gives is not throttled.
func TestTheBudgetKeepsBelowAWS(t *testing.T) {
	t.Parallel()
	a := newAccount(t, func(config *aws.Config) { config.Unthrottled = false })
	c := a.connect(t, cloud.Settings{CallMargin: 0.9})
	group := must(c.CreateTargetGroup(t.Context(), model.TargetGroup{Name: "spend", TargetType: model.TargetIP, Port: 80, Protocol: "HTTP"}))(t)
	spent, busy := 0, 0
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		err := c.AddTags(t.Context(), group.ARN, map[string]string{"n": strconv.Itoa(spent)})
		again, isBusy := cloud.RetryAfter(err)
		switch {
		case err == nil:
			spent++
		case errors.Is(err, cloud.ErrBusy) && isBusy:
			busy++
			time.Sleep(again)
		default:
			t.Fatal(err)
		}
	}
	if spent < 15 || busy == 0 {
		t.Errorf("%d calls were made and %d refused, want the burst and some more, and then refusals", spent, busy)
	}
	for operation, count := range a.Journal().Counts() {
		if len(count.Errors) > 0 {
			t.Errorf("%s was refused: %v", operation, count.Errors)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{ReadAttempts: 1})
	w := create(t, c)
	ctx := t.Context()
	for _, row := range []struct {
		fault fault.Fault
		is    error
		says  string
	}{
		{fault.Fault{Kind: fault.Deny}, cloud.ErrDenied, "denied elasticloadbalancing:ModifyRule on " + w.rule + ": grant it in the controller's IAM policy"},
		{fault.Fault{Kind: fault.Error}, cloud.ErrUnavailable, "InternalFailure"},
		{fault.Fault{Kind: fault.Error, Status: 400, Code: "TooManyTargetGroups"}, cloud.ErrLimit, "the limit TooManyTargetGroups"},
		{fault.Fault{Kind: fault.Error, Status: 400, Code: "RuleNotFound"}, cloud.ErrNotFound, "RuleNotFound"},
		{fault.Fault{Kind: fault.Error, Status: 400, Code: "ValidationError"}, cloud.ErrInvalid, "ValidationError"},
		{fault.Fault{Kind: fault.Error, Status: 403, Code: "ExpiredToken"}, cloud.ErrDenied, "refuses the credentials"},
		{fault.Fault{Kind: fault.Throttle}, cloud.ErrThrottled, "throttles"}, // the last one: it empties the budget
	} {
		row.fault.Operations = []string{"elasticloadbalancing:ModifyRule"}
		before := a.calls("ModifyRule")
		id := must(a.Faults().Add(row.fault))(t)
		err := c.ModifyRule(ctx, w.rule, w.split(1, 2), nil)
		a.Faults().Remove(id)
		if !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s %s: %v, want %v and %q", row.fault.Kind, row.fault.Code, err, row.is, row.says)
		}
		if n := a.calls("ModifyRule") - before; n != 1 {
			t.Errorf("%s %s: %d attempts of a mutation, want 1", row.fault.Kind, row.fault.Code, n)
		}
		again, ok := cloud.RetryAfter(err)
		if ok != errors.Is(err, cloud.ErrThrottled) || ok && again < time.Second {
			t.Errorf("%s %s: come again in %s, %v", row.fault.Kind, row.fault.Code, again, ok)
		}
	}
	if _, err := c.TargetGroup(ctx, w.stable+"0"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an unknown target group gives %v", err)
	}
	if _, err := c.TargetGroupByName(ctx, "absent"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an unknown name gives %v", err)
	}
	if _, err := c.SecurityGroup(ctx, "sg-00000000000000000"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an unknown security group gives %v", err)
	}
	err := c.AuthorizeIngress(ctx, w.groupID, []model.Permission{{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "0.0.0.0/0"}})
	if !errors.Is(err, cloud.ErrConflict) {
		t.Errorf("a duplicate permission gives %v", err)
	}
	err = c.RevokeIngress(ctx, w.groupID, []model.Permission{{Protocol: "tcp", FromPort: 81, ToPort: 81, CIDR: "0.0.0.0/0"}})
	if !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an absent permission gives %v", err)
	}
}

func TestTargetsAreWatched(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{HealthFast: 10 * time.Millisecond, HealthSlow: 100 * time.Millisecond})
	w := create(t, c)
	told := make(chan cloud.Change, 100)
	defer c.Subscribe(func(change cloud.Change) {
		if change.Kind == cloud.ChangeTargets {
			told <- change
		}
	})()
	c.WatchTargets(w.stable, true)
	<-told
	health, seenAt, err := c.TargetHealth(t.Context(), w.stable, time.Time{})
	if err != nil || len(health) != 2 || seenAt.IsZero() {
		t.Fatalf("%v at %s, %v", health, seenAt, err)
	}
	wrote := time.Now()
	check(t, c.DeregisterTargets(t.Context(), w.stable, []model.Target{{ID: "10.78.0.10", Port: 8080}}))
	health, seenAt, err = c.TargetHealth(t.Context(), w.stable, time.Time{})
	if err != nil || seenAt.Before(wrote) {
		t.Errorf("after a write the health is from %s: %v", seenAt, err)
	}
	eventually(t, "the target is gone", func() bool {
		select {
		case <-told:
		case <-time.After(time.Second):
		}
		health, _, _ = c.TargetHealth(t.Context(), w.stable, time.Time{})
		return !slices.ContainsFunc(health, func(t model.TargetHealth) bool { return t.ID == "10.78.0.10" && t.State == "healthy" }) && len(health) <= 2
	})
	now := time.Now()
	if _, seenAt, err = c.TargetHealth(t.Context(), w.stable, now); err != nil || seenAt.Before(now) {
		t.Errorf("asked for %s or later, got %s: %v", now, seenAt, err)
	}
	c.WatchTargets(w.stable, false)
	eventually(t, "polling ends", func() bool {
		before := a.calls("DescribeTargetHealth")
		time.Sleep(300 * time.Millisecond)
		return a.calls("DescribeTargetHealth") == before
	})
}

func TestTheNetworkIsRead(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	ctx := t.Context()
	if vpc := c.VPC(); !slices.Equal(vpc.CIDRs, []string{"10.78.0.0/16"}) {
		t.Errorf("VPC %+v", vpc)
	}
	subnets := must(c.Subnets(ctx))(t)
	public, zones := 0, map[string]bool{}
	for _, subnet := range subnets {
		zones[subnet.Zone] = true
		if subnet.Public {
			public++
		}
	}
	if len(subnets) != 6 || public != 3 || len(zones) != 3 {
		t.Errorf("%d subnets in %d zones, %d of them public: %+v", len(subnets), len(zones), public, subnets)
	}
	instance := must(a.EC2().AddInstance("eu-west-1a", "node"))(t)
	pod := must(a.EC2().AssignPodAddress(instance.ID))(t)
	byAddress := must(c.NetworkInterfacesByAddress(ctx, []string{pod.String(), "10.78.255.1"}))(t)
	byInstance := must(c.NetworkInterfacesByInstance(ctx, []string{instance.ID}))(t)
	if len(byAddress) != 1 || len(byInstance) != 1 || byAddress[0].InstanceID != instance.ID || !slices.Contains(byAddress[0].Addresses, pod.String()) ||
		!slices.Equal(byAddress[0].Groups, []string{a.EC2().NodeSecurityGroup()}) {
		t.Errorf("interfaces by address %+v, by instance %+v", byAddress, byInstance)
	}
	before := a.calls("Describe")
	must(c.NetworkInterfacesByAddress(ctx, []string{pod.String()}))(t)
	must(c.Subnets(ctx))(t)
	if n := a.calls("Describe") - before; n != 0 {
		t.Errorf("asking again made %d calls", n)
	}
	id := must(c.CreateSecurityGroup(ctx, model.SecurityGroup{Name: "backend", Description: "d", Tags: map[string]string{
		model.TagCluster: "test", model.TagBackendResource: model.BackendSecurityGroup, "Name": "shared"}}))(t)
	byTag := must(c.SecurityGroupsByTag(ctx, map[string]string{model.TagCluster: "test", model.TagBackendResource: model.BackendSecurityGroup}))(t)
	byName := must(c.SecurityGroupsByName(ctx, []string{"shared"}))(t)
	if len(byTag) != 1 || len(byName) != 1 || byTag[0].GroupID != id || byName[0].GroupID != id {
		t.Errorf("by tag %+v, by name %+v", byTag, byName)
	}
}

// The SDK's default chain finds endpoint, region and credentials in the environment, as any tool's does.
func TestTheDefaultChainIsHonoured(t *testing.T) {
	a := newAccount(t)
	for key, value := range map[string]string{
		"AWS_ENDPOINT_URL": a.endpoint, "AWS_REGION": "eu-west-1",
		"AWS_ACCESS_KEY_ID": aws.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY": aws.DefaultSecretAccessKey,
	} {
		t.Setenv(key, value)
	}
	c, err := cloud.New(t.Context(), cloud.Config{ClusterName: "test", VPCID: a.EC2().VPC()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	observed := must(c.Stack(t.Context(), stackID))(t)
	if diff := cmp.Diff(model.Observed{Complete: true}, observed); diff != "" {
		t.Error(diff)
	}
	_, err = cloud.New(t.Context(), cloud.Config{ClusterName: "test", VPCID: "vpc-00000000000000000"})
	if !errors.Is(err, cloud.ErrNotFound) || !strings.Contains(err.Error(), "vpc-00000000000000000") {
		t.Errorf("an unknown VPC gives %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if _, err = cloud.New(t.Context(), cloud.Config{ClusterName: "test", VPCID: a.EC2().VPC()}); !errors.Is(err, cloud.ErrDenied) {
		t.Errorf("wrong credentials give %v", err)
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

// What somebody else changes is found by the audit, and told.
func TestTheAuditFindsDrift(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	other := a.connect(t, cloud.Settings{})
	w := create(t, other)
	c := a.connect(t, cloud.Settings{AuditInterval: 100 * time.Millisecond})
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = c.Start(t.Context()) }()
	t.Cleanup(func() { <-stopped })
	find := func() (rule model.ObservedRule, group model.ObservedTargetGroup, observed model.Observed) {
		observed = must(c.Stack(t.Context(), stackID))(t)
		for _, r := range observed.LoadBalancers[0].Listeners[0].Rules {
			if r.ARN == w.rule {
				rule = r
			}
		}
		for _, g := range observed.TargetGroups {
			if g.ARN == w.canary {
				group = g
			}
		}
		return rule, group, observed
	}
	find()
	told := make(chan cloud.ChangeKind, 1000)
	defer c.Subscribe(func(change cloud.Change) {
		if change.StackID == stackID {
			told <- change.Kind
		}
	})()
	check(t, other.ModifyRule(t.Context(), w.rule, w.split(1, 9), nil))
	check(t, other.ModifyTargetGroupAttributes(t.Context(), w.canary, map[string]string{"deregistration_delay.timeout_seconds": "77"}))
	check(t, other.AddTags(t.Context(), w.lb, map[string]string{"by": "hand"}))
	eventually(t, "the drift is found", func() bool {
		rule, group, observed := find()
		return rule.Actions[0].Forward.TargetGroups[0].Weight == 9 && group.Attributes["deregistration_delay.timeout_seconds"] == "77" &&
			observed.LoadBalancers[0].Tags["by"] == "hand"
	})
	kinds := map[cloud.ChangeKind]bool{}
	eventually(t, "subscribers are told", func() bool {
		for len(told) > 0 {
			kinds[<-told] = true
		}
		return kinds[cloud.ChangeTraffic] && kinds[cloud.ChangeConfiguration]
	})
	check(t, other.DeleteLoadBalancer(t.Context(), w.lb))
	eventually(t, "the load balancer is seen gone", func() bool {
		observed := must(c.Stack(t.Context(), stackID))(t)
		return observed.Complete && len(observed.LoadBalancers) == 0
	})
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	registry := prometheus.NewPedanticRegistry()
	c, err := cloud.New(t.Context(), cloud.Config{
		ClusterName: "test", VPCID: a.EC2().VPC(), Region: "eu-west-1", Metrics: registry, Logger: slog.New(slog.DiscardHandler),
		Endpoints:   map[string]string{budget.ELBv2: a.endpoint, budget.EC2: a.endpoint},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	})
	check(t, err)
	defer c.Close()
	must(c.Stack(t.Context(), stackID))(t)
	if err := c.ModifyRule(t.Context(), ruleARN, split(1, 2), nil); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("a rule that does not exist: %v", err)
	}
	must(a.Faults().Add(fault.Fault{Kind: fault.Error, Operations: []string{"ec2:DescribeSubnets"}}))(t)
	if _, err := c.Subnets(t.Context()); err == nil {
		t.Error("AWS's internal failure is not an error")
	}
	got := map[string]float64{}
	for _, family := range must(registry.Gather())(t) {
		for _, metric := range family.Metric {
			name := family.GetName()
			for _, label := range metric.Label {
				name += " " + label.GetValue()
			}
			got[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			got["sum of "+name] = metric.GetHistogram().GetSampleSum()
		}
	}
	for name, want := range map[string]float64{
		"lockstep_aws_calls_total configuration DescribeTargetGroups ok":               1,
		"lockstep_aws_calls_total traffic ModifyRule NotFound":                         1,
		"aws_api_requests_total RuleNotFound ModifyRule Elastic Load Balancing v2 400": 1,
		"aws_api_requests_total  DescribeVpcs EC2 200":                                 1,
		"aws_api_calls_total RuleNotFound ModifyRule Elastic Load Balancing v2 400":    1,
		"aws_api_calls_total  DescribeVpcs EC2 200":                                    1,
		"aws_api_call_duration_seconds ModifyRule Elastic Load Balancing v2":           1,
		"aws_api_call_retries DescribeVpcs EC2":                                        1,
		"sum of aws_api_call_retries DescribeVpcs EC2":                                 0,
		"aws_api_requests_total InternalFailure DescribeSubnets EC2 500":               3,
		"aws_api_calls_total InternalFailure DescribeSubnets EC2 500":                  1,
		"sum of aws_api_call_retries DescribeSubnets EC2":                              2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(maps.Keys(got)))
	}
}

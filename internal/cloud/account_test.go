package cloud_test

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// account is an emulated AWS account without traffic.
type account struct {
	*aws.Emulator
	endpoint string
	client   *http.Client // nil: the SDK's own
}

// newAccount starts an account behind a real HTTP listener.
func newAccount(t *testing.T, change ...func(*aws.Config)) account {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return account{Emulator: serve(t, l, change...), endpoint: "http://" + l.Addr().String()}
}

// virtualAccount starts an account on an in-memory network, for the virtual time of package synctest.
func virtualAccount(t *testing.T, change ...func(*aws.Config)) account {
	t.Helper()
	network := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	transport := &http.Transport{DialContext: network.dial, MaxIdleConnsPerHost: 100}
	emulator := serve(t, network, change...)
	t.Cleanup(transport.CloseIdleConnections)
	return account{emulator, "http://aws", &http.Client{Transport: transport}}
}

func serve(t *testing.T, l net.Listener, change ...func(*aws.Config)) *aws.Emulator {
	t.Helper()
	config := aws.Config{VPC: address.Mapping{Octet: 78}, WithoutTraffic: true, Unthrottled: true, Seed: 1, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&config)
	}
	emulator, err := aws.New(config)
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
	return emulator
}

// connect makes a cloud on the account; it ends with the test. Its budget is far larger than AWS's unless
// the test says otherwise.
func (a account) connect(t *testing.T, settings cloud.Settings) *cloud.Cloud {
	t.Helper()
	if settings.CallMargin == 0 {
		settings.CallMargin = 100
	}
	c, err := cloud.New(t.Context(), cloud.Config{
		ClusterName: "test", VPCID: a.EC2().VPC(), Region: "eu-west-1", Settings: settings, Logger: slog.New(slog.DiscardHandler), HTTPClient: a.client,
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

package aws_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// world is an emulator behind a real HTTP listener, and unmodified SDK clients for it.
type world struct {
	*testing.T
	emulator *aws.Emulator
	endpoint string
	elb      *elb.Client
	ec2      *ec2.Client
	sts      *sts.Client
}

// newWorld starts an emulator that carries no traffic and does not throttle, unless the test says otherwise.
func newWorld(t *testing.T, change ...func(*aws.Config)) *world {
	t.Helper()
	config := aws.Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true, Unthrottled: true, Seed: 1}
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
	w := &world{T: t, emulator: emulator, endpoint: "http://" + l.Addr().String()}
	w.connect(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, http.DefaultTransport)
	return w
}

func (w *world) connect(key, secret string, transport http.RoundTripper) {
	config := sdk.Config{
		Region: "eu-west-1", BaseEndpoint: new(w.endpoint), HTTPClient: &http.Client{Transport: plain{transport}},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
		Retryer:     func() sdk.Retryer { return sdk.NopRetryer{} },
	}
	w.elb, w.ec2, w.sts = elb.NewFromConfig(config), ec2.NewFromConfig(config), sts.NewFromConfig(config)
}

// plain hides from a transport how the SDK's request bodies write themselves: WriteTo after Close returns io.EOF there, which makes the transport give up
// answers that come back very fast (see turnaround.go).
type plain struct{ http.RoundTripper }

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.RoundTripper.RoundTrip(r)
}

// must returns the output of a call that has to succeed.
func must[T any](out T, err error) func(*world) T {
	return func(w *world) T {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
		return out
	}
}

// wantCode checks that a call was refused with an error code.
func (w *world) wantCode(err error, code string) {
	w.Helper()
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		w.Fatalf("want error %s, got %v", code, err)
	}
	if refused.ErrorCode() != code {
		w.Fatalf("want error %s, got %v", code, refused)
	}
}

// eventually waits for a condition.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var ctx = context.Background()

func (w *world) vpc() string {
	w.Helper()
	return *must(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}))(w).Vpcs[0].VpcId
}

// subnets are the private subnets, one per zone.
func (w *world) subnets() []string {
	w.Helper()
	out := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{
		{Name: new("tag:kubernetes.io/role/internal-elb"), Values: []string{"1"}},
	}}))(w)
	var ids []string
	for _, s := range out.Subnets {
		ids = append(ids, *s.SubnetId)
	}
	return ids
}

func (w *world) loadBalancer(name string) types.LoadBalancer {
	w.Helper()
	return must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: &name, Subnets: w.subnets(), Scheme: types.LoadBalancerSchemeEnumInternal,
	}))(w).LoadBalancers[0]
}

func (w *world) targetGroup(name string) string {
	w.Helper()
	return *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: new(w.vpc()), TargetType: types.TargetTypeEnumIp,
	}))(w).TargetGroups[0].TargetGroupArn
}

func forward(groups ...string) []types.Action {
	config := &types.ForwardActionConfig{}
	for _, g := range groups {
		config.TargetGroups = append(config.TargetGroups, types.TargetGroupTuple{TargetGroupArn: new(g), Weight: new(int32(1))})
	}
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: config}}
}

func fixed(status string) []types.Action {
	return []types.Action{{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: &status}}}
}

func path(pattern string) []types.RuleCondition {
	return []types.RuleCondition{{Field: new("path-pattern"), PathPatternConfig: &types.PathPatternConditionConfig{Values: []string{pattern}}}}
}

func (w *world) listener(lb string, port int32, actions []types.Action) string {
	w.Helper()
	return *must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: &port, Protocol: types.ProtocolEnumHttp, DefaultActions: actions,
	}))(w).Listeners[0].ListenerArn
}

func (w *world) rule(listener string, priority int32, actions []types.Action) string {
	w.Helper()
	return *must(w.elb.CreateRule(ctx, &elb.CreateRuleInput{
		ListenerArn: &listener, Priority: &priority, Conditions: path("/" + string(rune('a'+priority%26)) + "*"), Actions: actions,
	}))(w).Rules[0].RuleArn
}

// ignoreUnexported leaves the SDK's private fields out of comparisons.
var ignoreUnexported = cmp.FilterPath(func(p cmp.Path) bool {
	field, ok := p.Last().(cmp.StructField)
	return ok && field.Name() == "noSmithyDocumentSerde"
}, cmp.Ignore())

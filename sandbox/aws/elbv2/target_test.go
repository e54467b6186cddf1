package elbv2

import (
	"testing"
	"testing/synctest"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

var reader = eventual.Reader{Caller: "test"}

// A group of a load balancer or a function takes one target, and a server ID is that of one target, also when a call brings several.
func TestOneCallBringsNoMoreThanFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		function := "arn:aws:lambda:eu-west-1:123456789012:function:"
		functions := *retry(a, a.CreateTargetGroup, &elb.CreateTargetGroupInput{Name: new("functions"), TargetType: types.TargetTypeEnumLambda}).TargetGroups[0].TargetGroupArn
		quic := a.networkGroup("quic", types.ProtocolEnumQuic, types.TargetTypeEnumIp)
		for want, in := range map[string]*elb.RegisterTargetsInput{
			"TooManyTargets": {TargetGroupArn: &functions, Targets: []types.TargetDescription{{Id: new(function + "a")}, {Id: new(function + "b")}}},
			"InvalidTarget": {TargetGroupArn: &quic, Targets: []types.TargetDescription{
				{Id: new("10.9.0.9"), QuicServerId: new("0x0123456789abcdef")}, {Id: new("10.9.0.10"), QuicServerId: new("0x0123456789abcdef")},
			}},
		} {
			if _, err := a.RegisterTargets(reader, in); code(err) != want {
				t.Errorf("%s: %q, want %s", *in.TargetGroupArn, code(err), want)
			}
			if n := len(a.targetGroups[*in.TargetGroupArn].targets); n != 0 {
				t.Errorf("%s: %d targets of a call that was refused", *in.TargetGroupArn, n)
			}
		}
	})
}

// A port beyond the last is nobody's, not that of the target whose port has the same lower bits.
func TestHealthOfAPortThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		group := a.groupARN("web")
		a.register(group, []types.TargetDescription{{Id: new("10.9.0.9")}})
		for _, port := range []int32{8080 + 1<<16, 0, -1} {
			_, err := a.DescribeTargetHealth(reader, &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: new("10.9.0.9"), Port: &port}}})
			if got := code(err); got != "ValidationError" {
				t.Errorf("port %d: %q", port, got)
			}
		}
	})
}

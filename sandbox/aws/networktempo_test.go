package aws_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// Section 7.3, the rows nlb.*: nodes of a Network Load Balancer take minutes for what the API shows at once. Here 100 s last half a second.
func TestNetworkBalancerTakesItsTime(t *testing.T) {
	t.Parallel()
	w, vpc := networkWorld(t)
	front := w.group("front")
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &front, IpPermissions: []ec2types.IpPermission{tcp(80, 80, "0.0.0.0/0")}}))(w)
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: new(w.emulator.EC2().NodeSecurityGroup()), IpPermissions: []ec2types.IpPermission{tcp(9000, 9000, "0.0.0.0/0")},
	}))(w)
	lb := *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: new("net"), Subnets: w.subnets(), Scheme: types.LoadBalancerSchemeEnumInternal, Type: types.LoadBalancerTypeEnumNetwork, SecurityGroups: []string{front},
	}))(w).LoadBalancers[0].LoadBalancerArn
	blue, green := w.streamGroup("blue"), w.streamGroup("green")
	one, two, other := w.echo(vpc, "one"), w.echo(vpc, "two"), w.echo(vpc, "other")
	w.register(blue, one)
	w.register(green, other)
	split := func(toBlue, toGreen int32) []types.Action {
		actions := forward(blue, green)
		actions[0].ForwardConfig.TargetGroups[0].Weight, actions[0].ForwardConfig.TargetGroups[1].Weight = &toBlue, &toGreen
		return actions
	}
	listener := *must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumTcp, DefaultActions: split(1, 0),
	}))(w).Listeners[0].ListenerArn
	var at netip.AddrPort
	w.eventually("a node listens", func() bool {
		for _, e := range w.emulator.Endpoints() {
			if len(e.Nodes) > 0 {
				at = e.Nodes[0].Real[80]
			}
		}
		return at.IsValid()
	})
	base := vpc.CIDR().Addr().As4()
	client := netip.AddrFrom4([4]byte{base[0], base[1], 250, 1})
	// flow is who answers a new flow.
	flow := func() string { return w.line(vpc, long, client, at) }
	w.eventually("the first pod answers", func() bool { return flow() == "one" })
	w.eventually("the pod of the other group is healthy", func() bool { return w.health(green)[other].State == types.TargetHealthStateEnumHealthy })

	w.emulator.SetProfile(slowly(t, map[profile.Key]string{
		profile.NLBRegister: "F(100)", profile.NLBDeregister: "F(100)", profile.NLBWeightChange: "F(100)",
	}))
	if err := w.emulator.SetScale(0.005); err != nil {
		t.Fatal(err)
	}
	const lag = 500 * time.Millisecond
	// change makes a change, and wants who answered before to answer for the lag, and done to come about, but not earlier.
	change := func(what string, call func(), still string, done func(string) bool) {
		t.Helper()
		begun := time.Now()
		call()
		stayed := false
		w.eventually(what, func() bool {
			asked := time.Now()
			got := flow()
			stayed = stayed || got == still
			if done(got) {
				if after := time.Since(begun); after < lag {
					t.Errorf("%s after %v, want %v", what, after, lag)
				}
				return true
			}
			if asked.Sub(begun) < lag && got != still {
				t.Errorf("%s: before the node knows of it %q answers", what, got)
			}
			return false
		})
		if !stayed {
			t.Errorf("%s: nothing was as before for a while", what)
		}
	}
	change("a target that was registered gets flows", func() { w.register(blue, two) }, "one", func(got string) bool { return got == "two" })

	begun, late := time.Now(), 0
	must(w.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &blue, Targets: []types.TargetDescription{{Id: &two}}}))(w)
	for time.Since(begun) < lag {
		if flow() == "two" {
			late++
		}
	}
	if late == 0 {
		t.Error("no new flow goes to a target after it was deregistered")
	}
	w.eventually("the target gets no new flows", func() bool {
		for range 20 {
			if flow() == "two" {
				return false
			}
		}
		return true
	})
	change("the other group gets flows", func() {
		must(w.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: split(0, 1)}))(w)
	}, "one", func(got string) bool { return got == "other" })
}

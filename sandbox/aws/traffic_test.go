package aws_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// pod serves its name at a pod address that the emulator has assigned.
func (w *world) pod(vpc *address.VPC, name string) (address string) {
	w.Helper()
	return w.podThat(vpc, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, name) })
}

// podThat is a pod with a handler of its own.
func (w *world) podThat(vpc *address.VPC, handler http.HandlerFunc) (address string) {
	w.Helper()
	a, l := w.podListener(vpc, 8080)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	w.Cleanup(func() { _ = server.Close() })
	return a.String()
}

// podListener listens at a pod address of a node of its own.
func (w *world) podListener(vpc *address.VPC, port uint16) (netip.Addr, net.Listener) {
	w.Helper()
	instance, err := w.emulator.EC2().AddInstance("eu-west-1a", "node")
	if err != nil {
		w.Fatal(err)
	}
	a, err := w.emulator.EC2().AssignPodAddress(instance.ID)
	if err != nil {
		w.Fatal(err)
	}
	l, err := net.Listen("tcp", vpc.Real(netip.AddrPortFrom(a, port)).String())
	if err != nil {
		w.Fatal(err)
	}
	return a, l
}

func (w *world) health(group string) map[string]types.TargetHealth {
	w.Helper()
	states := map[string]types.TargetHealth{}
	for _, d := range must(w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &group}))(w).TargetHealthDescriptions {
		states[*d.Target.Id] = *d.TargetHealth
	}
	return states
}

func (w *world) register(group string, ids ...string) {
	w.Helper()
	in := &elb.RegisterTargetsInput{TargetGroupArn: &group}
	for _, id := range ids {
		in.Targets = append(in.Targets, types.TargetDescription{Id: new(id)})
	}
	must(w.elb.RegisterTargets(ctx, in))(w)
}

// From the first API call to bytes: weights decide who answers on each zone's node, and a
// deregistered target gets nothing more.
func TestWeightsDecideWhoAnswers(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w := newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false })
	lb := *w.loadBalancer("web").LoadBalancerArn
	w.letIn(lb)
	stable, canary := w.targetGroup("stable"), w.targetGroup("canary")
	for _, g := range []string{stable, canary} {
		must(w.elb.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{TargetGroupArn: &g, HealthCheckIntervalSeconds: new(int32(5)), HealthCheckTimeoutSeconds: new(int32(2))}))(w)
		must(w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{
			TargetGroupArn: &g, Attributes: []types.TargetGroupAttribute{{Key: new("deregistration_delay.timeout_seconds"), Value: new("0")}},
		}))(w)
	}
	old, fresh := w.pod(vpc, "old"), w.pod(vpc, "new")
	w.register(stable, old)
	w.register(canary, fresh)
	if h := w.health(stable)[old]; h.State != types.TargetHealthStateEnumUnused || h.Reason != types.TargetHealthReasonEnumNotInUse {
		t.Errorf("target of a group without listener is %s %s", h.State, h.Reason)
	}

	listener := w.listener(lb, 80, fixed("404"))
	split := func(a, b int32) []types.Action {
		actions := forward(stable, canary)
		actions[0].ForwardConfig.TargetGroups[0].Weight, actions[0].ForwardConfig.TargetGroups[1].Weight = &a, &b
		return actions
	}
	rule := w.rule(listener, 1, split(1, 0))
	for group, pod := range map[string]string{stable: old, canary: fresh} {
		w.eventually(pod+" is healthy", func() bool { return w.health(group)[pod].State == types.TargetHealthStateEnumHealthy })
	}
	w.answers("old")
	must(w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &rule, Actions: split(0, 1)}))(w)
	w.answers("new")
	must(w.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &canary, Targets: []types.TargetDescription{{Id: &fresh}}}))(w)
	w.answers("503")
	if len(w.health(canary)) != 0 {
		t.Errorf("a target is left after its deregistration delay of 0: %v", w.health(canary))
	}
	one := must(w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &canary, Targets: []types.TargetDescription{{Id: &fresh}}}))(w)
	if h := one.TargetHealthDescriptions[0].TargetHealth; h.State != types.TargetHealthStateEnumUnused || h.Reason != types.TargetHealthReasonEnumNotRegistered {
		t.Errorf("a target that is gone is %s %s", h.State, h.Reason)
	}
}

// letIn opens the load balancer's security group for everybody, and the nodes' for the load balancer's.
func (w *world) letIn(lb string) {
	w.Helper()
	v := must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{lb}}))(w).LoadBalancers[0]
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: &v.SecurityGroups[0], IpPermissions: []ec2types.IpPermission{tcp(80, 80, "0.0.0.0/0")},
	}))(w)
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: new(w.emulator.EC2().NodeSecurityGroup()),
		IpPermissions: []ec2types.IpPermission{{
			IpProtocol: new("tcp"), FromPort: new(int32(8080)), ToPort: new(int32(8080)),
			UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &v.SecurityGroups[0]}},
		}},
	}))(w)
}

// answers waits until every node of the only load balancer gives this answer: a body, or a status.
func (w *world) answers(want string) {
	w.Helper()
	w.answersAt(w.emulator.Endpoints()[0], want)
}

func (w *world) answersAt(balancer aws.Endpoint, want string) {
	w.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, node := range balancer.Nodes {
		got := ""
		w.eventually(node.Zone+" answers "+want, func() bool {
			response, err := client.Get("http://" + node.Real[80].String() + "/b")
			if err != nil {
				return false
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			got = string(body)
			return got == want || strings.HasPrefix(response.Status, want)
		})
	}
}

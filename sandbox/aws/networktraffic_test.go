package aws_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// networkWorld is an account whose load balancers carry traffic.
func networkWorld(t *testing.T) (*world, *address.VPC) {
	t.Helper()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	return newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false }), vpc
}

// line connects from an address of the VPC and returns the first line that comes within a time; attempts that are dropped, and
// connections that are refused or silent, have names too.
func (w *world) line(vpc *address.VPC, patience time.Duration, from netip.Addr, to netip.AddrPort) string {
	w.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: vpc.RealAddr(from).AsSlice()}, Timeout: patience}
	conn, err := d.DialContext(w.Context(), "tcp", to.String())
	var timeout net.Error
	switch {
	case err != nil && asNetError(err, &timeout) && timeout.Timeout():
		return dropped
	case err != nil:
		return "refused"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "hello\n")
	text, err := bufio.NewReader(conn).ReadString('\n')
	switch {
	case err == nil:
		return strings.TrimSpace(text)
	case asNetError(err, &timeout) && timeout.Timeout():
		return "silence"
	}
	return "refused"
}

// Within short nobody answers; within long everybody does.
const (
	short = 300 * time.Millisecond
	long  = 20 * time.Second
)

// dropped is an attempt to connect that times out: what becomes of a client that no rule admits.
var dropped = map[bool]string{true: "nothing", false: "silence"}[sockopt.Filters]

func asNetError(err error, into *net.Error) bool {
	e, ok := err.(net.Error)
	*into = e
	return ok
}

// From the API to bytes: a Network Load Balancer with security groups in front of a pod, under the client's address. A rule of the pod's
// group that names the group of the load balancer is enough; what the load balancer's own group does not admit is dropped.
func TestNetworkBalancerCarriesTraffic(t *testing.T) {
	t.Parallel()
	w, vpc := networkWorld(t)
	network := w.emulator.EC2()
	pod := w.tcpPod(vpc, func(conn net.Conn) {
		if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			at := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
			_, _ = fmt.Fprintln(conn, vpc.VirtualAddr(at.Addr()))
		}
	})

	group := w.group("front")
	in := &elb.CreateLoadBalancerInput{
		Name: new("net"), Subnets: w.subnets(), Scheme: types.LoadBalancerSchemeEnumInternal, Type: types.LoadBalancerTypeEnumNetwork, SecurityGroups: []string{group},
	}
	lb := must(w.elb.CreateLoadBalancer(ctx, in))(w).LoadBalancers[0]
	pods := *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: new("pods"), Protocol: types.ProtocolEnumTcp, Port: new(int32(9000)), VpcId: new(w.vpc()), TargetType: types.TargetTypeEnumIp, HealthCheckIntervalSeconds: new(int32(5)),
	}))(w).TargetGroups[0].TargetGroupArn
	attributes := append(groupAttribute("preserve_client_ip.enabled", "true"), groupAttribute("load_balancing.cross_zone.enabled", "true")...)
	must(w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &pods, Attributes: attributes}))(w)
	must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: lb.LoadBalancerArn, Port: new(int32(9100)), Protocol: types.ProtocolEnumTcp, DefaultActions: forward(pods),
	}))(w)
	authorize := func(id string, p ec2types.IpPermission) {
		t.Helper()
		must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: []ec2types.IpPermission{p}}))(w)
	}
	authorize(network.NodeSecurityGroup(), ec2types.IpPermission{
		IpProtocol: new("tcp"), FromPort: new(int32(9000)), ToPort: new(int32(9000)), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &group}},
	})
	w.register(pods, pod.String())
	w.eventually("the pod is healthy", func() bool { return w.health(pods)[pod.String()].State == types.TargetHealthStateEnumHealthy })

	base := vpc.CIDR().Addr().As4()
	good, bad := netip.AddrFrom4([4]byte{base[0], base[1], 250, 1}), netip.AddrFrom4([4]byte{base[0], base[1], 251, 1})
	at := w.emulator.Endpoints()[0].Nodes[1].Real[9100]
	if got := w.line(vpc, short, good, at); got != dropped {
		t.Errorf("before any rule admits it the client gets %q", got)
	}
	authorize(group, tcp(9100, 9100, netip.PrefixFrom(good, 24).Masked().String()))
	if got := w.line(vpc, long, good, at); got != good.String() {
		t.Errorf("the pod sees %q, want the client %s", got, good)
	}
	if got := w.line(vpc, short, bad, at); got != dropped {
		t.Errorf("a client that no rule admits gets %q", got)
	}
	stats := w.emulator.Stats()[1].Network
	if stats == nil || stats.BlockedInbound["TCP"] != 2 || stats.NewFlows["TCP"] != 1 {
		t.Errorf("stats of the node: %+v", stats)
	}

	must(w.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &pods, Targets: []types.TargetDescription{{Id: new(pod.String())}}}))(w)
	w.eventually("new flows are refused", func() bool { return w.line(vpc, long, good, at) == "refused" })
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn}))(w)
	w.eventually("the port is closed", func() bool {
		conn, err := net.Dial("tcp", at.String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

// An Application Load Balancer behind a Network Load Balancer sees the address of the client, and admits it by the group of the
// Network Load Balancer.
func TestApplicationBehindNetworkBalancer(t *testing.T) {
	t.Parallel()
	w, vpc := networkWorld(t)
	web := *w.loadBalancer("web").LoadBalancerArn
	outer, inner := w.group("outer"), w.group("inner")
	must(w.elb.SetSecurityGroups(ctx, &elb.SetSecurityGroupsInput{LoadBalancerArn: &web, SecurityGroups: []string{inner}}))(w)
	byGroup := func(source string, port int32) ec2types.IpPermission {
		return ec2types.IpPermission{IpProtocol: new("tcp"), FromPort: &port, ToPort: &port, UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &source}}}
	}
	for id, p := range map[string]ec2types.IpPermission{
		outer: tcp(80, 80, "0.0.0.0/0"), inner: byGroup(outer, 80), w.emulator.EC2().NodeSecurityGroup(): byGroup(inner, 8080),
	} {
		must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: []ec2types.IpPermission{p}}))(w)
	}
	app := w.targetGroup("app")
	seen := make(chan string, 100)
	pod := w.podThat(vpc, func(rw http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("X-Forwarded-For"); from != "" && r.UserAgent() != "ELB-HealthChecker/2.0" {
			select {
			case seen <- from:
			default:
			}
		}
	})
	w.register(app, pod)
	w.listener(web, 80, forward(app))
	w.eventually("the pod is healthy", func() bool { return w.health(app)[pod].State == types.TargetHealthStateEnumHealthy })

	lb := *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: new("net"), Subnets: w.subnets(), Scheme: types.LoadBalancerSchemeEnumInternal, Type: types.LoadBalancerTypeEnumNetwork,
		SecurityGroups: []string{outer},
	}))(w).LoadBalancers[0].LoadBalancerArn
	front := *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: new("front"), Protocol: types.ProtocolEnumTcp, Port: new(int32(80)), VpcId: new(w.vpc()), TargetType: types.TargetTypeEnumAlb, HealthCheckIntervalSeconds: new(int32(10)),
	}))(w).TargetGroups[0].TargetGroupArn
	w.register(front, web)
	must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumTcp, DefaultActions: forward(front)}))(w)
	w.eventually("the ALB is healthy", func() bool { return w.health(front)[web].State == types.TargetHealthStateEnumHealthy })

	base := vpc.CIDR().Addr().As4()
	client := netip.AddrFrom4([4]byte{base[0], base[1], 250, 1})
	real := map[string]netip.AddrPort{}
	for _, e := range w.emulator.Endpoints() {
		real[e.Name] = e.Nodes[0].Real[80]
	}
	if got := w.line(vpc, short, client, real["web"]); got != dropped {
		t.Errorf("a client that does not come by way of the other load balancer gets %q", got)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: vpc.RealAddr(client).AsSlice()}}
	asked := &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	response, err := asked.Get("http://" + real["net"].String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if from := <-seen; from != client.String() {
		t.Errorf("the pod is told of %q, want %s", from, client)
	}
}

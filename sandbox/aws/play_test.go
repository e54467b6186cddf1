package aws_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// play is one situation: a load balancer with a listener on port 80 that forwards to a group.
type play struct {
	*world
	vpc       *address.VPC
	lb, group string
	listener  string
}

// pod is a target: an address of the VPC, and who serves it.
type pod struct {
	id   string
	stop func()
}

func named(name string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, name) }
}

// sick answers 500 to health checks and its name to everybody else.
func sick(name string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.UserAgent(), "ELB-HealthChecker") {
			rw.WriteHeader(500)
			return
		}
		_, _ = io.WriteString(rw, name)
	}
}

func (p *play) named(name string) *pod { return p.serve("eu-west-1a", named(name)) }
func (p *play) sick(name string) *pod  { return p.serve("eu-west-1a", sick(name)) }

// slow holds everything but health checks until it is let go.
func (p *play) slow() (one *pod, arrived <-chan struct{}, letGo func()) {
	in, out := make(chan struct{}, 10), make(chan struct{})
	one = p.serve("eu-west-1a", func(_ http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.UserAgent(), "ELB-HealthChecker") {
			in <- struct{}{}
			<-out
		}
	})
	return one, in, func() { close(out) }
}

// serve starts a pod in a zone.
func (p *play) serve(zone string, handler http.HandlerFunc) *pod {
	p.Helper()
	one := p.address(zone)
	p.serveAt(one, handler)
	return one
}

func (p *play) address(zone string) *pod {
	p.Helper()
	instance, err := p.emulator.EC2().AddInstance(zone, "node")
	if err != nil {
		p.Fatal(err)
	}
	a, err := p.emulator.EC2().AssignPodAddress(instance.ID)
	if err != nil {
		p.Fatal(err)
	}
	return &pod{id: a.String()}
}

// listen takes the port of a pod.
func (p *play) listen(one *pod) net.Listener {
	p.Helper()
	l, err := net.Listen("tcp", p.vpc.Real(netip.AddrPortFrom(netip.MustParseAddr(one.id), 8080)).String())
	if err != nil {
		p.Fatal(err)
	}
	return l
}

func (p *play) serveAt(one *pod, handler http.HandlerFunc) {
	p.Helper()
	l := p.listen(one)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	one.stop = func() { _ = server.Close() }
	p.Cleanup(one.stop)
}

// raw is a pod that is only a TCP listener.
func (p *play) raw(serve func(net.Conn)) *pod {
	p.Helper()
	one := p.address("eu-west-1a")
	l := p.listen(one)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	one.stop = func() { _ = l.Close() }
	p.Cleanup(one.stop)
	return one
}

func (p *play) name() string {
	_, tail, _ := strings.Cut(p.lb, "/app/")
	name, _, _ := strings.Cut(tail, "/")
	return name
}

// another makes a group that is not in use.
func (p *play) another() string {
	p.Helper()
	arn := p.targetGroup(p.name() + "-second")
	p.intervalOf(arn, 5)
	return arn
}

func (p *play) interval(seconds int32) { p.Helper(); p.intervalOf(p.group, seconds) }

func (p *play) intervalOf(group string, seconds int32) {
	p.Helper()
	must(p.elb.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{
		TargetGroupArn: &group, HealthCheckIntervalSeconds: &seconds, HealthCheckTimeoutSeconds: new(int32(2)), HealthyThresholdCount: new(int32(2)),
	}))(p.world)
}

func (p *play) groupAttribute(key, value string) {
	p.Helper()
	must(p.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{
		TargetGroupArn: &p.group, Attributes: []types.TargetGroupAttribute{{Key: &key, Value: &value}},
	}))(p.world)
}

func (p *play) deregister(id string) {
	p.Helper()
	must(p.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &p.group, Targets: []types.TargetDescription{{Id: &id}}}))(p.world)
}

// forwards splits the listener between the first group and another.
func (p *play) forwards(first int32, second string, rest int32) {
	p.Helper()
	actions := forward(p.group, second)
	actions[0].ForwardConfig.TargetGroups[0].Weight, actions[0].ForwardConfig.TargetGroups[1].Weight = &first, &rest
	must(p.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &p.listener, DefaultActions: actions}))(p.world)
}

func (p *play) securityGroup(admits ...ec2types.IpPermission) string {
	p.Helper()
	id := *must(p.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new(p.name()), Description: new("x"), VpcId: new(p.vpcID())}))(p.world).GroupId
	if len(admits) > 0 {
		must(p.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: admits}))(p.world)
	}
	return id
}

func (p *play) vpcID() string { p.Helper(); return p.world.vpc() }

// guard gives the load balancer a security group instead of that of the others.
func (p *play) guard(group string) {
	p.Helper()
	must(p.elb.SetSecurityGroups(ctx, &elb.SetSecurityGroupsInput{LoadBalancerArn: &p.lb, SecurityGroups: []string{group}}))(p.world)
}

func (p *play) subnetsOf(zones ...string) (ids []string) {
	p.Helper()
	for _, s := range must(p.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: p.subnets()}))(p.world).Subnets {
		if slices.Contains(zones, *s.AvailabilityZone) {
			ids = append(ids, *s.SubnetId)
		}
	}
	return ids
}

// nodes are those of the load balancer, by zone.
func (p *play) nodes() []aws.EndpointNode {
	for _, e := range p.emulator.Endpoints() {
		if e.ARN == p.lb {
			slices.SortFunc(e.Nodes, func(a, b aws.EndpointNode) int { return strings.Compare(a.Zone, b.Zone) })
			return e.Nodes
		}
	}
	return nil
}

func (p *play) node(zone string) aws.EndpointNode {
	p.Helper()
	for _, n := range p.nodes() {
		if n.Zone == zone {
			return n
		}
	}
	p.Fatalf("no node in %s", zone)
	return aws.EndpointNode{}
}

var apart = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

// ask returns the body of a 200, or the status; nothing if there is no answer.
func (p *play) ask(n aws.EndpointNode) string {
	response, err := apart.Get("http://" + n.Real[80].String() + "/")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != 200 {
		return fmt.Sprint(response.StatusCode)
	}
	return string(body)
}

func (p *play) async() <-chan string {
	got, n := make(chan string, 1), p.nodes()[0]
	go func() { got <- p.ask(n) }()
	return got
}

// sees waits until every node gives an answer.
func (p *play) sees(want string) {
	p.Helper()
	for _, n := range p.nodes() {
		p.seesAt(n, want)
	}
}

func (p *play) seesAt(n aws.EndpointNode, want string) {
	p.Helper()
	p.eventually(n.Zone+" answers "+want, func() bool { return p.ask(n) == want })
}

// shows waits until DescribeTargetHealth lists these targets, each as id, state and reason.
func (p *play) shows(group string, want ...string) {
	p.Helper()
	slices.Sort(want)
	p.eventually(fmt.Sprintf("the API shows %q", want), func() bool {
		var got []string
		for id, h := range p.health(group) {
			got = append(got, strings.TrimSpace(id+" "+string(h.State)+" "+string(h.Reason)))
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// resolves waits until DNS has so many addresses for the load balancer.
func (p *play) resolves(want int) {
	p.Helper()
	name := ""
	for _, b := range p.emulator.LoadBalancers() {
		if b.ARN == p.lb {
			name = b.DNSName
		}
	}
	p.eventually(fmt.Sprintf("%d addresses in DNS", want), func() bool { return len(p.emulator.Resolve(name)) == want })
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

package aws_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// The situations of an Application Load Balancer over the API: what a client sees, and what DescribeTargetHealth says meanwhile. Those in which a
// node alone is concerned are in package dataplane once more, with all their variants.

// brisk is a node that checks fifty times as often as it is told, and has no patience with connections.
type brisk struct{ *dataplane.Node }

func (n brisk) ApplyGroup(g dataplane.Group) {
	g.HealthCheck.Interval /= 50
	n.Node.ApplyGroup(g)
}

var situations = []struct {
	name string
	do   func(*play)
}{
	{"1 a group without targets", func(p *play) {
		p.sees("503")
		p.shows(p.group)
	}},
	{"2 only targets in their first check", func(p *play) {
		release := make(chan struct{})
		defer close(release)
		pod := p.serve("eu-west-1a", func(rw http.ResponseWriter, r *http.Request) { <-release })
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" initial Elb.InitialHealthChecking")
		p.sees("503")
	}},
	{"3 the first check has passed", func(p *play) {
		pod := p.named("a")
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" healthy")
		p.sees("a")
	}},
	{"4 all targets are unhealthy", func(p *play) {
		pod := p.sick("a")
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" unhealthy Target.ResponseCodeMismatch")
		p.sees("a")
	}},
	{"5 some are unhealthy", func(p *play) {
		well, ill := p.named("well"), p.sick("ill")
		p.register(p.group, well.id, ill.id)
		p.shows(p.group, well.id+" healthy", ill.id+" unhealthy Target.ResponseCodeMismatch")
		for range 10 {
			p.sees("well")
		}
	}},
	{"6 the pod has gone", func(p *play) {
		p.interval(300)
		pod := p.named("a")
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" healthy")
		pod.stop()
		p.sees("502")
		p.shows(p.group, pod.id+" healthy")
		p.interval(5)
		p.shows(p.group, pod.id+" unhealthy Target.FailedHealthChecks")
	}},
	{"7 the address has a new pod", func(p *play) {
		pod := p.named("a")
		p.register(p.group, pod.id)
		p.sees("a")
		pod.stop()
		p.serveAt(pod, named("another service"))
		p.sees("another service")
		p.shows(p.group, pod.id+" healthy")
	}},
	{"8 a target is deregistered", func(p *play) {
		p.groupAttribute("deregistration_delay.timeout_seconds", "2")
		leaving, staying := p.named("leaving"), p.named("staying")
		p.register(p.group, leaving.id, staying.id)
		p.shows(p.group, leaving.id+" healthy", staying.id+" healthy")
		late := p.nodes()[2]
		id, err := p.emulator.AddFault(fault.Fault{Kind: fault.Stuck, Zone: late.Zone, Resource: "app/" + p.name()})
		if err != nil {
			p.Fatal(err)
		}
		p.deregister(leaving.id)
		p.shows(p.group, leaving.id+" draining Target.DeregistrationInProgress", staying.id+" healthy")
		// Five answers in a row, where they would come from both targets in turn.
		always := func(n aws.EndpointNode) bool {
			return !slices.ContainsFunc(make([]int, 5), func(int) bool { return p.ask(n) != "staying" })
		}
		p.eventually("a node has heard of it", func() bool { return always(p.nodes()[0]) })
		p.seesAt(late, "leaving") // it has not
		p.emulator.EndFault(id)
		p.eventually("the last node has heard of it", func() bool { return always(late) })
		p.shows(p.group, staying.id+" healthy")
		out := must(p.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &p.group, Targets: []types.TargetDescription{{Id: &leaving.id}}}))(p.world)
		if h := out.TargetHealthDescriptions[0].TargetHealth; h.State != types.TargetHealthStateEnumUnused || h.Reason != types.TargetHealthReasonEnumNotRegistered {
			p.Errorf("asked for by name it is %s %s", h.State, h.Reason)
		}
	}},
	{"9 a request takes longer than the delay", func(p *play) {
		p.groupAttribute("deregistration_delay.timeout_seconds", "1")
		pod, arrived, letGo := p.slow()
		defer letGo()
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" healthy")
		answer := p.async()
		<-arrived
		p.deregister(pod.id)
		p.shows(p.group, pod.id+" draining Target.DeregistrationInProgress")
		if got := <-answer; got != "502" {
			p.Errorf("got %s", got)
		}
		p.shows(p.group)
	}},
	{"10 the only target drains", func(p *play) {
		pod := p.named("a")
		p.register(p.group, pod.id)
		p.sees("a")
		p.deregister(pod.id)
		p.sees("503")
		p.shows(p.group, pod.id+" draining Target.DeregistrationInProgress")
	}},
	{"11 the process ends while it drains", func(p *play) {
		pod, arrived, letGo := p.slow()
		defer letGo()
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" healthy")
		answer := p.async()
		<-arrived
		p.deregister(pod.id)
		p.shows(p.group, pod.id+" draining Target.DeregistrationInProgress")
		pod.stop()
		if got := <-answer; got != "502" {
			p.Errorf("got %s", got)
		}
	}},
	{"12 half the weight on an empty group", func(p *play) {
		pod, empty := p.named("a"), p.another()
		p.register(p.group, pod.id)
		p.sees("a")
		p.forwards(50, empty, 50)
		count := map[string]int{}
		p.eventually("both halves are seen", func() bool { count[p.ask(p.nodes()[0])]++; return count["503"] > 0 && count["a"] > 0 })
		for range 200 {
			count[p.ask(p.nodes()[0])]++
		}
		if len(count) != 2 || count["503"] < 60 || count["a"] < 60 {
			p.Errorf("got %v", count)
		}
		p.shows(empty)
	}},
	{"13 weights 100 and 0", func(p *play) {
		pod, second, idle := p.named("a"), p.another(), p.named("idle")
		p.register(p.group, pod.id)
		p.register(second, idle.id)
		p.shows(second, idle.id+" unused Target.NotInUse")
		p.forwards(100, second, 0)
		p.shows(second, idle.id+" healthy")
		for range 20 {
			p.sees("a")
		}
	}},
	{"14 weights are turned round and the pods killed", func(p *play) {
		old, second, fresh := p.named("old"), p.another(), p.named("new")
		p.register(p.group, old.id)
		p.register(second, fresh.id)
		p.forwards(0, second, 100)
		p.shows(second, fresh.id+" healthy")
		p.shows(p.group, old.id+" healthy")
		p.sees("new")
		late := p.nodes()[2]
		id, err := p.emulator.AddFault(fault.Fault{Kind: fault.Stuck, Zone: late.Zone, Resource: "app/" + p.name()})
		if err != nil {
			p.Fatal(err)
		}
		p.forwards(100, second, 0)
		fresh.stop()
		for _, n := range p.nodes()[:2] {
			p.seesAt(n, "old")
		}
		p.seesAt(late, "502")
		p.emulator.EndFault(id)
		p.sees("old")
	}},
	{"15 a group has just been attached", func(p *play) {
		release := make(chan struct{})
		pod := p.serve("eu-west-1a", func(rw http.ResponseWriter, r *http.Request) {
			<-release
			_, _ = io.WriteString(rw, "a")
		})
		second := p.another()
		p.register(second, pod.id)
		p.shows(second, pod.id+" unused Target.NotInUse")
		p.forwards(0, second, 1)
		p.shows(second, pod.id+" initial Elb.InitialHealthChecking")
		p.sees("503")
		close(release)
		p.shows(second, pod.id+" healthy")
		p.sees("a")
	}},
	{"16 health checks alone are answered 500", func(p *play) {
		pod, other := p.sick("a"), p.named("b")
		p.register(p.group, pod.id, other.id)
		p.shows(p.group, pod.id+" unhealthy Target.ResponseCodeMismatch", other.id+" healthy")
		p.sees("b")
		p.deregister(other.id)
		p.sees("a")
	}},
	{"17 a target accepts and never answers", func(p *play) {
		must(p.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &p.lb, Attributes: []types.LoadBalancerAttribute{
			{Key: new("idle_timeout.timeout_seconds"), Value: new("1")},
		}}))(p.world)
		release := make(chan struct{})
		defer close(release)
		pod := p.serve("eu-west-1a", func(http.ResponseWriter, *http.Request) { <-release })
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" unhealthy Target.Timeout")
		p.sees("504")
	}},
	{"18 security groups do not let the load balancer to the target", func(p *play) {
		p.guard(p.securityGroup(tcp(80, 80, "0.0.0.0/0"))) // which the targets' group does not know
		pod := p.named("a")
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" unhealthy Target.Timeout")
		p.sees("504")
	}},
	{"19 security groups do not let the client in", func(p *play) {
		p.sees("503")
		p.guard(p.securityGroup())
		if !sockopt.Filters {
			p.Skip("the kernel of this system takes no filters")
		}
		p.eventually("connects time out", func() bool {
			conn, err := net.DialTimeout("tcp", p.nodes()[0].Real[80].String(), 200*time.Millisecond)
			if err == nil {
				_ = conn.Close()
			}
			timeout, ok := err.(net.Error)
			return ok && timeout.Timeout()
		})
	}},
	{"20 a target closes as the next request comes", func(p *play) {
		pod := p.raw(func(conn net.Conn) {
			r := bufio.NewReader(conn)
			for first := true; ; first = false {
				request, err := http.ReadRequest(r)
				if err != nil || !first {
					return // instead of an answer
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
				_ = request
			}
		})
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" healthy")
		n := p.nodes()[0]
		p.seesAt(n, "a")
		if got := p.ask(n); got != "502" {
			p.Errorf("the request on the kept connection got %s", got)
		}
		if got := p.ask(n); got != "a" {
			p.Errorf("the one after it got %s", got)
		}
		p.shows(p.group, pod.id+" healthy")
	}},
	{"21 a zone without healthy targets, across zones", func(p *play) {
		pod := p.named("a") // in zone a
		p.register(p.group, pod.id)
		p.shows(p.group, pod.id+" healthy")
		p.sees("a") // by the nodes of all zones
		p.resolves(3)
	}},
	{"22 a zone without healthy targets, each zone for itself", func(p *play) {
		p.groupAttribute("load_balancing.cross_zone.enabled", "false")
		well, ill := p.named("a"), p.serve("eu-west-1b", sick("b"))
		p.register(p.group, well.id, ill.id)
		p.shows(p.group, well.id+" healthy", ill.id+" unhealthy Target.ResponseCodeMismatch")
		p.seesAt(p.node("eu-west-1a"), "a")
		p.seesAt(p.node("eu-west-1b"), "b")   // it has an unhealthy one, and fails open
		p.seesAt(p.node("eu-west-1c"), "503") // it has none
		p.resolves(1)
	}},
	{"23 the load balancer is deleted", func(p *play) {
		pod := p.named("a")
		p.register(p.group, pod.id)
		p.sees("a")
		at := p.nodes()[0].Real[80].String()
		open, err := net.Dial("tcp", at)
		if err != nil {
			p.Fatal(err)
		}
		defer open.Close()
		must(p.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &p.lb}))(p.world)
		p.resolves(0)
		_ = open.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadAll(open); isTimeout(err) {
			p.Error("an open connection stays open")
		}
		p.eventually("the port is closed", func() bool {
			conn, err := net.Dial("tcp", at)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
		_, err = p.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{p.lb}})
		p.wantCode(err, "LoadBalancerNotFound")
		p.shows(p.group, pod.id+" unused Target.NotInUse")
	}},
	{"24 a target in a zone that the load balancer does not have", func(p *play) {
		must(p.elb.SetSubnets(ctx, &elb.SetSubnetsInput{LoadBalancerArn: &p.lb, Subnets: p.subnetsOf("eu-west-1a", "eu-west-1b")}))(p.world)
		p.groupAttribute("load_balancing.cross_zone.enabled", "false")
		near, far := p.named("near"), p.serve("eu-west-1c", named("far"))
		p.register(p.group, near.id, far.id)
		p.shows(p.group, near.id+" healthy", far.id+" unused Target.NotInUse")
		p.seesAt(p.node("eu-west-1a"), "near")
		p.seesAt(p.node("eu-west-1b"), "503")
	}},
}

func TestSituations(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w := newWorld(t, func(c *aws.Config) {
		c.VPC, c.WithoutTraffic = vpc.Mapping, false
		c.NewNode = func(d dataplane.Config) elbv2.Node {
			d.ConnectTimeout = time.Second
			return brisk{dataplane.NewNode(d)}
		}
	})
	w.letIn(*w.loadBalancer("gate").LoadBalancerArn) // its security group is that of all the others
	for i, s := range situations {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			own := *w
			own.T = t
			p := &play{world: &own, vpc: vpc}
			name := fmt.Sprintf("s%d", i+1)
			p.lb, p.group = *p.loadBalancer(name).LoadBalancerArn, p.targetGroup(name)
			p.interval(5)
			p.listener = p.world.listener(p.lb, 80, forward(p.group))
			p.eventually("the listener is open", func() bool {
				return !slices.ContainsFunc(p.nodes(), func(n aws.EndpointNode) bool { return p.ask(n) == "" })
			})
			s.do(p)
		})
	}
}

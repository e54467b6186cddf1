package aws_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// slowly is the profile ideal, but for some keys.
func slowly(t *testing.T, keys map[profile.Key]string) *profile.Profile {
	t.Helper()
	ideal, err := profile.Load("ideal")
	if err != nil {
		t.Fatal(err)
	}
	for key, text := range keys {
		if ideal.Seconds[key], err = profile.ParseDistribution(text); err != nil {
			t.Fatal(err)
		}
	}
	return ideal
}

// knock tries to connect from an address of the VPC; the error is a time-out if nobody answers.
func knock(vpc *address.VPC, patience time.Duration, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: vpc.RealAddr(from).AsSlice()}, Timeout: patience}
	return d.Dial("tcp", to.String())
}

func (w *world) wantTimeout(what string, err error) {
	w.Helper()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		w.Errorf("%s: %v, want a time-out", what, err)
	}
}

// Section 6.3: what no rule admits is dropped, so that connects time out; an authorisation is felt a little later; a connection outlives the
// revocation of the rule that let it in. Likewise at both kinds of load balancers.
func TestConnectsFeelSecurityGroups(t *testing.T) {
	if !sockopt.Filters {
		t.Skip("the kernel of this system takes no filters")
	}
	for name, network := range map[string]bool{"application": false, "network": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, vpc := networkWorld(t)
			group := w.group("front")
			lb, at := w.echoBehind(vpc, group, network)
			base := vpc.CIDR().Addr().As4()
			client := netip.AddrFrom4([4]byte{base[0], base[1], 250, 1})
			permission := []ec2types.IpPermission{tcp(80, 80, client.String()+"/32")}

			w.emulator.SetProfile(slowly(t, map[profile.Key]string{profile.SecurityGroupRule: "F(0.5)"}))
			_, err := knock(vpc, 100*time.Millisecond, client, at)
			w.wantTimeout("before any rule admits the client", err)
			begun := time.Now()
			must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: permission}))(w)
			if _, err = knock(vpc, 100*time.Millisecond, client, at); time.Since(begun) < 500*time.Millisecond {
				w.wantTimeout("before packets feel the rule", err)
			}
			var conn net.Conn
			w.eventually("the client is let in", func() bool {
				conn, err = knock(vpc, 100*time.Millisecond, client, at)
				return err == nil
			})
			defer conn.Close()
			if after := time.Since(begun); after < 500*time.Millisecond {
				t.Errorf("let in %v after the call", after)
			}
			answers := func() {
				t.Helper()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				line, err := bufio.NewReader(conn).ReadString('\n')
				if !strings.HasPrefix(line, "HTTP/1.1 200") && !strings.HasPrefix(line, "GET /") {
					t.Fatalf("the connection says %q, %v", line, err)
				}
			}
			answers()
			must(w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: permission}))(w)
			w.eventually("the client is no longer let in", func() bool {
				again, err := knock(vpc, 100*time.Millisecond, client, at)
				if err == nil {
					_ = again.Close()
					return false
				}
				w.wantTimeout("after the revocation", err)
				return true
			})
			answers()

			// A group as source admits the addresses of its interfaces.
			must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []ec2types.IpPermission{{
				IpProtocol: new("-1"), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: new(w.emulator.EC2().NodeSecurityGroup())}},
			}}}))(w)
			if err := w.emulator.SetScale(0); err != nil { // the rule is felt now
				t.Fatal(err)
			}
			machine, err := w.emulator.EC2().AddInstance("eu-west-1b", "another")
			if err != nil {
				t.Fatal(err)
			}
			inside, err := knock(vpc, 10*time.Second, machine.Address, at)
			if err != nil {
				t.Fatalf("an instance of the group that is admitted: %v", err)
			}
			_ = inside.Close()
			_, err = knock(vpc, 100*time.Millisecond, client, at)
			w.wantTimeout("who is not of the group", err)

			// Another group on the load balancer is felt as its own rules are.
			other := w.group("other")
			must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &other, IpPermissions: permission}))(w)
			must(w.elb.SetSecurityGroups(ctx, &elb.SetSecurityGroupsInput{LoadBalancerArn: &lb, SecurityGroups: []string{other}}))(w)
			w.eventually("the client is let in by the new group", func() bool {
				conn, err := knock(vpc, 100*time.Millisecond, client, at)
				if err == nil {
					_ = conn.Close()
				}
				return err == nil
			})
			_, err = knock(vpc, 100*time.Millisecond, machine.Address, at)
			w.wantTimeout("who was let in by the old group", err)
		})
	}
}

// echoBehind is a load balancer with a security group, and a listener on port 80 that answers each line: with itself or by 200.
func (w *world) echoBehind(vpc *address.VPC, group string, network bool) (lb string, at netip.AddrPort) {
	w.Helper()
	in := &elb.CreateLoadBalancerInput{Name: new("front"), Subnets: w.subnets(), Scheme: types.LoadBalancerSchemeEnumInternal, SecurityGroups: []string{group}}
	if network {
		in.Type = types.LoadBalancerTypeEnumNetwork
	}
	lb = *must(w.elb.CreateLoadBalancer(ctx, in))(w).LoadBalancers[0].LoadBalancerArn
	if network {
		pods := w.echoGroup(vpc, group)
		w.listenWith(lb, types.ProtocolEnumTcp, forward(pods))
		w.eventually("the pod is healthy", func() bool {
			for _, h := range w.health(pods) {
				return h.State == types.TargetHealthStateEnumHealthy
			}
			return false
		})
	} else {
		w.listenWith(lb, types.ProtocolEnumHttp, fixed("200"))
	}
	w.eventually("a node listens", func() bool {
		for _, e := range w.emulator.Endpoints() {
			for _, node := range e.Nodes {
				at = node.Real[80]
			}
		}
		return at.IsValid()
	})
	return lb, at
}

func (w *world) listenWith(lb string, protocol types.ProtocolEnum, actions []types.Action) {
	w.Helper()
	must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: protocol, DefaultActions: actions}))(w)
}

// echoGroup is a TCP group with a healthy pod that sends back what it gets.
func (w *world) echoGroup(vpc *address.VPC, front string) string {
	w.Helper()
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: new(w.emulator.EC2().NodeSecurityGroup()), IpPermissions: []ec2types.IpPermission{{
			IpProtocol: new("tcp"), FromPort: new(int32(9000)), ToPort: new(int32(9000)), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &front}},
		}},
	}))(w)
	group := w.streamGroup("pods")
	w.register(group, w.echo(vpc, ""))
	return group
}

// streamGroup is a TCP group of addresses, on port 9000, that is used across zones.
func (w *world) streamGroup(name string) string {
	w.Helper()
	group := *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: &name, Protocol: types.ProtocolEnumTcp, Port: new(int32(9000)), VpcId: new(w.vpc()), TargetType: types.TargetTypeEnumIp,
	}))(w).TargetGroups[0].TargetGroupArn
	must(w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{
		TargetGroupArn: &group, Attributes: groupAttribute("load_balancing.cross_zone.enabled", "true"),
	}))(w)
	return group
}

// echo is a pod that says its name on each connection to port 9000, if it has one, and then sends back what it gets.
func (w *world) echo(vpc *address.VPC, name string) (pod string) {
	w.Helper()
	return w.tcpPod(vpc, func(conn net.Conn) {
		if name != "" {
			_, _ = io.WriteString(conn, name+"\n")
		}
		_, _ = io.Copy(conn, conn)
	}).String()
}

// tcpPod is a pod of a node of its own that serves each connection to port 9000.
func (w *world) tcpPod(vpc *address.VPC, serve func(net.Conn)) netip.Addr {
	w.Helper()
	a, l := w.podListener(vpc, 9000)
	w.Cleanup(func() { _ = l.Close() })
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
	return a
}

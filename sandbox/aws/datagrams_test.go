package aws_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Datagrams of each protocol that has them come to a target and back, from the API to bytes.
func TestNetworkBalancerCarriesDatagrams(t *testing.T) {
	for _, protocol := range []types.ProtocolEnum{types.ProtocolEnumUdp, types.ProtocolEnumTcpUdp, types.ProtocolEnumQuic, types.ProtocolEnumTcpQuic} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			w, vpc := networkWorld(t)
			must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
				GroupId: new(w.emulator.EC2().NodeSecurityGroup()), IpPermissions: []ec2types.IpPermission{{IpProtocol: new("-1"), IpRanges: []ec2types.IpRange{{CidrIp: new("0.0.0.0/0")}}}},
			}))(w)
			pod := w.echo(vpc, "pod") // for the checks
			p, err := net.ListenPacket("udp", vpc.Real(netip.AddrPortFrom(netip.MustParseAddr(pod), 9000)).String())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			go func() {
				buffer := make([]byte, 2048)
				for {
					n, from, err := p.ReadFrom(buffer)
					if err != nil {
						return
					}
					_, _ = p.WriteTo(buffer[:n], from)
				}
			}()
			lb := *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
				Name: new("net"), Subnets: w.subnets(), Scheme: types.LoadBalancerSchemeEnumInternal, Type: types.LoadBalancerTypeEnumNetwork,
			}))(w).LoadBalancers[0].LoadBalancerArn
			group := *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
				Name: new("pods"), Protocol: protocol, Port: new(int32(9000)), VpcId: new(w.vpc()), TargetType: types.TargetTypeEnumIp,
			}))(w).TargetGroups[0].TargetGroupArn
			target := types.TargetDescription{Id: &pod}
			if protocol == types.ProtocolEnumQuic || protocol == types.ProtocolEnumTcpQuic {
				target.QuicServerId = new("0x0123456789abcdef")
			}
			must(w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{target}}))(w)
			must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(4443)), Protocol: protocol, DefaultActions: forward(group)}))(w)
			w.eventually("the pod is healthy", func() bool { return w.health(group)[pod].State == types.TargetHealthStateEnumHealthy })
			var at netip.AddrPort
			for _, node := range w.emulator.Endpoints()[0].Nodes {
				if node.Zone == "eu-west-1a" {
					at = node.Real[4443]
				}
			}
			w.eventually("a datagram comes back", func() bool {
				d := net.Dialer{LocalAddr: &net.UDPAddr{IP: vpc.RealAddr(vpc.CIDR().Addr().Next()).AsSlice()}}
				conn, err := d.Dial("udp", at.String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, _ = conn.Write([]byte("hello"))
				_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				buffer := make([]byte, 100)
				n, err := conn.Read(buffer)
				return err == nil && string(buffer[:n]) == "hello"
			})
		})
	}
}

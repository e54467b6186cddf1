package aws_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// ownVPC makes a VPC with subnets in two zones, the internet, and a security group that lets everybody in at 80 and 8080. All of them have the same block.
func (w *world) ownVPC() (vpc, group string, subnets []string) {
	w.Helper()
	vpc = *must(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("192.168.0.0/20")}))(w).Vpc.VpcId
	gateway := must(w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{}))(w).InternetGateway.InternetGatewayId
	must(w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: gateway, VpcId: &vpc}))(w)
	for zone, block := range map[string]string{"eu-west-1a": "192.168.1.0/24", "eu-west-1b": "192.168.2.0/24"} {
		n := must(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &vpc, CidrBlock: &block, AvailabilityZone: &zone}))(w).Subnet
		subnets = append(subnets, *n.SubnetId)
	}
	group = *must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("all"), Description: new("all"), VpcId: &vpc}))(w).GroupId
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: &group, IpPermissions: []ec2types.IpPermission{tcp(80, 8080, "0.0.0.0/0")},
	}))(w)
	return vpc, group, subnets
}

// A load balancer, and an instance that is really served by a program on this machine, in a VPC that calls have made.
func TestAVPCOfOnesOwnCarriesTraffic(t *testing.T) {
	t.Parallel()
	w, _ := networkWorld(t)
	vpc, group, subnets := w.ownVPC()
	instance := *must(w.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: new("ami-12345678"), MinCount: new(int32(1)), MaxCount: new(int32(1)), SubnetId: &subnets[0], SecurityGroupIds: []string{group},
	}))(w).Instances[0].InstanceId

	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = rw.Write([]byte("mine")) }))
	t.Cleanup(server.Close)
	ports := map[uint16]netip.AddrPort{8080: netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))}
	host, err := w.emulator.AddHost(aws.Host{Name: "mine", Instance: instance, Ports: ports})
	if err != nil || host.ID != instance || !strings.HasPrefix(host.Address.String(), "192.168.") {
		t.Fatalf("%+v, %v", host, err)
	}
	for says, h := range map[string]aws.Host{
		"is that of host mine": {Name: "other", Instance: instance, Ports: ports},
		"there is no instance": {Name: "other", Instance: "i-00000000000000000", Ports: ports},
		"remove it first":      {Name: "mine", Instance: "i-00000000000000000", Ports: ports},
		"is in zone":           {Name: "other", Instance: instance, Zone: "eu-west-1c", Ports: ports},
	} {
		if says == "is in zone" {
			if err := w.emulator.RemoveHost("mine"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.emulator.AddHost(h); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
		if _, err := w.emulator.AddHost(aws.Host{Name: "mine", Instance: instance, Ports: ports}); err != nil {
			t.Fatalf("a host that was removed took its instance away: %v", err)
		}
	}

	balancer := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("mine"), Subnets: subnets, SecurityGroups: []string{group}}))(w).LoadBalancers[0]
	targets := *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: new("mine"), VpcId: &vpc, Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), TargetType: types.TargetTypeEnumInstance,
	}))(w).TargetGroups[0].TargetGroupArn
	w.register(targets, instance)
	w.listener(*balancer.LoadBalancerArn, 80, []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: &targets}})
	w.answers("mine")
	for _, node := range w.emulator.Endpoints()[0].Nodes {
		if w.emulator.Space().VirtualAddr(node.Real[80].Addr()) != node.Address || w.emulator.ZoneOf(node.Address) != node.Zone {
			t.Errorf("the node of zone %s has the address %s, in zone %q", node.Zone, node.Address, w.emulator.ZoneOf(node.Address))
		}
	}
}

// Two VPCs have the same block, as those of a test and a production environment often do, and a load balancer each.
func TestVPCsWithTheSameBlockCarryTraffic(t *testing.T) {
	t.Parallel()
	w, _ := networkWorld(t)
	for _, name := range []string{"one", "two"} {
		_, group, subnets := w.ownVPC()
		balancer := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: &name, Subnets: subnets, SecurityGroups: []string{group}}))(w).LoadBalancers[0]
		w.listener(*balancer.LoadBalancerArn, 80, []types.Action{{
			Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("200"), ContentType: new("text/plain"), MessageBody: &name},
		}})
	}
	for i, want := range []string{"one", "two"} {
		w.answersAt(w.emulator.Endpoints()[i], want)
	}
	address := w.emulator.Endpoints()[0].Nodes[0].Address
	for _, b := range must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(w).LoadBalancers {
		must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: b.LoadBalancerArn}))(w)
	}
	w.eventually("the network is given back", func() bool { return !w.emulator.Space().RealAddr(address).IsValid() })
}

// A rule lets in the block of a VPC of which nothing is served yet: what begins to be served there comes in all the same.
func TestALoadBalancerLetsInAVPCThatIsServedLater(t *testing.T) {
	t.Parallel()
	w, vpc := networkWorld(t)
	text := func(body string) []types.Action {
		return []types.Action{{
			Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("200"), ContentType: new("text/plain"), MessageBody: &body},
		}}
	}
	own := *w.loadBalancer("own").LoadBalancerArn
	w.letIn(own)
	w.listener(own, 80, text("mine"))
	w.answers("mine")
	group := must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{own}}))(w).LoadBalancers[0].SecurityGroups[0]
	must(w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []ec2types.IpPermission{tcp(80, 80, "0.0.0.0/0")}}))(w)
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []ec2types.IpPermission{tcp(80, 80, "192.168.0.0/20")}}))(w)
	_, theirs, subnets := w.ownVPC()
	other := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("theirs"), Subnets: subnets, SecurityGroups: []string{theirs}}))(w).LoadBalancers[0]
	w.listener(*other.LoadBalancerArn, 80, text("theirs"))
	to := vpc.Real(netip.AddrPortFrom(w.emulator.Endpoints()[0].Nodes[0].Address, 80))
	from := w.emulator.Endpoints()[1].Nodes[0].Address
	w.eventually("a client in the other VPC is let in", func() bool {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: w.emulator.Space().RealAddr(from).AsSlice()}, Timeout: time.Second}
		conn, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// An instance that somebody has terminated is no instance of a host any more.
func TestAHostGetsAnotherInstanceForATerminatedOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.outside("shop", "eu-west-1a")
	must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{first.ID}}))(w)
	w.eventually("the instance is gone", func() bool { _, runs := w.emulator.EC2().InstanceByID(first.ID); return !runs })
	if second := w.outside("shop", "eu-west-1b"); second.ID == first.ID || second.Zone != "eu-west-1b" {
		t.Errorf("%+v after %+v", second, first)
	}
}

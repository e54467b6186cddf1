package aws_test

import (
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// elsewhere is another VPC with subnets in two zones; both families of addresses.
type elsewhere struct {
	vpc     string
	subnets []string
	group   string
}

func (w *world) elsewhere() elsewhere {
	w.Helper()
	vpc := must(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.200.0.0/16"), AmazonProvidedIpv6CidrBlock: new(true)}))(w).Vpc
	e := elsewhere{vpc: *vpc.VpcId}
	six := netip.MustParsePrefix(*must(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{e.vpc}}))(w).Vpcs[0].Ipv6CidrBlockAssociationSet[0].Ipv6CidrBlock).Addr().As16()
	for i, zone := range []string{"eu-west-1a", "eu-west-1b"} {
		six[7] = byte(i)
		in := &ec2.CreateSubnetInput{VpcId: &e.vpc, AvailabilityZone: &zone, CidrBlock: new([]string{"10.200.0.0/24", "10.200.1.0/24"}[i]), Ipv6CidrBlock: new(netip.PrefixFrom(netip.AddrFrom16(six), 64).String())}
		e.subnets = append(e.subnets, *must(w.ec2.CreateSubnet(ctx, in))(w).Subnet.SubnetId)
	}
	e.group = *must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []ec2types.Filter{{Name: new("vpc-id"), Values: []string{e.vpc}}}}))(w).SecurityGroups[0].GroupId
	return e
}

// Load balancers, their security groups and target groups are of one VPC; internet-facing ones need a gateway.
func TestLoadBalancersOfAnotherVPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.elsewhere()
	create := func(change func(*elb.CreateLoadBalancerInput)) (types.LoadBalancer, error) {
		in := &elb.CreateLoadBalancerInput{Name: new("web"), Subnets: e.subnets, Scheme: types.LoadBalancerSchemeEnumInternal}
		change(in)
		out, err := w.elb.CreateLoadBalancer(ctx, in)
		if err != nil {
			return types.LoadBalancer{}, err
		}
		return out.LoadBalancers[0], nil
	}
	small := *must(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &e.vpc, AvailabilityZone: new("eu-west-1c"), CidrBlock: new("10.200.2.0/28")}))(w).Subnet.SubnetId
	for why, r := range map[string]struct {
		code   string
		change func(*elb.CreateLoadBalancerInput)
	}{
		"no gateway": {"InvalidSubnet", func(in *elb.CreateLoadBalancerInput) { in.Scheme = types.LoadBalancerSchemeEnumInternetFacing }},
		"two VPCs": {"InvalidSubnet", func(in *elb.CreateLoadBalancerInput) {
			in.Subnets = []string{e.subnets[0], zoneSubnet(w, "eu-west-1b")}
		}},
		"a small subnet": {"InvalidSubnet", func(in *elb.CreateLoadBalancerInput) { in.Subnets = []string{e.subnets[0], small} }},
		"group elsewhere": {"InvalidConfigurationRequest", func(in *elb.CreateLoadBalancerInput) {
			in.SecurityGroups = []string{w.emulator.EC2().DefaultSecurityGroup()}
		}},
	} {
		_, err := create(r.change)
		t.Run(why, func(t *testing.T) { (&world{T: t}).wantCode(err, r.code) })
	}
	lb, err := create(func(*elb.CreateLoadBalancerInput) {})
	if err != nil {
		t.Fatal(err)
	}
	if *lb.VpcId != e.vpc || len(lb.SecurityGroups) != 1 || lb.SecurityGroups[0] != e.group {
		t.Errorf("new load balancer: %+v", lb)
	}
	group := func(name, vpc string) types.TargetGroup {
		return must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(80)), VpcId: &vpc, TargetType: types.TargetTypeEnumIp}))(w).TargetGroups[0]
	}
	_, err = w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: lb.LoadBalancerArn, Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, DefaultActions: forward(*group("here", w.emulator.EC2().VPC()).TargetGroupArn),
	})
	w.wantCode(err, "InvalidConfigurationRequest")
	there := group("there", e.vpc)
	w.listener(*lb.LoadBalancerArn, 80, forward(*there.TargetGroupArn))
	register := func(id string) error {
		return failed(w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: there.TargetGroupArn, Targets: []types.TargetDescription{{Id: &id}}}))
	}
	if err := register("10.200.1.7"); err != nil {
		t.Error(err)
	}
	w.wantCode(register("10.77.0.9"), "ValidationError") // outside of this VPC
}

// zoneSubnet is a subnet of the first VPC in a zone.
func zoneSubnet(w *world, zone string) string {
	w.Helper()
	return *must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{
		{Name: new("availability-zone"), Values: []string{zone}}, {Name: new("tag:kubernetes.io/role/internal-elb"), Values: []string{"1"}},
	}}))(w).Subnets[0].SubnetId
}

// A Network Load Balancer has the Elastic IP addresses that it is given, for as long as it lives.
func TestElasticAddressesOfNetworkBalancers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	elastic := must(w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{}))(w)
	create := func(name string) (*elb.CreateLoadBalancerOutput, error) {
		return w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
			Name: &name, Type: types.LoadBalancerTypeEnumNetwork, SubnetMappings: []types.SubnetMapping{{SubnetId: &w.subnets()[0], AllocationId: elastic.AllocationId}},
		})
	}
	lb := must(create("one"))(w).LoadBalancers[0]
	if a := lb.AvailabilityZones[0].LoadBalancerAddresses; len(a) != 1 || *a[0].AllocationId != *elastic.AllocationId || *a[0].IpAddress != *elastic.PublicIp {
		t.Errorf("addresses: %+v", a)
	}
	_, err := create("two")
	w.wantCode(err, "ResourceInUse")
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn}))(w)
	w.eventually("the address is free again", func() bool {
		_, err := create("two")
		return err == nil
	})
}

// In subnets with IPv6, load balancers can have both families of addresses, and then a Network Load Balancer has rules.
func TestLoadBalancersOfBothFamilies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.elsewhere()
	lb := *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: new("net"), Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternal, Subnets: e.subnets,
	}))(w).LoadBalancers[0].LoadBalancerArn
	group := *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new("tcp"), Protocol: types.ProtocolEnumTcp, Port: new(int32(80)), VpcId: &e.vpc}))(w).TargetGroups[0].TargetGroupArn
	listener := *must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumTcp, DefaultActions: forward(group)}))(w).Listeners[0].ListenerArn
	rule := &elb.CreateRuleInput{ListenerArn: &listener, Priority: new(int32(1)), Actions: forward(group), Conditions: []types.RuleCondition{
		{Field: new("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{"::/0"}}},
	}}
	_, err := w.elb.CreateRule(ctx, rule)
	w.wantCode(err, "UnsupportedProtocol")
	must(w.elb.SetIpAddressType(ctx, &elb.SetIpAddressTypeInput{LoadBalancerArn: &lb, IpAddressType: types.IpAddressTypeDualstack}))(w)
	must(w.elb.CreateRule(ctx, rule))(w)
	must(w.elb.SetSubnets(ctx, &elb.SetSubnetsInput{LoadBalancerArn: &lb, Subnets: e.subnets, EnablePrefixForIpv6SourceNat: types.EnablePrefixForIpv6SourceNatEnumOn}))(w)
	shown := must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{lb}}))(w).LoadBalancers[0]
	if shown.IpAddressType != types.IpAddressTypeDualstack || shown.EnablePrefixForIpv6SourceNat != types.EnablePrefixForIpv6SourceNatEnumOn {
		t.Errorf("load balancer: %+v", shown)
	}
}

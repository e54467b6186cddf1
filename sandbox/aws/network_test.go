package aws_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
)

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

func (w *world) group(name string) string {
	w.Helper()
	return *must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: &name, Description: new("test"), VpcId: new(w.vpc())}))(w).GroupId
}

func tcp(from, to int32, cidrs ...string) types.IpPermission {
	p := types.IpPermission{IpProtocol: new("tcp"), FromPort: &from, ToPort: &to}
	for _, c := range cidrs {
		p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: &c})
	}
	return p
}

func TestNetworkIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{
		filter("vpc-id", w.vpc()), filter("tag:kubernetes.io/role/elb", "1", ""), filter("tag:kubernetes.io/cluster/lockstep", "owned", "shared"),
	}}))(w).Subnets
	blocks := map[string]string{}
	for _, s := range public {
		blocks[*s.AvailabilityZone] = *s.CidrBlock
	}
	if blocks["eu-west-1a"] != "10.77.192.0/20" || blocks["eu-west-1b"] != "10.77.208.0/20" || blocks["eu-west-1c"] != "10.77.224.0/20" || *public[0].AvailableIpAddressCount != 4091 {
		t.Errorf("public subnets %v", blocks)
	}
	tables := must(w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{filter("route.gateway-id", "igw-*")}}))(w).RouteTables
	if len(tables) != 1 || len(tables[0].Associations) != 3 {
		t.Errorf("route tables to the internet: %+v", tables)
	}
	zones := must(w.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{ZoneIds: []string{"euw1-az2"}}))(w).AvailabilityZones
	if len(zones) != 1 || *zones[0].ZoneName != "eu-west-1b" {
		t.Errorf("zone euw1-az2: %+v", zones)
	}
	_, err := w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("colour", "blue")}})
	w.wantCode(err, "InvalidParameterValue")
	_, err = w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-00000000"}})
	w.wantCode(err, "InvalidSubnetID.NotFound")
	_, err = w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"sub"}})
	w.wantCode(err, "InvalidSubnetID.Malformed")
}

func TestInstancesAndPodAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	network := w.emulator.EC2()
	machine, err := network.AddInstance("eu-west-1b", "node-1")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := network.AssignPodAddress(machine.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{machine.Address, pod} {
		if !netip.MustParsePrefix("10.77.64.0/18").Contains(a) {
			t.Errorf("%s is not from the private subnet of eu-west-1b", a)
		}
	}
	found := must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{
		filter("vpc-id", w.vpc()), filter("addresses.private-ip-address", pod.String(), "10.77.1.1"),
	}}))(w).NetworkInterfaces
	if len(found) != 1 || *found[0].NetworkInterfaceId != machine.Interface || len(found[0].PrivateIpAddresses) != 2 || *found[0].Groups[0].GroupId != network.NodeSecurityGroup() {
		t.Errorf("interfaces of the pod: %+v", found)
	}
	instances := must(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{machine.ID}}))(w).Reservations
	if i := instances[0].Instances[0]; *i.PrivateIpAddress != machine.Address.String() || i.State.Name != types.InstanceStateNameRunning || len(i.NetworkInterfaces) != 1 {
		t.Errorf("instance: %+v", i)
	}
	if err := network.ReleasePodAddress(pod); err != nil {
		t.Fatal(err)
	}
	next, err := network.AssignPodAddress(machine.ID)
	if err != nil || next == pod {
		t.Errorf("a released address is given out again at once: %s %v", next, err)
	}
	if err := network.ReleasePodAddress(pod); err == nil {
		t.Error("an address was released twice")
	}
	if err := network.RemoveInstance(machine.ID); err != nil {
		t.Fatal(err)
	}
	left := must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{}))(w).NetworkInterfaces
	if len(left) != 0 {
		t.Errorf("interfaces after the end of the only instance: %+v", left)
	}
	if _, err := network.AddInstance("eu-west-1z", "x"); err == nil {
		t.Error("an instance was started in a zone that does not exist")
	}
}

func TestSecurityGroupRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.group("a"), w.group("b")
	authorize := func(p ...types.IpPermission) error {
		_, err := w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &a, IpPermissions: p})
		return err
	}
	revoke := func(p ...types.IpPermission) error {
		_, err := w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &a, IpPermissions: p})
		return err
	}
	sources := func() (list []string) {
		g := must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{a}}))(w).SecurityGroups[0]
		for _, p := range g.IpPermissions {
			for _, r := range p.IpRanges {
				list = append(list, *r.CidrIp)
			}
		}
		return list
	}
	if err := authorize(tcp(80, 80, "10.1.2.3/8", "192.168.0.0/16")); err != nil {
		t.Fatal(err)
	}
	if got := sources(); !slices.Equal(got, []string{"10.0.0.0/8", "192.168.0.0/16"}) {
		t.Errorf("host bits are not cleared, or ranges not joined: %v", got)
	}
	w.wantCode(authorize(tcp(443, 443, "0.0.0.0/0"), tcp(80, 80, "10.0.0.0/8")), "InvalidPermission.Duplicate")
	if len(sources()) != 2 {
		t.Error("a refused authorisation has left a rule")
	}
	w.wantCode(revoke(tcp(80, 80, "10.0.0.0/8"), tcp(81, 81, "10.0.0.0/8")), "InvalidPermission.NotFound")
	if len(sources()) != 2 {
		t.Error("a refused revocation has removed a rule")
	}
	w.wantCode(authorize(tcp(90, 80, "10.0.0.0/8")), "InvalidParameterValue")
	w.wantCode(authorize(types.IpPermission{IpProtocol: new("tcp"), FromPort: new(int32(1)), ToPort: new(int32(1)), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: new("sg-00000000")}}}), "InvalidGroup.NotFound")

	if err := authorize(types.IpPermission{IpProtocol: new("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &b}}}); err != nil {
		t.Fatal(err)
	}
	_, err := w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &b})
	w.wantCode(err, "DependencyViolation")
	rules := must(w.ec2.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{filter("group-id", a)}}))(w).SecurityGroupRules
	i := slices.IndexFunc(rules, func(r types.SecurityGroupRule) bool { return r.ReferencedGroupInfo != nil })
	if len(rules) != 4 || i < 0 {
		t.Fatalf("rules of the group: %+v", rules)
	}
	must(w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &a, SecurityGroupRuleIds: []string{*rules[i].SecurityGroupRuleId}}))(w)
	must(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &b}))(w)
	_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &b})
	w.wantCode(err, "InvalidGroup.NotFound")

	var many []types.IpPermission
	for port := range int32(60) {
		many = append(many, tcp(1000+port, 1000+port, "0.0.0.0/0"))
	}
	w.wantCode(authorize(many...), "RulesPerSecurityGroupLimitExceeded")
	_, err = w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("A"), Description: new("test"), VpcId: new(w.vpc())})
	w.wantCode(err, "InvalidGroup.Duplicate")
	_, err = w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &a, DryRun: new(true)})
	w.wantCode(err, "DryRunOperation")
}

func TestGroupOfALoadBalancerCannotBeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.group("lb")
	lb := *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("web"), Subnets: w.subnets(), SecurityGroups: []string{g}}))(w).LoadBalancers[0].LoadBalancerArn
	owned := must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{filter("description", "ELB app/web/*"), filter("requester-managed", "true")}}))(w).NetworkInterfaces
	if len(owned) != 3 {
		t.Errorf("interfaces of the load balancer: %+v", owned)
	}
	_, err := w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &g})
	w.wantCode(err, "DependencyViolation")
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &lb}))(w)
	w.eventually("the interfaces are released", func() bool {
		_, err := w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &g})
		return err == nil
	})
}

func TestTagsAndPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		id := w.group(name)
		must(w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: new("team"), Value: new("shop")}}}))(w)
	}
	pages := ec2.NewDescribeSecurityGroupsPaginator(w.ec2, &ec2.DescribeSecurityGroupsInput{MaxResults: new(int32(5)), Filters: []types.Filter{filter("tag:team", "sh?p")}})
	count, names := 0, []string{}
	for pages.HasMorePages() {
		for _, g := range must(pages.NextPage(ctx))(w).SecurityGroups {
			names = append(names, *g.GroupName)
		}
		count++
	}
	slices.Sort(names)
	if count != 2 || !slices.Equal(names, []string{"a", "b", "c", "d", "e", "f", "g"}) {
		t.Errorf("%d pages: %v", count, names)
	}
	vpc := w.vpc()
	_, err := w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{vpc, "sg-00000000"}, Tags: []types.Tag{{Key: new("x"), Value: new("1")}}})
	w.wantCode(err, "InvalidGroup.NotFound")
	must(w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{vpc}, Tags: []types.Tag{{Key: new("x"), Value: new("1")}}}))(w)
	must(w.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{vpc}, Tags: []types.Tag{{Key: new("x"), Value: new("2")}}}))(w)
	tags := func() int {
		return len(must(w.ec2.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: []types.Filter{filter("resource-id", vpc), filter("key", "x")}}))(w).Tags)
	}
	if tags() != 1 {
		t.Error("a tag of another value was deleted")
	}
	must(w.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{vpc}, Tags: []types.Tag{{Key: new("x")}}}))(w)
	if tags() != 0 {
		t.Error("a tag without a value given was not deleted")
	}
}

// Security groups let pass what their rules say, at the sender and at the receiver.
func TestAdmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	network := w.emulator.EC2()
	machine, err := network.AddInstance("eu-west-1a", "node")
	if err != nil {
		t.Fatal(err)
	}
	w.loadBalancer("web")
	node := w.emulator.LoadBalancers()[0].Nodes[0].Address
	target := netip.AddrPortFrom(machine.Address, 8080)
	if network.Admits(node, target) {
		t.Error("a load balancer gets in without a rule")
	}
	permission := types.IpPermission{IpProtocol: new("tcp"), FromPort: new(int32(8000)), ToPort: new(int32(8100)), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: new(network.DefaultSecurityGroup())}}}
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: new(network.NodeSecurityGroup()), IpPermissions: []types.IpPermission{permission}}))(w)
	if !network.Admits(node, target) {
		t.Error("a load balancer of the permitted group does not get in")
	}
	if network.Admits(node, netip.AddrPortFrom(machine.Address, 9000)) || network.Admits(netip.MustParseAddr("10.77.0.250"), target) {
		t.Error("another port, or an address without the group, gets in")
	}
	everything := types.IpPermission{IpProtocol: new("-1"), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0")}}}
	must(w.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: new(network.DefaultSecurityGroup()), IpPermissions: []types.IpPermission{everything}}))(w)
	if network.Admits(node, target) {
		t.Error("a load balancer whose group lets nothing out gets through")
	}
}

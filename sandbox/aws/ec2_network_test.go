package aws_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// patience is how long waiters of the SDK wait at most.
const patience = 20 * time.Second

// ec2World is a world whose connections are its own, so that no other test ends them.
func ec2World(t *testing.T, change ...func(*aws.Config)) *world {
	t.Helper()
	w := newWorld(t, change...)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	w.connect(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, transport)
	return w
}

// tagged are tags for one kind of resource.
func tagged(kind types.ResourceType, keysAndValues ...string) []types.TagSpecification {
	spec := types.TagSpecification{ResourceType: kind}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		spec.Tags = append(spec.Tags, types.Tag{Key: &keysAndValues[i], Value: &keysAndValues[i+1]})
	}
	return []types.TagSpecification{spec}
}

// place is a network that a test has made by API: a VPC with two subnets, the first of which is public.
type ec2Place struct {
	*world
	vpc, public, private, gateway, routes, group string
}

func newPlace(w *world, cidr string) *ec2Place {
	w.Helper()
	p := &ec2Place{world: w}
	base := strings.TrimSuffix(cidr, ".0.0/16")
	p.vpc = *must(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: &cidr, TagSpecifications: tagged(types.ResourceTypeVpc, "Name", "place")}))(w).Vpc.VpcId
	p.public = *must(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &p.vpc, CidrBlock: new(base + ".1.0/24"), AvailabilityZone: new("eu-west-1a")}))(w).Subnet.SubnetId
	p.private = *must(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &p.vpc, CidrBlock: new(base + ".2.0/24"), AvailabilityZone: new("eu-west-1b")}))(w).Subnet.SubnetId
	p.gateway = *must(w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{}))(w).InternetGateway.InternetGatewayId
	must(w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &p.gateway, VpcId: &p.vpc}))(w)
	p.routes = *must(w.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: &p.vpc}))(w).RouteTable.RouteTableId
	must(w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: &p.gateway}))(w)
	must(w.ec2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: &p.routes, SubnetId: &p.public}))(w)
	p.group = p.securityGroup("web")
	return p
}

func (p *ec2Place) securityGroup(name string) string {
	p.Helper()
	return *must(p.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: &p.vpc, GroupName: &name, Description: new("test")}))(p.world).GroupId
}

func (p *ec2Place) run(count int32) []string {
	p.Helper()
	out := must(p.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: new("ami-0123456789abcdef0"), MinCount: &count, MaxCount: &count, SubnetId: &p.public, SecurityGroupIds: []string{p.group},
		TagSpecifications: tagged(types.ResourceTypeInstance, "kubernetes.io/cluster/other", "owned"),
	}))(p.world)
	var ids []string
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	return ids
}

// code is the error code of a refused call, "" of one that was not.
func code(err error) string {
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return refused.ErrorCode()
	}
	return fmt.Sprint(err)
}

// A whole network is made, described, and taken away in the only order that dependencies allow.
func TestEC2NetworkLives(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.200.0.0/16")
	if err := ec2.NewVpcAvailableWaiter(w.ec2).Wait(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{p.vpc}}, patience); err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewSubnetAvailableWaiter(w.ec2).Wait(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{p.public, p.private}}, patience); err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewInternetGatewayExistsWaiter(w.ec2).Wait(ctx, &ec2.DescribeInternetGatewaysInput{InternetGatewayIds: []string{p.gateway}}, patience); err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewSecurityGroupExistsWaiter(w.ec2).Wait(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{p.group}}, patience); err != nil {
		t.Fatal(err)
	}
	main := must(w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{filter("vpc-id", p.vpc), filter("association.main", "true")}}))(w).RouteTables
	if len(main) != 1 || len(main[0].Routes) != 1 || *main[0].Routes[0].GatewayId != "local" {
		t.Fatalf("main route table %+v", main)
	}
	refused := func(want string, err error) {
		t.Helper()
		if got := code(err); got != want {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	group, rules := p.securityGroup("other"), []types.IpPermission{{IpProtocol: new("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &p.group}}}}
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: rules}))(w)
	refused("DependencyViolation", failed(w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &p.vpc})))
	refused("DependencyViolation", failed(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &p.group})))
	refused("DependencyViolation", failed(w.ec2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &p.routes})))
	refused("DependencyViolation", failed(w.ec2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: &p.gateway})))
	refused("InvalidParameterValue", failed(w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: main[0].Associations[0].RouteTableAssociationId})))

	instance := p.run(1)[0]
	refused("DependencyViolation", failed(w.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &p.public})))
	must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{instance}}))(w)
	must(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &group}))(w)
	must(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &p.group}))(w)
	must(w.ec2.ReplaceRoute(ctx, &ec2.ReplaceRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: &p.gateway}))(w)
	must(w.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &p.gateway, VpcId: &p.vpc}))(w)
	table := must(w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{p.routes}}))(w).RouteTables[0]
	if table.Routes[1].State != types.RouteStateBlackhole {
		t.Errorf("a route to a gateway that was detached: %+v", table.Routes[1])
	}
	must(w.ec2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: &p.gateway}))(w)
	must(w.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("0.0.0.0/0")}))(w)
	refused("InvalidRoute.NotFound", failed(w.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("0.0.0.0/0")})))
	must(w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: table.Associations[0].RouteTableAssociationId}))(w)
	must(w.ec2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &p.routes}))(w)
	must(w.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &p.public}))(w)
	must(w.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &p.private}))(w)
	must(w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &p.vpc}))(w)
	refused("InvalidVpcID.NotFound", failed(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{p.vpc}})))
}

// Instances go through their states, keep what stays and lose what goes; waiters of the SDK see it.
func TestEC2InstancesChangeStates(t *testing.T) {
	t.Parallel()
	// Half a second in each state in between: so that they are seen, and the waiters' first look may miss them.
	w := ec2World(t, slow("typical", 0.01))
	p := newPlace(w, "10.201.0.0/16")
	must(w.ec2.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: &p.public, MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: new(true)}}))(w)
	ids := p.run(3)
	quick := func(o *ec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	}
	in := &ec2.DescribeInstancesInput{InstanceIds: ids}
	if err := ec2.NewInstanceRunningWaiter(w.ec2).Wait(ctx, in, patience, quick); err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewInstanceStatusOkWaiter(w.ec2).Wait(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: ids}, patience); err != nil {
		t.Fatal(err)
	}
	before := must(w.ec2.DescribeInstances(ctx, in))(w).Reservations
	if len(before) != 1 || len(before[0].Instances) != 3 || before[0].Instances[0].PublicIpAddress == nil || before[0].Instances[0].VpcId == nil {
		t.Fatalf("instances %+v", before)
	}
	stopping := must(w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids[:1]}))(w).StoppingInstances
	if stopping[0].PreviousState.Name != "running" || stopping[0].CurrentState.Name != "stopping" || *stopping[0].CurrentState.Code != 64 {
		t.Errorf("stopping %+v", stopping)
	}
	if got := code(failed(w.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids[:1]}))); got != "IncorrectInstanceState" {
		t.Errorf("an instance that stops is started: %s", got)
	}
	one := &ec2.DescribeInstancesInput{InstanceIds: ids[:1]}
	if err := ec2.NewInstanceStoppedWaiter(w.ec2).Wait(ctx, one, patience, func(o *ec2.InstanceStoppedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	}); err != nil {
		t.Fatal(err)
	}
	stopped := must(w.ec2.DescribeInstances(ctx, one))(w).Reservations[0].Instances[0]
	if stopped.PublicIpAddress != nil || *stopped.PrivateIpAddress != *byID(before, ids[0]).PrivateIpAddress {
		t.Errorf("stopped %+v", stopped)
	}
	must(w.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids[:1]}))(w)
	if err := ec2.NewInstanceRunningWaiter(w.ec2).Wait(ctx, one, patience, quick); err != nil {
		t.Fatal(err)
	}
	must(w.ec2.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: ids}))(w)
	ending := must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}))(w).TerminatingInstances
	if len(ending) != 3 || ending[0].CurrentState.Name != "shutting-down" {
		t.Errorf("ending %+v", ending)
	}
	if err := ec2.NewInstanceTerminatedWaiter(w.ec2).Wait(ctx, in, patience, func(o *ec2.InstanceTerminatedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 50*time.Millisecond
	}); err != nil {
		t.Fatal(err)
	}
	for _, i := range must(w.ec2.DescribeInstances(ctx, in))(w).Reservations[0].Instances {
		if i.PrivateIpAddress != nil || i.SubnetId != nil || len(i.NetworkInterfaces) > 0 {
			t.Errorf("terminated %+v", i)
		}
	}
	if left := must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{filter("vpc-id", p.vpc)}}))(w).NetworkInterfaces; len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
	w.wantCode(failed(w.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids[:1]})), "IncorrectInstanceState")
	must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}))(w) // terminating twice is no error
}

func byID(list []types.Reservation, id string) types.Instance {
	for _, r := range list {
		for _, i := range r.Instances {
			if *i.InstanceId == id {
				return i
			}
		}
	}
	return types.Instance{}
}

// slow is a profile with a scale, of which reads do not lag.
func slow(name string, scale float64) func(*aws.Config) {
	return func(c *aws.Config) {
		p, err := profile.Load(name)
		if err != nil {
			panic(err)
		}
		p.Probabilities["read.new_missing"], p.Probabilities["read.old_state"] = 0, 0
		c.Profile, c.Scale = p, scale
	}
}

// Interfaces come and go between instances with their addresses.
func TestEC2InterfacesMove(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.202.0.0/16")
	ids := p.run(2)
	in := &ec2.CreateNetworkInterfaceInput{
		SubnetId: &p.public, Groups: []string{p.group}, Description: new("moves"), PrivateIpAddress: new("10.202.1.100"), SecondaryPrivateIpAddressCount: new(int32(2)),
		ClientToken: new("once"), TagSpecifications: tagged(types.ResourceTypeNetworkInterface, "a", "b"),
	}
	made := must(w.ec2.CreateNetworkInterface(ctx, in))(w).NetworkInterface
	if again := must(w.ec2.CreateNetworkInterface(ctx, in))(w).NetworkInterface; *again.NetworkInterfaceId != *made.NetworkInterfaceId {
		t.Error("the same client token has made two interfaces")
	}
	other := *in
	other.Description = new("another")
	w.wantCode(failed(w.ec2.CreateNetworkInterface(ctx, &other)), "IdempotentParameterMismatch")
	eni := *made.NetworkInterfaceId
	if err := ec2.NewNetworkInterfaceAvailableWaiter(w.ec2).Wait(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{eni}}, patience); err != nil {
		t.Fatal(err)
	}
	show := func() types.NetworkInterface {
		t.Helper()
		return must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{eni}}))(w).NetworkInterfaces[0]
	}
	if n := show(); len(n.PrivateIpAddresses) != 3 || !*n.PrivateIpAddresses[0].Primary || *n.PrivateIpAddress != "10.202.1.100" || len(n.TagSet) != 1 {
		t.Errorf("interface %+v", n)
	}
	attach := must(w.ec2.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &eni, InstanceId: &ids[0], DeviceIndex: new(int32(1))}))(w)
	w.wantCode(failed(w.ec2.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &eni, InstanceId: &ids[1], DeviceIndex: new(int32(1))})), "InvalidNetworkInterface.InUse")
	w.wantCode(failed(w.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &eni})), "InvalidNetworkInterface.InUse")
	machine := must(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids[:1]}))(w).Reservations[0].Instances[0]
	if len(machine.NetworkInterfaces) != 2 || *machine.NetworkInterfaces[1].Attachment.DeviceIndex != 1 {
		t.Errorf("interfaces of the instance %+v", machine.NetworkInterfaces)
	}
	first := machine.NetworkInterfaces[0]
	w.wantCode(failed(w.ec2.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{AttachmentId: first.Attachment.AttachmentId})), "OperationNotPermitted")
	assigned := must(w.ec2.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &eni, PrivateIpAddresses: []string{"10.202.1.150"}}))(w)
	if len(assigned.AssignedPrivateIpAddresses) != 1 {
		t.Errorf("assigned %+v", assigned)
	}
	w.wantCode(failed(w.ec2.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: first.NetworkInterfaceId, PrivateIpAddresses: []string{"10.202.1.150"}})), "InvalidIPAddress.InUse")
	must(w.ec2.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: first.NetworkInterfaceId, PrivateIpAddresses: []string{"10.202.1.150"}, AllowReassignment: new(true)}))(w)
	if n := show(); len(n.PrivateIpAddresses) != 3 {
		t.Errorf("after its address was reassigned: %+v", n.PrivateIpAddresses)
	}
	secondary := *show().PrivateIpAddresses[1].PrivateIpAddress
	must(w.ec2.UnassignPrivateIpAddresses(ctx, &ec2.UnassignPrivateIpAddressesInput{NetworkInterfaceId: &eni, PrivateIpAddresses: []string{secondary}}))(w)
	w.wantCode(failed(w.ec2.UnassignPrivateIpAddresses(ctx, &ec2.UnassignPrivateIpAddressesInput{NetworkInterfaceId: &eni, PrivateIpAddresses: []string{secondary}})), "InvalidParameterValue")
	group := p.securityGroup("second")
	must(w.ec2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &eni, Groups: []string{group}}))(w)
	must(w.ec2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &eni, SourceDestCheck: &types.AttributeBooleanValue{Value: new(false)}}))(w)
	must(w.ec2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &eni, Description: &types.AttributeValue{Value: new("moved")}}))(w)
	if n := show(); *n.Groups[0].GroupId != group || *n.SourceDestCheck || *n.Description != "moved" || *n.Attachment.InstanceId != ids[0] {
		t.Errorf("modified %+v", n)
	}
	w.wantCode(failed(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &group})), "DependencyViolation")
	must(w.ec2.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{AttachmentId: attach.AttachmentId}))(w)
	must(w.ec2.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &eni, InstanceId: &ids[1], DeviceIndex: new(int32(2))}))(w)
	must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}))(w)
	if n := show(); n.Status != types.NetworkInterfaceStatusAvailable || n.Attachment != nil {
		t.Errorf("an interface that was attached later ends with the instance: %+v", n)
	}
	must(w.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &eni}))(w)
	w.wantCode(failed(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{eni}})), "InvalidNetworkInterfaceID.NotFound")
	free := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{p.public}}))(w).Subnets[0].AvailableIpAddressCount
	if *free != 251 {
		t.Errorf("%d addresses are free in the end", *free)
	}
}

// IPv6 as far as the API goes: blocks, addresses, the second outbound rule of new groups.
func TestEC2HasIPv6(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	vpc := must(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.203.0.0/16"), AmazonProvidedIpv6CidrBlock: new(true)}))(w).Vpc
	block := *vpc.Ipv6CidrBlockAssociationSet[0].Ipv6CidrBlock
	small := strings.Replace(block, "/56", "/64", 1)
	subnet := must(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: new("10.203.0.0/24"), Ipv6CidrBlock: &small}))(w).Subnet
	w.wantCode(failed(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: new("10.203.1.0/24"), Ipv6CidrBlock: &small})), "InvalidSubnet.Conflict")
	w.wantCode(failed(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: new("10.203.1.0/24"), Ipv6CidrBlock: new("2001:db8:ffff::/64")})), "InvalidSubnet.Range")
	if found := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("ipv6-cidr-block-association.ipv6-cidr-block", small)}}))(w).Subnets; len(found) != 1 {
		t.Errorf("subnets with the block: %+v", found)
	}
	n := must(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: subnet.SubnetId, Ipv6AddressCount: new(int32(1))}))(w).NetworkInterface
	more := must(w.ec2.AssignIpv6Addresses(ctx, &ec2.AssignIpv6AddressesInput{NetworkInterfaceId: n.NetworkInterfaceId, Ipv6AddressCount: new(int32(2))}))(w)
	found := must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{filter("ipv6-addresses.ipv6-address", more.AssignedIpv6Addresses...)}}))(w).NetworkInterfaces
	if len(found) != 1 || len(found[0].Ipv6Addresses) != 3 {
		t.Errorf("interfaces with the addresses: %+v", found)
	}
	must(w.ec2.UnassignIpv6Addresses(ctx, &ec2.UnassignIpv6AddressesInput{NetworkInterfaceId: n.NetworkInterfaceId, Ipv6Addresses: more.AssignedIpv6Addresses}))(w)
	group := must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: vpc.VpcId, GroupName: new("six"), Description: new("six")}))(w).GroupId
	egress := must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*group}}))(w).SecurityGroups[0].IpPermissionsEgress
	if len(egress) != 1 || len(egress[0].IpRanges) != 1 || len(egress[0].Ipv6Ranges) != 1 {
		t.Errorf("outbound rules %+v", egress)
	}
	plain := newPlace(w, "10.204.0.0/16")
	w.wantCode(failed(w.ec2.AssignIpv6Addresses(ctx, &ec2.AssignIpv6AddressesInput{NetworkInterfaceId: must(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &plain.public}))(w).NetworkInterface.NetworkInterfaceId, Ipv6AddressCount: new(int32(1))})), "InvalidParameterCombination")
	added := must(w.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: &plain.vpc, AmazonProvidedIpv6CidrBlock: new(true)}))(w).Ipv6CidrBlockAssociation
	if *added.Ipv6CidrBlock == block {
		t.Error("two VPCs have one block")
	}
	of := must(w.ec2.AssociateSubnetCidrBlock(ctx, &ec2.AssociateSubnetCidrBlockInput{SubnetId: &plain.public, Ipv6CidrBlock: new(strings.Replace(*added.Ipv6CidrBlock, "/56", "/64", 1))}))(w)
	w.wantCode(failed(w.ec2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: added.AssociationId})), "InvalidCidr.InUse")
	must(w.ec2.DisassociateSubnetCidrBlock(ctx, &ec2.DisassociateSubnetCidrBlockInput{AssociationId: of.Ipv6CidrBlockAssociation.AssociationId}))(w)
	must(w.ec2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: added.AssociationId}))(w)
}

// Two clusters share the account, one of them also the VPC of the other: each finds its own by its tag.
func TestEC2ServesSeveralClusters(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.205.0.0/16")
	apart := p.run(2)
	own := must(w.emulator.EC2().AddInstance("eu-west-1a", "ours"))(w)
	if err := w.emulator.Join("beside", ""); err != nil {
		t.Fatal(err)
	}
	beside := must(w.emulator.AddMember(aws.Member{Cluster: "beside", Zone: "eu-west-1a", Name: "theirs"}))(w)
	for _, tt := range []struct {
		cluster string
		want    []string
	}{{"lockstep", []string{own.ID}}, {"beside", []string{beside.ID}}, {"other", apart}, {"nobody", nil}} {
		var got []string
		pages := ec2.NewDescribeInstancesPaginator(w.ec2, &ec2.DescribeInstancesInput{Filters: []types.Filter{filter("tag:kubernetes.io/cluster/"+tt.cluster, "owned", "shared")}})
		for pages.HasMorePages() {
			for _, r := range must(pages.NextPage(ctx))(w).Reservations {
				for _, i := range r.Instances {
					got = append(got, *i.InstanceId)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("cluster %s has %v, want %v", tt.cluster, got, tt.want)
		}
	}
	subnets := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("tag:kubernetes.io/cluster/beside", "shared"), filter("vpc-id", w.emulator.EC2().VPC())}}))(w).Subnets
	if len(subnets) != 6 {
		t.Errorf("%d subnets are the second cluster's, too", len(subnets))
	}
}

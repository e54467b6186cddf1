package aws_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	emulated "github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/foreign/witness"
)

func tcpRule(port int32, cidr string) types.IpPermission {
	return types.IpPermission{IpProtocol: new("tcp"), FromPort: &port, ToPort: &port, IpRanges: []types.IpRange{{CidrIp: &cidr}}}
}

// Each row is one way to be refused, with the code that AWS answers. boto3 repeats each.
func TestEC2RefusesWithTheCodesOfAWS(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	record := witness.New(t, witness.Boto3(t, w.account()))
	w.ec2 = ec2.New(w.ec2.Options(), func(o *ec2.Options) { o.APIOptions = append(o.APIOptions, record.Watch) })
	p := newPlace(w, "10.220.0.0/16")
	q := newPlace(w, "10.221.0.0/16")
	instance := p.run(1)[0]
	list := *must(w.ec2.CreateManagedPrefixList(ctx, &ec2.CreateManagedPrefixListInput{PrefixListName: new("a"), AddressFamily: new("IPv4"), MaxEntries: new(int32(3))}))(w).PrefixList.PrefixListId
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: []types.IpPermission{tcpRule(80, "10.0.0.0/8")}}))(w)
	eni := *must(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &p.public}))(w).NetworkInterface.NetworkInterfaceId
	eip := must(w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{}))(w)
	const unknown = "0123456789abcdef0"
	authorize := func(permissions ...types.IpPermission) error {
		return failed(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: permissions}))
	}
	group := func(change func(*ec2.CreateSecurityGroupInput)) error {
		in := &ec2.CreateSecurityGroupInput{VpcId: &p.vpc, GroupName: new("new"), Description: new("new")}
		change(in)
		return failed(w.ec2.CreateSecurityGroup(ctx, in))
	}
	subnet := func(cidr string) error {
		return failed(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &p.vpc, CidrBlock: &cidr}))
	}
	run := func(change func(*ec2.RunInstancesInput)) error {
		in := &ec2.RunInstancesInput{ImageId: new("ami-0123456789abcdef0"), MinCount: new(int32(1)), MaxCount: new(int32(1)), SubnetId: &p.public}
		change(in)
		return failed(w.ec2.RunInstances(ctx, in))
	}
	tags := func(id string, n int) error {
		in := &ec2.CreateTagsInput{Resources: []string{id}}
		for i := range n {
			in.Tags = append(in.Tags, types.Tag{Key: new(fmt.Sprint("k", i)), Value: new("")})
		}
		return failed(w.ec2.CreateTags(ctx, in))
	}
	for _, tt := range []struct {
		why, code string
		err       error
	}{
		{"unknown subnet", "InvalidSubnetID.NotFound", failed(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-" + unknown}}))},
		{"unknown VPC", "InvalidVpcID.NotFound", failed(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-" + unknown}}))},
		{"unknown instance", "InvalidInstanceID.NotFound", failed(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-" + unknown}}))},
		{"unknown interface", "InvalidNetworkInterfaceID.NotFound", failed(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{"eni-" + unknown}}))},
		{"unknown route table", "InvalidRouteTableID.NotFound", failed(w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{"rtb-" + unknown}}))},
		{"unknown gateway", "InvalidInternetGatewayID.NotFound", failed(w.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{InternetGatewayIds: []string{"igw-" + unknown}}))},
		{"unknown group", "InvalidGroup.NotFound", failed(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{"sg-" + unknown}}))},
		{"unknown group of eight digits", "InvalidGroup.NotFound", failed(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: new("sg-01234567")}))},
		{"unknown rule", "InvalidSecurityGroupRuleId.NotFound", failed(w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &p.group, SecurityGroupRuleIds: []string{"sgr-" + unknown}}))},
		{"unknown allocation", "InvalidAllocationID.NotFound", failed(w.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: new("eipalloc-" + unknown)}))},
		{"unknown address", "InvalidAddress.NotFound", failed(w.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{PublicIps: []string{"198.18.99.99"}}))},
		{"unknown association", "InvalidAssociationID.NotFound", failed(w.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: new("rtbassoc-" + unknown)}))},
		{"unknown attachment", "InvalidAttachmentID.NotFound", failed(w.ec2.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{AttachmentId: new("eni-attach-" + unknown)}))},
		{"unknown prefix list", "InvalidPrefixListID.NotFound", authorize(types.IpPermission{IpProtocol: new("-1"), PrefixListIds: []types.PrefixListId{{PrefixListId: new("pl-" + unknown)}}})},

		{"malformed group", "InvalidGroupId.Malformed", failed(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{"web"}}))},
		{"malformed subnet", "InvalidSubnetID.Malformed", failed(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-1234"}}))},
		{"malformed VPC", "InvalidVpcID.Malformed", failed(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-0123456789ABCDEF0"}}))},
		{"malformed instance", "InvalidInstanceID.Malformed", failed(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"node-1"}}))},
		{"malformed interface", "InvalidNetworkInterfaceId.Malformed", failed(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{"eni-x"}}))},

		{"group name in use", "InvalidGroup.Duplicate", group(func(in *ec2.CreateSecurityGroupInput) { in.GroupName = new("WEB") })},
		{"group name reserved", "InvalidGroup.Reserved", group(func(in *ec2.CreateSecurityGroupInput) { in.GroupName = new("default") })},
		{"group name like an id", "InvalidParameterValue", group(func(in *ec2.CreateSecurityGroupInput) { in.GroupName = new("sg-x") })},
		{"group without a VPC", "VPCIdNotSpecified", group(func(in *ec2.CreateSecurityGroupInput) { in.VpcId = nil })},
		{"tags for another kind", "InvalidParameterValue", group(func(in *ec2.CreateSecurityGroupInput) { in.TagSpecifications = tagged(types.ResourceTypeVpc, "a", "b") })},
		{"default group deleted", "CannotDelete", failed(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: new(w.emulator.EC2().DefaultSecurityGroup())}))},

		{"rule twice", "InvalidPermission.Duplicate", authorize(tcpRule(80, "10.9.9.9/8"))},
		{"rule of a group elsewhere", "InvalidGroup.NotFound", authorize(types.IpPermission{IpProtocol: new("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &q.group}}})},
		{"bad CIDR", "InvalidParameterValue", authorize(tcpRule(80, "10.0.0.0/33"))},
		{"bad ports", "InvalidParameterValue", authorize(tcpRule(70000, "10.0.0.0/8"))},
		{"bad protocol", "InvalidPermission.Malformed", authorize(types.IpPermission{IpProtocol: new("tpc"), IpRanges: []types.IpRange{{CidrIp: new("10.0.0.0/8")}}})},
		{"no permission", "MissingParameter", authorize()},
		{"rule that is not there", "InvalidPermission.NotFound", failed(w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: []types.IpPermission{tcpRule(81, "10.0.0.0/8")}}))},

		{"subnet outside of the VPC", "InvalidSubnet.Range", subnet("10.222.0.0/24")},
		{"subnet of another's addresses", "InvalidSubnet.Conflict", subnet("10.220.1.128/25")},
		{"subnet too small", "InvalidSubnet.Range", subnet("10.220.9.0/29")},
		{"VPC too large", "InvalidVpc.Range", failed(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.0.0.0/8")}))},
		{"second gateway", "InvalidParameterValue", failed(w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{VpcId: &p.vpc, InternetGatewayId: must(w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{}))(w).InternetGateway.InternetGatewayId}))},
		{"gateway attached already", "Resource.AlreadyAssociated", failed(w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{VpcId: &q.vpc, InternetGatewayId: &p.gateway}))},
		{"gateway not attached", "Gateway.NotAttached", failed(w.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{VpcId: &q.vpc, InternetGatewayId: &p.gateway}))},
		{"route twice", "RouteAlreadyExists", failed(w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("0.0.0.0/0"), GatewayId: &p.gateway}))},
		{"route to nowhere", "MissingParameter", failed(w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("1.0.0.0/8")}))},
		{"subnet with a table already", "Resource.AlreadyAssociated", failed(w.ec2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: &p.routes, SubnetId: &p.public}))},

		{"address in use", "InvalidIPAddress.InUse", failed(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &p.public, PrivateIpAddress: new("10.220.1.4")}))},
		{"address elsewhere", "InvalidParameterValue", failed(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &p.public, PrivateIpAddress: new("10.220.2.9")}))},
		{"51 addresses", "PrivateIpAddressLimitExceeded", failed(w.ec2.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &eni, SecondaryPrivateIpAddressCount: new(int32(50))}))},
		{"two attributes", "InvalidParameterCombination", failed(w.ec2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &eni, Groups: []string{p.group}, Description: &types.AttributeValue{Value: new("x")}}))},
		{"no image", "MissingParameter", run(func(in *ec2.RunInstancesInput) { in.ImageId = nil })},
		{"malformed image", "InvalidAMIID.Malformed", run(func(in *ec2.RunInstancesInput) { in.ImageId = new("debian") })},
		{"more than the subnet has", "InsufficientFreeAddressesInSubnet", run(func(in *ec2.RunInstancesInput) { in.MinCount, in.MaxCount = new(int32(252)), new(int32(252)) })},
		{"interfaces and a subnet", "InvalidParameterCombination", run(func(in *ec2.RunInstancesInput) {
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: new(int32(0)), SubnetId: &p.public}}
		})},
		{"instance started that runs not", "IncorrectInstanceState", func() error {
			id := p.run(1)
			must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: id}))(w)
			return failed(w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: id}))
		}()},
		{"no instance named", "MissingParameter", failed(w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{}}))},

		{"tag on an unknown resource", "InvalidInstanceID.NotFound", tags("i-"+unknown, 1)},
		{"tag on nothing known", "InvalidID", tags("xyz-"+unknown, 1)},
		{"51 tags", "TagLimitExceeded", tags(p.vpc, 51)},
		{"reserved tag", "InvalidParameterValue", failed(w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{p.vpc}, Tags: []types.Tag{{Key: new("aws:x"), Value: new("")}}}))},

		{"list version of old", "PrefixListVersionMismatch", failed(w.ec2.ModifyManagedPrefixList(ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &list, CurrentVersion: new(int64(7)), AddEntries: []types.AddPrefixListEntry{{Cidr: new("10.0.0.0/8")}}}))},
		{"entry that is not there", "InvalidPrefixListModification", failed(w.ec2.ModifyManagedPrefixList(ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &list, CurrentVersion: new(int64(1)), RemoveEntries: []types.RemovePrefixListEntry{{Cidr: new("10.0.0.0/8")}}}))},
		{"more entries than the list takes", "PrefixListMaxEntriesExceeded", failed(w.ec2.ModifyManagedPrefixList(ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &list, CurrentVersion: new(int64(1)), AddEntries: []types.AddPrefixListEntry{
			{Cidr: new("1.0.0.0/8")}, {Cidr: new("2.0.0.0/8")}, {Cidr: new("3.0.0.0/8")}, {Cidr: new("4.0.0.0/8")}}}))},
		{"address released in use", "InvalidIPAddress.InUse", func() error {
			must(w.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: eip.AllocationId, InstanceId: &instance}))(w)
			return failed(w.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: eip.AllocationId}))
		}()},
		{"address associated twice", "Resource.AlreadyAssociated", failed(w.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: eip.AllocationId, NetworkInterfaceId: &eni}))},
		{"gateway with public addresses", "DependencyViolation", failed(w.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{VpcId: &p.vpc, InternetGatewayId: &p.gateway}))},

		{"ids and a page size", "InvalidParameterCombination", failed(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}, MaxResults: new(int32(5))}))},
		{"page of 4", "InvalidParameterValue", failed(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{MaxResults: new(int32(4))}))},
		{"forged token", "InvalidPaginationToken", failed(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{NextToken: new("forged")}))},
		{"unknown zone", "InvalidParameterValue", failed(w.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{ZoneNames: []string{"eu-west-1z"}}))},
		{"unknown region", "InvalidParameterValue", failed(w.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{RegionNames: []string{"mars-1"}}))},
		{"unknown attribute", "InvalidParameterValue", failed(w.ec2.DescribeAccountAttributes(ctx, &ec2.DescribeAccountAttributesInput{AttributeNames: []types.AccountAttributeName{"x"}}))},
	} {
		t.Run(tt.why, func(t *testing.T) { (&world{T: t}).wantCode(tt.err, tt.code) })
	}
}

// A dry run tells whether a call would be carried out, with status 412, and carries nothing out.
func TestEC2DryRuns(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.223.0.0/16")
	dry := new(true)
	for name, err := range map[string]error{
		"CreateVpc":                     failed(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.224.0.0/16"), DryRun: dry})),
		"DeleteSecurityGroup":           failed(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &p.group, DryRun: dry})),
		"AuthorizeSecurityGroupIngress": failed(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: []types.IpPermission{tcpRule(80, "10.0.0.0/8")}, DryRun: dry})),
		"RunInstances":                  failed(w.ec2.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: new("ami-0123456789abcdef0"), MinCount: new(int32(1)), MaxCount: new(int32(1)), SubnetId: &p.public, DryRun: dry})),
		"CreateTags":                    failed(w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{p.vpc}, Tags: []types.Tag{{Key: new("a"), Value: new("b")}}, DryRun: dry})),
		"AllocateAddress":               failed(w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{DryRun: dry})),
		"DeleteRouteTable":              failed(w.ec2.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("0.0.0.0/0"), DryRun: dry})),
		"DescribeVpcs":                  failed(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{DryRun: dry})),
		"DescribeRegions":               failed(w.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{DryRun: dry})),
		"DescribeTags":                  failed(w.ec2.DescribeTags(ctx, &ec2.DescribeTagsInput{DryRun: dry})),
	} {
		var status *smithyhttp.ResponseError
		if code(err) != "DryRunOperation" || !errors.As(err, &status) || status.HTTPStatusCode() != 412 {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.wantCode(failed(w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &p.vpc, DryRun: dry})), "DependencyViolation")
	if n := len(must(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}))(w).Vpcs); n != 2 {
		t.Errorf("%d VPCs", n)
	}
	g := must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{p.group}}))(w).SecurityGroups[0]
	if len(g.IpPermissions) > 0 || len(must(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{}))(w).Reservations) > 0 || len(must(w.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{}))(w).Addresses) > 0 {
		t.Error("a dry run has changed something")
	}
}

// Quotas refuse the one that is too many, and count a prefix list with its maximum.
func TestEC2Quotas(t *testing.T) {
	t.Parallel()
	w := ec2World(t, func(c *aws.Config) {
		c.EC2Quotas = emulated.Quotas{
			VPCs: 2, SubnetsPerVPC: 2, RouteTablesPerVPC: 2, RoutesPerTable: 2, InternetGateways: 2, Addresses: 1, NetworkInterfaces: 2, SecurityGroups: 5,
			RulesPerGroup: 3, GroupsPerInterface: 2, PrefixLists: 2, EntriesPerList: 5,
		}
	})
	p := newPlace(w, "10.225.0.0/16")
	list := *must(w.ec2.CreateManagedPrefixList(ctx, &ec2.CreateManagedPrefixListInput{PrefixListName: new("a"), AddressFamily: new("IPv4"), MaxEntries: new(int32(2))}))(w).PrefixList.PrefixListId
	fill := func(calls ...func() error) (err error) {
		for _, call := range calls {
			if err != nil {
				t.Fatal(err)
			}
			err = call()
		}
		return err
	}
	interfaces := func() error {
		return failed(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &p.public}))
	}
	elastic := func() error { return failed(w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{})) }
	prefixes := func() error {
		return failed(w.ec2.CreateManagedPrefixList(ctx, &ec2.CreateManagedPrefixListInput{PrefixListName: new("b"), AddressFamily: new("IPv4"), MaxEntries: new(int32(1))}))
	}
	authorize := func(permissions ...types.IpPermission) func() error {
		return func() error {
			return failed(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: permissions}))
		}
	}
	byList := types.IpPermission{IpProtocol: new("-1"), PrefixListIds: []types.PrefixListId{{PrefixListId: &list}}}
	six := types.IpPermission{IpProtocol: new("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: new("2001:db8::/32")}, {CidrIpv6: new("2001:db9::/32")}, {CidrIpv6: new("2001:dba::/32")}}}
	for want, err := range map[string]error{
		"VpcLimitExceeded":                   failed(w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: new("10.226.0.0/16")})),
		"SubnetLimitExceeded":                failed(w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &p.vpc, CidrBlock: new("10.225.9.0/24")})),
		"RouteTableLimitExceeded":            failed(w.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: &p.vpc})),
		"RouteLimitExceeded":                 failed(w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &p.routes, DestinationCidrBlock: new("1.0.0.0/8"), GatewayId: &p.gateway})),
		"InternetGatewayLimitExceeded":       failed(w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})),
		"AddressLimitExceeded":               fill(elastic, elastic),
		"NetworkInterfaceLimitExceeded":      fill(interfaces, interfaces, interfaces),
		"PrefixListLimitExceeded":            fill(prefixes, prefixes),
		"RulesPerSecurityGroupLimitExceeded": fill(authorize(six), authorize(byList), authorize(tcpRule(80, "10.0.0.0/8")), authorize(tcpRule(81, "10.0.0.0/8"))),
		"SecurityGroupLimitExceeded": fill(func() error { p.securityGroup("fifth"); return nil }, func() error {
			return failed(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: &p.vpc, GroupName: new("sixth"), Description: new("x")}))
		}),
	} {
		if code(err) != want {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	w.wantCode(failed(w.ec2.ModifyManagedPrefixList(ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: &list, MaxEntries: new(int32(3))})), "RulesPerSecurityGroupLimitExceeded")
	w.wantCode(failed(w.ec2.DeleteManagedPrefixList(ctx, &ec2.DeleteManagedPrefixListInput{PrefixListId: &list})), "DependencyViolation")
	fifth := *must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{filter("group-name", "fifth")}}))(w).SecurityGroups[0].GroupId
	third := *must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{filter("group-name", "default"), filter("vpc-id", p.vpc)}}))(w).SecurityGroups[0].GroupId
	eni := must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{}))(w).NetworkInterfaces[0].NetworkInterfaceId
	w.wantCode(failed(w.ec2.ModifyNetworkInterfaceAttribute(ctx, &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: eni, Groups: []string{p.group, fifth, third}})), "SecurityGroupsPerInterfaceLimitExceeded")
	if _, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 77}, EC2Quotas: emulated.Quotas{GroupsPerInterface: 16, RulesPerGroup: 100}}); err == nil {
		t.Error("1600 rules per interface are granted")
	}
}

// A page begins behind the last resource of the one before, whatever has come and gone since; a token is good for its operation only.
func TestEC2PagesWhileThingsChange(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.227.0.0/16")
	var made []string
	for i := range 12 {
		made = append(made, p.securityGroup(fmt.Sprint("page-", i)))
	}
	seen := map[string]int{}
	in := &ec2.DescribeSecurityGroupsInput{MaxResults: new(int32(5)), Filters: []types.Filter{filter("group-name", "page-*")}}
	pages := ec2.NewDescribeSecurityGroupsPaginator(w.ec2, in)
	for n := 0; pages.HasMorePages(); n++ {
		out := must(pages.NextPage(ctx))(w)
		for _, g := range out.SecurityGroups {
			seen[*g.GroupId]++
		}
		if n == 0 {
			// What was shown goes, and another one comes: neither moves the others.
			must(w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: out.SecurityGroups[0].GroupId}))(w)
			p.securityGroup("page-new")
			_, err := w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{NextToken: out.NextToken})
			w.wantCode(err, "InvalidPaginationToken")
		}
	}
	for _, id := range made {
		if seen[id] != 1 {
			t.Errorf("group %s was shown %d times", id, seen[id])
		}
	}
}

// Rules keep their ids when they are modified, and descriptions are no part of what they permit.
func TestEC2ModifiesRules(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.228.0.0/16")
	rules := must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: []types.IpPermission{tcpRule(80, "10.0.0.0/8"), tcpRule(81, "10.0.0.0/8")}}))(w).SecurityGroupRules
	id := rules[0].SecurityGroupRuleId
	modify := func(r types.SecurityGroupRuleRequest) error {
		return failed(w.ec2.ModifySecurityGroupRules(ctx, &ec2.ModifySecurityGroupRulesInput{GroupId: &p.group, SecurityGroupRules: []types.SecurityGroupRuleUpdate{{SecurityGroupRuleId: id, SecurityGroupRule: &r}}}))
	}
	if err := modify(types.SecurityGroupRuleRequest{IpProtocol: new("udp"), FromPort: new(int32(53)), ToPort: new(int32(53)), CidrIpv4: new("192.168.1.1/16"), Description: new("names")}); err != nil {
		t.Fatal(err)
	}
	w.wantCode(modify(types.SecurityGroupRuleRequest{IpProtocol: new("tcp"), FromPort: new(int32(81)), ToPort: new(int32(81)), CidrIpv4: new("10.0.0.0/8")}), "InvalidPermission.Duplicate")
	w.wantCode(modify(types.SecurityGroupRuleRequest{IpProtocol: new("-1"), CidrIpv6: new("::/0")}), "InvalidParameterCombination")
	show := func() types.SecurityGroupRule {
		t.Helper()
		return must(w.ec2.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{SecurityGroupRuleIds: []string{*id}}))(w).SecurityGroupRules[0]
	}
	if r := show(); *r.IpProtocol != "udp" || *r.CidrIpv4 != "192.168.0.0/16" || *r.Description != "names" || *r.IsEgress {
		t.Errorf("modified %+v", r)
	}
	must(w.ec2.UpdateSecurityGroupRuleDescriptionsIngress(ctx, &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{GroupId: &p.group, SecurityGroupRuleDescriptions: []types.SecurityGroupRuleDescription{{SecurityGroupRuleId: id, Description: new("dns")}}}))(w)
	if r := show(); *r.Description != "dns" {
		t.Errorf("described %+v", r)
	}
	all := types.IpPermission{IpProtocol: new("-1"), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0"), Description: new("out")}}}
	must(w.ec2.UpdateSecurityGroupRuleDescriptionsEgress(ctx, &ec2.UpdateSecurityGroupRuleDescriptionsEgressInput{GroupId: &p.group, IpPermissions: []types.IpPermission{all}}))(w)
	w.wantCode(failed(w.ec2.UpdateSecurityGroupRuleDescriptionsIngress(ctx, &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{GroupId: &p.group, IpPermissions: []types.IpPermission{all}})), "InvalidPermission.NotFound")
	group := must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{p.group}}))(w).SecurityGroups[0]
	if *group.IpPermissionsEgress[0].IpRanges[0].Description != "out" {
		t.Errorf("outbound %+v", group.IpPermissionsEgress)
	}
	// In the default VPC, to revoke what is not there only lists it.
	vpc := must(w.ec2.CreateDefaultVpc(ctx, &ec2.CreateDefaultVpcInput{}))(w).Vpc
	made := must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("plain"), Description: new("x")}))(w)
	out := must(w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupName: new("plain"), IpPermissions: []types.IpPermission{tcpRule(80, "10.0.0.0/8")}}))(w)
	if len(out.UnknownIpPermissions) != 1 || !*vpc.IsDefault || *must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"plain"}}))(w).SecurityGroups[0].GroupId != *made.GroupId {
		t.Errorf("revoked %+v", out)
	}
}

// Packets feel a prefix list and its changes, and a network load balancer uses Elastic IP addresses.
func TestEC2PrefixListsAndAddressesAreUsed(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	network := w.emulator.EC2()
	machine := must(network.AddInstance("eu-west-1a", "node"))(w)
	list := must(w.ec2.CreateManagedPrefixList(ctx, &ec2.CreateManagedPrefixListInput{PrefixListName: new("offices"), AddressFamily: new("IPv4"), MaxEntries: new(int32(5)), Entries: []types.AddPrefixListEntry{{Cidr: new("192.168.0.0/16")}}}))(w).PrefixList
	must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: new(network.NodeSecurityGroup()), IpPermissions: []types.IpPermission{{
		IpProtocol: new("tcp"), FromPort: new(int32(80)), ToPort: new(int32(80)), PrefixListIds: []types.PrefixListId{{PrefixListId: list.PrefixListId}},
	}}}))(w)
	to := netip.AddrPortFrom(machine.Address, 80)
	inside, outside := netip.MustParseAddr("192.168.7.7"), netip.MustParseAddr("172.16.0.1")
	if !network.Admits(inside, to) || network.Admits(outside, to) {
		t.Error("packets do not feel the list")
	}
	must(w.ec2.ModifyManagedPrefixList(ctx, &ec2.ModifyManagedPrefixListInput{PrefixListId: list.PrefixListId, CurrentVersion: new(int64(1)),
		AddEntries: []types.AddPrefixListEntry{{Cidr: new("172.16.0.0/12")}}, RemoveEntries: []types.RemovePrefixListEntry{{Cidr: new("192.168.0.0/16")}}}))(w)
	if network.Admits(inside, to) || !network.Admits(outside, to) {
		t.Error("packets do not feel that the list has changed")
	}
	old := must(w.ec2.GetManagedPrefixListEntries(ctx, &ec2.GetManagedPrefixListEntriesInput{PrefixListId: list.PrefixListId, TargetVersion: new(int64(1))}))(w).Entries
	if len(old) != 1 || *old[0].Cidr != "192.168.0.0/16" {
		t.Errorf("version 1 has %+v", old)
	}

	eip := must(w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{TagSpecifications: tagged(types.ResourceTypeElasticIp, "a", "b")}))(w)
	public := *must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("tag:kubernetes.io/role/elb", "1")}}))(w).Subnets[0].SubnetId
	lb := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: new("elastic"), Type: elbtypes.LoadBalancerTypeEnumNetwork, SubnetMappings: []elbtypes.SubnetMapping{{SubnetId: &public, AllocationId: eip.AllocationId}},
	}))(w).LoadBalancers[0]
	shown := lb.AvailabilityZones[0].LoadBalancerAddresses
	if len(shown) != 1 || *shown[0].AllocationId != *eip.AllocationId || *shown[0].IpAddress != *eip.PublicIp {
		t.Errorf("addresses of the load balancer %+v", shown)
	}
	address := must(w.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: []string{*eip.AllocationId}}))(w).Addresses[0]
	if address.AssociationId == nil || address.InstanceId != nil {
		t.Fatalf("address %+v", address)
	}
	w.wantCode(failed(w.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: address.AssociationId})), "OperationNotPermitted")
	w.wantCode(failed(w.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: eip.AllocationId})), "InvalidIPAddress.InUse")
	w.wantCode(failed(w.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: address.NetworkInterfaceId})), "OperationNotPermitted")
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn}))(w)
	w.eventually("the address is free again", func() bool {
		return failed(w.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: eip.AllocationId})) == nil
	})
}

// Targets follow their instance: in a stopped one they are unused, and of a terminated one they are deregistered.
func TestEC2TargetsFollowTheirInstance(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	network := w.emulator.EC2()
	run := must(w.ec2.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: new("ami-0123456789abcdef0"), MinCount: new(int32(1)), MaxCount: new(int32(1)), SubnetId: new(w.subnets()[0])}))(w)
	id := run.Instances[0].InstanceId
	group := must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new("follow"), Protocol: elbtypes.ProtocolEnumHttp, Port: new(int32(80)), VpcId: new(network.VPC()), TargetType: elbtypes.TargetTypeEnumInstance}))(w).TargetGroups[0].TargetGroupArn
	must(w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: group, Targets: []elbtypes.TargetDescription{{Id: id}}}))(w)
	w.listener(*w.loadBalancer("follow").LoadBalancerArn, 80, forward(*group))
	health := func() []elbtypes.TargetHealthDescription {
		t.Helper()
		return must(w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: group}))(w).TargetHealthDescriptions
	}
	must(w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{*id}}))(w)
	if h := health(); len(h) != 1 || h[0].TargetHealth.State != elbtypes.TargetHealthStateEnumUnused || h[0].TargetHealth.Reason != elbtypes.TargetHealthReasonEnumInvalidState {
		t.Errorf("of a stopped instance %+v", h)
	}
	must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{*id}}))(w)
	if h := health(); len(h) > 0 && h[0].TargetHealth.State != elbtypes.TargetHealthStateEnumDraining {
		t.Errorf("of a terminated instance %+v", h)
	}
	w.wantCode(failed(w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: group, Targets: []elbtypes.TargetDescription{{Id: id}}})), "InvalidTarget")
}

// What an account has made by API survives its process.
func TestEC2OutlivesItsProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keep := func(c *aws.Config) { c.DataDir = dir }
	w := ec2World(t, keep)
	p := newPlace(w, "10.229.0.0/16")
	instance := p.run(1)[0]
	eip := must(w.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{}))(w)
	must(w.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: eip.AllocationId, InstanceId: &instance}))(w)
	list := must(w.ec2.CreateManagedPrefixList(ctx, &ec2.CreateManagedPrefixListInput{PrefixListName: new("a"), AddressFamily: new("IPv4"), MaxEntries: new(int32(2)), Entries: []types.AddPrefixListEntry{{Cidr: new("10.0.0.0/8")}}}))(w).PrefixList
	look := func(w *world) []string {
		t.Helper()
		m := byID(must(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}}))(w).Reservations, instance)
		subnets := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("vpc-id", p.vpc)}}))(w).Subnets
		routes := must(w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{p.routes}}))(w).RouteTables[0]
		entries := must(w.ec2.GetManagedPrefixListEntries(ctx, &ec2.GetManagedPrefixListEntriesInput{PrefixListId: list.PrefixListId}))(w).Entries
		return []string{*m.PrivateIpAddress, *m.PublicIpAddress, string(m.State.Name), fmt.Sprint(len(subnets), *subnets[0].AvailableIpAddressCount, *subnets[1].AvailableIpAddressCount), *routes.Routes[1].GatewayId, *entries[0].Cidr}
	}
	want := look(w)
	if err := w.emulator.Close(); err != nil {
		t.Fatal(err)
	}
	again := ec2World(t, keep)
	if got := look(again); !slices.Equal(got, want) {
		t.Errorf("before %v, after %v", want, got)
	}
}

package ec2

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// stale sees everything as it was before its last change.
var stale = eventual.Reader{Caller: "behind", Stale: &eventual.Staleness{Probability: 1, Window: time.Hour}}

// Who sees an instance as it was before an interface was detached does not see that interface, which is no part of it any more.
func TestOldViewsOfInstancesLackInterfacesThatAreGone(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	subnet := s.privateSubnet("eu-west-1a").SubnetId
	run := called(t, s, s.runInstances, &ec2.RunInstancesInput{MinCount: new(int32(1)), MaxCount: new(int32(1)), ImageId: new("ami-0123456789abcdef0"), SubnetId: subnet})
	id := run.Instances[0].InstanceId
	more := called(t, s, s.createNetworkInterface, &ec2.CreateNetworkInterfaceInput{SubnetId: subnet}).NetworkInterface.NetworkInterfaceId
	attachment := called(t, s, s.attachNetworkInterface, &ec2.AttachNetworkInterfaceInput{InstanceId: id, NetworkInterfaceId: more, DeviceIndex: new(int32(1))}).AttachmentId
	called(t, s, s.detachNetworkInterface, &ec2.DetachNetworkInterfaceInput{AttachmentId: attachment})
	out, err := s.DescribeInstances(stale, &ec2.DescribeInstancesInput{InstanceIds: []string{*id}})
	if err != nil {
		t.Fatal(err)
	}
	if faces := out.Reservations[0].Instances[0].NetworkInterfaces; len(faces) != 1 || *faces[0].NetworkInterfaceId == *more {
		t.Errorf("the instance has %d interfaces, want the first one", len(faces))
	}
}

// Who sees a rule that is gone may be told of a group that is gone as well.
func TestOldViewsOfRulesNameGroupsThatAreGone(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	group := func(name string) *string {
		return called(t, s, s.createSecurityGroup, &ec2.CreateSecurityGroupInput{GroupName: &name, Description: &name, VpcId: &s.vpc}).GroupId
	}
	front, back := group("front"), group("back")
	from := []types.IpPermission{{IpProtocol: new("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: front}}}}
	called(t, s, s.authorizeSecurityGroupIngress, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: back, IpPermissions: from})
	called(t, s, s.revokeSecurityGroupIngress, &ec2.RevokeSecurityGroupIngressInput{GroupId: back, IpPermissions: from})
	called(t, s, s.deleteSecurityGroup, &ec2.DeleteSecurityGroupInput{GroupId: front})
	out, err := s.DescribeSecurityGroupRules(stale, &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{{Name: new("group-id"), Values: []string{*back}}}})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, r := range out.SecurityGroupRules {
		if info := r.ReferencedGroupInfo; info != nil && *info.GroupId == *front {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d rules name the group that is gone: %+v", found, out.SecurityGroupRules)
	}
}

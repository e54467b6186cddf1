package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// Two clusters in one account see each other's resources and draw on the same buckets; each has its own nodes.
func TestTwoClustersShareAnAccount(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	account := up(t, Config{Name: "account", Profile: "ideal", OnlyAWS: true, Region: "us-west-1", AccountID: "210987654321"})
	one, other := up(t, Config{Name: "one", Join: "account"}), up(t, Config{Name: "other", Join: "account", ClusterName: "prod"})
	client := func(s *Sandbox) *ec2.Client {
		state := s.State()
		return ec2.NewFromConfig(sdk.Config{
			Region: state.Region, BaseEndpoint: &state.AWSEndpoint, Retryer: func() sdk.Retryer { return sdk.NopRetryer{} },
			Credentials: credentials.NewStaticCredentialsProvider(state.AccessKey, state.SecretKey, ""),
		})
	}
	instances := func(s *Sandbox, cluster string) (ids []string) {
		t.Helper()
		out, err := client(s).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{
			{Name: new("tag:kubernetes.io/cluster/" + cluster), Values: []string{"owned"}}, {Name: new("instance-state-name"), Values: []string{"running"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Reservations {
			ids = append(ids, *r.Instances[0].InstanceId)
		}
		return ids
	}
	if mine, theirs := instances(one, "one"), instances(one, "prod"); len(mine) != 3 || len(theirs) != 3 || slices.Equal(mine, theirs) || len(instances(one, "lockstep")) != 0 {
		t.Errorf("the clusters have nodes %v and %v", mine, theirs)
	}
	subnets, err := client(other).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: []types.Filter{
		{Name: new("tag:kubernetes.io/cluster/prod"), Values: []string{"shared"}}, {Name: new("tag:kubernetes.io/cluster/one"), Values: []string{"shared"}},
	}})
	if err != nil || len(subnets.Subnets) != 6 {
		t.Errorf("subnets with the tags of both: %v, %v", subnets, err)
	}
	group, err := client(one).CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: new("shop"), Description: new("shop"), VpcId: new(one.State().VPCID)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(other).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*group.GroupId}}); err != nil {
		t.Errorf("what one cluster makes, the other does not see: %v", err)
	}
	nodesAndInstancesAreOne(t, other, account.AWS())
	if _, err := Up(t.Context(), Config{Name: "third", Join: "account", ClusterName: "prod"}); err == nil || !strings.Contains(err.Error(), "sandbox other runs a cluster of that name") {
		t.Errorf("a second cluster of one name: %v", err)
	}
	if theirs := instances(one, "prod"); len(theirs) != 3 {
		t.Errorf("after a second cluster of its name was refused the first has the nodes %v", theirs)
	}
	// One empties the bucket of 50 tokens, the other is throttled.
	throttled := func(err error) bool { return err != nil && strings.Contains(err.Error(), "RequestLimitExceeded") }
	for range 200 {
		if _, err = client(one).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{}); throttled(err) {
			break
		}
	}
	if _, err := client(other).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{}); !throttled(err) {
		t.Errorf("after the other has emptied the bucket: %v", err)
	}
	down := func(s *Sandbox) (n int) {
		for _, node := range s.Kubelet().Nodes() {
			if node.State == kubelet.NodeUnreachable {
				n++
			}
		}
		return n
	}
	if _, err := account.AWS().AddFault(fault.Fault{Kind: fault.Zone, Zone: "us-west-1a"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a zone is lost to both", func() bool { return down(one) == 1 && down(other) == 1 })
	if _, err := account.AWS().AddFault(fault.Fault{Kind: fault.Node, Resource: one.Kubelet().Nodes()[1].Name}); err != nil {
		t.Error(err)
	}
	account.AWS().Faults().Remove("fault-1")
	eventually(t, "a node is lost to one", func() bool { return down(one) == 1 && down(other) == 0 })
	if err := account.AWS().SetScale(0.5); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the scale reaches both", func() bool { return one.State().Scale == 0.5 && other.Kubelet().Scale() == 0.5 })
	if err := account.AWS().Reset(nil); err != nil {
		t.Fatal(err)
	}
	if len(instances(one, "one")) != 3 {
		t.Error("a reset takes the nodes of clusters away")
	}
	// A node of a cluster ends, and comes again with a new instance: nothing of the first is left in the account, and faults know it once.
	before, node := instances(one, "one"), one.Kubelet().Nodes()[2].Name
	if err := one.Kubelet().FailNode(t.Context(), node, kubelet.NodeTerminated); err != nil {
		t.Fatal(err)
	}
	if left := instances(one, "one"); len(left) != 2 {
		t.Errorf("after the end of a node the account has %v, and had %v", left, before)
	}
	of := fault.Fault{Kind: fault.Node, Resource: node}
	if _, err := account.AWS().AddFault(of); err == nil {
		t.Error("a node that has ended can be taken away")
	}
	if err := one.Kubelet().RestoreNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if now := instances(one, "one"); len(now) != 3 || slices.Equal(now, before) {
		t.Errorf("after the node has come back the account has %v, and had %v", now, before)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left of a cluster that ends", func() bool { return len(instances(one, "prod")) == 0 })
	if err := account.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-one.Done():
	case <-time.After(20 * time.Second):
		t.Error("a cluster goes on without its account")
	}
	for says, c := range map[string]Config{
		"not running":  {Name: "x", Join: "nosuch"},
		"join itself":  {Name: "x", Join: "x"},
		"leave out":    {Name: "x", Join: "account", OnlyAWS: true},
		"--region":     {Name: "x", Region: "Mars"},
		"--account-id": {Name: "x", AccountID: "1"},
	} {
		if _, err := Up(t.Context(), c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if _, err := Running("account"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("the account: %v", err)
	}
}

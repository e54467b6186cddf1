package aws_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// The end of a node of a cluster that has joined ends its instance, and no other's; a node that comes back is there once.
func TestNodesOfJoinedClustersEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.emulator.Join("prod", "two"); err != nil {
		t.Fatal(err)
	}
	add := func() aws.Member {
		return must(w.emulator.AddMember(aws.Member{Cluster: "prod", Zone: "eu-west-1a", Name: "node-1"}))(w)
	}
	first := add()
	for range 2 { // the second time there is nothing left to do
		if err := w.emulator.RemoveMember(first.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, there := w.emulator.EC2().InstanceByID(first.ID); there {
		t.Error("the instance has outlived its node")
	}
	taken := fault.Fault{Kind: fault.Node, Resource: "node-1"}
	if _, err := w.emulator.AddFault(taken); err == nil {
		t.Error("a node that has ended can be taken away")
	}
	second := add()
	if second.ID == first.ID {
		t.Errorf("two instances have the id %s", first.ID)
	}
	if _, err := w.emulator.AddFault(taken); err != nil {
		t.Error(err)
	}
	_, err := w.emulator.AddFault(fault.Fault{Kind: fault.Node, Resource: "nobody"})
	if err == nil || strings.Count(err.Error(), "node-1") != 1 {
		t.Errorf("the nodes to choose from: %v", err)
	}
	own := must(w.emulator.EC2().AddInstance("eu-west-1a", "ours"))(w)
	if err := w.emulator.RemoveMember(own.ID); err == nil || !strings.Contains(err.Error(), own.ID) {
		t.Errorf("the end of another's instance: %v", err)
	}
	if _, there := w.emulator.EC2().InstanceByID(own.ID); !there {
		t.Error("one cluster has ended the instance of another")
	}
}

// Two clusters of one name would take the nodes from each other: the name is that of the first until its sandbox has ended or it has left.
func TestAClusterThatLivesKeepsItsName(t *testing.T) {
	t.Parallel()
	alive := map[string]bool{"one": true, "two": true}
	w := newWorld(t, func(c *aws.Config) { c.Lives = func(sandbox string) bool { return alive[sandbox] } })
	join := func(sandbox string) error { return w.emulator.Join("prod", sandbox) }
	if err := join("one"); err != nil {
		t.Fatal(err)
	}
	node := must(w.emulator.AddMember(aws.Member{Cluster: "prod", Zone: "eu-west-1a", Name: "node"}))(w)
	err := join("two")
	if err == nil || !strings.Contains(err.Error(), "cluster prod") || !strings.Contains(err.Error(), "sandbox one") || !strings.Contains(err.Error(), "--cluster-name") {
		t.Errorf("a second cluster of the name: %v", err)
	}
	if at, there := w.emulator.EC2().InstanceByID(node.ID); !there || !at.Running {
		t.Error("who was refused has ended a node of the cluster that lives")
	}
	alive["one"] = false
	if err := join("two"); err != nil {
		t.Errorf("after the first was killed: %v", err)
	}
	if _, there := w.emulator.EC2().InstanceByID(node.ID); there {
		t.Error("a node of the killed cluster is still there")
	}
	if err := join("two"); err != nil {
		t.Errorf("a sandbox that was killed and started again: %v", err)
	}
	if err := w.emulator.Leave("prod"); err != nil {
		t.Fatal(err)
	}
	if err := join(""); err != nil {
		t.Errorf("after the cluster has left: %v", err)
	}
	if err := join(""); err == nil || !strings.Contains(err.Error(), "DELETE /_lockstep/clusters/prod") {
		t.Errorf("where nobody can tell whether the first lives: %v", err)
	}
}

// A cluster of another process learns what becomes of its instances: its own, until it has taken them away.
func TestAClusterThatHasJoinedHearsOfItsInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.emulator.Machines("prod"); err == nil || !strings.Contains(err.Error(), `"prod"`) {
		t.Errorf("the machines of a cluster that has not joined: %v", err)
	}
	add := func(cluster, name string) string {
		return must(w.emulator.AddMember(aws.Member{Cluster: cluster, Zone: "eu-west-1a", Name: name}))(w).ID
	}
	for _, cluster := range []string{"prod", "other"} {
		if err := w.emulator.Join(cluster, cluster); err != nil {
			t.Fatal(err)
		}
	}
	stops, ends := add("prod", "stops"), add("prod", "ends")
	add("other", "theirs")
	want := func(states map[string]types.InstanceStateName) {
		t.Helper()
		got := map[string]types.InstanceStateName{}
		for _, m := range must(w.emulator.Machines("prod"))(w) {
			got[m.ID] = m.State
		}
		if !maps.Equal(got, states) {
			t.Errorf("the machines are %v, want %v", got, states)
		}
	}
	want(map[string]types.InstanceStateName{stops: "running", ends: "running"})
	must(w.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{stops}}))(w)
	must(w.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{ends}}))(w)
	want(map[string]types.InstanceStateName{stops: "stopped", ends: "terminated"})
	if err := w.emulator.RemoveMember(ends); err != nil {
		t.Error(err)
	}
	if err := w.emulator.Reset(nil); err != nil {
		t.Fatal(err)
	}
	want(map[string]types.InstanceStateName{stops: "running"})
}

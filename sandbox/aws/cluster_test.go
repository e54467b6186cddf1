package aws_test

import (
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// The end of a node of a cluster that has joined ends its instance, and no other's; a node that comes back is there once.
func TestNodesOfJoinedClustersEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.emulator.Join("prod"); err != nil {
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

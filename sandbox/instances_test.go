package sandbox

import (
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// Who stops or terminates the instance of a node by an AWS API has stopped or terminated the node; who terminates the node has terminated the instance.
// The account is the sandbox's own, or that which it has joined.
func nodesAndInstancesAreOne(t *testing.T, s *Sandbox, account *aws.Emulator) {
	t.Helper()
	state := s.State()
	client := ec2.NewFromConfig(sdk.Config{
		Region: state.Region, BaseEndpoint: &state.AWSEndpoint, Credentials: credentials.NewStaticCredentialsProvider(state.AccessKey, state.SecretKey, ""),
	})
	node := s.Kubelet().Nodes()[0]
	await := func(what kubelet.NodeState) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for s.Kubelet().Nodes()[0].State != what {
			if time.Now().After(deadline) {
				t.Fatalf("node %s is %s, want %s", node.Name, s.Kubelet().Nodes()[0].State, what)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	ids := []string{node.Instance}
	if _, err := client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: ids}); err != nil {
		t.Fatal(err)
	}
	await(kubelet.NodeUnreachable)
	if _, err := client.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: ids}); err != nil {
		t.Fatal(err)
	}
	await(kubelet.NodeRunning)
	if _, err := client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids}); err != nil {
		t.Fatal(err)
	}
	await(kubelet.NodeTerminated)
	if err := s.Kubelet().RestoreNode(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	fresh := s.Kubelet().Nodes()[0]
	if fresh.Instance == node.Instance {
		t.Error("the new node has the old instance")
	}
	if err := s.Kubelet().FailNode(t.Context(), node.Name, kubelet.NodeTerminated); err != nil {
		t.Fatal(err)
	}
	if _, there := account.EC2().InstanceByID(fresh.Instance); there {
		t.Error("the instance of a node that was terminated is still there")
	}
	if err := s.Kubelet().RestoreNode(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
}

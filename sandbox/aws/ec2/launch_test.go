package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// An address can be that of one interface only: with two owners an account could not be restored.
func TestInterfacesOfALaunchDoNotShareAnAddress(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	subnet := s.privateSubnet("eu-west-1a")
	face := func(device int32, address string) types.InstanceNetworkInterfaceSpecification {
		return types.InstanceNetworkInterfaceSpecification{DeviceIndex: &device, SubnetId: subnet.SubnetId, PrivateIpAddress: optional(address)}
	}
	run := func(addresses ...string) error {
		in := &ec2.RunInstancesInput{MinCount: new(int32(1)), MaxCount: new(int32(1)), ImageId: new("ami-0123456789abcdef0")}
		for i, a := range addresses {
			in.NetworkInterfaces = append(in.NetworkInterfaces, face(int32(i), a))
		}
		_, err := change(s, s.runInstances, eventual.Reader{}, in)
		return err
	}
	if err := run("10.9.0.50", "10.9.0.50"); err == nil {
		t.Error("two interfaces get one address")
	}
	if err := run("10.9.0.50", "10.9.0.51"); err != nil {
		t.Error(err)
	}
	if err := run("", "10.9.0.4"); err != nil { // what "any" would have been
		t.Error(err)
	}
	text, err := s.Export()
	if err != nil {
		t.Fatal(err)
	}
	if err := newService(t, "ideal").Import(text); err != nil {
		t.Errorf("the account cannot be restored: %v", err)
	}
}

package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// called carries out a change that must succeed.
func called[I, O any](t *testing.T, s *Service, prepare func(eventual.Reader, *I) (func() *O, error), in *I) *O {
	t.Helper()
	out, err := change(s, prepare, eventual.Reader{}, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Who runs a machine must hear what a reset makes of its instance: one that was stopped runs on.
func TestAResetTellsWhoRunsMachines(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	state := map[string]types.InstanceStateName{}
	s.config.Changed = func(m Machine) { state[m.ID] = m.State }
	stays, err := s.AddInstance("eu-west-1a", "stays")
	if err != nil {
		t.Fatal(err)
	}
	called(t, s, s.stopInstances, &ec2.StopInstancesInput{InstanceIds: []string{stays.ID}})
	if state[stays.ID] != types.InstanceStateNameStopped {
		t.Fatalf("a stopped instance is told to be %q", state[stays.ID])
	}
	s.Reset()
	if state[stays.ID] != types.InstanceStateNameRunning || s.MachineByID(stays.ID).State != types.InstanceStateNameRunning {
		t.Errorf("told after the reset: %v, want %s running", state, stays.ID)
	}
	if one, ok := s.InstanceByID(stays.ID); !ok || !one.Running || one.Address != stays.Address {
		t.Errorf("the instance that stays: %+v, %v", one, ok)
	}
}

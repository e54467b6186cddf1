package aws

import (
	"slices"
	"sync"

	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
)

// instancesOf is how many instances a call starts, stops or ends.
func instancesOf(input any) int {
	switch in := input.(type) {
	case *ec2api.RunInstancesInput:
		if in.MaxCount != nil {
			return int(max(0, min(*in.MaxCount, 1000)))
		}
	case *ec2api.StartInstancesInput:
		return len(in.InstanceIds)
	case *ec2api.StopInstancesInput:
		return len(in.InstanceIds)
	case *ec2api.TerminateInstancesInput:
		return len(in.InstanceIds)
	}
	return 0
}

// watchers are told of instances that begin to run, stop or end.
type watchers struct {
	mu  sync.Mutex
	all []func(ec2.Machine)
}

// WatchInstances calls f for each instance that begins to run, stops or ends from now on, whoever has made it so. It is called after the change, by
// the goroutine that has made it: f must not wait for calls of AWS.
func (e *Emulator) WatchInstances(f func(ec2.Machine)) {
	e.watchers.mu.Lock()
	defer e.watchers.mu.Unlock()
	e.watchers.all = append(e.watchers.all, f)
}

// instanceChanged passes on what happens to an instance: its targets follow.
func (e *Emulator) instanceChanged(m ec2.Machine) {
	e.elbv2.FollowInstance(m.ID)
	e.watchers.mu.Lock()
	all := slices.Clone(e.watchers.all)
	e.watchers.mu.Unlock()
	for _, f := range all {
		f(m)
	}
}

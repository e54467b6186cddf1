package sandbox

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// failMachines lets faults of zones and nodes reach the machines: as long as such a fault works, its machines do not
// answer. It ends with life.
func (s *Sandbox) failMachines(life context.Context) {
	faults := s.remote
	if s.emulator != nil {
		faults = s.emulator.Faults()
	}
	failed := map[string]bool{}
	for {
		changed := faults.Changed()
		zones, nodes, until := faults.Failed()
		wanted := map[string]bool{}
		for _, zone := range zones {
			for _, node := range s.kubelet.Nodes() {
				if node.Zone == zone {
					wanted[node.Name] = true
				}
			}
		}
		own := s.machines()
		for _, name := range nodes {
			if slices.Contains(own, name) { // and not of another cluster of the account
				wanted[name] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			if !failed[name] {
				s.complain("cannot take a machine away", name, s.kubelet.FailNode(life, name, kubelet.NodeUnreachable))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(failed)) {
			if !wanted[name] {
				s.complain("cannot bring a machine back", name, s.kubelet.RestoreNode(life, name))
			}
		}
		failed = wanted
		if !awaitChange(life, changed, until) {
			return
		}
	}
}

// followInstances lets nodes go the way of their instances when somebody stops, starts or terminates these by an AWS API. It ends with life.
func (s *Sandbox) followInstances(life context.Context) {
	s.emulator.WatchInstances(func(m ec2.Machine) {
		for _, node := range s.kubelet.Nodes() {
			if node.Instance == m.ID && life.Err() == nil {
				go s.followInstance(life, node.Name, m.State)
			}
		}
	})
}

func (s *Sandbox) followInstance(life context.Context, node string, state types.InstanceStateName) {
	switch state {
	case types.InstanceStateNameTerminated:
		s.complain("cannot terminate a node like its instance", node, s.kubelet.FailNode(life, node, kubelet.NodeTerminated))
	case types.InstanceStateNameStopped:
		s.complain("cannot stop a node like its instance", node, s.kubelet.FailNode(life, node, kubelet.NodeUnreachable))
	case types.InstanceStateNameRunning:
		s.complain("cannot start a node like its instance", node, s.kubelet.RestoreNode(life, node))
	}
}

// awaitChange waits until the faults have been changed, or one of them begins or ends by itself. It is false when life
// has ended.
func awaitChange(life context.Context, changed <-chan struct{}, until time.Time) bool {
	var edge <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		edge = timer.C
	}
	select {
	case <-changed:
	case <-edge:
	case <-life.Done():
		return false
	}
	return true
}

// machines names what faults of kind node can take away: nothing without a cluster.
func (s *Sandbox) machines() (names []string) {
	s.mu.Lock()
	k := s.kubelet
	s.mu.Unlock()
	if k == nil {
		return nil
	}
	for _, node := range k.Nodes() {
		names = append(names, node.Name)
	}
	return names
}

func (s *Sandbox) complain(what, node string, err error) {
	if err != nil {
		s.config.Log.Error(what, "node", node, "error", err)
	}
}

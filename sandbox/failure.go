package sandbox

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// machines lets the nodes of the cluster go the way of their machines. A machine does not answer as long as a fault takes it or its zone away, and as
// long as its instance is stopped; it ends with its instance. Who changes something only wakes the one goroutine that looks how things are and acts, so
// that what it has done last always fits what was there last, however quickly one change follows another.
type machines struct {
	nodes  nodes
	faults *fault.Set
	// instance tells the state in which an instance is; empty: nobody knows.
	instance func(id string) types.InstanceStateName
	log      *slog.Logger

	woken chan struct{}
	// made is what the machines have been made, by their instances.
	made map[string]kubelet.NodeState
}

// nodes are the kubelet's.
type nodes interface {
	Nodes() []kubelet.NodeInfo
	FailInstance(ctx context.Context, instance string, state kubelet.NodeState) error
	RestoreInstance(ctx context.Context, instance string) error
}

// actAgain is how long after an error the same is tried again.
const actAgain = 5 * time.Second

func newMachines(n nodes, faults *fault.Set, instance func(id string) types.InstanceStateName, log *slog.Logger) *machines {
	return &machines{nodes: n, faults: faults, instance: instance, log: log, woken: make(chan struct{}, 1)}
}

// wake says that instances may have changed. It does not wait.
func (m *machines) wake() {
	select {
	case m.woken <- struct{}{}:
	default: // a look that has not begun yet sees this change as well
	}
}

// follow ends with life.
func (m *machines) follow(life context.Context) {
	for life.Err() == nil {
		changed := m.faults.Changed() // before the look, so that nothing between the two is missed
		again := m.look(life)
		var edge <-chan time.Time
		var timer *time.Timer
		if !again.IsZero() {
			timer = time.NewTimer(time.Until(again))
			edge = timer.C
		}
		select {
		case <-changed:
		case <-m.woken:
		case <-edge:
		case <-life.Done():
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// look makes each node what its machine is, and says when that may change by itself (zero: it does not).
func (m *machines) look(life context.Context) (again time.Time) {
	zones, lost, again := m.faults.Failed()
	made := map[string]kubelet.NodeState{}
	for _, node := range m.nodes.Nodes() {
		was := cmp.Or(m.made[node.Instance], kubelet.NodeRunning)
		faulted := slices.Contains(zones, node.Zone) || slices.Contains(lost, node.Name)
		now := machineState(was, m.instance(node.Instance), faulted)
		if err := m.act(life, node, was, now); err != nil && life.Err() == nil {
			m.log.Error("a node does not go the way of its machine", "node", node.Name, "instance", node.Instance, "from", was, "to", now, "error", err)
			now = was
			if soon := time.Now().Add(actAgain); again.IsZero() || soon.Before(again) {
				again = soon
			}
		}
		made[node.Instance] = now
	}
	m.made = made
	return again
}

// machineState is how a node is by what its instance and the faults say. An instance that shuts down leaves the node as it was.
func machineState(was kubelet.NodeState, instance types.InstanceStateName, faulted bool) kubelet.NodeState {
	switch instance {
	case types.InstanceStateNameTerminated:
		return kubelet.NodeTerminated
	case types.InstanceStateNameShuttingDown:
		return was
	case types.InstanceStateNameStopped, types.InstanceStateNamePending:
		return kubelet.NodeUnreachable
	}
	if faulted {
		return kubelet.NodeUnreachable
	}
	return kubelet.NodeRunning
}

func (m *machines) act(life context.Context, node kubelet.NodeInfo, was, now kubelet.NodeState) error {
	switch {
	case now == was:
		return nil
	case now == kubelet.NodeRunning:
		return m.nodes.RestoreInstance(life, node.Instance)
	default:
		return m.nodes.FailInstance(life, node.Instance, now)
	}
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

package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// site is one node and its instance. To take the node away takes three seconds, to bring it back one; it is written down when it is done.
type site struct {
	mu       sync.Mutex
	instance types.InstanceStateName
	broken   error
	did      []string
}

func (s *site) Nodes() []kubelet.NodeInfo {
	return []kubelet.NodeInfo{{Name: "node", Zone: "a", Instance: "i-1"}}
}

func (s *site) FailInstance(_ context.Context, _ string, state kubelet.NodeState) error {
	return s.do(3*time.Second, string(state))
}

func (s *site) RestoreInstance(context.Context, string) error {
	return s.do(time.Second, string(kubelet.NodeRunning))
}

func (s *site) do(takes time.Duration, what string) error {
	time.Sleep(takes) // virtual
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.did = append(s.did, what)
	}
	return s.broken
}

func (s *site) state(string) types.InstanceStateName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instance
}

func (s *site) become(state types.InstanceStateName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance = state
}

// follow runs f against machines that are followed, in virtual time.
func (s *site) follow(t *testing.T, f func(m *machines)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMachines(s, fault.NewSet(), s.state, slog.New(slog.DiscardHandler))
		go m.follow(t.Context())
		synctest.Wait()
		f(m)
	})
}

func (s *site) want(t *testing.T, done ...string) {
	t.Helper()
	time.Sleep(20 * time.Second) // virtual
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.did, done) {
		t.Errorf("the node has become %q in this order, want %q", s.did, done)
	}
}

// An instance is started again while its node is still being stopped: the node runs in the end.
func TestANodeEndsUpAsItsInstanceDoes(t *testing.T) {
	t.Parallel()
	s := &site{instance: types.InstanceStateNameRunning}
	s.follow(t, func(m *machines) {
		s.become(types.InstanceStateNameStopped)
		m.wake()
		synctest.Wait() // the node is being stopped
		s.become(types.InstanceStateNameRunning)
		m.wake()
		s.want(t, "unreachable", "running")
		s.become(types.InstanceStateNameStopped)
		m.wake()
		synctest.Wait()
		s.become(types.InstanceStateNameTerminated)
		m.wake()
		m.wake()
		s.want(t, "unreachable", "running", "unreachable", "terminated")
	})
}

// The end of a fault does not start an instance, and the start of an instance does not end a fault.
func TestANodeRunsWhenNothingHoldsItDown(t *testing.T) {
	t.Parallel()
	s := &site{instance: types.InstanceStateNameRunning}
	s.follow(t, func(m *machines) {
		add := func() string {
			id, err := m.faults.Add(fault.Fault{Kind: fault.Zone, Zone: "a"})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		first := add()
		s.want(t, "unreachable")
		s.become(types.InstanceStateNameStopped)
		m.wake()
		m.faults.Remove(first)
		s.want(t, "unreachable")
		second := add()
		s.become(types.InstanceStateNameRunning)
		m.wake()
		s.want(t, "unreachable")
		m.faults.Remove(second)
		s.want(t, "unreachable", "running")
	})
}

func TestWhatCannotBeDoneToANodeIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := &site{instance: types.InstanceStateNameTerminated, broken: errors.New("the API server does not answer")}
	s.follow(t, func(*machines) {
		s.want(t)
		s.mu.Lock()
		s.broken = nil
		s.mu.Unlock()
		s.want(t, "terminated")
	})
}

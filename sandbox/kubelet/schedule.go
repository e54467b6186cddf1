package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

const bindWorkers = 16

// scheduler binds pods that have no node yet to one, as the board chooses.
type scheduler struct {
	k     *Kubelet
	queue workqueue.TypedRateLimitingInterface[types.UID]

	mu      sync.Mutex
	board   *board
	waiting map[types.UID]*corev1.Pod // pods without a node
	stuck   map[types.UID]bool        // those that fit on no node at present
}

func newScheduler(k *Kubelet) *scheduler {
	return &scheduler{
		k: k, queue: newQueue[types.UID](), board: newBoard(),
		waiting: map[types.UID]*corev1.Pod{}, stuck: map[types.UID]bool{},
	}
}

func (s *scheduler) start(ctx context.Context, workers *sync.WaitGroup) {
	for range bindWorkers {
		workers.Go(func() {
			for work(ctx, s.queue, s.bind, s.complain) {
			}
		})
	}
}

func (s *scheduler) shutDown() { s.queue.ShutDown() }

func (s *scheduler) complain(uid types.UID, err error) {
	s.k.cfg.Log.Warn("cannot place a pod; trying again", "uid", uid, "error", err)
}

// podSeen takes note of a pod that has no node.
func (s *scheduler) podSeen(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 || pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return
	}
	s.mu.Lock()
	_, known := s.waiting[pod.UID]
	s.waiting[pod.UID] = pod
	s.mu.Unlock()
	if !known { // later changes of a waiting pod are mostly our own: nodes that change wake it
		s.queue.Add(pod.UID)
	}
}

// podPlaced takes note of a pod that has a node, whoever chose it.
func (s *scheduler) podPlaced(pod *corev1.Pod) {
	if terminal(pod) {
		s.podGone(pod.UID)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, pod.UID)
	delete(s.stuck, pod.UID)
	s.board.take(pod, pod.Spec.NodeName)
}

func (s *scheduler) podGone(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, uid)
	delete(s.stuck, uid)
	if s.board.free(uid) {
		s.wakeStuck()
	}
}

// nodeSeen takes note of a node of this kubelet. On others, such as those that an earlier one has left behind,
// nobody would run the pods.
func (s *scheduler) nodeSeen(n *corev1.Node) {
	if s.k.node(n.Name) == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.board.nodes[n.Name] = n
	s.wakeStuck()
}

func (s *scheduler) nodeGone(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.board.nodes, name)
}

// wakeStuck gives pods that fitted nowhere another chance. The caller holds mu.
func (s *scheduler) wakeStuck() {
	for uid := range s.stuck {
		s.queue.Add(uid)
	}
}

func (s *scheduler) bind(ctx context.Context, uid types.UID) error {
	s.mu.Lock()
	pod := s.waiting[uid]
	if pod == nil {
		s.mu.Unlock()
		return nil
	}
	node, why := s.board.choose(pod)
	first := false
	if node == "" {
		first = !s.stuck[uid]
		s.stuck[uid] = true
	} else {
		delete(s.stuck, uid)
		s.board.take(pod, node)
	}
	s.mu.Unlock()
	if node == "" {
		return s.unschedulable(ctx, pod, why, first)
	}
	err := s.k.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.board.free(uid)
		if gone(err) {
			return nil
		}
		return fmt.Errorf("cannot bind pod %s/%s to node %s: %w", pod.Namespace, pod.Name, node, err)
	}
	s.event(pod, corev1.EventTypeNormal, "Scheduled", fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node))
	return nil
}

// unschedulable says on the pod that, and why, it fits on no node.
func (s *scheduler) unschedulable(ctx context.Context, pod *corev1.Pod, why string, first bool) error {
	condition := conditionPatch{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now(),
		Reason: new(corev1.PodReasonUnschedulable), Message: &why,
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == condition.Type && c.Status == condition.Status {
			condition.LastTransitionTime = c.LastTransitionTime
			if c.Message == why {
				return nil
			}
		}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []conditionPatch{condition}},
	})
	if err != nil {
		return err
	}
	if first {
		s.event(pod, corev1.EventTypeWarning, "FailedScheduling", why)
	}
	_, err = s.k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if gone(err) {
		return nil
	}
	return err
}

func (s *scheduler) event(pod *corev1.Pod, kind, reason, message string) {
	s.k.events.add(pod, corev1.EventSource{Component: corev1.DefaultSchedulerName}, lifecycle.Record{Type: kind, Reason: reason, Message: message})
}

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

// statusWorkers is how many status writes are under way at a time. A busy API server makes statuses late
// (and several changes one write), but never a probe or a stop.
const statusWorkers = 24

// statusWriter tells the API server how pods are, always the newest, and lets the objects of finished pods go.
type statusWriter struct {
	k     *Kubelet
	queue workqueue.TypedRateLimitingInterface[types.UID]
}

func newStatusWriter(k *Kubelet) *statusWriter {
	return &statusWriter{k: k, queue: newQueue[types.UID]()}
}

func newQueue[T comparable]() workqueue.TypedRateLimitingInterface[T] {
	return workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[T](50*time.Millisecond, 5*time.Second))
}

func (s *statusWriter) add(uid types.UID) { s.queue.Add(uid) }

func (s *statusWriter) shutDown() { s.queue.ShutDown() }

func (s *statusWriter) start(ctx context.Context, workers *sync.WaitGroup) {
	for range statusWorkers {
		workers.Go(func() {
			for work(ctx, s.queue, s.write, s.complain) {
			}
		})
	}
}

// work handles one item of a queue, and puts it back later if that fails. It returns false when there will be no more.
func work[T comparable](ctx context.Context, q workqueue.TypedRateLimitingInterface[T], handle func(context.Context, T) error, complain func(T, error)) bool {
	item, shutDown := q.Get()
	if shutDown {
		return false
	}
	defer q.Done(item)
	if err := handle(ctx, item); err != nil && ctx.Err() == nil {
		complain(item, err)
		q.AddRateLimited(item)
		return true
	}
	q.Forget(item)
	return true
}

func (s *statusWriter) complain(uid types.UID, err error) {
	s.k.cfg.Log.Warn("cannot write a pod's status; trying again", "uid", uid, "error", err)
}

func (s *statusWriter) write(ctx context.Context, uid types.UID) error {
	p := s.k.pod(uid)
	if p == nil || ctx.Err() != nil || p.node.lost() { // RestoreNode says it again
		return nil
	}
	r := p.report()
	if r.gone || r.pod == nil {
		return nil
	}
	patch, err := statusPatch(uid, r.status)
	if err != nil {
		return err
	}
	pods := s.k.client.CoreV1().Pods(p.name.Namespace)
	_, err = pods.Patch(ctx, p.name.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if gone(err) {
		return nil
	}
	if err != nil || !r.finished {
		return err
	}
	err = pods.Delete(ctx, p.name.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(uid)),
	})
	if err == nil || gone(err) {
		return nil
	}
	return err
}

// gone reports whether an error says that the object does not exist any more, or is another of the same name.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// conditionPatch is a pod condition for a strategic merge patch: conditions are merged by type, so
// that those of others survive, and a reason or message that no longer applies is deleted by null.
type conditionPatch struct {
	Type               corev1.PodConditionType `json:"type"`
	Status             corev1.ConditionStatus  `json:"status"`
	LastTransitionTime metav1.Time             `json:"lastTransitionTime"`
	Reason             *string                 `json:"reason"`
	Message            *string                 `json:"message"`
}

// statusPatch is the patch that makes a pod's status what the kubelet says, and touches nothing that others
// own. It holds only for the pod with this uid.
func statusPatch(uid types.UID, s corev1.PodStatus) ([]byte, error) {
	conditions := make([]conditionPatch, 0, len(s.Conditions))
	for _, c := range s.Conditions {
		conditions = append(conditions, conditionPatch{c.Type, c.Status, c.LastTransitionTime, orNull(c.Reason), orNull(c.Message)})
	}
	// Addresses would be merged, too: a pod that another kubelet has run would keep its old ones.
	replace := map[string]string{"$patch": "replace"}
	podIPs, hostIPs := []any{replace}, []any{replace}
	for _, ip := range s.PodIPs {
		podIPs = append(podIPs, ip)
	}
	for _, ip := range s.HostIPs {
		hostIPs = append(hostIPs, ip)
	}
	fields := struct {
		corev1.PodStatus
		// These stand before the embedded fields of the same names.
		Conditions []conditionPatch `json:"conditions"`
		PodIPs     []any            `json:"podIPs"`
		HostIPs    []any            `json:"hostIPs"`
	}{s, conditions, podIPs, hostIPs}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": fields})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the status of pod %s: %w", uid, err)
	}
	return patch, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

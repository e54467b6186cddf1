package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Indexes of the pod cache, for client.MatchingFields.
const (
	// IndexPodIP finds living pods by any of their addresses, in all namespaces.
	IndexPodIP = "lockstep.podIP"
	// IndexReadinessGate finds pods by the condition types of their readiness gates.
	IndexReadinessGate = "lockstep.readinessGate"
)

func indexPods(ctx context.Context, indexer client.FieldIndexer) error {
	if err := indexer.IndexField(ctx, &corev1.Pod{}, IndexPodIP, func(o client.Object) []string { return addresses(o.(*corev1.Pod)) }); err != nil {
		return err
	}
	return indexer.IndexField(ctx, &corev1.Pod{}, IndexReadinessGate, func(o client.Object) []string {
		var gates []string
		for _, g := range o.(*corev1.Pod).Spec.ReadinessGates {
			gates = append(gates, string(g.ConditionType))
		}
		return gates
	})
}

// addresses of a pod; none once its containers have ended for good, since then they may be given to others.
func addresses(pod *corev1.Pod) []string {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	var all []string
	for _, ip := range pod.Status.PodIPs {
		all = append(all, ip.IP)
	}
	if len(all) == 0 && pod.Status.PodIP != "" {
		all = append(all, pod.Status.PodIP)
	}
	return all
}

// Pods finds pods by address from the manager's cache.
type Pods struct{ Reader client.Reader }

// PodByAddress returns the UID and the rollout's pod-template hash of the pod of the namespace that has the
// IP address, and false when there is none. Of a dying and a living pod with one address it is the living one.
func (p Pods) PodByAddress(namespace, ip string) (uid, podTemplateHash string, ok bool) {
	var list corev1.PodList
	err := p.Reader.List(context.Background(), &list, client.InNamespace(namespace), client.MatchingFields{IndexPodIP: ip}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return "", "", false
	}
	var best *corev1.Pod
	for i := range list.Items {
		if pod := &list.Items[i]; best == nil || best.DeletionTimestamp != nil {
			best = pod
		}
	}
	if best == nil {
		return "", "", false
	}
	return string(best.UID), best.Labels[rollouts.HashLabel], true
}

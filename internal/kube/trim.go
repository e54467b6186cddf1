package kube

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

// The transforms run on each object before it enters a cache. What they drop is not there for any
// controller: objects from the cache are patched, never updated as a whole.

func asIs(object any) (any, error) { return object, nil }

func withoutManagedFields(object any) (any, error) {
	if o, err := meta.Accessor(object); err == nil {
		o.SetManagedFields(nil)
	}
	return object, nil
}

// longestAnnotation is the longest annotation value that is kept on pods, except for podENI.
const longestAnnotation = 1024

// podENI is the annotation with which the VPC's network plugin names a pod's own interfaces.
const podENI = "vpc.amazonaws.com/pod-eni"

// trimPod keeps what says where a pod is, whose it is, which ports it has and how far it is.
func trimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	pod.ManagedFields = nil
	for key, value := range pod.Annotations {
		if len(value) > longestAnnotation && key != podENI || strings.HasPrefix(key, "kubectl.kubernetes.io/last-applied") {
			delete(pod.Annotations, key)
		}
	}
	pod.Spec = corev1.PodSpec{
		NodeName:                      pod.Spec.NodeName,
		HostNetwork:                   pod.Spec.HostNetwork,
		ReadinessGates:                pod.Spec.ReadinessGates,
		TerminationGracePeriodSeconds: pod.Spec.TerminationGracePeriodSeconds,
		Containers:                    trimContainers(pod.Spec.Containers),
		InitContainers:                trimContainers(sidecars(pod.Spec.InitContainers)),
	}
	status := corev1.PodStatus{
		Phase: pod.Status.Phase, Reason: pod.Status.Reason, Conditions: pod.Status.Conditions,
		PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs, HostIP: pod.Status.HostIP, StartTime: pod.Status.StartTime,
	}
	for _, c := range pod.Status.ContainerStatuses {
		slim := corev1.ContainerStatus{Name: c.Name, Ready: c.Ready, RestartCount: c.RestartCount}
		if w := c.State.Waiting; w != nil {
			slim.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
		}
		status.ContainerStatuses = append(status.ContainerStatuses, slim)
	}
	pod.Status = status
	return pod, nil
}

// sidecars are the init containers that keep running, and so can have ports.
func sidecars(containers []corev1.Container) []corev1.Container {
	var running []corev1.Container
	for _, c := range containers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			running = append(running, c)
		}
	}
	return running
}

func trimContainers(containers []corev1.Container) []corev1.Container {
	var slim []corev1.Container
	for _, c := range containers {
		slim = append(slim, corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, RestartPolicy: c.RestartPolicy})
	}
	return slim
}

// trimNode keeps what says whether a node answers and which instance it is.
func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	node.ManagedFields, node.Annotations = nil, nil
	node.Spec = corev1.NodeSpec{ProviderID: node.Spec.ProviderID, Taints: node.Spec.Taints, Unschedulable: node.Spec.Unschedulable}
	node.Status = corev1.NodeStatus{Conditions: node.Status.Conditions, Addresses: node.Status.Addresses}
	return node, nil
}

// trimReplicaSet drops the template of a ReplicaSet that no rollout owns; only its size and labels matter.
func trimReplicaSet(object any) (any, error) {
	rs, ok := object.(*appsv1.ReplicaSet)
	if !ok {
		return object, nil
	}
	rs.ManagedFields = nil
	for _, owner := range rs.OwnerReferences {
		if owner.Kind == "Rollout" || owner.Kind == "Experiment" {
			return rs, nil
		}
	}
	rs.Annotations = nil
	rs.Spec.Template = corev1.PodTemplateSpec{}
	return rs, nil
}

package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the controllers decide by must survive the trimming; what costs memory must not.
func TestTrimmedPodsKeepWhatDecides(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
			Annotations:     map[string]string{"lockstep.dev/drain": "true", "kubectl.kubernetes.io/last-applied-configuration": "{}", "long": strings.Repeat("x", 2000)},
			OwnerReferences: []metav1.OwnerReference{{Name: "rs"}}},
		Spec: corev1.PodSpec{NodeName: "node-a", ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "gate"}}, Volumes: []corev1.Volume{{Name: "v"}},
			InitContainers: []corev1.Container{{Name: "setup"}, {Name: "sidecar", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "http"}}}},
			Containers:     []corev1.Container{{Name: "app", Image: "i", Env: []corev1.EnvVar{{Name: "E"}}, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "app", Ready: true, ImageID: "sha"}}},
	}
	object, err := trimPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	got := object.(*corev1.Pod)
	for what, kept := range map[string]bool{
		"labels": got.Labels["app"] == "web", "drain mark": got.Annotations["lockstep.dev/drain"] == "true", "owner": len(got.OwnerReferences) == 1,
		"node": got.Spec.NodeName == "node-a", "gates": len(got.Spec.ReadinessGates) == 1, "ports": got.Spec.Containers[0].Ports[0].ContainerPort == 80,
		"sidecar's ports": len(got.Spec.InitContainers) == 1 && got.Spec.InitContainers[0].Name == "sidecar",
		"address":         got.Status.PodIP == "10.0.0.1", "conditions": len(got.Status.Conditions) == 1, "phase": got.Status.Phase == corev1.PodRunning,
	} {
		if !kept {
			t.Errorf("%s are lost", what)
		}
	}
	for what, gone := range map[string]bool{
		"managed fields": got.ManagedFields == nil, "last applied": got.Annotations["kubectl.kubernetes.io/last-applied-configuration"] == "",
		"long annotations": got.Annotations["long"] == "", "volumes": got.Spec.Volumes == nil, "environment": got.Spec.Containers[0].Env == nil,
		"image ids": got.Status.ContainerStatuses[0].ImageID == "",
	} {
		if !gone {
			t.Errorf("%s are kept", what)
		}
	}
}

func TestAddressesOfFinishedPodsAreNobodys(t *testing.T) {
	pod := &corev1.Pod{Status: corev1.PodStatus{PodIP: "10.0.0.1", Phase: corev1.PodRunning}}
	if got := addresses(pod); len(got) != 1 {
		t.Errorf("a running pod has addresses %v", got)
	}
	pod.Status.Phase = corev1.PodSucceeded
	if got := addresses(pod); len(got) != 0 {
		t.Errorf("a finished pod has addresses %v", got)
	}
}

package binding

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// members says which pods belong to a Service, and which would but for the version.
type members struct {
	service *corev1.Service
	port    corev1.ServicePort
	// exact is the Service's selector, anyVersion the same without the pod-template hash.
	exact, anyVersion labels.Selector
	ipv6              bool
	gate              corev1.PodConditionType
	// nodeAnswers says whether a node is Ready.
	nodeAnswers func(node string) bool
}

func newMembers(b *elbv2.TargetGroupBinding, service *corev1.Service, port corev1.ServicePort, nodeAnswers func(string) bool) members {
	loose := make(map[string]string, len(service.Spec.Selector))
	for key, value := range service.Spec.Selector {
		if key != rollouts.HashLabel {
			loose[key] = value
		}
	}
	if len(loose) == 0 {
		loose = service.Spec.Selector
	}
	return members{
		service: service, port: port,
		exact: labels.SelectorFromSet(service.Spec.Selector), anyVersion: labels.SelectorFromSet(loose),
		ipv6: b.Spec.IPAddressType != nil && *b.Spec.IPAddressType == elbv2.TargetGroupIPAddressTypeIPv6,
		gate: elbv2.ReadinessGate(b.Name), nodeAnswers: nodeAnswers,
	}
}

// pod is what the plan needs to know of a pod.
func (m members) pod(pod *corev1.Pod) plan.Pod {
	set := labels.Set(pod.Labels)
	p := plan.Pod{
		Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID),
		IP:       address(pod, m.ipv6),
		Port:     targetPort(pod, m.port),
		Selected: pod.Namespace == m.service.Namespace && m.exact.Matches(set),
		Owned:    metav1.GetControllerOf(pod) != nil,
		Drain:    drain(pod.Annotations),
		Life:     m.life(pod),
		Gate:     gate(pod, m.gate),
	}
	p.OtherVersion = !p.Selected && pod.Namespace == m.service.Namespace && m.anyVersion.Matches(set)
	return p
}

func (m members) life(pod *corev1.Pod) plan.Life {
	switch {
	case pod.DeletionTimestamp != nil, pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return plan.Dying
	case condition(pod, corev1.PodReady) == corev1.ConditionTrue, m.service.Spec.PublishNotReadyAddresses:
		return plan.Ready
	case condition(pod, corev1.ContainersReady) != corev1.ConditionTrue:
		return plan.Unready
	}
	waits := slices.ContainsFunc(pod.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool {
		return condition(pod, g.ConditionType) != corev1.ConditionTrue
	})
	// A node that does not answer makes its pods not ready although their containers last were. On a node that
	// does, it is the kubelet that has not yet counted a gate which has just become True.
	if !waits && !m.nodeAnswers(pod.Spec.NodeName) {
		return plan.Lost
	}
	return plan.Waiting
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// gate is the state of a pod's readiness gate, nil when the pod has no such gate.
func gate(pod *corev1.Pod, kind corev1.PodConditionType) *plan.Gate {
	if !slices.ContainsFunc(pod.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == kind }) {
		return nil
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return &plan.Gate{Status: plan.GateStatus(c.Status), Reason: c.Reason, Message: c.Message}
		}
	}
	return &plan.Gate{}
}

// drain is the mark among a pod's annotations.
func drain(annotations map[string]string) plan.Drain {
	switch value, marked := annotations[evidence.DrainAnnotation]; {
	case !marked:
		return plan.Stay
	case value == evidence.DrainAnyway:
		return plan.Anyway
	}
	return plan.WhenCovered
}

// address is the pod's first address of the family.
func address(pod *corev1.Pod, ipv6 bool) string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 && pod.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is6() == ipv6 {
			return ip.IP
		}
	}
	return ""
}

// targetPort is the container port that a Service port leads to in a pod, zero when there is none.
func targetPort(pod *corev1.Pod, port corev1.ServicePort) int32 {
	target := port.TargetPort
	switch {
	case target.Type == intstr.Int && target.IntVal != 0:
		return target.IntVal
	case target.Type == intstr.Int, target.StrVal == "":
		return port.Port
	}
	for _, p := range ports(pod) {
		if p.Name == target.StrVal && p.Protocol == port.Protocol {
			return p.ContainerPort
		}
	}
	return 0
}

// ports are all ports of a pod's containers, with the protocol's default filled in.
func ports(pod *corev1.Pod) []corev1.ContainerPort {
	var all []corev1.ContainerPort
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, p := range c.Ports {
			if p.Protocol == "" {
				p.Protocol = corev1.ProtocolTCP
			}
			all = append(all, p)
		}
	}
	return all
}

// servicePort finds a port of a Service by number or name.
func servicePort(service *corev1.Service, port intstr.IntOrString) (corev1.ServicePort, bool) {
	for _, p := range service.Spec.Ports {
		if port.Type == intstr.Int && p.Port == port.IntVal || port.Type == intstr.String && p.Name == port.StrVal {
			if p.Protocol == "" {
				p.Protocol = corev1.ProtocolTCP
			}
			return p, true
		}
	}
	return corev1.ServicePort{}, false
}

package lifecycle

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkProbe is what a probe that succeeds again costs the machine, which is nearly all that a pod does
// in its life:
//
//	go test ./sandbox/kubelet/lifecycle -run '^$' -bench Probe
func BenchmarkProbe(b *testing.B) {
	probe := &corev1.Probe{PeriodSeconds: 5, FailureThreshold: 3}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", ReadinessProbe: probe}}}}
	m := New(pod, netip.MustParseAddr("10.1.0.10"))
	ref := Ref{Container: "web", Run: 1}
	now := epoch
	m.Advance(now)
	m.Advance(now, NetworkUp{Addr: netip.MustParseAddr("10.1.0.20")})
	m.Advance(now, Pulled{Ref: ref})
	m.Advance(now, Started{Ref: ref})
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(5 * time.Second)
		m.Advance(now)
		m.Advance(now, Probed{Ref: ref, Kind: Readiness, OK: true})
	}
	if m.Status().Phase != corev1.PodRunning {
		b.Fatalf("the pod is %s", m.Status().Phase)
	}
}

package kubelet

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

// BenchmarkStart says how long 2,000 pods of one Deployment take from its creation until all are available, API
// server and controllers included, and how long until they are gone:
//
//	go test ./sandbox/kubelet -run '^$' -bench Start -benchtime 1x
func BenchmarkStart(b *testing.B) {
	const replicas = 2000
	c := newCluster(b, func(cfg *Config) { cfg.NodesPerZone = 2 })
	for b.Loop() {
		ns := c.namespace()
		pod := echoPod(ns, nil)
		pod.Spec.Containers[0].ReadinessProbe.PeriodSeconds = 10 // as where manifests say nothing
		deployment := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec},
			},
		}
		deployments := c.client.AppsV1().Deployments(ns)
		begin := time.Now()
		if _, err := deployments.Create(context.Background(), deployment, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		waitAtMost(c, 5*time.Minute, "2,000 available replicas", func() bool {
			d, err := deployments.Get(context.Background(), "web", metav1.GetOptions{})
			return err == nil && d.Status.AvailableReplicas == replicas
		})
		b.ReportMetric(time.Since(begin).Seconds(), "s/2000-ready")
		begin = time.Now()
		if err := deployments.Delete(context.Background(), "web", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}); err != nil {
			b.Fatal(err)
		}
		waitAtMost(c, 5*time.Minute, "the pods to go", func() bool { return len(c.kubelet.Pods()) == 0 })
		b.ReportMetric(time.Since(begin).Seconds(), "s/2000-gone")
	}
}

// BenchmarkProbe is one httpGet probe, the application's answer included:
//
//	go test ./sandbox/kubelet -run '^$' -bench Probe
func BenchmarkProbe(b *testing.B) {
	c := newCluster(b, nil)
	pod := c.await(c.create(echoPod(c.namespace(), nil)), "it is ready", ready)
	v := c.kubelet.pod(pod.UID).now()
	probe := lifecycle.Probe{Ref: lifecycle.Ref{Container: "web"}, Kind: lifecycle.Readiness, Spec: pod.Spec.Containers[0].ReadinessProbe}
	b.ReportAllocs()
	for b.Loop() {
		if got := c.kubelet.runProbe(v, running{}, probe).(lifecycle.Probed); !got.OK {
			b.Fatal(got.Message)
		}
	}
}

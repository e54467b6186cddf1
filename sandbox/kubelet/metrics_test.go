package kubelet

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

// A HorizontalPodAutoscaler sees the load of simulated applications through the metrics API, and acts.
func TestAutoscaling(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := echoPod(ns, func(p *corev1.Pod) {
		p.Annotations = map[string]string{app.AnnotationPrefix + "cpu": "20ms", app.AnnotationPrefix + "memory": "64Mi"}
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
		p.Spec.TerminationGracePeriodSeconds = new(int64(1))
	})
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}, Spec: pod.Spec},
		},
	}
	if _, err := c.client.AppsV1().Deployments(ns).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.client.AppsV1().Deployments(ns).Delete(context.Background(), "web", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
	})
	waitFor(c, "a ready pod", func() bool { pods := c.pods(ns); return len(pods) == 1 && ready(&pods[0]) })

	first := c.pods(ns)[0]
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { // 20 requests a second are 400m of processor
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if resp, err := fresh.Get(c.url(&first, 8080, "/")); err == nil {
					resp.Body.Close()
				}
			}
		}
	})
	defer load.Wait()
	defer close(stop)
	c.awaitMetrics(ns, &first)
	c.top(ns)

	target := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}
	scaler := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 3,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: target}}},
		},
	}
	scalers := c.client.AutoscalingV2().HorizontalPodAutoscalers(ns)
	if _, err := scalers.Create(t.Context(), scaler, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the autoscaler to want three replicas", func() bool {
		s, err := scalers.Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && s.Status.DesiredReplicas == 3
	})
	waitFor(c, "three pods", func() bool { return len(c.pods(ns)) == 3 })
}

// awaitMetrics waits until the API tells of about 400m of processor.
func (c *cluster) awaitMetrics(namespace string, pod *corev1.Pod) {
	c.t.Helper()
	var got metrics.PodMetrics
	waitFor(c, "metrics of the loaded pod", func() bool {
		raw, err := c.client.CoreV1().RESTClient().Get().AbsPath(metricsPath, "namespaces", namespace, "pods", pod.Name).DoRaw(c.t.Context())
		if err != nil || json.Unmarshal(raw, &got) != nil || len(got.Containers) != 1 {
			return false
		}
		cpu := got.Containers[0].Usage.Cpu().MilliValue()
		return cpu > 200 && cpu < 800
	})
	if memory := got.Containers[0].Usage.Memory().Value(); memory != 64<<20 || got.Window.Duration <= 0 || got.Timestamp.IsZero() {
		c.t.Errorf("metrics %+v", got)
	}
}

// top is what a person looks at.
func (c *cluster) top(namespace string) {
	c.t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		c.t.Log("kubectl is not installed: kubectl top was not tried")
		return
	}
	for _, args := range [][]string{{"top", "pods", "-n", namespace}, {"top", "nodes"}} {
		out, err := exec.CommandContext(c.t.Context(), kubectl, append([]string{"--kubeconfig", shared.plane.Kubeconfig()}, args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "64Mi") {
			c.t.Errorf("kubectl %v: %v\n%s", args, err, out)
		}
	}
}

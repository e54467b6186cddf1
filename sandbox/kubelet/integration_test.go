package kubelet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

func TestPodServesAndGoes(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.await(c.create(echoPod(ns, nil)), "it is ready", ready)

	node, err := c.client.CoreV1().Nodes().Get(t.Context(), pod.Spec.NodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(node.Spec.ProviderID, "aws:///"+node.Labels[corev1.LabelTopologyZone]+"/i-") || len(node.Spec.Taints) > 0 {
		t.Errorf("node: provider id %q, taints %v", node.Spec.ProviderID, node.Spec.Taints)
	}
	if pod.Status.HostIP != node.Status.Addresses[0].Address || !c.vpc.Contains(netip.MustParseAddr(pod.Status.PodIP)) || pod.Status.Phase != corev1.PodRunning {
		t.Errorf("status: %+v", pod.Status)
	}

	resp, err := fresh.Get(c.url(pod, 8080, "/hello?x=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ Pod, Namespace, Version, Path, Zone string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if body.Pod != "web" || body.Namespace != ns || body.Version != "v1" || body.Path != "/hello?x=1" || body.Zone == "" {
		t.Errorf("answer: %+v", body)
	}
	if resp.Header.Get("X-App-Version") != "v1" || resp.Header.Get("X-Pod") != "web" {
		t.Errorf("headers: %v", resp.Header)
	}

	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(pod, "it is gone", goneNow)
	if _, err := fresh.Get(c.url(pod, 8080, "/")); err == nil {
		t.Error("a deleted pod still answers")
	}
	waitFor(c, "the pod's address to be given back", func() bool { return c.addresses.inUse() == 3 })
	var kinds []NoticeKind
	waitFor(c, "the notices", func() bool {
		select {
		case n := <-c.notices:
			kinds = append(kinds, n.Kind)
			if n.Kind == PodStopped && (n.Traffic.Requests != 1 || n.Version != "v1" || n.Cut != 0) {
				t.Errorf("what it served: %+v", n)
			}
		default:
		}
		return len(kinds) == 3
	})
	if fmt.Sprint(kinds) != "[stopping stopped deleted]" {
		t.Errorf("notices %v", kinds)
	}
	events, err := c.client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range events.Items {
		seen[e.Reason] = true
	}
	for _, reason := range []string{"Scheduled", "Pulling", "Pulled", "Created", "Started", "Killing"} {
		if !seen[reason] {
			t.Errorf("there is no event %s, only %v", reason, seen)
		}
	}
}

// A condition that a controller writes survives the kubelet's own writes, and opens the gate.
func TestReadinessGateOfAController(t *testing.T) {
	c := newCluster(t, nil)
	const gate = "target-health.elbv2.k8s.aws/web"
	pod := c.create(echoPod(c.namespace(), func(p *corev1.Pod) {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
	}))
	pod = c.await(pod, "containers are ready but the pod is not", func(p *corev1.Pod) bool {
		return condition(p, corev1.ContainersReady).Status == corev1.ConditionTrue && condition(p, corev1.PodReady).Reason == "ReadinessGatesNotReady"
	})
	set := func(status corev1.ConditionStatus) {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q,"lastTransitionTime":%q}]}}`, gate, status, time.Now().UTC().Format(time.RFC3339))
		if _, err := c.client.CoreV1().Pods(pod.Namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	set(corev1.ConditionTrue)
	pod = c.await(pod, "it is ready", ready)
	if r := condition(pod, corev1.PodReady); r.Reason != "" || r.Message != "" {
		t.Errorf("a condition that holds still has the reason %q, message %q", r.Reason, r.Message)
	}
	if condition(pod, gate).Status != corev1.ConditionTrue {
		t.Error("the kubelet has lost the controller's condition")
	}
	set(corev1.ConditionFalse)
	c.await(pod, "it is not ready", func(p *corev1.Pod) bool { return !ready(p) })
}

// While a pod ends it serves: through its preStop sleep on new connections, and after SIGTERM what is under way.
func TestServesUntilTheEnd(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.await(c.create(echoPod(ns, func(p *corev1.Pod) {
		p.Annotations = map[string]string{app.AnnotationPrefix + "latency": "4s"}
		p.Spec.TerminationGracePeriodSeconds = new(int64(20))
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}
	})), "it is ready", ready)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
	if _, err := c.client.CoreV1().Services(ns).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	endpoint := func() *discoveryv1.EndpointConditions {
		slices, err := c.client.DiscoveryV1().EndpointSlices(ns).List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
		if err != nil || len(slices.Items) == 0 || len(slices.Items[0].Endpoints) == 0 {
			return nil
		}
		return &slices.Items[0].Endpoints[0].Conditions
	}
	waitFor(c, "the endpoint", func() bool { e := endpoint(); return e != nil && *e.Ready })
	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the endpoint to be terminating and serving", func() bool {
		e := endpoint()
		return e != nil && *e.Terminating && *e.Serving && !*e.Ready
	})
	// This answer takes longer than the preStop sleep: SIGTERM comes while it is under way.
	resp, err := fresh.Get(c.url(pod, 8080, "/"))
	if err != nil {
		t.Fatalf("a request during the preStop sleep: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a request during the preStop sleep: status %d", resp.StatusCode)
	}
	c.await(pod, "it is gone", goneNow)
}

func TestKilledAfterItsGracePeriod(t *testing.T) {
	c := newCluster(t, nil)
	pod := c.await(c.create(echoPod(c.namespace(), func(p *corev1.Pod) {
		p.Annotations = map[string]string{app.AnnotationPrefix + "on-sigterm": "ignore"}
		p.Spec.TerminationGracePeriodSeconds = new(int64(3))
	})), "it is ready", ready)
	begin := time.Now()
	if err := c.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(pod, "it shows that it was killed", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil && s[0].State.Terminated.ExitCode == 137
	})
	c.await(pod, "it is gone", goneNow)
	if took := time.Since(begin); took < 3*time.Second {
		t.Errorf("it was killed after %s, before its grace period was over", took)
	}
}

func TestUnknownImageAndWrongParameter(t *testing.T) {
	c := newCluster(t, nil)
	waits := func(reason string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == reason
		}
	}
	unknown := c.create(echoPod(c.namespace(), func(p *corev1.Pod) { p.Spec.Containers[0].Image = "example.com/nobody:v1" }))
	wrong := c.create(echoPod(c.namespace(), func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SANDBOX_ERROR_RATE", Value: "often"}}
	}))
	c.await(unknown, "the pull fails", waits("ErrImagePull"))
	c.await(unknown, "the pull backs off", waits("ImagePullBackOff"))
	got := c.await(wrong, "its container cannot be made", waits("CreateContainerConfigError"))
	if m := got.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(m, "SANDBOX_ERROR_RATE") || !strings.Contains(m, `"often"`) {
		t.Errorf("the message names neither variable nor value: %s", m)
	}
}

func TestUnschedulablePodWaitsForItsNode(t *testing.T) {
	c := newCluster(t, nil)
	pod := c.create(echoPod(c.namespace(), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "fast"} }))
	pod = c.await(pod, "it is unschedulable", func(p *corev1.Pod) bool {
		s := condition(p, corev1.PodScheduled)
		return s.Status == corev1.ConditionFalse && s.Reason == corev1.PodReasonUnschedulable
	})
	if m := condition(pod, corev1.PodScheduled).Message; !strings.HasPrefix(m, "0/3 nodes are available: 3 node(s) didn't match") {
		t.Errorf("message %q", m)
	}
	const node = "node-us-east-1b-1"
	if _, err := c.client.CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, []byte(`{"metadata":{"labels":{"disk":"fast"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if pod = c.await(pod, "it is ready", ready); pod.Spec.NodeName != node {
		t.Errorf("it runs on %s", pod.Spec.NodeName)
	}
}

func TestLivenessFailureRestarts(t *testing.T) {
	c := newCluster(t, nil)
	pod := c.create(echoPod(c.namespace(), func(p *corev1.Pod) {
		p.Annotations = map[string]string{app.AnnotationPrefix + "unhealthy-after": "2s"}
		p.Spec.Containers[0].LivenessProbe = httpProbe("/livez", 1)
	}))
	pod = c.await(pod, "it has been restarted and is ready again", func(p *corev1.Pod) bool {
		return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
		t.Errorf("the last state is %+v", last)
	}
	c.await(pod, "it backs off", func(p *corev1.Pod) bool {
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
}

func TestDeploymentSpreadsOverZones(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.NodesPerZone = 2 })
	ns := c.namespace()
	pod := echoPod(ns, nil)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(12)), Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec},
		},
	}
	if _, err := c.client.AppsV1().Deployments(ns).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "12 available replicas", func() bool {
		d, err := c.client.AppsV1().Deployments(ns).Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas == 12
	})
	perNode := map[string]int{}
	for _, p := range c.kubelet.Pods() {
		if p.Pod.Namespace == ns {
			perNode[p.Node]++
		}
	}
	for node, n := range perNode {
		if n != 2 {
			t.Errorf("node %s has %d pods, want 2 (all: %v)", node, n, perNode)
		}
	}
	if err := c.client.AppsV1().Deployments(ns).Delete(t.Context(), "web", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the pods to go", func() bool { return len(c.kubelet.Pods()) == 0 })
}

// A kubelet that takes the place of another runs the pods that are there, at addresses of its own.
func TestTakesOverPods(t *testing.T) {
	c := newCluster(t, nil)
	pod := c.await(c.create(echoPod(c.namespace(), nil)), "it is ready", ready)
	first := pod.Status.PodIP
	other := *c
	other.addresses = newAddresses(c.vpc.Mapping)
	other.addresses.last = 1000
	c.stop()
	t.Cleanup(other.startKubelet(nil))
	pod = c.await(pod, "it is ready at another address", func(p *corev1.Pod) bool { return ready(p) && p.Status.PodIP != first })
	if len(pod.Status.PodIPs) != 1 || pod.Status.PodIPs[0].IP != pod.Status.PodIP {
		t.Errorf("addresses %v, want %s alone", pod.Status.PodIPs, pod.Status.PodIP)
	}
	resp, err := fresh.Get(c.url(pod, 8080, "/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// Init containers run one after the other; a Job's pod completes and gives its address back.
func TestPodThatCompletes(t *testing.T) {
	c := newCluster(t, nil)
	pod := c.create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "job", Namespace: c.namespace()},
		Spec: corev1.PodSpec{
			RestartPolicy:  corev1.RestartPolicyNever,
			InitContainers: []corev1.Container{{Name: "first", Image: "busybox"}, {Name: "second", Image: "busybox", Command: []string{"sleep", "1"}}},
			Containers:     []corev1.Container{{Name: "work", Image: "busybox", Command: []string{"sh", "-c", "sleep 1"}}},
		},
	})
	pod = c.await(pod, "it has succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	second, work := pod.Status.InitContainerStatuses[1].State.Terminated, pod.Status.ContainerStatuses[0].State.Terminated
	if second == nil || work == nil || work.StartedAt.Before(&second.FinishedAt) || work.FinishedAt.Sub(second.StartedAt.Time) < 2*time.Second {
		t.Errorf("second init container %+v, work %+v", second, work)
	}
	waitFor(c, "the pod's address to be given back", func() bool { return c.addresses.inUse() == 3 })
	if err := c.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(pod, "it is gone", goneNow)
}

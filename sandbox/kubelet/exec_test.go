package kubelet

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

func execAction(argv ...string) *corev1.ExecAction { return &corev1.ExecAction{Command: argv} }

// Probes and hooks that run a command do so in simulated applications and in commands alike.
func TestExecProbesAndHooks(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	probe := func(argv ...string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: execAction(argv...)}, PeriodSeconds: 1, FailureThreshold: 1}
	}
	simulated := c.create(echoPod(ns, func(p *corev1.Pod) {
		p.Name = "simulated"
		main := &p.Spec.Containers[0]
		main.Lifecycle = &corev1.Lifecycle{
			PostStart: &corev1.LifecycleHandler{Exec: execAction("sh", "-c", "warm-cache --all && touch /tmp/ok")},
			PreStop:   &corev1.LifecycleHandler{Exec: execAction("sh", "-c", "nginx -s quit; exit 3")},
		}
		main.ReadinessProbe = probe("sh", "-c", "test -f /tmp/ok && wget -qO- localhost:8080/healthz")
	}))
	checked := c.create(echoPod(ns, func(p *corev1.Pod) { // by a program that only the real image has
		p.Name = "checked"
		p.Annotations = map[string]string{app.AnnotationPrefix + "unhealthy-after": "3s"}
		p.Spec.Containers[0].ReadinessProbe = probe("pg_isready")
	}))
	real := c.create(shellPod(ns, "trap 'exit 0' TERM; while :; do sleep 0.05; done", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		p.Annotations = map[string]string{app.AnnotationPrefix + "app": app.Command}
		main := &p.Spec.Containers[0]
		main.Image = "example.com/ours:v1"
		main.ReadinessProbe = probe("test", "-f", "ok")
		main.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: execAction("sh", "-c", "rm ok; exit 4")}}
	}))

	simulated = c.await(simulated, "its hook and probe have succeeded", ready)
	if log, err := c.log(simulated, corev1.PodLogOptions{}); err != nil || !strings.Contains(log, `["warm-cache" "--all"] is not simulated`) {
		t.Errorf("the log does not tell what was not simulated: %q, %v", log, err)
	}
	c.run1(simulated, "web", "rm /tmp/ok")
	c.await(simulated, "its file is gone", func(p *corev1.Pod) bool { return !ready(p) })

	c.await(checked, "it is healthy", ready)
	c.await(checked, "it is not healthy any more", func(p *corev1.Pod) bool { return !ready(p) })

	real = c.await(real, "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	if ready(real) {
		t.Error("it is ready before its probe succeeds")
	}
	c.run1(real, "main", "touch ok")
	c.await(real, "its file is there", ready)

	for _, pod := range []*corev1.Pod{simulated, real} {
		if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.await(pod, "it is gone", goneNow)
	}
	for pod, want := range map[string]string{"simulated": "exited with 3", real.Name: "exited with 4"} {
		waitFor(c, "the event of the failed hook of "+pod, func() bool {
			events, err := c.client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
			return err == nil && slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
				return e.Reason == "FailedPreStopHook" && strings.Contains(e.Message, want)
			})
		})
	}
}

// What a real kubelet says of an image that it cannot get: the events in their order, and the reason that the pod shows.
func TestImageEvents(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	waits := func(reason string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == reason
		}
	}
	image := func(name, image string, policy corev1.PullPolicy) *corev1.Pod {
		return c.create(echoPod(ns, func(p *corev1.Pod) {
			p.Name, p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = name, image, policy
		}))
	}
	unknown := image("unknown", "example.com/nobody:v1", "")
	invalid := image("invalid", "Not An Image", "")
	never := image("never", "lockstep.dev/echo:never-pulled", corev1.PullNever)
	c.await(invalid, "its image has no name", waits("InvalidImageName"))
	c.await(never, "its image is not there", waits("ErrImageNeverPull"))
	c.await(unknown, "it backs off", waits("ImagePullBackOff"))
	var told []string
	waitFor(c, "the events", func() bool {
		events, err := c.client.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=unknown"})
		if err != nil {
			return false
		}
		slices.SortFunc(events.Items, func(a, b corev1.Event) int { return strings.Compare(a.Name, b.Name) }) // names end with the time
		told = nil
		for _, e := range events.Items {
			if e.Source.Component == "kubelet" {
				message, _, _ := strings.Cut(e.Message, ": example.com")
				told = append(told, e.Type+" "+e.Reason+" "+message)
			}
		}
		return len(told) >= 5
	})
	want := []string{
		`Normal Pulling Pulling image "example.com/nobody:v1"`,
		`Warning Failed Failed to pull image "example.com/nobody:v1"`,
		`Warning Failed Error: ErrImagePull`,
		`Normal BackOff Back-off pulling image "example.com/nobody:v1"`,
		`Warning Failed Error: ImagePullBackOff`,
	}
	if !slices.Equal(told[:5], want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

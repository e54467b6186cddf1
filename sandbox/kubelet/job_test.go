package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shellPod is a pod that is to complete, with one container of a shell.
func shellPod(namespace, script string, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "task-", Namespace: namespace, Labels: map[string]string{"app": "task"}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "main", Image: "busybox", Command: []string{"sh", "-c", script}}},
		},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func (c *cluster) createJob(namespace string, pod *corev1.Pod, change func(*batchv1.JobSpec)) *batchv1.Job {
	c.t.Helper()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "job-"},
		Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec}},
	}
	if change != nil {
		change(&job.Spec)
	}
	job, err := c.client.BatchV1().Jobs(namespace).Create(c.t.Context(), job, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return job
}

// awaitJob waits until a job has a condition, and returns it.
func (c *cluster) awaitJob(job *batchv1.Job, kind batchv1.JobConditionType) *batchv1.Job {
	c.t.Helper()
	waitFor(c, fmt.Sprintf("job %s to be %s", job.Name, kind), func() bool {
		got, err := c.client.BatchV1().Jobs(job.Namespace).Get(c.t.Context(), job.Name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		job = got
		for _, condition := range job.Status.Conditions {
			if condition.Type == kind && condition.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	})
	return job
}

// A Job runs its command for real, with the environment that its manifest gives it, and completes by its exit code.
func TestJobCompletes(t *testing.T) {
	t.Setenv("SECRET_OF_OURS", "not for pods")
	c := newCluster(t, nil)
	ns := c.namespace()
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"COLOUR": "blue"}}
	if _, err := c.client.CoreV1().ConfigMaps(ns).Create(t.Context(), settings, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	job := c.createJob(ns, shellPod(ns, `echo "$COLOUR $GREETING ${SECRET_OF_OURS-none} $HOSTNAME"; test -w .`, func(p *corev1.Pod) {
		main := &p.Spec.Containers[0]
		main.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
		main.Env = []corev1.EnvVar{
			{Name: "APP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}},
			{Name: "GREETING", Value: "hello $(APP)"},
		}
	}), nil)
	job = c.awaitJob(job, batchv1.JobComplete)
	if job.Status.Succeeded != 1 || job.Status.Failed != 0 {
		t.Errorf("status %+v", job.Status)
	}
	pods, err := c.client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "job-name=" + job.Name})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	pod := pods.Items[0]
	end := pod.Status.ContainerStatuses[0].State.Terminated
	if pod.Status.Phase != corev1.PodSucceeded || end == nil || end.ExitCode != 0 || end.Reason != "Completed" || end.StartedAt.IsZero() || end.FinishedAt.Before(&end.StartedAt) {
		t.Errorf("phase %s, %+v", pod.Status.Phase, end)
	}
	log := c.kubelet.pod(pod.UID).processes["main"].log.Tail(10, 1000)
	if want := "blue hello task none " + pod.Name + "\n"; log != want {
		t.Errorf("the log is %q, want %q", log, want)
	}
}

// A Job that keeps failing ends after its back-off limit, each pod with the exit code of its command.
func TestJobFails(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	job := c.createJob(ns, shellPod(ns, "echo no luck >&2; exit 42", func(p *corev1.Pod) {
		p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	}), func(s *batchv1.JobSpec) { s.BackoffLimit = new(int32(0)) })
	job = c.awaitJob(job, batchv1.JobFailed)
	pods, err := c.client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "job-name=" + job.Name})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	end := pods.Items[0].Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 42 || end.Reason != "Error" || end.Message != "no luck\n" || pods.Items[0].Status.Phase != corev1.PodFailed {
		t.Errorf("phase %s, %+v", pods.Items[0].Status.Phase, end)
	}
}

// Commands end in all the ways that commands do.
func TestCommandsEnd(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	phase := func(phase corev1.PodPhase) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool { return p.Status.Phase == phase }
	}
	tried := filepath.Join(t.TempDir(), "tried")
	retried := c.create(shellPod(ns, "touch here; test -f "+tried+" || { touch "+tried+"; exit 1; }", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }))
	missing := c.create(shellPod(ns, "", func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"no-such-program"} }))
	late := c.create(shellPod(ns, "trap 'exit 7' TERM; while :; do sleep 0.05; done", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(2)) }))
	stubborn := c.create(shellPod(ns, "trap '' TERM; echo started; while :; do sleep 1; done", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) }))
	waiting := c.create(shellPod(ns, "true", func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}}}}
	}))

	retried = c.await(retried, "it has succeeded at the second try", phase(corev1.PodSucceeded))
	if s := retried.Status.ContainerStatuses[0]; s.RestartCount != 1 {
		t.Errorf("it was restarted %d times", s.RestartCount)
	}
	missing = c.await(missing, "it has failed", phase(corev1.PodFailed))
	if end := missing.Status.ContainerStatuses[0].State.Terminated; end.ExitCode != 128 || end.Reason != "StartError" || !strings.Contains(end.Message, `"no-such-program": executable file not found`) {
		t.Errorf("a missing program: %+v", end)
	}
	late = c.await(late, "it has failed", phase(corev1.PodFailed))
	if end := late.Status.ContainerStatuses[0].State.Terminated; late.Status.Reason != "DeadlineExceeded" || end.ExitCode != 7 {
		t.Errorf("past its deadline: reason %q, %+v", late.Status.Reason, end)
	}
	c.await(waiting, "its secret is missing", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "CreateContainerConfigError" && s[0].State.Waiting.Message == `secret "absent" not found`
	})
	c.await(stubborn, "it runs", phase(corev1.PodRunning))
	begin := time.Now()
	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), stubborn.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(stubborn, "it is gone", goneNow)
	if took := time.Since(begin); took < time.Second {
		t.Errorf("it was killed after %s", took)
	}
}

// Where commands are not to be run, a Job does not complete as if it had done its work.
func TestNoCommands(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.NoCommands = true })
	ns := c.namespace()
	proof := filepath.Join(t.TempDir(), "ran")
	pod, err := c.client.CoreV1().Pods(ns).Create(t.Context(), shellPod(ns, "touch "+proof, nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the container to be refused", func() bool {
		got, err := c.client.CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil || len(got.Status.ContainerStatuses) == 0 {
			return false
		}
		waiting := got.Status.ContainerStatuses[0].State.Waiting
		return waiting != nil && waiting.Reason == "CreateContainerConfigError" && strings.Contains(waiting.Message, "--local-commands=false")
	})
	if _, err := os.Stat(proof); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the command ran: %v", err)
	}
}

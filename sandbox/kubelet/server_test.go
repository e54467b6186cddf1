package kubelet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

// log returns what kubectl logs would show.
func (c *cluster) log(pod *corev1.Pod, options corev1.PodLogOptions) (string, error) {
	content, err := c.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &options).DoRaw(c.t.Context())
	return string(content), err
}

func TestLogs(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.create(shellPod(ns, "echo one; echo two; echo last try", func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: "busybox", Command: []string{"sh", "-c", "echo other"}})
	}))
	waiting := c.create(shellPod(ns, "", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "example.com/nobody" }))
	gate := t.TempDir() + "/gate"
	running := c.create(shellPod(ns, "echo before; while ! test -f "+gate+"; do sleep 0.02; done; echo after; exit 3", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		p.Spec.Containers[0].Name = "only"
	}))
	c.await(pod, "it has succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	for _, row := range []struct {
		name string
		pod  *corev1.Pod
		o    corev1.PodLogOptions
		want string // of the log or, with a !, a part of the error
	}{
		{"all", pod, corev1.PodLogOptions{Container: "main"}, "one\ntwo\nlast try\n"},
		{"tail", pod, corev1.PodLogOptions{Container: "main", TailLines: new(int64(1))}, "last try\n"},
		{"limit", pod, corev1.PodLogOptions{Container: "main", LimitBytes: new(int64(3))}, "one"},
		{"another container", pod, corev1.PodLogOptions{Container: "other"}, "other\n"},
		{"no container chosen", pod, corev1.PodLogOptions{}, "!a container name must be specified"},
		{"unknown container", pod, corev1.PodLogOptions{Container: "nobody"}, "!container nobody is not valid"},
		{"no previous run", pod, corev1.PodLogOptions{Container: "main", Previous: true}, "!previous terminated container"},
		{"not started", waiting, corev1.PodLogOptions{}, "!is waiting to start: "},
	} {
		got, err := c.log(row.pod, row.o)
		if part, wantErr := strings.CutPrefix(row.want, "!"); wantErr {
			if err == nil || !strings.Contains(err.Error()+got, part) {
				t.Errorf("%s: %q, %v; want an error with %q", row.name, got, err, part)
			}
		} else if err != nil || got != row.want {
			t.Errorf("%s: %q, %v", row.name, got, err)
		}
	}

	c.await(running, "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	stream, err := c.client.CoreV1().Pods(ns).GetLogs(running.Name, &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	first := make([]byte, len("before\n"))
	if _, err := io.ReadFull(stream, first); err != nil {
		t.Fatal(err)
	}
	c.run1(running, "only", "touch "+gate)
	rest, err := io.ReadAll(stream)
	if string(first)+string(rest) != "before\nafter\n" || err != nil {
		t.Errorf("followed: %q then %q, %v", first, rest, err)
	}
	c.await(running, "it runs again", func(p *corev1.Pod) bool { return p.Status.ContainerStatuses[0].RestartCount > 0 })
	waitFor(c, "the log of the run before", func() bool {
		got, err := c.log(running, corev1.PodLogOptions{Previous: true})
		return err == nil && got == "before\nafter\n"
	})
}

// run1 runs a script in a container, as kubectl exec does, and returns what it writes.
func (c *cluster) run1(pod *corev1.Pod, container, script string) string {
	c.t.Helper()
	var out, errs bytes.Buffer
	err := c.exec(pod, container, remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}, "sh", "-c", script)
	if err != nil {
		c.t.Fatalf("%s: %v; it wrote %q, %q", script, err, out.String(), errs.String())
	}
	return out.String()
}

func (c *cluster) exec(pod *corev1.Pod, container string, streams remotecommand.StreamOptions, argv ...string) error {
	c.t.Helper()
	at := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: argv, Stdin: streams.Stdin != nil, Stdout: true, Stderr: streams.Stderr != nil, TTY: streams.Tty}, scheme.ParameterCodec).URL()
	return c.stream(at, streams)
}

func (c *cluster) stream(at *url.URL, streams remotecommand.StreamOptions) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	// As kubectl does, and as older clients do.
	modern, err := remotecommand.NewWebSocketExecutor(shared.config, "GET", at.String())
	if err != nil {
		c.t.Fatal(err)
	}
	executor := modern
	if c.spdy {
		if executor, err = remotecommand.NewSPDYExecutor(shared.config, "POST", at); err != nil {
			c.t.Fatal(err)
		}
	}
	return executor.StreamWithContext(ctx, streams)
}

func TestExec(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	web := c.create(echoPod(ns, func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "COLOUR", Value: "blue"}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "podinfo", MountPath: "/etc/podinfo"}}
		p.Spec.Volumes = []corev1.Volume{{Name: "podinfo", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}},
		}}}}
	}))
	task := c.create(shellPod(ns, "touch mine; sleep 1000 & wait", func(p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds, p.Spec.AutomountServiceAccountToken = new(int64(1)), new(false)
	}))
	web = c.await(web, "it is ready", ready)
	task = c.await(task, "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })

	for _, c.spdy = range []bool{false, true} {
		if got := c.run1(web, "web", "echo $COLOUR; hostname; curl -s localhost:8080/readyz"); got != "blue\nweb\nok\n" {
			t.Errorf("a simulated application says %q", got)
		}
		if got := c.run1(task, "main", "ls"); got != "mine\n" {
			t.Errorf("a command's folder holds %q", got)
		}
		var out bytes.Buffer
		err := c.exec(task, "main", remotecommand.StreamOptions{Stdin: strings.NewReader("typed"), Stdout: &out}, "sh", "-c", "cat; exit 5")
		var exit utilexec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 5 || out.String() != "typed" {
			t.Errorf("output %q, %v; want exit code 5", out.String(), err)
		}
		for pod, container := range map[*corev1.Pod]string{web: "web", task: "main"} {
			var screen bytes.Buffer
			// Nobody hangs up at the terminal: the end of the input would race with the end of the command on the way through the API server.
			keys, typist := io.Pipe()
			go func() { _, _ = io.WriteString(typist, "echo on $HOSTNAME; exit 6\r") }()
			err = c.exec(pod, container, remotecommand.StreamOptions{Stdin: keys, Stdout: &screen, Tty: true}, "sh")
			_ = typist.Close()
			if !errors.As(err, &exit) || exit.Code != 6 || !strings.Contains(screen.String(), "on "+pod.Name+"\r\n") {
				t.Errorf("a terminal in %s: screen %q, %v", container, screen.String(), err)
			}
		}
		err = c.exec(web, "web", remotecommand.StreamOptions{Stdout: io.Discard}, "pg_dump")
		if !errors.As(err, &exit) || exit.Code != 127 {
			t.Errorf("an unknown program: %v", err)
		}
	}

	// What is changed of the pod while it runs is seen within it.
	patch := []byte(`{"metadata":{"labels":{"role":"canary"},"annotations":{"sandbox.lockstep.dev/error-rate":"1"}}}`)
	if _, err := c.client.CoreV1().Pods(ns).Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the new label within the pod", func() bool {
		return strings.HasPrefix(c.run1(web, "web", "cat /etc/podinfo/labels"), "app=\"web\"\nrole=\"canary\"\n")
	})
	waitFor(c, "the application to fail as its annotation says", func() bool {
		resp, err := fresh.Get(c.url(web, 8080, "/"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusInternalServerError
	})
}

// Who attaches to a command is read by it and sees what it writes, until it ends.
func TestAttach(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.create(shellPod(ns, "cat; echo done >&2", func(p *corev1.Pod) { p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true }))
	at := func(pod *corev1.Pod, stdin bool) *url.URL {
		return c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(ns).Name(pod.Name).SubResource("attach").
			VersionedParams(&corev1.PodAttachOptions{Stdin: stdin, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	}
	c.await(pod, "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	var out, errs bytes.Buffer
	if err := c.stream(at(pod, true), remotecommand.StreamOptions{Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "typed\n" || errs.String() != "done\n" {
		t.Errorf("output %q, errors %q", out.String(), errs.String())
	}
	c.await(pod, "it has succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if err := c.stream(at(pod, true), remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}); err == nil {
		t.Error("one can attach to a command that has ended")
	}
}

func TestPortForward(t *testing.T) {
	c := newCluster(t, nil)
	pod := c.await(c.create(echoPod(c.namespace(), nil)), "it is ready", ready)
	transport, upgrader, err := spdy.RoundTripperFor(shared.config)
	if err != nil {
		t.Fatal(err)
	}
	at := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	stop, started := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", at), []string{"0:8080"}, stop, started, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-started:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := fresh.Get(fmt.Sprintf("http://127.0.0.1:%d/x", ports[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), `"path":"/x"`) {
		t.Errorf("the pod answers %q", body)
	}
	close(stop)
	<-done
}

// Whoever has no certificate of the API server's gets nothing from a node.
func TestOnlyTheAPIServerMayAsk(t *testing.T) {
	c := newCluster(t, nil)
	node, err := c.client.CoreV1().Nodes().Get(t.Context(), "node-us-east-1a-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := url.URL{Scheme: "https", Host: net.JoinHostPort(node.Status.Addresses[2].Address, fmt.Sprint(node.Status.DaemonEndpoints.KubeletEndpoint.Port)), Path: "/healthz"}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(at.String())
	if err == nil {
		resp.Body.Close()
		t.Fatalf("a stranger got status %d", resp.StatusCode)
	}
	if !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("the refusal is %v", err)
	}
}

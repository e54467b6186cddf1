package kubelet

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (c *cluster) configMap(namespace, name string, data map[string]string) {
	c.t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data, BinaryData: map[string][]byte{"raw": {0xff}}}
	maps := c.client.CoreV1().ConfigMaps(namespace)
	_, err := maps.Update(c.t.Context(), object, metav1.UpdateOptions{})
	if err != nil {
		_, err = maps.Create(c.t.Context(), object, metav1.CreateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// events returns the messages of a pod's events with a reason.
func (c *cluster) events(pod *corev1.Pod, reason string) (messages []string) {
	c.t.Helper()
	list, err := c.client.CoreV1().Events(pod.Namespace).List(c.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.Reason == reason {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

func mount(name, path, sub string) corev1.VolumeMount {
	return corev1.VolumeMount{Name: name, MountPath: path, SubPath: sub}
}

func named(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

// volumePod mounts every kind of volume that there is, and names their paths as every manifest does.
func volumePod(namespace, script string) *corev1.Pod {
	return shellPod(namespace, script, func(p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = new(int64(1))
		label := corev1.DownwardAPIVolumeFile{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: named("settings")}}},
			{Name: "secrets", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: "secrets", Items: []corev1.KeyToPath{{Key: "key", Path: "tls/key.pem", Mode: new(int32(0o400))}},
			}}},
			{Name: "none", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "absent", Optional: new(true)}}},
			{Name: "info", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{label}}}},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: named("settings"), Items: []corev1.KeyToPath{{Key: "colour", Path: "c"}}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{label}}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "elsewhere", Path: "token"}},
			}}}},
			{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		}
		main := &p.Spec.Containers[0]
		main.WorkingDir = "/work/here"
		main.Env = []corev1.EnvVar{{Name: "COLOURS", Value: "/etc/app/colour"}}
		main.VolumeMounts = []corev1.VolumeMount{
			mount("settings", "/etc/app", ""), mount("settings", "/etc/one.conf", "colour"), mount("secrets", "/etc/secrets", ""),
			mount("none", "/none", ""), mount("info", "/info", ""), mount("all", "/all", ""), mount("work", "/work", ""),
		}
		p.Spec.InitContainers = []corev1.Container{{
			Name: "before", Image: "busybox", Command: []string{"sh", "-c", "echo prepared > /scratch/first"}, VolumeMounts: []corev1.VolumeMount{mount("work", "/scratch", "")},
		}}
	})
}

func (c *cluster) volumeObjects(namespace string) {
	c.t.Helper()
	c.configMap(namespace, "settings", map[string]string{"colour": "blue\n"})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "secrets"}, Data: map[string][]byte{"key": []byte("hidden\n"), "other": nil}}
	if _, err := c.client.CoreV1().Secrets(namespace).Create(c.t.Context(), secret, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// A command finds its volumes where its manifest says, and they are gone with it.
func TestVolumes(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	c.volumeObjects(ns)
	const script = `cat $COLOURS /etc/one.conf /etc/secrets/tls/key.pem /all/c /work/first; ls /etc/secrets /none; ls -l /etc/app | grep -c raw; find /etc/app -name raw | grep -c raw
cat /info/labels; echo; cut -d. -f2 /all/token; pwd; ls "$CONTAINER_SANDBOX_MOUNT_POINT/var/run/secrets/kubernetes.io/serviceaccount" /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
grep -c 'BEGIN CERTIFICATE' /var/run/secrets/kubernetes.io/serviceaccount/ca.crt; stat -L -c %a /etc/secrets/tls/key.pem /etc/app/colour`
	pod := c.create(volumePod(ns, script))
	pod = c.await(pod, "it has ended", func(p *corev1.Pod) bool { return terminal(p) })
	log := c.kubelet.pod(pod.UID).processes["main"].log.Tail(100, 10000)
	if pod.Status.Phase != corev1.PodSucceeded {
		t.Errorf("phase %s", pod.Status.Phase)
	}
	lines := strings.Split(log, "\n")
	for _, want := range []string{"blue", "hidden", "prepared", "tls", "1", `app="task"`, "ca.crt", "namespace", "token", "400", "644"} {
		found := false
		for _, line := range lines {
			found = found || line == want
		}
		if !found {
			t.Errorf("the log has no line %q", want)
		}
	}
	if strings.Count(log, "blue\n") != 3 || !strings.Contains(log, "/work/here\n") && !strings.Contains(log, "/volumes/work/here\n") {
		t.Error("the ConfigMap is not mounted three times, or the command works elsewhere")
	}
	if t.Failed() {
		t.Logf("the log:\n%s", log)
	}
	root := c.kubelet.files
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("of a pod that has ended there is %v, %v", left, err)
	}
	waitFor(c, "the event", func() bool { return len(c.events(pod, "MountsRelocated")) > 0 })
	c.stop()
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of the kubelet there is its folder: %v", err)
	}
}

// Volumes follow what they show while the pod runs; what is mounted by a subPath does not.
func TestVolumesChange(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	c.volumeObjects(ns)
	pod := c.await(c.create(volumePod(ns, "while :; do sleep 0.1; done")), "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	token := c.run1(pod, "main", "cat /all/token")
	if got := c.run1(pod, "main", "cat /etc/app/colour $COLOURS"); got != "blue\nblue\n" {
		t.Errorf("exec reads %q", got)
	}
	c.configMap(ns, "settings", map[string]string{"colour": "green\n", "more": "x"})
	if _, err := c.client.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, "application/merge-patch+json", []byte(`{"metadata":{"labels":{"app":"other"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the new label", func() bool {
		return strings.Count(c.run1(pod, "main", "cat /info/labels /all/labels"), `app="other"`) == 2
	})
	waitFor(c, "the new colour", func() bool {
		return c.run1(pod, "main", "cat /etc/app/colour /all/c /etc/app/more") == "green\ngreen\nx"
	})
	if got := c.run1(pod, "main", "cat /etc/one.conf"); got != "blue\n" {
		t.Errorf("what is mounted by a subPath is now %q", got)
	}
	if c.run1(pod, "main", "cat /all/token") != token {
		t.Error("a token that has just been made is renewed")
	}
	// What has gone keeps what it had, and says so.
	if err := c.client.CoreV1().ConfigMaps(ns).Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.kubelet.pod(pod.UID).refresh(t.Context())
	waitFor(c, "the event", func() bool { return len(c.events(pod, "FailedMount")) > 0 })
	if got := c.run1(pod, "main", "cat /etc/app/colour"); got != "green\n" {
		t.Errorf("without its ConfigMap the volume holds %q", got)
	}
	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await(pod, "it is gone", goneNow)
	waitFor(c, "its files to be gone", func() bool {
		left, err := os.ReadDir(c.kubelet.files)
		return err == nil && len(left) == 0
	})
}

// A pod waits for what its volumes need, as on a real node: without an address, and with an event that says why.
func TestMissingVolume(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.create(volumePod(ns, "cat /etc/app/colour"))
	waitFor(c, "the events", func() bool {
		seen := strings.Join(c.events(pod, "FailedMount"), "\n")
		return strings.Contains(seen, `MountVolume.SetUp failed for volume "settings" : configmap "settings" not found`) &&
			strings.Contains(seen, `MountVolume.SetUp failed for volume "secrets" : secret "secrets" not found`) && !strings.Contains(seen, "none")
	})
	waiting := c.await(pod, "it waits", func(p *corev1.Pod) bool { return len(p.Status.ContainerStatuses) > 0 })
	if s := waiting.Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "PodInitializing" || waiting.Status.PodIP != "" || waiting.Status.Phase != corev1.PodPending {
		t.Errorf("status %+v", waiting.Status)
	}
	disk := shellPod(ns, "true", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{mount("disk", "/disk", "")}
	})
	disk = c.create(disk)
	waitFor(c, "the refusal", func() bool {
		return strings.Contains(strings.Join(c.events(disk, "FailedMount"), ""), "the sandbox has no volumes of this kind")
	})
	c.volumeObjects(ns)
	c.await(pod, "it has succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
}

// A pod whose emptyDir outgrows its limit is evicted, as by a kubelet; what other volumes hold does not count.
func TestAVolumeThatOutgrowsItsLimit(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.create(shellPod(ns, "trap '' TERM; while :; do sleep 0.1; done", func(p *corev1.Pod) {
		empty := func(limit string) corev1.VolumeSource {
			return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse(limit))}}
		}
		p.Spec.Volumes = []corev1.Volume{{Name: "large", VolumeSource: empty("1Gi")}, {Name: "small", VolumeSource: empty("1Mi")}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{mount("large", "/large", ""), mount("small", "/small", "")}
	}))
	pod = c.await(pod, "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	own := c.kubelet.pod(pod.UID)
	c.run1(pod, "main", "head -c 2000000 /dev/zero > /large/data; head -c 900000 /dev/zero > /small/data; ln /small/data /small/same; ln -s /large /small/other")
	own.refresh(t.Context())
	if reason := own.report().status.Reason; reason != "" {
		t.Errorf("%s for what its volume does not hold", reason)
	}
	c.run1(pod, "main", "mkdir /small/more; head -c 300000 /dev/zero > /small/more/data")
	own.refresh(t.Context())
	own.refresh(t.Context())
	const message = `Usage of EmptyDir volume "small" exceeds the limit "1Mi". `
	pod = c.await(pod, "it has failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if pod.Status.Reason != "Evicted" || pod.Status.Message != message {
		t.Errorf("it has failed for %s: %q", pod.Status.Reason, pod.Status.Message)
	}
	waitFor(c, "the event", func() bool { return len(c.events(pod, "Evicted")) > 0 })
	if got := c.events(pod, "Evicted"); len(got) != 1 || got[0] != message {
		t.Errorf("events %q", got)
	}
}

// What kubectl exec has started in a container ends with the container.
func TestExecEndsWithTheContainer(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	pod := c.create(shellPod(ns, "while :; do sleep 0.1; done", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) }))
	pod = c.await(pod, "it runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		r, _ := c.kubelet.pod(pod.UID).run("main")
		_, err := c.kubelet.pod(pod.UID).now().exec(t.Context(), r, []string{"sh", "-c", "echo here; sleep 1000"}, streams{out: closing(started)}, nil)
		ended <- err
	}()
	<-started
	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended well")
		}
	case <-time.After(patience / 2):
		t.Error("it goes on without its container")
	}
}

// closing is closed by the first write.
type closing chan struct{}

func (c closing) Write(b []byte) (int, error) {
	close(c)
	return len(b), nil
}

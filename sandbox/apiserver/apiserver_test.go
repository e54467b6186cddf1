package apiserver

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/lockstep-delivery/lockstep/sandbox/apiserver/binary"
)

// patience bounds each wait for something that takes three seconds on an idle machine.
const patience = 60 * time.Second

// parentVariable turns the test binary into a program that starts a control plane in the directory named by it,
// prints its process id and endpoint, and waits to be killed.
const parentVariable = "LOCKSTEP_TEST_PARENT_OF_CONTROLPLANE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		p, err := Start(context.Background(), Config{Dir: dir})
		if err != nil {
			println("error:", err.Error())
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString(p.Endpoint() + "\n")
		select {}
	}
	os.Exit(m.Run())
}

// start starts a control plane in dir and stops it when the test ends.
func start(t *testing.T, c Config) *ControlPlane {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	p, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %s, pid %d", time.Since(begin).Round(time.Millisecond), p.PID())
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p
}

func clientOf(t *testing.T, p *ControlPlane) kubernetes.Interface {
	t.Helper()
	config, err := p.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// gone fails the test unless the process has ended and its port is closed.
func gone(t *testing.T, p *ControlPlane) {
	t.Helper()
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there (%v)", p.PID(), err)
	}
	if listening(t, p.Endpoint()) {
		t.Errorf("somebody still listens at %s", p.Endpoint())
	}
}

func listening(t *testing.T, endpoint string) bool {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestDeploymentGetsItsReplicaSetAndNothingIsLeftAfterStop(t *testing.T) {
	t.Parallel()
	p := start(t, Config{Dir: t.TempDir()})
	client := clientOf(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AppsV1().Deployments("shop").Create(ctx, deployment("cart", 3), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	rs := firstReplicaSet(t, ctx, client, "shop")
	if owner := metav1.GetControllerOf(&rs); owner == nil || owner.Kind != "Deployment" || owner.Name != "cart" {
		t.Errorf("the ReplicaSet is owned by %v, want Deployment cart", owner)
	}
	// Pods need the namespace's service account, so they show that the other controllers work as well.
	pods := firstPods(t, ctx, client, "shop", 3)
	if got := pods[0].Spec.ServiceAccountName; got != "default" {
		t.Errorf("a pod runs as service account %q, want default: admission is not that of a real cluster", got)
	}

	// The watch stays open over Stop: an idle client must not hold the control plane back.
	open, err := client.CoreV1().Pods("shop").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Stop()
	begin := time.Now()
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %s", time.Since(begin).Round(time.Millisecond))
	gone(t, p)
	if err := p.Err(); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("the second Stop: %v", err)
	}
}

func TestTwoSideBySideAreStrangers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := start(t, Config{Dir: t.TempDir()}), start(t, Config{Dir: t.TempDir()})
	if a.Endpoint() == b.Endpoint() {
		t.Fatalf("both serve at %s", a.Endpoint())
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "only-in-a"}}
	if _, err := clientOf(t, a).CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(t, b).CoreV1().Namespaces().Get(ctx, "only-in-a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace made in one is seen in the other (error %v)", err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	gone(t, a)
	if _, err := clientOf(t, b).Discovery().ServerVersion(); err != nil {
		t.Errorf("stopping one disturbs the other: %v", err)
	}
}

func TestSecondStartInADirectoryFindsWhatTheFirstKept(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	first := start(t, Config{Dir: dir})
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if _, err := clientOf(t, first).CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(ctx, Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another control plane is running in "+dir) {
		t.Errorf("a second one in the same directory: %v", err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{Dir: dir})
	if _, err := clientOf(t, second).CoreV1().Namespaces().Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestUnexpectedDeathIsReportedAndLosesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	p := start(t, Config{Dir: dir})
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if _, err := clientOf(t, p).CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("Done is not closed after the process was killed")
	}
	err := p.Err()
	if err == nil || !strings.Contains(err.Error(), "signal: killed") || !strings.Contains(err.Error(), p.Log()) {
		t.Errorf("got %v, want the signal and the path of the log", err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop of a dead control plane: %v", err)
	}
	if p.Err() == nil {
		t.Error("the reason of the death is forgotten after Stop")
	}
	// etcd never syncs to disk, which costs its last writes when the machine dies, not when the process does.
	if _, err := clientOf(t, start(t, Config{Dir: dir})).CoreV1().Namespaces().Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("started again: %v", err)
	}
}

func TestDiesWithItsParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+t.TempDir())
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if readErr != nil {
		t.Fatalf("the parent did not start its control plane: %v", readErr)
	}
	endpoint := strings.TrimSpace(line)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); listening(t, endpoint); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s still answers although the process that started it is dead", endpoint)
		}
	}
}

func TestBusyPortIsNamed(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, err = Start(t.Context(), Config{Dir: t.TempDir(), Port: busy.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), "cannot listen on "+busy.Addr().String()) {
		t.Errorf("got %v, want the address", err)
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Start(ctx, Config{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context canceled", err)
	}
	start(t, Config{Dir: dir}) // the directory would be locked if the first still ran
}

func TestMissingBinaryIsNamed(t *testing.T) {
	t.Setenv(binary.Variable, filepath.Join(t.TempDir(), "absent"))
	_, err := Start(t.Context(), Config{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), binary.Variable) {
		t.Errorf("got %v, want the variable's name", err)
	}
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "echo:1"}}},
			},
		},
	}
}

// firstReplicaSet waits for the first ReplicaSet of a namespace.
func firstReplicaSet(t *testing.T, ctx context.Context, client kubernetes.Interface, namespace string) appsv1.ReplicaSet {
	t.Helper()
	seen, err := client.AppsV1().ReplicaSets(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Stop()
	for event := range seen.ResultChan() {
		if event.Type == watch.Added {
			return *event.Object.(*appsv1.ReplicaSet)
		}
	}
	t.Fatal("no ReplicaSet was made")
	return appsv1.ReplicaSet{}
}

// firstPods waits until n pods of a namespace have been made.
func firstPods(t *testing.T, ctx context.Context, client kubernetes.Interface, namespace string, n int) []corev1.Pod {
	t.Helper()
	seen, err := client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Stop()
	var pods []corev1.Pod
	for event := range seen.ResultChan() {
		if event.Type != watch.Added {
			continue
		}
		if pods = append(pods, *event.Object.(*corev1.Pod)); len(pods) == n {
			return pods
		}
	}
	t.Fatalf("%d pods were made, want %d", len(pods), n)
	return nil
}

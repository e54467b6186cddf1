package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver/binary"
)

// patience bounds every wait: the machine may be busy.
const patience = 60 * time.Second

// cluster is a real control plane with a kubelet.
type cluster struct {
	t         testing.TB
	client    kubernetes.Interface
	vpc       *address.VPC
	addresses *vpcAddresses
	kubelet   *Kubelet
	notices   chan Notice
	stop      func()
	// spdy says to speak to the API server as clients before WebSocket do.
	spdy bool
}

var shared struct {
	plane  *apiserver.ControlPlane
	config *rest.Config
	err    error
}

// TestMain starts one control plane for all tests; each has a kubelet and a namespace of its own.
func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "kubelet-test")
		if err != nil {
			shared.err = err
			return m.Run()
		}
		defer os.RemoveAll(dir)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		shared.plane, shared.err = apiserver.Start(ctx, apiserver.Config{Dir: dir})
		if shared.err == nil {
			defer shared.plane.Stop()
			shared.config, shared.err = shared.plane.RESTConfig()
		}
		return m.Run()
	}()
	os.Exit(code)
}

// newCluster starts a kubelet on the shared control plane. It is ended, and checked to leave nothing, with the test.
func newCluster(t testing.TB, change func(*Config)) *cluster {
	t.Helper()
	if errors.Is(shared.err, binary.ErrNotBuilt) {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { // the last thing: after the kubelet has ended
		fresh.CloseIdleConnections()
		if err := goleak.Find(leaks, ignoreClient, ignoreSPDY); err != nil {
			t.Errorf("the kubelet left something behind: %v", err)
		}
	})
	c := &cluster{t: t, vpc: vpc, addresses: newAddresses(vpc.Mapping), notices: make(chan Notice, 10000)}
	if c.client, err = kubernetes.NewForConfig(shared.config); err != nil {
		t.Fatal(err)
	}
	c.stop = c.startKubelet(change)
	t.Cleanup(c.stop)
	return c
}

// startKubelet starts a kubelet and waits until it works; stop ends it.
func (c *cluster) startKubelet(change func(*Config)) (stop func()) {
	t := c.t
	t.Helper()
	cfg := Config{
		API: shared.config, VPC: c.vpc.Mapping, Addresses: c.addresses, Scale: 0.1,
		Notify: func(n Notice) { c.notices <- n },
		Log:    slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if c.kubelet, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.kubelet.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("kubelet: %v", err)
		}
	})
	select {
	case <-c.kubelet.Ready():
	case err := <-done:
		t.Fatalf("the kubelet ended: %v", err)
	case <-time.After(patience):
		stop()
		t.Fatal("the kubelet is not ready")
	}
	return stop
}

// ignoreClient leaves the test's own client, which is shared by all tests, out of the search for leaks.
var ignoreClient = goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*ClientConn).readLoop")

// ignoreSPDY leaves out what a SPDY connection that the other side has closed does in its last second.
var ignoreSPDY = goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown")

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// namespace makes a namespace for one test.
func (c *cluster) namespace() string {
	c.t.Helper()
	ns, err := c.client.CoreV1().Namespaces().Create(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	waitFor(c, "the service account of namespace "+ns.Name, func() bool {
		_, err := c.client.CoreV1().ServiceAccounts(ns.Name).Get(c.t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	c.t.Cleanup(func() { // or the next test's kubelet would take these pods over
		_ = c.client.CoreV1().Pods(ns.Name).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{})
	})
	return ns.Name
}

// waitFor waits for a condition that nothing announces.
func waitFor(c *cluster, what string, holds func() bool) {
	c.t.Helper()
	waitAtMost(c, patience, what, holds)
}

func waitAtMost(c *cluster, patience time.Duration, what string, holds func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited %s in vain for %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

func (c *cluster) create(pod *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	pod, err := c.client.CoreV1().Pods(pod.Namespace).Create(c.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return pod
}

// await watches a pod until holds is true of it, and returns it; nil stands for deleted.
func (c *cluster) await(pod *corev1.Pod, what string, holds func(*corev1.Pod) bool) *corev1.Pod {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var last *corev1.Pod
	for ctx.Err() == nil {
		got, err := c.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && got.UID != pod.UID {
			if holds(nil) {
				return nil
			}
			c.t.Fatalf("pod %s is gone while waiting until %s", pod.Name, what)
		}
		if err != nil {
			continue
		}
		if last = got; holds(got) {
			return got
		}
		w, err := c.client.CoreV1().Pods(pod.Namespace).Watch(ctx, metav1.ListOptions{
			FieldSelector: "metadata.name=" + pod.Name, ResourceVersion: got.ResourceVersion,
		})
		if err != nil {
			continue
		}
		for e := range w.ResultChan() {
			if e.Type == watch.Deleted {
				break
			}
			if got, ok := e.Object.(*corev1.Pod); ok {
				if last = got; holds(got) {
					w.Stop()
					return got
				}
			}
		}
		w.Stop()
	}
	status, _ := json.MarshalIndent(last.Status, "", " ")
	c.t.Fatalf("waited in vain until %s; the pod's status is %s", what, status)
	return nil
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func ready(pod *corev1.Pod) bool {
	return pod != nil && condition(pod, corev1.PodReady).Status == corev1.ConditionTrue
}

func goneNow(pod *corev1.Pod) bool { return pod == nil }

// url returns where a port of the pod is really served.
func (c *cluster) url(pod *corev1.Pod, port uint16, path string) string {
	return "http://" + c.vpc.Real(netip.AddrPortFrom(netip.MustParseAddr(pod.Status.PodIP), port)).String() + path
}

func echoPod(namespace string, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Image: "lockstep.dev/echo:v1",
			Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			ReadinessProbe: httpProbe("/readyz", 1),
		}}},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func httpProbe(path string, period int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
		PeriodSeconds: period,
	}
}

var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}

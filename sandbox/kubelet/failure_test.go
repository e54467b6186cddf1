package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// deploy creates a Deployment of echo pods and waits until all are available.
func (c *cluster) deploy(namespace string, replicas int32) {
	c.t.Helper()
	pod := echoPod(namespace, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) })
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec},
		},
	}
	if _, err := c.client.AppsV1().Deployments(namespace).Create(c.t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { // or it would keep making pods when they are cleaned up
		_ = c.client.AppsV1().Deployments(namespace).Delete(context.Background(), "web", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
	})
	waitFor(c, fmt.Sprintf("%d available replicas", replicas), func() bool {
		d, err := c.client.AppsV1().Deployments(namespace).Get(c.t.Context(), "web", metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas == replicas
	})
}

func (c *cluster) pods(namespace string) []corev1.Pod {
	c.t.Helper()
	list, err := c.client.CoreV1().Pods(namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

func (c *cluster) patchStatus(what, namespace, name, patch string) {
	c.t.Helper()
	var err error
	if what == "node" {
		_, err = c.client.CoreV1().Nodes().Patch(c.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	} else {
		_, err = c.client.CoreV1().Pods(namespace).Patch(c.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// A node that cannot be reached goes on where it was when it can be again, whatever has been said of it meanwhile.
func TestUnreachableNode(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	const node = "node-us-east-1b-1"
	at := func(name string) *corev1.Pod {
		return c.create(echoPod(ns, func(p *corev1.Pod) { p.Name, p.Spec.NodeName = name, node }))
	}
	pod, doomed := at("web"), at("doomed")
	pod, doomed = c.await(pod, "it is ready", ready), c.await(doomed, "it is ready", ready)
	if err := c.kubelet.FailNode(t.Context(), node, NodeUnreachable); err != nil {
		t.Fatal(err)
	}
	impatient := *fresh
	impatient.Timeout = 300 * time.Millisecond
	_, err := impatient.Get(c.url(pod, 8080, "/"))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a pod of an unreachable node: %v; want a time-out", err)
	}
	if _, err := c.log(pod, corev1.PodLogOptions{}); err == nil {
		t.Error("the log of a pod of an unreachable node can be read")
	}
	renewed := func() time.Time {
		lease, err := c.client.CoordinationV1().Leases(leaseHome).Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return lease.Spec.RenewTime.Time
	}
	before := renewed()
	c.kubelet.beat(t.Context(), c.kubelet.node(node))
	if after := renewed(); !after.Equal(before) {
		t.Errorf("the lease was renewed at %s", after)
	}
	// What the node controller does after a minute, and an impatient user.
	c.patchStatus("node", "", node, `{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}`)
	c.patchStatus("pod", ns, "web", `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`)
	if err := c.client.CoreV1().Pods(ns).Delete(t.Context(), "doomed", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the kubelet to see this", func() bool {
		c.kubelet.node(node).mu.Lock()
		defer c.kubelet.node(node).mu.Unlock()
		return c.kubelet.node(node).unready && len(c.kubelet.podStore()) == 1
	})

	if err := c.kubelet.RestoreNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	c.await(pod, "it is ready again", ready)
	resp, err := fresh.Get(c.url(pod, 8080, "/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	waitFor(c, "the node to be ready", func() bool {
		n, err := c.client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		return err == nil && n.Status.Conditions[len(n.Status.Conditions)-1].Status == corev1.ConditionTrue
	})
	waitFor(c, "the deleted pod to be gone from the node", func() bool {
		_, err := fresh.Get(c.url(doomed, 8080, "/"))
		return err != nil && strings.Contains(err.Error(), "refused")
	})
	if got, err := c.kubelet.FailNode(t.Context(), "nobody", NodeUnreachable), errNoNode; !errors.Is(got, err) {
		t.Errorf("a node that does not exist: %v", got)
	}
}

// A zone that is lost takes its pods with it; a new instance starts empty.
func TestTerminatedZone(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	const zone, node = "us-east-1c", "node-us-east-1c-1"
	pod := c.await(c.create(echoPod(ns, func(p *corev1.Pod) { p.Spec.NodeName = node })), "it is ready", ready)
	old := c.kubelet.node(node).instance
	if err := c.kubelet.FailZone(t.Context(), zone, NodeTerminated); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Get(c.url(pod, 8080, "/")); err == nil {
		t.Error("a pod of a lost zone still answers")
	}
	if _, err := c.client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the node's object: %v", err)
	}
	if n := c.addresses.inUse(); n != 2 {
		t.Errorf("%d addresses are in use, want those of the instances that are left", n)
	}
	if err := c.kubelet.RestoreZone(t.Context(), zone); err != nil {
		t.Fatal(err)
	}
	if c.kubelet.node(node).instance == old {
		t.Error("the new node has the old instance")
	}
	c.await(pod, "it is gone", goneNow)
	again := c.create(echoPod(ns, func(p *corev1.Pod) { p.Name, p.Spec.NodeName = "again", node }))
	c.await(again, "it runs on the new node", ready)
	if err := c.kubelet.FailZone(t.Context(), "us-east-1z", NodeTerminated); err == nil {
		t.Error("a zone without nodes can fail")
	}
}

// An instance that could not be ended is ended by the next try; one that was is not ended again.
func TestTerminateAgain(t *testing.T) {
	c := newCluster(t, nil)
	const node = "node-us-east-1b-1"
	c.addresses.refuse(errors.New("the account is busy"))
	if err := c.kubelet.FailNode(t.Context(), node, NodeTerminated); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("the first try: %v", err)
	}
	if _, err := c.client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the node's object: %v", err)
	}
	c.addresses.refuse(nil)
	for range 2 { // the fake knows no instance twice
		if err := c.kubelet.FailNode(t.Context(), node, NodeTerminated); err != nil {
			t.Error(err)
		}
	}
	if n := c.addresses.inUse(); n != 2 {
		t.Errorf("%d addresses are in use, want those of two instances", n)
	}
}

// Evictions keep to PodDisruptionBudgets: they are refused with 429, and a drain waits for its chance.
func TestDrainKeepsToBudgets(t *testing.T) {
	c := newCluster(t, nil)
	ns := c.namespace()
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(3)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
	budgets := c.client.PolicyV1().PodDisruptionBudgets(ns)
	if _, err := budgets.Create(t.Context(), budget, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.deploy(ns, 3)
	allowed := func(n int32) func() bool {
		return func() bool {
			b, err := budgets.Get(t.Context(), "web", metav1.GetOptions{})
			return err == nil && b.Status.CurrentHealthy == 3 && b.Status.DisruptionsAllowed == n && b.Status.ObservedGeneration == b.Generation
		}
	}
	waitFor(c, "the budget to count three healthy pods", allowed(0))
	victim := c.pods(ns)[0]
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: victim.Name, Namespace: ns}}
	if err := c.client.CoreV1().Pods(ns).EvictV1(t.Context(), eviction); !apierrors.IsTooManyRequests(err) {
		t.Fatalf("an eviction that the budget does not allow: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), evictionRetry/2)
	defer cancel()
	node := victim.Spec.NodeName
	if err := c.kubelet.DrainNode(ctx, node); err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("a drain that the budget does not allow: %v", err)
	}
	if _, err := budgets.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"minAvailable":2}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "the budget to allow one disruption", allowed(1))
	if err := c.kubelet.DrainNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	waitFor(c, "three ready pods on the other nodes", func() bool {
		n := 0
		for _, p := range c.pods(ns) {
			if ready(&p) && p.DeletionTimestamp == nil && p.Spec.NodeName != node {
				n++
			}
		}
		return n == 3
	})
	if err := c.kubelet.UncordonNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	back := c.create(echoPod(ns, func(p *corev1.Pod) {
		p.Labels, p.Name = nil, "back"
		p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	}))
	c.await(back, "it is placed on the uncordoned node", ready)
}

package ingressgroup

import (
	"context"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
)

// prioritized notes for which stack the cloud was asked to hurry.
type prioritized struct {
	Cloud
	stacks []string
}

func (p *prioritized) Prioritize(stackID string) { p.stacks = append(p.stacks, stackID) }

// A changed weight overtakes everything that was queued before it, also for an Ingress that is queued already.
func TestWeightsOvertakeOtherWork(t *testing.T) {
	named := func(name, action string) *networkingv1.Ingress {
		return &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: action, Annotations: map[string]string{ingress.Prefix + "actions.root": action}}}
	}
	hurry := &prioritized{}
	h := (&Controller{Options: Options{Cloud: hurry}}).ofIngress()
	q := priorityqueue.New[reconcile.Request](t.Name())
	defer q.ShutDown()
	ctx := context.Background()
	h.Create(ctx, event.CreateEvent{Object: named("restarted", "0"), IsInInitialList: true}, q)
	for _, name := range []string{"first", "second"} {
		h.Create(ctx, event.CreateEvent{Object: named(name, "0")}, q)
	}
	h.Update(ctx, event.UpdateEvent{ObjectOld: named("second", "0"), ObjectNew: named("second", "1")}, q)
	for _, want := range []string{"second", "first", "restarted"} {
		got, priority, _ := q.GetWithPriority()
		if got.NamespacedName != client.ObjectKeyFromObject(named(want, "")) {
			t.Errorf("got %s at priority %d, want %s", got, priority, want)
		}
		q.Done(got)
	}
	if len(hurry.stacks) != 1 || hurry.stacks[0] != "shop/second" {
		t.Errorf("the cloud hurries for %v", hurry.stacks)
	}
}

// What the controller itself writes does not wake it.
func TestOwnWritesDoNotWake(t *testing.T) {
	before := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web", ResourceVersion: "1", Generation: 1}}
	after := before.DeepCopy()
	after.ResourceVersion, after.Finalizers = "2", []string{ingress.Finalizer}
	after.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{Hostname: "x"}}
	if ingressMatters.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("status and finalizer wake the controller")
	}
	after.Annotations = map[string]string{"a": "b"}
	if !ingressMatters.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("an annotation does not wake the controller")
	}
}

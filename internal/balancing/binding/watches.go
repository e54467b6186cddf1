package binding

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Indexes of the cached bindings.
const (
	indexARN     = "lockstep.targetGroupARN"
	indexService = "lockstep.service"
	indexStack   = "lockstep.stack"
)

// retries at most this far apart, however long AWS or the API server refuses.
const slowestRetry = 30 * time.Second

// SetUp adds the controller to a manager. Fields that are not set are filled from the manager.
//
// Events of pods, Services and bindings go first; what a restart or a resync brings up goes last (the
// priority queue gives those a lower priority).
func (c *Controller) SetUp(ctx context.Context, m manager.Manager) error {
	c.Settings = c.Settings.withDefaults()
	if c.Client == nil {
		c.Client, c.Live = m.GetClient(), m.GetAPIReader()
	}
	if c.Events == nil {
		c.Events = m.GetEventRecorder("targetGroupBinding")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for name, value := range map[string]func(b *elbv2.TargetGroupBinding) string{
		indexARN:     func(b *elbv2.TargetGroupBinding) string { return b.Spec.TargetGroupARN },
		indexService: func(b *elbv2.TargetGroupBinding) string { return b.Spec.ServiceRef.Name },
		indexStack:   stackOf,
	} {
		err := m.GetFieldIndexer().IndexField(ctx, &elbv2.TargetGroupBinding{}, name, func(o client.Object) []string {
			if v := value(o.(*elbv2.TargetGroupBinding)); v != "" {
				return []string{v}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot index bindings by %s: %w", name, err)
		}
	}
	err := builder.ControllerManagedBy(m).Named("targetgroupbinding").
		For(&elbv2.TargetGroupBinding{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&elbv2.TargetGroupBinding{}, handler.EnqueueRequestsFromMapFunc(c.rivals), builder.WithPredicates(onlyDeletions)).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(c.ofService)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(c.ofPod), builder.WithPredicates(podMatters)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(c.ofNode), builder.WithPredicates(nodeMatters)).
		WatchesRawSource(source.Func(c.ofCloud)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: c.Settings.Workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, slowestRetry),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("cannot set up the controller of TargetGroupBindings: %w", err)
	}
	return nil
}

var onlyDeletions = predicate.Funcs{
	CreateFunc:  func(event.CreateEvent) bool { return false },
	UpdateFunc:  func(event.UpdateEvent) bool { return false },
	GenericFunc: func(event.GenericEvent) bool { return false },
}

// podMatters lets pass what changes a pod's place among targets. The pods of the initial list do not pass:
// every binding is looked at then anyway.
var podMatters = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
		return before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
			before.Status.Phase != after.Status.Phase || before.Status.PodIP != after.Status.PodIP ||
			before.Annotations[evidence.DrainAnnotation] != after.Annotations[evidence.DrainAnnotation] ||
			!maps.Equal(before.Labels, after.Labels) || !slices.Equal(conditions(before), conditions(after))
	},
}

// conditions are the states that decide whether a pod serves.
func conditions(pod *corev1.Pod) []string {
	var all []string
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady || c.Type == corev1.ContainersReady || strings.HasPrefix(string(c.Type), elbv2.ReadinessGatePrefix) {
			all = append(all, string(c.Type)+"="+string(c.Status))
		}
	}
	return all
}

// rivals are the other bindings of a deleted binding's target group: one of them may own it now.
func (c *Controller) rivals(ctx context.Context, o client.Object) []reconcile.Request {
	arn := o.(*elbv2.TargetGroupBinding).Spec.TargetGroupARN
	if arn == "" {
		return nil
	}
	return c.requests(ctx, client.MatchingFields{indexARN: arn})
}

func (c *Controller) ofService(ctx context.Context, o client.Object) []reconcile.Request {
	return c.requests(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexService: o.GetName()})
}

// ofPod are the bindings whose Service selects the pod in any version, those whose gate the pod has, and
// those that have its address registered.
func (c *Controller) ofPod(ctx context.Context, o client.Object) []reconcile.Request {
	pod := o.(*corev1.Pod)
	keys := map[types.NamespacedName]bool{}
	for _, ip := range pod.Status.PodIPs {
		for _, key := range c.memories.bindingsAt(ip.IP) {
			keys[key] = true
		}
	}
	for _, g := range pod.Spec.ReadinessGates {
		if name, ok := strings.CutPrefix(string(g.ConditionType), elbv2.ReadinessGatePrefix); ok {
			keys[types.NamespacedName{Namespace: pod.Namespace, Name: name}] = true
		}
	}
	var list elbv2.TargetGroupBindingList
	if err := c.Client.List(ctx, &list, client.InNamespace(pod.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		c.Logger.Error("cannot list bindings", "namespace", pod.Namespace, "error", err)
	}
	for i := range list.Items {
		b := &list.Items[i]
		key := client.ObjectKeyFromObject(b)
		if keys[key] {
			continue
		}
		var service corev1.Service
		if err := c.Client.Get(ctx, types.NamespacedName{Namespace: b.Namespace, Name: b.Spec.ServiceRef.Name}, &service); err != nil {
			continue
		}
		keys[key] = selects(&service, pod, true)
	}
	var requests []reconcile.Request
	for key, concerned := range keys {
		if concerned {
			requests = append(requests, reconcile.Request{NamespacedName: key})
		}
	}
	return requests
}

// selects says whether a Service selects a pod; in any version: whatever pod-template hash it asks for.
func selects(service *corev1.Service, pod *corev1.Pod, anyVersion bool) bool {
	if len(service.Spec.Selector) == 0 {
		return false
	}
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value && !(anyVersion && key == rollouts.HashLabel) {
			return false
		}
	}
	return true
}

// ofCloud wakes the bindings of what changed in AWS, or for what the firewall has to say.
func (c *Controller) ofCloud(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	cancel := c.Cloud.Subscribe(func(change cloud.Change) {
		var requests []reconcile.Request
		if change.TargetGroupARN != "" {
			requests = c.requests(ctx, client.MatchingFields{indexARN: change.TargetGroupARN})
		} else if change.StackID != "" {
			requests = c.requests(ctx, client.MatchingFields{indexStack: change.StackID})
		}
		for _, request := range requests {
			queue.Add(request)
		}
	})
	context.AfterFunc(ctx, cancel)
	if c.Firewall != nil {
		context.AfterFunc(ctx, c.Firewall.Subscribe(func(key types.NamespacedName) {
			queue.Add(reconcile.Request{NamespacedName: key})
		}))
	}
	return nil
}

func (c *Controller) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	var list elbv2.TargetGroupBindingList
	if err := c.Client.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		c.Logger.Error("cannot list bindings", "error", err)
	}
	var requests []reconcile.Request
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// Networked is what each binding asks for whose traffic must be let in, for the firewall: it takes no rule away
// that one may need of which it has not heard. Bindings that are being deleted count, until their targets have
// left. The reader should be the API server's.
func Networked(ctx context.Context, reader client.Reader) (map[types.NamespacedName]Networking, error) {
	var list elbv2.TargetGroupBindingList
	if err := reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("cannot list bindings: %w", err)
	}
	asked := map[types.NamespacedName]Networking{}
	for i := range list.Items {
		if b := &list.Items[i]; b.Spec.Networking != nil {
			asked[client.ObjectKeyFromObject(b)] = Networking{Rules: b.Spec.Networking.Ingress}
		}
	}
	return asked, nil
}

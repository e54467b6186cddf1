package ingressgroup

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// indexService finds Ingresses by the Services that they refer to.
const indexService = "lockstep.ingress.service"

// trafficPriority is that of changes of action annotations. They overtake everything else, which has
// priority 0, and -100 where a restart or a resync brings it up.
const trafficPriority = 100

// slowestRetry is how far apart failed passes are at most.
const slowestRetry = 30 * time.Second

// queue is the controller's work queue.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Add adds the controller to a manager.
func Add(ctx context.Context, m manager.Manager, o Options) error {
	o = o.withDefaults()
	if o.Cloud == nil || o.Settings.Cluster == "" {
		return fmt.Errorf("cannot set up the controller of Ingresses: its cloud and the cluster's name are required")
	}
	c := &Controller{
		Options: o, client: m.GetClient(), live: m.GetAPIReader(), events: m.GetEventRecorder(o.Name),
		told: map[types.NamespacedName]map[string]bool{}, overlaps: map[types.NamespacedName]map[string]time.Time{},
		sharedRefused: map[types.NamespacedName]time.Time{},
	}
	err := m.GetFieldIndexer().IndexField(ctx, &networkingv1.Ingress{}, indexService, func(o client.Object) []string {
		return ingress.ServiceNames(ingress.Objects{Ingress: o.(*networkingv1.Ingress)})
	})
	if err != nil {
		return fmt.Errorf("cannot index Ingresses by Service: %w", err)
	}
	everything := handler.EnqueueRequestsFromMapFunc(c.all)
	err = builder.ControllerManagedBy(m).Named(o.Name).
		Watches(&networkingv1.Ingress{}, c.ofIngress(), builder.WithPredicates(ingressMatters)).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(c.ofService), builder.WithPredicates(serviceMatters)).
		Watches(&networkingv1.IngressClass{}, everything, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&elbv2.IngressClassParams{}, everything, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&elbv2.TargetGroupBinding{}, handler.EnqueueRequestsFromMapFunc(ofBinding), builder.WithPredicates(bindingMatters)).
		WatchesRawSource(source.Func(c.ofCloud)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.Workers,
			UsePriorityQueue:        new(true),
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, slowestRetry),
		}).
		Complete(c)
	if err != nil {
		return fmt.Errorf("cannot set up the controller of Ingresses: %w", err)
	}
	return nil
}

// ofIngress puts an Ingress whose actions changed in front of everything else.
func (c *Controller) ofIngress() handler.EventHandler {
	plain := handler.WithLowPriorityWhenUnchanged(&handler.EnqueueRequestForObject{})
	return handler.Funcs{
		CreateFunc: plain.Create, DeleteFunc: plain.Delete, GenericFunc: plain.Generic,
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			first, ok := q.(priorityqueue.PriorityQueue[reconcile.Request])
			if !ok || maps.Equal(actions(e.ObjectOld), actions(e.ObjectNew)) {
				plain.Update(ctx, e, q)
				return
			}
			key := client.ObjectKeyFromObject(e.ObjectNew)
			c.Cloud.Prioritize(ingress.StackID(key.Namespace, key.Name))
			first.AddWithOpts(priorityqueue.AddOpts{Priority: new(trafficPriority)}, reconcile.Request{NamespacedName: key})
		},
	}
}

// actions are the annotations that carry weights.
func actions(o client.Object) map[string]string {
	out := map[string]string{}
	for k, v := range o.GetAnnotations() {
		if strings.HasPrefix(k, ingress.Prefix+"actions.") {
			out[k] = v
		}
	}
	return out
}

// ingressMatters leaves out what we write ourselves: status and finalizers.
var ingressMatters = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || !maps.Equal(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations()) ||
		e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero() ||
		e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() // a resync
}}

// serviceMatters lets pass what the translation reads: ports, address families and annotations, but not
// selectors, which flip in a rollout.
var serviceMatters = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Service), e.ObjectNew.(*corev1.Service)
		return !maps.Equal(before.Annotations, after.Annotations) || before.UID != after.UID ||
			fmt.Sprint(before.Spec.Ports, before.Spec.IPFamilies) != fmt.Sprint(after.Spec.Ports, after.Spec.IPFamilies)
	},
}

// bindingMatters lets pass what the plan reads of a binding.
var bindingMatters = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) ||
			e.ObjectOld.GetAnnotations()[AnnotationUnusedSince] != e.ObjectNew.GetAnnotations()[AnnotationUnusedSince]
	},
}

func ofBinding(_ context.Context, o client.Object) []reconcile.Request {
	l := o.GetLabels()
	if l[ingress.LabelStackName] == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: l[ingress.LabelStackNamespace], Name: l[ingress.LabelStackName]}}}
}

func (c *Controller) ofService(ctx context.Context, o client.Object) []reconcile.Request {
	return c.requests(ctx, client.InNamespace(o.GetNamespace()), client.MatchingFields{indexService: o.GetName()})
}

func (c *Controller) all(ctx context.Context, _ client.Object) []reconcile.Request {
	return c.requests(ctx)
}

func (c *Controller) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	var list networkingv1.IngressList
	if err := c.client.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		c.Logger.Error("cannot list Ingresses", "error", err)
	}
	var requests []reconcile.Request
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// ofCloud wakes the Ingress whose stack changed in AWS. What we wrote ourselves wakes it too; the pass that
// follows finds nothing to do and reads nothing.
func (c *Controller) ofCloud(ctx context.Context, q queue) error {
	cancel := c.Cloud.Subscribe(func(change cloud.Change) {
		namespace, name, found := strings.Cut(change.StackID, "/")
		if found {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
		}
	})
	context.AfterFunc(ctx, cancel)
	return nil
}

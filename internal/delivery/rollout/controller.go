// Package rollout runs Rollouts: it observes what Kubernetes holds and AWS shows, asks package canary what
// to do, and carries the answer out. It decides nothing itself and remembers nothing between rounds that
// is not in Kubernetes (one exception: the version of its own last write, to notice a cache that lags).
//
// Start reading at Reconcile, then observe.go and act.go.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
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

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/delivery/traffic"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Options are what the controller needs beside a manager. Only Evidence is required.
type Options struct {
	Evidence evidence.Source
	// Settings, where a zero value means its default (canary.DefaultSettings).
	Settings canary.Settings
	// Now is the clock; time.Now when nil.
	Now    func() time.Time
	Logger *slog.Logger
	// Concurrency is the number of rollouts worked on at the same time; 10 when 0.
	Concurrency int
	// InstanceID takes only Rollouts labelled with it, or those without the label when empty.
	InstanceID string
	// EvidenceTimeout bounds one question to AWS, so that a throttled account holds no worker; 10 s when 0.
	EvidenceTimeout time.Duration
}

// Controller is the reconciler of Rollouts.
type Controller struct {
	Options
	cached client.Client
	live   client.Reader
	events events.EventRecorder

	written written
}

// Indexes of Rollouts by what they name.
const (
	indexService = "lockstep.rollout.service"
	indexIngress = "lockstep.rollout.ingress"
)

// Times of the work queue: the back-off of the original, and the time that a lagging cache is given.
const (
	firstRetry = time.Millisecond
	lastRetry  = 10 * time.Second
	cacheLag   = 20 * time.Millisecond
	soon       = 10 * time.Millisecond
)

// Add makes the controller part of a manager, whose cache must keep the managed fields of Ingresses.
func Add(m manager.Manager, o Options) error {
	c := &Controller{
		Options: o.withDefaults(), cached: m.GetClient(), live: m.GetAPIReader(),
		events: m.GetEventRecorder("rollouts-controller"), written: written{now: time.Now},
	}
	if err := c.index(m.GetFieldIndexer()); err != nil {
		return fmt.Errorf("cannot index Rollouts: %w", err)
	}
	wakes := make(chan event.GenericEvent, 4096)
	cancel := o.Evidence.Subscribe(func(namespace, ingress string) {
		wake := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: ingress}}
		select {
		case wakes <- event.GenericEvent{Object: wake}:
		default: // A rollout that waits for evidence looks by itself every few seconds.
		}
	})
	if err := m.Add(manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		cancel()
		return nil
	})); err != nil {
		return err
	}
	return builder.ControllerManagedBy(m).Named("rollout").
		For(&v1alpha1.Rollout{}, builder.WithPredicates(predicate.NewPredicateFuncs(c.mine))).
		Owns(&appsv1.ReplicaSet{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(c.ofPod), builder.WithPredicates(predicate.NewPredicateFuncs(hasHash))).
		Watches(&corev1.Service{}, c.namedBy(indexService)).
		Watches(&networkingv1.Ingress{}, c.namedBy(indexIngress)).
		WatchesRawSource(source.Channel(wakes, c.namedBy(indexIngress))).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: c.Concurrency,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		}).
		Complete(c)
}

func (o Options) withDefaults() Options {
	d := canary.DefaultSettings()
	if o.Settings.Settle == 0 {
		o.Settings.Settle = d.Settle
	}
	if o.Settings.Poll == 0 {
		o.Settings.Poll = d.Poll
	}
	if o.Settings.Contest == 0 {
		o.Settings.Contest = d.Contest
	}
	if o.Settings.ContestLimit == 0 {
		o.Settings.ContestLimit = d.ContestLimit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Concurrency == 0 {
		o.Concurrency = 10
	}
	if o.EvidenceTimeout == 0 {
		o.EvidenceTimeout = 10 * time.Second
	}
	return o
}

func (c *Controller) index(indexer client.FieldIndexer) error {
	ctx := context.Background()
	return errors.Join(
		indexer.IndexField(ctx, &v1alpha1.Rollout{}, indexService, func(o client.Object) []string {
			if s := o.(*v1alpha1.Rollout).Spec.Strategy.Canary; s != nil {
				return []string{s.CanaryService, s.StableService}
			}
			return nil
		}),
		indexer.IndexField(ctx, &v1alpha1.Rollout{}, indexIngress, func(o client.Object) []string {
			s := o.(*v1alpha1.Rollout).Spec.Strategy.Canary
			if s == nil || s.TrafficRouting == nil || s.TrafficRouting.ALB == nil {
				return nil
			}
			return traffic.Ingresses(s.TrafficRouting.ALB)
		}),
	)
}

// mine: the Rollout belongs to this instance of the controller.
func (c *Controller) mine(o client.Object) bool {
	return o.GetLabels()[v1alpha1.InstanceIDLabel] == c.InstanceID
}

func hasHash(o client.Object) bool { return o.GetLabels()[v1alpha1.HashLabel] != "" }

// namedBy wakes the Rollouts that name the object.
func (c *Controller) namedBy(index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
		var list v1alpha1.RolloutList
		if err := c.cached.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.MatchingFields{index: o.GetName()}); err != nil {
			c.Logger.Error("cannot find the Rollouts of an object", "namespace", o.GetNamespace(), "name", o.GetName(), "error", err)
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			if c.mine(&list.Items[i]) {
				requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
			}
		}
		return requests
	})
}

// ofPod wakes the Rollout that owns the pod's ReplicaSet.
func (c *Controller) ofPod(ctx context.Context, pod client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "ReplicaSet" {
		return nil
	}
	var rs appsv1.ReplicaSet
	if c.cached.Get(ctx, types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}, &rs) != nil {
		return nil
	}
	if owner = metav1.GetControllerOf(&rs); owner == nil || owner.Kind != "Rollout" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: owner.Name}}}
}

// Reconcile looks, decides and acts once.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var rollout v1alpha1.Rollout
	switch err := c.cached.Get(ctx, request.NamespacedName, &rollout); {
	case apierrors.IsNotFound(err):
		c.written.forget(request.NamespacedName)
		forget(request.NamespacedName)
		return reconcile.Result{}, c.release(ctx, request.NamespacedName)
	case err != nil:
		return reconcile.Result{}, err
	}
	began := time.Now()
	result, err := c.reconcile(ctx, request.NamespacedName, &rollout)
	reconcileSeconds.WithLabelValues(request.Namespace, request.Name).Observe(time.Since(began).Seconds())
	switch {
	case apierrors.IsConflict(err) || errors.Is(err, errLag):
		// Somebody wrote at the same time, or the cache is behind our own write; the next look sees it.
		return reconcile.Result{RequeueAfter: cacheLag}, nil
	case err != nil:
		reconcileErrors.WithLabelValues(request.Namespace, request.Name).Inc()
	}
	return result, err
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName, rollout *v1alpha1.Rollout) (reconcile.Result, error) {
	switch {
	case rollout.DeletionTimestamp != nil || !c.mine(rollout):
		return reconcile.Result{}, nil
	case c.written.lag(key, rollout):
		return reconcile.Result{RequeueAfter: cacheLag}, nil
	}
	if err := c.adopt(ctx, rollout); err != nil {
		return reconcile.Result{}, err
	}
	var seen *observed
	decision, err := canary.Round(func(notBefore time.Time) (canary.Snapshot, error) {
		var err error
		if seen, err = c.observe(ctx, key, notBefore); err != nil {
			return canary.Snapshot{}, err
		}
		return seen.snapshot, nil
	})
	if err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if err := c.act(ctx, seen, &decision); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: c.again(decision)}, nil
}

// again is when to look again: at once for an act that waits only for its second look.
func (c *Controller) again(d canary.Decision) time.Duration {
	switch {
	case len(d.Wait.Confirm) > 0:
		return soon
	case d.Wait.Again.IsZero():
		return 0
	}
	return max(soon, d.Wait.Again.Sub(c.Now()))
}

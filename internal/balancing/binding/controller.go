package binding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// Reconcile makes one pass over a binding: observe, plan, act.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	kube.CountPass("targetgroupbinding", request.NamespacedName)
	b := &elbv2.TargetGroupBinding{}
	if err := c.Client.Get(ctx, request.NamespacedName, b); err != nil {
		if apierrors.IsNotFound(err) {
			c.watch(c.memories.of(request.NamespacedName), "", false)
			c.memories.forget(request.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("cannot read TargetGroupBinding %s: %w", request, err)
	}
	r := &round{binding: b, key: request.NamespacedName, memory: c.memories.of(request.NamespacedName), started: c.Now()}
	if b.DeletionTimestamp != nil {
		return c.result(ctx, r, plan.Decision{}, c.cleanUp(ctx, r))
	}
	d, err := c.bind(ctx, r)
	return c.result(ctx, r, d, err)
}

// bind carries out what a binding asks for, as far as that is safe now.
func (c *Controller) bind(ctx context.Context, r *round) (plan.Decision, error) {
	if err := c.servable(ctx, r); err != nil {
		return plan.Decision{}, err
	}
	if controllerutil.AddFinalizer(r.binding, elbv2.FinalizerResources) {
		if err := c.patchFinalizers(ctx, r); err != nil {
			c.event(r, corev1.EventTypeWarning, "FailedAddFinalizer", "Reconcile", err.Error())
			return plan.Decision{}, err
		}
	}
	o, d, err := c.decide(ctx, r)
	if err != nil {
		return d, err
	}
	c.tellMissing(r, o)
	endpoints, err := c.endpoints(ctx, r, o)
	if err != nil {
		return d, errors.Join(err, c.act(ctx, r, d))
	}
	allowed, networking := c.allow(r, endpoints)
	if networking != nil && r.memory.networking != networking.Error() && !errors.Is(networking, cloud.ErrBusy) {
		c.event(r, corev1.EventTypeWarning, "FailedNetworkReconcile", "Reconcile", networking.Error())
		r.memory.networking = networking.Error()
	}
	err = errors.Join(c.act(ctx, r, d), o.unseen)
	if err == nil && allowed {
		r.memory.networking = ""
		err = c.publish(ctx, r, o, d)
	}
	return d, err
}

// decide observes and plans; when something could leave, it does so once more on fresh reads.
func (c *Controller) decide(ctx context.Context, r *round) (observation, plan.Decision, error) {
	o, err := c.observe(ctx, r, r.binding.DeletionTimestamp != nil)
	if err != nil {
		return o, plan.Decision{}, err
	}
	d := plan.Plan(o.Snapshot)
	if d.Wait.Fresh {
		// What is safe already must not wait for the reads: a new pod's registration, a dying one's leaving.
		c.remember(r, o)
		if err := c.act(ctx, r, d); err != nil {
			return o, d, err
		}
		r.started = c.Now()
		if o, err = c.observe(ctx, r, true); err != nil {
			return o, d, err
		}
		d = plan.Plan(o.Snapshot)
	}
	c.remember(r, o)
	return o, d, nil
}

// tellMissing says once that the Service is gone, and its pods are no targets any more.
func (c *Controller) tellMissing(r *round, o observation) {
	missing := o.Removal != ""
	if missing && !r.memory.missing {
		c.event(r, corev1.EventTypeWarning, "BackendNotFound", "Reconcile", o.Removal+": the targets leave; create it, or delete the binding")
	}
	r.memory.missing = missing
}

// servable says why a binding cannot be served, if it cannot.
func (c *Controller) servable(ctx context.Context, r *round) error {
	spec := r.binding.Spec
	switch {
	case spec.TargetGroupARN == "":
		return &problem{"FailedReconcile", "spec.targetGroupARN is empty: set it, or create the binding again with spec.targetGroupName, whose ARN the webhook looks up"}
	case spec.TargetType == nil:
		return &problem{"FailedReconcile", "spec.targetType is empty: set it to ip or instance, or create the binding again, so that the webhook fills it in"}
	case spec.MultiClusterTargetGroup:
		return &problem{"UnsupportedMultiCluster", "spec.multiClusterTargetGroup is true: target groups shared with other clusters are not served; the targets are left as they are"}
	case spec.IamRoleArnToAssume != "":
		return &problem{"UnsupportedRole", "spec.iamRoleArnToAssume is set: target groups of other accounts are not served; the targets are left as they are"}
	}
	owner, err := c.owner(ctx, r.binding)
	if err != nil {
		return err
	}
	if owner != client.ObjectKeyFromObject(r.binding) {
		return &problem{"Conflict", fmt.Sprintf("target group %s is bound by %s already: delete one of the two bindings", spec.TargetGroupARN, owner)}
	}
	return nil
}

// owner is the oldest of the bindings of one target group: two would deregister each other's targets.
func (c *Controller) owner(ctx context.Context, b *elbv2.TargetGroupBinding) (client.ObjectKey, error) {
	var list elbv2.TargetGroupBindingList
	if err := c.Client.List(ctx, &list, client.MatchingFields{indexARN: b.Spec.TargetGroupARN}); err != nil {
		return client.ObjectKey{}, fmt.Errorf("cannot list the bindings of %s: %w", b.Spec.TargetGroupARN, err)
	}
	all := append(list.Items, *b)
	oldest := slices.MinFunc(all, func(a, b elbv2.TargetGroupBinding) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return client.ObjectKeyFromObject(&oldest), nil
}

// endpoints are what the load balancer's traffic must reach.
func (c *Controller) endpoints(ctx context.Context, r *round, o observation) ([]Endpoint, error) {
	switch {
	case c.Firewall == nil || r.binding.Spec.Networking == nil:
		return nil, nil
	case ofInstances(r.binding):
		return c.nodeEndpoints(ctx, r.binding)
	}
	return c.podEndpoints(ctx, o.members)
}

// allow asks the firewall to let the load balancer's traffic reach the endpoints, and says whether it does. The
// firewall tells when that changes; nothing waits for it.
func (c *Controller) allow(r *round, endpoints []Endpoint) (allowed bool, err error) {
	if c.Firewall == nil {
		return true, nil
	}
	if r.binding.Spec.Networking == nil {
		c.Firewall.Forget(r.key)
		return true, nil
	}
	allowed, err = c.Firewall.Allow(r.key, Networking{Rules: r.binding.Spec.Networking.Ingress, Endpoints: endpoints})
	if err != nil {
		err = fmt.Errorf("cannot let traffic reach the targets of %s: %w", r.key, err)
	}
	return allowed, err
}

// podEndpoints are the addresses and named ports of a Service's pods, of whatever version.
func (c *Controller) podEndpoints(ctx context.Context, m members) ([]Endpoint, error) {
	var list corev1.PodList
	err := c.Client.List(ctx, &list, client.InNamespace(m.service.Namespace), client.MatchingLabelsSelector{Selector: m.anyVersion}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of Service %s: %w", m.service.Name, err)
	}
	var endpoints []Endpoint
	for i := range list.Items {
		pod := &list.Items[i]
		ip := address(pod, m.ipv6)
		if ip == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		e := Endpoint{IP: ip, Ports: map[string]int32{}}
		for _, p := range ports(pod) {
			e.Ports[p.Name] = p.ContainerPort
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

// cleanUp takes the binding's targets and rules away, and lets it go.
func (c *Controller) cleanUp(ctx context.Context, r *round) error {
	if !controllerutil.ContainsFinalizer(r.binding, elbv2.FinalizerResources) {
		return nil
	}
	owner, err := c.owner(ctx, r.binding)
	if err != nil {
		return err
	}
	served := r.binding.Spec.TargetType != nil && r.arn() != "" && r.binding.Spec.IamRoleArnToAssume == "" && !r.binding.Spec.MultiClusterTargetGroup
	if owner == r.key && served {
		_, d, err := c.decide(ctx, r)
		if err == nil {
			err = c.act(ctx, r, d)
		}
		if err != nil && !errors.Is(err, cloud.ErrNotFound) {
			return c.failedCleanUp(ctx, r, err)
		}
	}
	if c.Firewall != nil {
		c.Firewall.Forget(r.key)
	}
	controllerutil.RemoveFinalizer(r.binding, elbv2.FinalizerResources)
	if err := c.patchFinalizers(ctx, r); err != nil && !apierrors.IsNotFound(err) {
		c.event(r, corev1.EventTypeWarning, "FailedRemoveFinalizer", "Reconcile", err.Error())
		return err
	}
	return nil
}

// failedCleanUp says in the status why a deleted binding does not go away.
func (c *Controller) failedCleanUp(ctx context.Context, r *round, err error) error {
	if errors.Is(err, cloud.ErrBusy) {
		return err // nothing failed: the call's turn comes
	}
	before := r.binding.DeepCopy()
	if meta.SetStatusCondition(&r.binding.Status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionFalse, Reason: "FailedCleanup", Message: err.Error(), ObservedGeneration: r.binding.Generation,
	}) {
		if patchErr := c.Client.Status().Patch(ctx, r.binding, client.MergeFrom(before)); patchErr != nil {
			err = errors.Join(err, fmt.Errorf("cannot write the status of %s: %w", r.key, patchErr))
		}
	}
	return err
}

func (c *Controller) patchFinalizers(ctx context.Context, r *round) error {
	patch := client.MergeFromWithOptions(func() client.Object {
		before := r.binding.DeepCopy()
		if !controllerutil.RemoveFinalizer(before, elbv2.FinalizerResources) {
			controllerutil.AddFinalizer(before, elbv2.FinalizerResources)
		}
		return before
	}(), client.MergeFromWithOptimisticLock{})
	if err := c.Client.Patch(ctx, r.binding, patch); err != nil {
		return fmt.Errorf("cannot write the finalizers of %s: %w", r.key, err)
	}
	return nil
}

// publish writes what has been carried out: the observed generation, and, when nothing is under way any
// more, the checkpoint.
func (c *Controller) publish(ctx context.Context, r *round, o observation, d plan.Decision) error {
	if !d.Settling {
		if err := c.checkpoint(ctx, r, o); err != nil {
			return err
		}
	}
	if seen := r.binding.Status.ObservedGeneration; seen == nil || *seen != r.binding.Generation {
		before := r.binding.DeepCopy()
		r.binding.Status.ObservedGeneration = new(r.binding.Generation)
		if err := c.Client.Status().Patch(ctx, r.binding, client.MergeFrom(before)); err != nil {
			c.event(r, corev1.EventTypeWarning, "FailedUpdateStatus", "Reconcile", err.Error())
			return fmt.Errorf("cannot write the status of %s: %w", r.key, err)
		}
		c.event(r, corev1.EventTypeNormal, "SuccessfullyReconciled", "Reconcile", "Successfully reconciled")
	}
	return nil
}

// result tells the user what came of a pass, and when to come again.
func (c *Controller) result(ctx context.Context, r *round, d plan.Decision, err error) (reconcile.Result, error) {
	if p, ok := asProblem(err); ok {
		if r.memory.problem != p.message {
			c.event(r, corev1.EventTypeWarning, p.reason, "Reconcile", p.message)
		}
		r.memory.problem = p.message
		c.watch(r.memory, "", false)
		return reconcile.Result{}, nil
	}
	if wait, ok := cloud.RetryAfter(err); ok {
		if errors.Is(err, cloud.ErrThrottled) && r.memory.problem != err.Error() {
			c.event(r, corev1.EventTypeWarning, "FailedReconcile", "Reconcile", err.Error())
		} else if r.memory.problem == "" {
			c.Logger.Info("a binding waits for AWS's call limits", "binding", r.key.String(), "error", err)
		}
		r.memory.problem = err.Error()
		return reconcile.Result{RequeueAfter: max(wait, minimumRetry)}, nil
	}
	if err != nil {
		if r.memory.problem != err.Error() && ctx.Err() == nil {
			c.event(r, corev1.EventTypeWarning, "FailedReconcile", "Reconcile", err.Error())
		}
		r.memory.problem = err.Error()
		return reconcile.Result{}, err
	}
	r.memory.problem = ""
	if r.binding.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	c.watch(r.memory, r.arn(), d.Settling)
	held := d.Wait.Reason != "" && !d.Wait.Fresh
	if held && !r.memory.waiting {
		c.event(r, corev1.EventTypeNormal, "TargetsHeld", "Wait", d.Wait.Reason)
	}
	r.memory.waiting = held
	if !d.Settling {
		return reconcile.Result{}, nil
	}
	again := c.Settings.Recheck
	if at := d.Wait.Again; !at.IsZero() {
		again = min(again, max(at.Sub(c.Now()), minimumRetry))
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// minimumRetry keeps a clock that has just run out from becoming a busy loop.
const minimumRetry = 20 * time.Millisecond

// watch says whether the health of a target group should be polled for a binding.
func (c *Controller) watch(m *memory, arn string, interest bool) {
	if !interest {
		arn = ""
	}
	if m.watched == arn {
		return
	}
	if m.watched != "" {
		c.Cloud.WatchTargets(m.watched, false)
	}
	if m.watched = arn; arn != "" {
		c.Cloud.WatchTargets(arn, true)
	}
}

package ingressgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// act carries the plan out: the finalizer before the first resource, the operations, the status, and the
// finalizer again when nothing is left.
func (c *Controller) act(ctx context.Context, r *round) error {
	if r.claim == ingress.Member {
		if err := c.finalizer(ctx, r, controllerutil.AddFinalizer); err != nil {
			return c.failed(r, "FailedAddFinalizer", err)
		}
	}
	if len(r.plan.Operations) > 0 {
		r.result = apply.Round{Cloud: c.Cloud, Objects: bindings{c}, BackendGroupID: r.state.BackendGroupID, Now: c.Now()}.Do(ctx, r.plan.Operations)
		c.learn(r)
	}
	if err := c.publish(ctx, r); err != nil {
		return errors.Join(r.result.Err, c.failed(r, "FailedUpdateStatus", err))
	}
	if r.result.Err != nil {
		return r.result.Err
	}
	if r.claim == ingress.Leaving && r.plan.Gone {
		if err := c.finalizer(ctx, r, controllerutil.RemoveFinalizer); err != nil && !apierrors.IsNotFound(err) {
			return c.failed(r, "FailedRemoveFinalizer", err)
		}
	}
	if len(r.result.Outcomes) > 0 && len(r.plan.Waits)+len(r.plan.Blocked) == 0 && r.result.Again.IsZero() && r.claim == ingress.Member {
		r.events = append(r.events, ingress.Event{Reason: "SuccessfullyReconciled", Message: fmt.Sprintf("carried out %d operations, the last: %s", len(r.result.Outcomes), r.result.Outcomes[len(r.result.Outcomes)-1].Operation)})
	}
	return nil
}

// learn keeps the id of a shared security group that was made, and forgets it when something is gone.
func (c *Controller) learn(r *round) {
	if r.result.BackendGroupID != "" {
		c.setBackendGroup(r.result.BackendGroupID)
	}
	for _, o := range r.result.Outcomes {
		deletion, ok := o.Operation.(plan.DeleteSecurityGroup)
		shared := ok && deletion.Shared
		if errors.Is(o.Err, cloud.ErrNotFound) || shared {
			c.setBackendGroup("")
		}
		if shared && errors.Is(o.Err, cloud.ErrConflict) {
			c.refused(r.key)
			r.events = append(r.events, ingress.Event{Reason: "Waiting", Message: fmt.Sprintf(
				"security group %s, which the cluster's load balancers share, is still in use: its rules in other groups are being revoked; after %s it is left there", deletion.Group.ARN, c.SharedPatience)})
		}
	}
}

// failed tells of a write to the API server that did not succeed; a conflict only means to look again.
func (c *Controller) failed(r *round, reason string, err error) error {
	if !apierrors.IsConflict(err) {
		r.events = append(r.events, ingress.Event{Warning: true, Reason: reason, Message: err.Error()})
	}
	return err
}

// finalizer adds or removes the finalizer, unless somebody else has changed the Ingress meanwhile.
func (c *Controller) finalizer(ctx context.Context, r *round, change func(client.Object, string) bool) error {
	before := r.ingress.DeepCopy()
	if !change(r.ingress, ingress.Finalizer) {
		return nil
	}
	patched := r.ingress.DeepCopy()
	err := c.client.Patch(ctx, patched, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("cannot write the finalizers of Ingress %s: %w", r.key, err)
	}
	r.ingress.ResourceVersion = patched.ResourceVersion
	return nil
}

// publish writes the load balancer's name into the status, when AWS has it.
func (c *Controller) publish(ctx context.Context, r *round) error {
	var wanted []networkingv1.IngressLoadBalancerIngress
	switch {
	case r.claim == ingress.Leaving && !r.plan.Gone, !r.observed.Complete:
		return nil
	case r.claim == ingress.Member && len(r.observed.LoadBalancers) > 0:
		lb := r.observed.LoadBalancers[0]
		entry := networkingv1.IngressLoadBalancerIngress{Hostname: strings.ToLower(lb.DNSName)}
		for _, l := range lb.Listeners {
			entry.Ports = append(entry.Ports, networkingv1.IngressPortStatus{Port: l.Port, Protocol: corev1.ProtocolTCP})
		}
		slices.SortFunc(entry.Ports, func(a, b networkingv1.IngressPortStatus) int { return cmp.Compare(a.Port, b.Port) })
		wanted = append(wanted, entry)
	case r.claim == ingress.Member:
		return nil // not made yet
	}
	if equality.Semantic.DeepEqual(r.ingress.Status.LoadBalancer.Ingress, wanted) {
		return nil
	}
	before := r.ingress.DeepCopy()
	r.ingress.Status.LoadBalancer.Ingress = wanted
	if err := c.client.Status().Patch(ctx, r.ingress.DeepCopy(), client.MergeFrom(before)); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot write the status of Ingress %s: %w", r.key, err)
	}
	return nil
}

// bindings writes TargetGroupBinding objects (apply.Objects).
type bindings struct{ c *Controller }

// CreateBinding makes the object. One of the same name for the same target group is what an earlier round
// made and the cache does not show yet.
func (b bindings) CreateBinding(ctx context.Context, targetGroupARN string, wanted model.Binding) error {
	object := &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: wanted.Namespace, Name: wanted.Name, Labels: wanted.Labels}}
	object.Spec = elbv2.TargetGroupBindingSpec{
		TargetGroupARN: targetGroupARN, VpcID: b.c.Cloud.VPC().ID,
		TargetType: new(elbv2.TargetType(wanted.TargetType)), TargetGroupProtocol: new(elbv2.Protocol(wanted.Protocol)),
		IPAddressType: new(elbv2.TargetGroupIPAddressType(wanted.IPAddressType)),
	}
	setSpec(object, wanted)
	err := b.c.client.Create(ctx, object)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have := &elbv2.TargetGroupBinding{}
	if getErr := b.c.live.Get(ctx, client.ObjectKeyFromObject(object), have); getErr != nil || have.Spec.TargetGroupARN != targetGroupARN {
		return errors.Join(err, getErr)
	}
	return nil
}

// setSpec sets what may change in a binding.
func setSpec(object *elbv2.TargetGroupBinding, wanted model.Binding) {
	object.Spec.ServiceRef = elbv2.ServiceReference{Name: wanted.Service, Port: intstr.Parse(wanted.ServicePort)}
	object.Spec.Networking = nil
	if len(wanted.Ingress) == 0 {
		return
	}
	networking := &elbv2.TargetGroupBindingNetworking{}
	for _, in := range wanted.Ingress {
		rule := elbv2.NetworkingIngressRule{Ports: []elbv2.NetworkingPort{{Protocol: new(elbv2.NetworkingProtocolTCP), Port: new(intstr.Parse(in.Port))}}}
		rule.From = []elbv2.NetworkingPeer{{SecurityGroup: &elbv2.SecurityGroup{GroupID: in.Source.GroupID}}}
		networking.Ingress = append(networking.Ingress, rule)
	}
	object.Spec.Networking = networking
}

// UpdateBinding changes the object; annotations that others put there stay.
func (b bindings) UpdateBinding(ctx context.Context, _ string, wanted model.Binding) error {
	return b.change(ctx, wanted.Namespace, wanted.Name, func(object *elbv2.TargetGroupBinding) {
		if object.Labels == nil {
			object.Labels = map[string]string{}
		}
		for k, v := range wanted.Labels {
			object.Labels[k] = v
		}
		setSpec(object, wanted)
	})
}

// MarkBinding notes since when its group is unused, or takes the note away.
func (b bindings) MarkBinding(ctx context.Context, namespace, name string, unusedSince time.Time) error {
	return b.change(ctx, namespace, name, func(object *elbv2.TargetGroupBinding) {
		delete(object.Annotations, AnnotationUnusedSince)
		if unusedSince.IsZero() {
			return
		}
		if object.Annotations == nil {
			object.Annotations = map[string]string{}
		}
		object.Annotations[AnnotationUnusedSince] = unusedSince.UTC().Format(time.RFC3339)
	})
}

// DeleteBinding deletes the object, and so its targets, whose draining is the binding controller's work.
func (b bindings) DeleteBinding(ctx context.Context, namespace, name string) error {
	object := &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return client.IgnoreNotFound(b.c.client.Delete(ctx, object))
}

func (b bindings) change(ctx context.Context, namespace, name string, change func(*elbv2.TargetGroupBinding)) error {
	object := &elbv2.TargetGroupBinding{}
	if err := b.c.client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object); err != nil {
		return fmt.Errorf("cannot read TargetGroupBinding %s/%s: %w", namespace, name, err)
	}
	object = object.DeepCopy()
	before := object.DeepCopy()
	if change(object); equality.Semantic.DeepEqual(before, object) {
		return nil
	}
	if err := b.c.client.Patch(ctx, object, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot write TargetGroupBinding %s/%s: %w", namespace, name, err)
	}
	return nil
}

package ingressgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// AnnotationUnusedSince notes on a TargetGroupBinding since when no rule names its target group (RFC 3339),
// so that the settle time before its targets leave is not started anew by a restart.
const AnnotationUnusedSince = "lockstep-delivery.io/unused-since"

// finalizerService is on Services that have a Network Load Balancer.
const finalizerService = "service.k8s.aws/resources"

// kubernetesObjects gathers from the cache what decides over an Ingress.
func (c *Controller) kubernetesObjects(ctx context.Context, object *networkingv1.Ingress) (ingress.Objects, error) {
	o := ingress.Objects{Ingress: object, Params: map[string]*elbv2.IngressClassParams{}, Services: map[string]*corev1.Service{}}
	var classes networkingv1.IngressClassList
	if err := c.client.List(ctx, &classes); err != nil {
		return o, fmt.Errorf("cannot list IngressClasses: %w", err)
	}
	o.Classes = classes.Items
	var params elbv2.IngressClassParamsList
	if err := c.client.List(ctx, &params); err != nil {
		return o, fmt.Errorf("cannot list IngressClassParams: %w", err)
	}
	for i := range params.Items {
		p := &params.Items[i]
		o.Params[p.Name] = p
		if p.Spec.NamespaceSelector != nil && o.Namespace == nil {
			o.Namespace = &corev1.Namespace{}
			if err := c.client.Get(ctx, types.NamespacedName{Name: object.Namespace}, o.Namespace); err != nil {
				return o, fmt.Errorf("cannot read namespace %s: %w", object.Namespace, err)
			}
		}
	}
	for _, name := range ingress.ServiceNames(o) {
		service := &corev1.Service{}
		err := c.client.Get(ctx, types.NamespacedName{Namespace: object.Namespace, Name: name}, service)
		switch {
		case err == nil:
			o.Services[name] = service
		case !apierrors.IsNotFound(err):
			return o, fmt.Errorf("cannot read Service %s/%s: %w", object.Namespace, name, err)
		}
	}
	return o, nil
}

// observe gathers what AWS and Kubernetes have for the stack. An error leaves an observation that is not
// complete, with which weights can still be moved.
func (c *Controller) observe(ctx context.Context, r *round) error {
	r.state = plan.State{Now: c.Now(), Cluster: c.Settings.Cluster, Settle: c.Settle, FirewallSettle: c.FirewallSettle, HealthAge: c.HealthAge, ExternalTags: c.Settings.ExternalTags}
	var bindings elbv2.TargetGroupBindingList
	err := c.client.List(ctx, &bindings, client.InNamespace(r.key.Namespace), client.MatchingLabels{
		ingress.LabelStackNamespace: r.key.Namespace, ingress.LabelStackName: r.key.Name,
	})
	if err != nil {
		r.observed = model.Observed{Missing: "the bindings"}
		return fmt.Errorf("cannot list the TargetGroupBindings of Ingress %s: %w", r.key, err)
	}
	for i := range bindings.Items {
		r.state.Bindings = append(r.state.Bindings, observedBinding(&bindings.Items[i]))
	}
	r.observed, err = c.Cloud.Stack(ctx, ingress.StackID(r.key.Namespace, r.key.Name))
	return err
}

func observedBinding(b *elbv2.TargetGroupBinding) plan.ObservedBinding {
	o := plan.ObservedBinding{
		Binding: model.Binding{
			Namespace: b.Namespace, Name: b.Name, Service: b.Spec.ServiceRef.Name, ServicePort: b.Spec.ServiceRef.Port.String(), Labels: b.Labels,
		},
		TargetGroupARN: b.Spec.TargetGroupARN,
		Deleting:       b.DeletionTimestamp != nil,
		Pending:        b.Status.ObservedGeneration == nil || *b.Status.ObservedGeneration != b.Generation,
	}
	if since, err := time.Parse(time.RFC3339, b.Annotations[AnnotationUnusedSince]); err == nil {
		o.UnusedSince = since
	}
	if b.Spec.Networking == nil {
		return o
	}
	for _, rule := range b.Spec.Networking.Ingress {
		for _, from := range rule.From {
			for _, port := range rule.Ports {
				in := model.BindingIngress{}
				if from.SecurityGroup != nil {
					in.Source.GroupID = from.SecurityGroup.GroupID
				}
				if port.Port != nil {
					in.Port = port.Port.String()
				}
				o.Ingress = append(o.Ingress, in)
			}
		}
	}
	return o
}

// resolve asks AWS for what the translation needs to know. For most Ingresses that have a load balancer
// that is nothing.
func (c *Controller) resolve(ctx context.Context, r *round) (ingress.Resolved, error) {
	resolved := ingress.Resolved{SecurityGroups: map[string]string{}, TargetGroups: map[string]string{}}
	if len(r.observed.LoadBalancers) > 0 {
		resolved.Existing = &r.observed.LoadBalancers[0]
	}
	if r.claim == ingress.Leaving {
		return resolved, nil
	}
	needed := ingress.NeededLookups(r.objects, resolved.Existing)
	if needed.Subnets {
		subnets, err := c.Cloud.Subnets(ctx)
		if err != nil {
			return resolved, fmt.Errorf("cannot choose subnets for Ingress %s: %w", r.key, err)
		}
		for _, s := range subnets {
			resolved.Subnets = append(resolved.Subnets, ingress.Subnet{ID: s.ID, Zone: s.Zone, FreeAddresses: s.FreeAddresses, Tags: s.Tags, Public: s.Public})
		}
	}
	if len(needed.SecurityGroupNames) > 0 {
		groups, err := c.Cloud.SecurityGroupsByName(ctx, needed.SecurityGroupNames)
		if err != nil {
			return resolved, fmt.Errorf("cannot look up security groups %s: %w", strings.Join(needed.SecurityGroupNames, ", "), err)
		}
		for _, g := range slices.Backward(groups) { // of several with one name, the first id
			resolved.SecurityGroups[g.Tags["Name"]] = g.GroupID
		}
	}
	for _, name := range needed.TargetGroupNames {
		g, err := c.Cloud.TargetGroupByName(ctx, name)
		if err != nil && !errors.Is(err, cloud.ErrNotFound) {
			return resolved, fmt.Errorf("cannot look up target group %s: %w", name, err)
		}
		resolved.TargetGroups[name] = g.ARN
	}
	return resolved, nil
}

// shared finds the security group that the cluster's load balancers share, once in a process, and whether
// somebody else needs it.
func (c *Controller) shared(ctx context.Context, r *round) error {
	if c.Settings.BackendSecurityGroup != "" {
		return nil // it is the user's: never looked for, never deleted
	}
	if r.claim == ingress.Leaving {
		alone, err := c.alone(ctx, r)
		if err != nil || !alone || c.gaveUp(r.key) {
			return err
		}
		r.state.Alone = true
	} else if r.stack.BackendGroup == nil {
		return nil
	}
	if r.state.BackendGroupID = c.backendGroup(); r.state.BackendGroupID != "" {
		return nil
	}
	groups, err := c.Cloud.SecurityGroupsByTag(ctx, map[string]string{model.TagCluster: c.Settings.Cluster, model.TagBackendResource: model.BackendSecurityGroup})
	if err != nil {
		return fmt.Errorf("cannot look up the shared backend security group: %w", err)
	}
	if len(groups) > 0 {
		r.state.BackendGroupID = groups[0].GroupID
		c.setBackendGroup(groups[0].GroupID)
	}
	return nil
}

// alone reports that no other object of the cluster has, or is about to have, a load balancer.
func (c *Controller) alone(ctx context.Context, r *round) (bool, error) {
	var ingresses networkingv1.IngressList
	if err := c.client.List(ctx, &ingresses, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("cannot list Ingresses: %w", err)
	}
	for i := range ingresses.Items {
		other := &ingresses.Items[i]
		if client.ObjectKeyFromObject(other) != r.key && other.DeletionTimestamp == nil && slices.ContainsFunc(other.Finalizers, func(f string) bool {
			return strings.HasPrefix(f, "ingress.k8s.aws/") || strings.HasPrefix(f, "group.ingress.k8s.aws/")
		}) {
			return false, nil
		}
	}
	var services corev1.ServiceList
	if err := c.client.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("cannot list Services: %w", err)
	}
	return !slices.ContainsFunc(services.Items, func(s corev1.Service) bool { return slices.Contains(s.Finalizers, finalizerService) }), nil
}

// refused notes that AWS did not let an Ingress delete the shared security group, since it is in use.
func (c *Controller) refused(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.sharedRefused[key]; !known {
		c.sharedRefused[key] = c.Now()
	}
}

func (c *Controller) forgetRefusal(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sharedRefused, key)
}

// gaveUp says that an Ingress has waited long enough for the shared security group.
func (c *Controller) gaveUp(key types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, known := c.sharedRefused[key]
	return known && c.Now().Sub(since) >= c.SharedPatience
}

func (c *Controller) backendGroup() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backendGroupID
}

func (c *Controller) setBackendGroup(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backendGroupID = id
}

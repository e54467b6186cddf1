package rollout

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/traffic"
)

// release gives the Services and Ingresses of a deleted Rollout back to their users: the hash leaves the
// selectors, which would otherwise select nothing for ever, and the actions forward to the stable Service. That
// the Rollout is gone must be the API server's own word: a cache or an error that says so would take a live
// selector away.
func (c *Controller) release(ctx context.Context, key types.NamespacedName) error {
	if err := c.live.Get(ctx, key, &v1alpha1.Rollout{}); !apierrors.IsNotFound(err) {
		return err
	}
	services, ingresses, err := c.marked(ctx, key)
	if err != nil {
		return err
	}
	for _, ingress := range ingresses {
		c.Logger.Info("release Ingress", "ingress", key.Namespace+"/"+ingress.Name, "rollout", key.String(), "reason", "the Rollout is deleted")
		if err := c.releaseIngress(ctx, ingress, key.Name); err != nil {
			return err
		}
	}
	for _, service := range services {
		c.Logger.Info("release Service", "service", key.Namespace+"/"+service.Name, "rollout", key.String(), "reason", "the Rollout is deleted")
		if err := c.releaseService(ctx, service); err != nil {
			return err
		}
	}
	return nil
}

// marked are the Services and Ingresses of a namespace that name the Rollout as their writer.
func (c *Controller) marked(ctx context.Context, key types.NamespacedName) (services []*corev1.Service, ingresses []*networkingv1.Ingress, err error) {
	var allServices corev1.ServiceList
	if err := c.cached.List(ctx, &allServices, client.InNamespace(key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("cannot list the Services in %s: %w", key.Namespace, err)
	}
	for i := range allServices.Items {
		if s := &allServices.Items[i]; s.Annotations[v1alpha1.ManagedByAnnotation] == key.Name {
			services = append(services, s.DeepCopy())
		}
	}
	var allIngresses networkingv1.IngressList
	if err := c.cached.List(ctx, &allIngresses, client.InNamespace(key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("cannot list the Ingresses in %s: %w", key.Namespace, err)
	}
	for i := range allIngresses.Items {
		if in := &allIngresses.Items[i]; traffic.Manages(in, key.Name) {
			ingresses = append(ingresses, in.DeepCopy())
		}
	}
	return services, ingresses, nil
}

func (c *Controller) releaseService(ctx context.Context, service *corev1.Service) error {
	return client.IgnoreNotFound(c.patch(ctx, service, fields{
		"metadata": fields{"annotations": fields{v1alpha1.ManagedByAnnotation: nil}},
		"spec":     fields{"selector": fields{v1alpha1.HashLabel: nil}},
	}))
}

func (c *Controller) releaseIngress(ctx context.Context, ingress *networkingv1.Ingress, rollout string) error {
	annotations, err := traffic.Released(ingress, rollout)
	if err != nil {
		return err
	}
	return client.IgnoreNotFound(c.patch(ctx, ingress, fields{"metadata": fields{"annotations": annotations}}))
}

package rollout

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// release gives the Services of a deleted Rollout back to their users: the hash leaves the selector, which
// would otherwise select nothing for ever. That the Rollout is gone must be the API server's own word: a
// cache or an error that says so would take a live selector away.
func (c *Controller) release(ctx context.Context, key types.NamespacedName) error {
	if err := c.live.Get(ctx, key, &v1alpha1.Rollout{}); !apierrors.IsNotFound(err) {
		return err
	}
	var services corev1.ServiceList
	if err := c.cached.List(ctx, &services, client.InNamespace(key.Namespace)); err != nil {
		return fmt.Errorf("cannot list the Services in %s: %w", key.Namespace, err)
	}
	for i := range services.Items {
		service := &services.Items[i]
		if service.Annotations[v1alpha1.ManagedByAnnotation] != key.Name {
			continue
		}
		c.Logger.Info("release Service", "service", key.Namespace+"/"+service.Name, "rollout", key.String(), "reason", "the Rollout is deleted")
		err := c.patch(ctx, service, fields{
			"metadata": fields{"annotations": fields{v1alpha1.ManagedByAnnotation: nil}},
			"spec":     fields{"selector": fields{v1alpha1.HashLabel: nil}},
		})
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

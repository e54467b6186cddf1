package binding

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
)

// checkpoint writes the digest by which an earlier controller, should it come back, knows that there is
// nothing to do. Lockstep itself does not read it: the mirror tells more, at no cost.
func (c *Controller) checkpoint(ctx context.Context, r *round, o observation) error {
	identifiers, err := c.identifiers(ctx, r, o)
	if err != nil {
		return err
	}
	value, err := checkpoint(identifiers, r.binding.Spec)
	if err != nil || r.binding.Annotations[elbv2.AnnotationCheckpoint] == value {
		return err
	}
	before := r.binding.DeepCopy()
	if r.binding.Annotations == nil {
		r.binding.Annotations = map[string]string{}
	}
	r.binding.Annotations[elbv2.AnnotationCheckpoint] = value
	r.binding.Annotations[elbv2.AnnotationCheckpointTimestamp] = strconv.FormatInt(c.Now().Unix(), 10)
	if err := c.Client.Patch(ctx, r.binding, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cannot write the checkpoint of %s: %w", r.key, err)
	}
	return nil
}

// identifiers name what is registered: "<ip>:<port>:<pod creation in ms>", or the same with instances.
func (c *Controller) identifiers(ctx context.Context, r *round, o observation) ([]string, error) {
	registered := map[string]bool{}
	for _, t := range o.Targets {
		if t.Live() {
			registered[plan.Address(t.ID, t.Port)] = true
		}
	}
	var identifiers []string
	add := func(id string, port int32, created metav1.Time) {
		if registered[plan.Address(id, port)] {
			identifiers = append(identifiers, fmt.Sprintf("%s:%d:%d", id, port, created.UnixMilli()))
		}
	}
	if ofInstances(r.binding) {
		var nodes corev1.NodeList
		if err := c.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("cannot list nodes: %w", err)
		}
		for i := range nodes.Items {
			add(instanceOf(&nodes.Items[i]), o.members.port.NodePort, nodes.Items[i].CreationTimestamp)
		}
		return identifiers, nil
	}
	var pods corev1.PodList
	err := c.Client.List(ctx, &pods, client.InNamespace(r.key.Namespace), client.MatchingLabelsSelector{Selector: o.members.exact}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of Service %s: %w", o.service.Name, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		add(address(pod, o.members.ipv6), targetPort(pod, o.members.port), pod.CreationTimestamp)
	}
	return identifiers, nil
}

// checkpoint is the digest of the endpoints' identifiers and of the spec.
func checkpoint(identifiers []string, spec elbv2.TargetGroupBindingSpec) (string, error) {
	slices.Sort(identifiers)
	content, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("cannot encode the spec: %w", err)
	}
	endpoints, specification := sha256.Sum256([]byte(strings.Join(identifiers, ","))), sha256.Sum256(content)
	return base64.RawURLEncoding.EncodeToString(endpoints[:]) + "/" + base64.URLEncoding.EncodeToString(specification[:]), nil
}

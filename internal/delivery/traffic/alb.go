// Package traffic says what a split of traffic means for a router. For an ALB it is the actions annotation
// of an Ingress, which the load balancer half (or another controller) reads, with a bookkeeping
// annotation that lists who writes which action. Both are formats that existing tools read and write.
//
// Start reading at ALB; Write is the one effect, everything else is pure.
package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applynetworkingv1 "k8s.io/client-go/applyconfigurations/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// defaultPrefix of the annotations that an ALB's controller reads.
const defaultPrefix = "alb.ingress.kubernetes.io"

// ALB is the router of one rollout.
type ALB struct {
	Rollout string
	// Action is the root Service: the name that the Ingress's rule has as its backend.
	Action string
	// Key is the annotation that holds the action.
	Key string
}

// NewALB reads the router's settings from a strategy.
func NewALB(rollout string, canary *v1alpha1.CanaryStrategy) ALB {
	alb := canary.TrafficRouting.ALB
	r := ALB{Rollout: rollout, Action: alb.RootService}
	if r.Action == "" {
		r.Action = canary.StableService
	}
	prefix := alb.AnnotationPrefix
	if prefix == "" {
		prefix = defaultPrefix
	}
	r.Key = prefix + "/actions." + r.Action
	return r
}

// Ingresses are the names of the Ingresses that carry the split.
func Ingresses(alb *v1alpha1.ALBTrafficRouting) []string {
	if alb.Ingress != "" {
		return []string{alb.Ingress}
	}
	return alb.Ingresses
}

// FieldManager owns the annotations. Each rollout has its own, since an applied object is the whole of
// what its manager wants, and two rollouts may share an Ingress.
func (r ALB) FieldManager() string {
	const longest = 128 // API server, field manager names
	name := "lockstep-delivery." + r.Rollout
	if len(name) > longest {
		hash := fnv.New32a()
		hash.Write([]byte(name))
		name = fmt.Sprintf("%s.%08x", name[:longest-9], hash.Sum32())
	}
	return name
}

// HasRule reports whether some rule of the Ingress forwards to the action.
func (r ALB) HasRule(ingress *networkingv1.Ingress) bool {
	is := func(b *networkingv1.IngressBackend) bool {
		return b != nil && b.Service != nil && b.Service.Name == r.Action
	}
	for _, rule := range ingress.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		if slices.ContainsFunc(rule.HTTP.Paths, func(p networkingv1.HTTPIngressPath) bool { return is(&p.Backend) }) {
			return true
		}
	}
	return is(ingress.Spec.DefaultBackend)
}

// Recorded reports whether the bookkeeping annotation lists the rollout's action. The error says what is
// wrong with the annotation, and what to do.
func (r ALB) Recorded(ingress *networkingv1.Ingress) (bool, error) {
	managed, err := bookkeeping(ingress)
	return slices.Contains(managed[r.Rollout], r.Key), err
}

// record is the bookkeeping annotation with the rollout's action in it; entries of others are kept.
func (r ALB) record(ingress *networkingv1.Ingress) (string, error) {
	managed, err := bookkeeping(ingress)
	if err != nil {
		return "", err
	}
	if !slices.Contains(managed[r.Rollout], r.Key) {
		managed[r.Rollout] = append(managed[r.Rollout], r.Key)
	}
	data, err := json.Marshal(managed)
	return string(data), err
}

func bookkeeping(ingress *networkingv1.Ingress) (map[string][]string, error) {
	managed := map[string][]string{}
	text := ingress.Annotations[v1alpha1.ManagedALBAnnotation]
	if text == "" {
		return managed, nil
	}
	if err := json.Unmarshal([]byte(text), &managed); err != nil {
		return nil, fmt.Errorf("metadata.annotations[%s] of Ingress %s: %q is not a map of rollouts to annotations; correct or remove it: %w", v1alpha1.ManagedALBAnnotation, ingress.Name, text, err)
	}
	if managed == nil { // the annotation is "null"
		managed = map[string][]string{}
	}
	return managed, nil
}

// Writer tells from the managed fields who wrote the action: ours when our manager owns its present value,
// and otherwise the newest other manager of the annotation, or of the object if the annotation is gone.
func (r ALB) Writer(ingress *networkingv1.Ingress) (ours bool, manager string, at time.Time) {
	_, present := ingress.Annotations[r.Key]
	for _, entry := range ingress.ManagedFields {
		if entry.Subresource != "" {
			continue
		}
		owns := ownsAnnotation(entry, r.Key)
		if entry.Manager == r.FieldManager() {
			ours = ours || owns
			continue
		}
		if (owns || !present) && (entry.Time != nil && entry.Time.After(at) || manager == "") {
			manager = entry.Manager
			if entry.Time != nil {
				at = entry.Time.Time
			}
		}
	}
	return ours, manager, at
}

// ChangedAt is when the action was last written by anybody who owns its present value, in whole seconds; zero
// when the managed fields do not tell.
func (r ALB) ChangedAt(ingress *networkingv1.Ingress) time.Time {
	var at time.Time
	for _, entry := range ingress.ManagedFields {
		if entry.Subresource == "" && entry.Time != nil && entry.Time.After(at) && ownsAnnotation(entry, r.Key) {
			at = entry.Time.Time
		}
	}
	return at
}

func ownsAnnotation(entry metav1.ManagedFieldsEntry, key string) bool {
	if entry.FieldsV1 == nil {
		return false
	}
	var fields struct {
		Metadata struct {
			Annotations map[string]json.RawMessage `json:"f:annotations"`
		} `json:"f:metadata"`
	}
	if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
		return false
	}
	_, owns := fields.Metadata.Annotations["f:"+key]
	return owns
}

// Write puts the split into the Ingress by server-side apply. The Ingress must not have changed since it
// was read: else the call ends with a conflict, and the caller looks again. Actions of a former root Service
// are let go before: an apply that does not name them any more would remove them under the rules that still do.
func (r ALB) Write(ctx context.Context, c client.Client, ingress *networkingv1.Ingress, s split.Split) error {
	action, err := split.Encode(s)
	if err != nil {
		return fmt.Errorf("cannot write the split to Ingress %s: %w", ingress.Name, err)
	}
	if err := r.retire(ctx, c, ingress); err != nil {
		return err
	}
	record, err := r.record(ingress)
	if err != nil {
		return err
	}
	apply := applynetworkingv1.Ingress(ingress.Name, ingress.Namespace).WithResourceVersion(ingress.ResourceVersion).
		WithAnnotations(map[string]string{r.Key: action, v1alpha1.ManagedALBAnnotation: record})
	if err := c.Apply(ctx, apply, client.FieldOwner(r.FieldManager()), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot write the split to Ingress %s: %w", ingress.Name, err)
	}
	return nil
}

// retire lets go of the actions of a former root Service; the caller's object is the API server's answer then.
func (r ALB) retire(ctx context.Context, c client.Client, ingress *networkingv1.Ingress) error {
	annotations, err := r.retired(ingress)
	if err != nil || annotations == nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": ingress.ResourceVersion, "annotations": annotations}})
	if err != nil {
		return err
	}
	if err := c.Patch(ctx, ingress, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("cannot let go of the actions of a former root Service in Ingress %s: %w", ingress.Name, err)
	}
	return nil
}

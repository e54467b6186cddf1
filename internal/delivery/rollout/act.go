package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/delivery/replicaset"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// deletionCost makes the ReplicaSet controller delete drained pods first.
const deletionCost = "-1000000000"

// markers is how many pods are marked at the same time.
const markers = 10

// act carries out the operations in their order, then publishes the status and records the events. After
// an error nothing more is done: the next look decides anew.
func (c *Controller) act(ctx context.Context, o *observed, d *canary.Decision) error {
	for _, operation := range d.Operations {
		c.Logger.Info(operation.String(), "rollout", o.rollout.Namespace+"/"+o.rollout.Name, "reason", operation.Because())
		if err := c.do(ctx, o, d, operation); err != nil {
			return err
		}
	}
	before := o.rollout.Status.Duration
	if err := c.publish(ctx, o, d.Status); err != nil {
		return err
	}
	measure(o.rollout, d.Status)
	measureEnd(before, d.Status.Duration, c.Now())
	for _, e := range d.Events {
		c.record(o, e.Warning, e.Reason, "%s", e.Message)
	}
	return nil
}

// do carries out one operation. Each may be repeated: what is already so stays so.
func (c *Controller) do(ctx context.Context, o *observed, d *canary.Decision, operation canary.Operation) error {
	switch op := operation.(type) {
	case canary.WriteSplit:
		if err := o.router.Write(ctx, c.cached, o.ingresses[op.Ingress], op.Split); err != nil {
			return err
		}
		d.Written(op.Ingress, c.Now())
		c.record(o, false, "PatchingALBIngress", "%s: %s", op, op.Because())
		return nil
	case canary.PointService:
		return c.point(ctx, o, op)
	case canary.CreateReplicaSet:
		return c.create(ctx, o, op)
	case canary.ScaleReplicaSet:
		return c.scale(ctx, o, op)
	case canary.SyncReplicaSet:
		return c.sync(ctx, o, op)
	case canary.SetDeadline:
		return c.noted(o, o.replicaSets[op.Name], c.patch(ctx, o.replicaSets[op.Name], deadline(op.At)))
	case canary.MarkPods:
		return c.mark(ctx, o, op)
	case canary.DeleteReplicaSet:
		rs := o.replicaSets[op.Name]
		precondition := client.Preconditions{UID: &rs.UID, ResourceVersion: &rs.ResourceVersion}
		return client.IgnoreNotFound(c.cached.Delete(ctx, rs, precondition, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	case canary.ReleaseService:
		service := o.services[op.Service]
		return c.noted(o, service, c.releaseService(ctx, service))
	case canary.ReleaseIngress:
		return c.releaseIngress(ctx, o.ingresses[op.Ingress], o.rollout.Name)
	case canary.SetRevision:
		err := c.patchRollout(ctx, o, fields{"metadata": fields{"annotations": fields{v1alpha1.RevisionAnnotation: strconv.FormatInt(op.Revision, 10)}}})
		if err == nil {
			c.record(o, false, "RolloutUpdated", "rollout updated to revision %d", op.Revision)
		}
		return err
	case canary.SetReplicas:
		return c.patchRollout(ctx, o, fields{"spec": fields{"replicas": op.Replicas}})
	}
	return fmt.Errorf("no way to carry out %T", operation)
}

// fields is a JSON object, and nil in it removes a field.
type fields = map[string]any

// patch merges fields into an object that must not have changed since it was read. The caller's object is
// the API server's answer afterwards.
func (c *Controller) patch(ctx context.Context, o client.Object, f fields) error {
	meta, _ := f["metadata"].(fields)
	if meta == nil {
		meta = fields{}
		f["metadata"] = meta
	}
	meta["resourceVersion"] = o.GetResourceVersion()
	return c.merge(ctx, o, f)
}

func (c *Controller) merge(ctx context.Context, o client.Object, f fields) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := c.cached.Patch(ctx, o, client.RawPatch(types.MergePatchType, data)); err != nil {
		return fmt.Errorf("cannot patch %T %s/%s: %w", o, o.GetNamespace(), o.GetName(), err)
	}
	return nil
}

// noted remembers the version of an object that was written, so that no older one is decided on.
func (c *Controller) noted(o *observed, object client.Object, err error) error {
	if err == nil {
		c.written.note(client.ObjectKeyFromObject(o.rollout), object)
	}
	return err
}

// patchRollout patches the Rollout itself, and goes on with its new version.
func (c *Controller) patchRollout(ctx context.Context, o *observed, f fields) error {
	changed := o.rollout.DeepCopy()
	if err := c.patch(ctx, changed, f); err != nil {
		return err
	}
	o.rollout = changed
	c.written.note(client.ObjectKeyFromObject(changed), changed)
	return nil
}

// create makes the ReplicaSet. One of the same name is ours if it has our template; otherwise two
// templates have one hash, and the next look uses another.
func (c *Controller) create(ctx context.Context, o *observed, op canary.CreateReplicaSet) error {
	if err := c.unseen(ctx, o.rollout, o.replicaSets); err != nil {
		return err
	}
	rs := replicaset.New(o.rollout, op.Hash, op.Revision, op.DesiredReplicas)
	err := c.cached.Create(ctx, rs)
	switch {
	case err == nil:
		c.record(o, false, "NewReplicaSetCreated", "created ReplicaSet %s (revision %d)", rs.Name, op.Revision)
		return nil
	case !apierrors.IsAlreadyExists(err):
		c.record(o, true, "ReplicaSetCreateError", "cannot create ReplicaSet %s: %s", rs.Name, err)
		return errors.Join(fmt.Errorf("cannot create ReplicaSet %s: %w", rs.Name, err), c.createFailed(ctx, o, err))
	}
	var held appsv1.ReplicaSet
	if err := c.live.Get(ctx, client.ObjectKeyFromObject(rs), &held); err != nil {
		return fmt.Errorf("cannot read ReplicaSet %s: %w", rs.Name, err)
	}
	if metav1.IsControlledBy(&held, o.rollout) && o.wanted != nil && replicaset.SameTemplate(held.Spec.Template, *o.wanted) {
		return nil
	}
	status := *o.rollout.Status.DeepCopy()
	count := int32(1)
	if status.CollisionCount != nil {
		count = *status.CollisionCount + 1
	}
	status.CollisionCount = &count
	if err := c.publish(ctx, o, status); err != nil {
		return err
	}
	return fmt.Errorf("ReplicaSet %s exists with another template; another hash is used", rs.Name)
}

// unseen returns errLag when the API server has a ReplicaSet of the Rollout, or one to be adopted, that the
// cache does not show yet: it may be the very one that is about to be created a second time.
func (c *Controller) unseen(ctx context.Context, r *v1alpha1.Rollout, seen map[string]*appsv1.ReplicaSet) error {
	sets, err := c.replicaSets(ctx, c.live, r)
	if err != nil {
		return err
	}
	for i := range sets {
		owner := metav1.GetControllerOf(&sets[i])
		if seen[sets[i].Name] == nil && sets[i].DeletionTimestamp == nil && (owner == nil || owner.UID == r.UID) {
			return errLag
		}
	}
	return nil
}

// replicaSets lists the ReplicaSets that the Rollout's selector matches, whoever owns them.
func (c *Controller) replicaSets(ctx context.Context, reader client.Reader, r *v1alpha1.Rollout) ([]appsv1.ReplicaSet, error) {
	if r.Spec.Selector == nil {
		return nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(r.Spec.Selector)
	if err != nil || selector.Empty() {
		return nil, nil // The status says so.
	}
	var sets appsv1.ReplicaSetList
	if err := reader.List(ctx, &sets, client.InNamespace(r.Namespace), client.HasLabels{v1alpha1.HashLabel}, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("cannot list the ReplicaSets of Rollout %s/%s: %w", r.Namespace, r.Name, err)
	}
	return sets.Items, nil
}

// createFailed says in the status that no ReplicaSet could be created.
func (c *Controller) createFailed(ctx context.Context, o *observed, cause error) error {
	status := *o.rollout.Status.DeepCopy()
	canary.CreateFailed(&status, c.Now(), cause.Error())
	return c.publish(ctx, o, status)
}

func (c *Controller) scale(ctx context.Context, o *observed, op canary.ScaleReplicaSet) error {
	annotations := fields{v1alpha1.DesiredReplicasAnnotation: strconv.Itoa(int(op.DesiredReplicas))}
	if op.To == 0 {
		annotations[v1alpha1.ScaleDownDeadlineAnnotation] = nil
	}
	f := fields{"metadata": fields{"annotations": annotations}, "spec": fields{"replicas": op.To}}
	rs := o.replicaSets[op.Name]
	write := c.merge
	if op.To < op.From {
		write = c.patch // Only on the state that was looked at.
	}
	if err := c.noted(o, rs, write(ctx, rs, f)); err != nil {
		return err
	}
	direction := "up"
	if op.To < op.From {
		direction = "down"
	}
	c.record(o, false, "ScalingReplicaSet", "Scaled %s ReplicaSet %s (revision %s) from %d to %d", direction, op.Name, rs.Annotations[v1alpha1.RevisionAnnotation], op.From, op.To)
	return nil
}

func (c *Controller) sync(ctx context.Context, o *observed, op canary.SyncReplicaSet) error {
	rs := o.replicaSets[op.Name]
	annotations := fields{}
	for key, value := range replicaset.Annotations(o.rollout.Annotations, rs.Annotations, op.Revision, op.DesiredReplicas) {
		if rs.Annotations[key] != value {
			annotations[key] = value
		}
	}
	return c.noted(o, rs, c.merge(ctx, rs, fields{"metadata": fields{"annotations": annotations}, "spec": fields{"minReadySeconds": op.MinReadySeconds}}))
}

func deadline(at time.Time) fields {
	var value any
	if !at.IsZero() {
		value = at.UTC().Format(time.RFC3339)
	}
	return fields{"metadata": fields{"annotations": fields{v1alpha1.ScaleDownDeadlineAnnotation: value}}}
}

func (c *Controller) point(ctx context.Context, o *observed, op canary.PointService) error {
	err := c.patch(ctx, o.services[op.Service], fields{
		"metadata": fields{"annotations": fields{v1alpha1.ManagedByAnnotation: o.rollout.Name}},
		"spec":     fields{"selector": fields{v1alpha1.HashLabel: op.To}},
	})
	if err := c.noted(o, o.services[op.Service], err); err != nil {
		return err
	}
	c.record(o, false, "SwitchService", "Switched selector for service '%s' from '%s' to '%s'", op.Service, op.From, op.To)
	return nil
}

// mark sets or removes the drain mark and the deletion cost. A pod that is gone needs neither.
func (c *Controller) mark(ctx context.Context, o *observed, op canary.MarkPods) error {
	var value, cost any
	if op.Value != "" {
		value, cost = op.Value, deletionCost
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(markers)
	for _, name := range op.Pods {
		group.Go(func() error {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.rollout.Namespace, Name: name.Name}}
			return client.IgnoreNotFound(c.merge(ctx, pod, fields{"metadata": fields{
				"uid":         name.UID,
				"annotations": fields{evidence.DrainAnnotation: value, corev1.PodDeletionCost: cost},
			}}))
		})
	}
	return group.Wait()
}

// publish writes the status if it differs. Somebody else's change since the look, such as an abort, makes
// it a conflict, and the next look takes it into account.
func (c *Controller) publish(ctx context.Context, o *observed, status v1alpha1.RolloutStatus) error {
	if equality.Semantic.DeepEqual(o.rollout.Status, status) {
		return nil
	}
	changed := o.rollout.DeepCopy()
	changed.Status = status
	data, err := client.MergeFromWithOptions(o.rollout, client.MergeFromWithOptimisticLock{}).Data(changed)
	if err != nil {
		return err
	}
	if onlyVersion(data) {
		return nil // Equal but for what JSON does not hold.
	}
	answer := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: changed.Namespace, Name: changed.Name}}
	if err := c.cached.Status().Patch(ctx, answer, client.RawPatch(types.MergePatchType, data)); err != nil {
		if apierrors.IsConflict(err) {
			c.written.outdated(client.ObjectKeyFromObject(o.rollout), o.rollout)
		}
		return fmt.Errorf("cannot publish the status of Rollout %s/%s: %w", changed.Namespace, changed.Name, err)
	}
	o.rollout = answer
	c.written.note(client.ObjectKeyFromObject(answer), answer)
	if len(status.Traffic) > 0 && len(answer.Status.Traffic) == 0 {
		c.record(o, true, "StatusPruned", "%s", errPruned)
		return fmt.Errorf("cannot publish the status of Rollout %s/%s: %w", changed.Namespace, changed.Name, errPruned)
	}
	return nil
}

// errPruned: the CRD is that of another controller. Since when a weight is seen would never be kept.
var errPruned = errors.New("the CRD rollouts.argoproj.io does not keep status.traffic, without which no weight counts as settled; apply the CRDs in deploy/crds")

// onlyVersion: the merge patch holds nothing but the resource version.
func onlyVersion(data []byte) bool {
	var f fields
	if json.Unmarshal(data, &f) != nil {
		return false
	}
	meta, _ := f["metadata"].(fields)
	return len(f) == 1 && len(meta) == 1
}

// adopt takes ReplicaSets that match the selector and have no controller, as the Kubernetes controllers do.
func (c *Controller) adopt(ctx context.Context, r *v1alpha1.Rollout) error {
	sets, err := c.replicaSets(ctx, c.cached, r)
	if err != nil {
		return err
	}
	for i := range sets {
		rs := &sets[i]
		if metav1.GetControllerOf(rs) != nil || rs.DeletionTimestamp != nil {
			continue
		}
		var fresh v1alpha1.Rollout
		if err := c.live.Get(ctx, client.ObjectKeyFromObject(r), &fresh); err != nil || fresh.UID != r.UID || fresh.DeletionTimestamp != nil {
			return err // The Rollout may have been made anew under its name.
		}
		if err := c.patch(ctx, rs, fields{"metadata": fields{"ownerReferences": append(rs.OwnerReferences, replicaset.Owner(r))}}); err != nil {
			return err
		}
	}
	return nil
}

// record records an event on the Rollout.
func (c *Controller) record(o *observed, warning bool, reason, note string, args ...any) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	eventsTotal.WithLabelValues(o.rollout.Namespace, o.rollout.Name, kind, reason).Inc()
	c.events.Eventf(o.rollout, nil, kind, reason, reason, note, args...)
}

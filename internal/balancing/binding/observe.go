package binding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// round is one pass over one binding.
type round struct {
	binding *elbv2.TargetGroupBinding
	key     types.NamespacedName
	memory  *memory
	// started is when the round began; a fresh read begins later.
	started time.Time
}

func (r *round) arn() string { return r.binding.Spec.TargetGroupARN }

// observation is the snapshot, and what acting needs beside it.
type observation struct {
	plan.Snapshot
	service *corev1.Service
	members members
	// unseen is why the share could not be seen. What waits for it stays, and nothing else does.
	unseen error
}

// problem is something that only the user can put right. It leaves everything as it is.
type problem struct {
	reason  string
	message string
}

func (p *problem) Error() string { return p.message }

// observe gathers the snapshot: from the caches and the mirror, or, fresh, from the API server and AWS.
func (c *Controller) observe(ctx context.Context, r *round, fresh bool) (observation, error) {
	o := observation{Snapshot: plan.Snapshot{Now: r.started, Fresh: fresh, Settings: c.Settings.Settings}}
	var err error
	if o.service, o.Removal, err = c.serviceOf(ctx, r, fresh); err != nil {
		return o, err
	}
	if r.binding.DeletionTimestamp != nil {
		o.Removal, o.Deleted = "the binding is deleted", true
	}
	port, found := servicePort(o.service, r.binding.Spec.ServiceRef.Port)
	if !found && o.Removal == "" {
		return o, &problem{"BackendNotFound", fmt.Sprintf("Service %s has no port %s: correct spec.serviceRef.port of the binding, or the Service; until then the targets stay as they are",
			o.service.Name, r.binding.Spec.ServiceRef.Port.String())}
	}
	o.members = newMembers(r.binding, o.service, port, func(node string) bool { return c.nodeAnswers(ctx, node) })
	instances := ofInstances(r.binding)
	if instances && port.NodePort == 0 && o.Removal == "" {
		return o, &problem{"BackendNotFound", fmt.Sprintf("Service %s has no node port: give it type NodePort or LoadBalancer, or use target type ip; until then the targets stay as they are", o.service.Name)}
	}
	if len(o.service.Spec.Selector) == 0 {
		if o.Removal == "" && !instances {
			return o, &problem{"BackendNotFound", fmt.Sprintf("Service %s has no selector: give it one, its pods become the targets; until then the targets stay as they are", o.service.Name)}
		}
		o.members.exact, o.members.anyVersion = labels.Nothing(), labels.Nothing()
	}

	notBefore := time.Time{}
	if fresh {
		notBefore = r.started
	}
	health, _, err := c.Cloud.TargetHealth(ctx, r.arn(), notBefore)
	if err != nil {
		return o, fmt.Errorf("cannot see the targets of %s: %w", r.arn(), err)
	}
	for _, t := range health {
		o.Targets = append(o.Targets, plan.Target{TargetHealth: t, RegisteredUID: r.memory.podAt[plan.Address(t.ID, t.Port)]})
	}
	if instances {
		err = c.findNodes(ctx, r, &o)
	} else if err = c.findPods(ctx, r, &o); err == nil {
		o.Replicas, err = c.replicas(ctx, o.service, fresh)
	}
	if err != nil {
		return o, err
	}
	if o.Deleted || !o.mayLeave() {
		r.memory.zeroSince = time.Time{}
		return o, nil
	}
	// Without its share the group is taken for one that serves: new targets enter and dying ones leave all the same.
	o.Share, o.Settings.Settle, o.unseen = c.share(ctx, r, notBefore)
	return o, nil
}

// mayLeave says whether any target is not that of a pod which should stay.
func (o observation) mayLeave() bool {
	staying := make(map[string]bool, len(o.Pods))
	for _, p := range o.Pods {
		if p.Selected && p.Drain == plan.Stay && p.Life != plan.Dying {
			staying[plan.Address(p.IP, p.Port)] = true
		}
	}
	return slices.ContainsFunc(o.Targets, func(t plan.Target) bool { return t.Live() && !staying[plan.Address(t.ID, t.Port)] })
}

// serviceOf reads the Service. A Service that does not exist is an empty one, and the reason to remove.
func (c *Controller) serviceOf(ctx context.Context, r *round, fresh bool) (*corev1.Service, string, error) {
	reader := client.Reader(c.Client)
	if fresh {
		reader = c.Live
	}
	service := &corev1.Service{}
	key := types.NamespacedName{Namespace: r.key.Namespace, Name: r.binding.Spec.ServiceRef.Name}
	err := reader.Get(ctx, key, service)
	switch {
	case apierrors.IsNotFound(err):
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}, fmt.Sprintf("Service %s does not exist", key.Name), nil
	case err != nil:
		return nil, "", fmt.Errorf("cannot read Service %s: %w", key, err)
	}
	return service, "", nil
}

func (c *Controller) nodeAnswers(ctx context.Context, name string) bool {
	var node corev1.Node
	if err := c.Client.Get(ctx, types.NamespacedName{Name: name}, &node, &client.GetOptions{UnsafeDisableDeepCopy: new(true)}); err != nil {
		return false
	}
	return nodeReady(&node) == corev1.ConditionTrue
}

// findPods gathers the pods of the Service in any version, those that have a registered address, and those
// that have the binding's gate; and says of each target without a pod what is known of its address.
func (c *Controller) findPods(ctx context.Context, r *round, o *observation) error {
	seen := map[types.UID]bool{}
	add := func(pod *corev1.Pod) {
		if !seen[pod.UID] {
			seen[pod.UID] = true
			o.Pods = append(o.Pods, o.members.pod(pod))
		}
	}
	inNamespace := client.InNamespace(r.key.Namespace)
	for _, options := range [][]client.ListOption{
		{inNamespace, client.MatchingLabelsSelector{Selector: o.members.anyVersion}},
		{inNamespace, client.MatchingFields{kube.IndexReadinessGate: string(o.members.gate)}},
	} {
		var list corev1.PodList
		if err := c.Client.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
			return fmt.Errorf("cannot list the pods of Service %s: %w", o.service.Name, err)
		}
		for i := range list.Items {
			add(&list.Items[i])
		}
	}
	for i := range o.Targets {
		target := &o.Targets[i]
		if !target.Live() {
			continue
		}
		var list corev1.PodList
		if err := c.Client.List(ctx, &list, client.MatchingFields{kube.IndexPodIP: target.ID}, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("cannot find the pod with address %s: %w", target.ID, err)
		}
		if len(list.Items) == 0 && o.Fresh && target.RegisteredUID == "" {
			// The cache may not know a pod yet that another process has registered.
			byIP := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("status.podIP", target.ID)}
			if err := c.Live.List(ctx, &list, byIP); err != nil {
				return fmt.Errorf("cannot find the pod with address %s: %w", target.ID, err)
			}
		}
		target.Gone = len(list.Items) == 0 && target.RegisteredUID != ""
		for j := range list.Items {
			pod := &list.Items[j]
			switch {
			case pod.Namespace == r.key.Namespace:
				add(pod)
			case !pod.Spec.HostNetwork && pod.DeletionTimestamp == nil:
				target.TakenBy = pod.Namespace + "/" + pod.Name
			}
		}
	}
	if o.Fresh && slices.ContainsFunc(o.Pods, func(p plan.Pod) bool { return p.Drain != plan.Stay }) {
		return c.readMarks(ctx, r, o)
	}
	return nil
}

// marksPage is how many pods' marks are read at once: those of 10,000 pods would take some 50 MB together.
const marksPage = 500

// readMarks reads the pods' drain marks from the API server. One that was just taken back, and which the cache
// still has, would cost a target that is wanted again; to come back it would need its health checks (law 3).
func (c *Controller) readMarks(ctx context.Context, r *round, o *observation) error {
	at := make(map[types.UID]int, len(o.Pods))
	for i, p := range o.Pods {
		at[types.UID(p.UID)] = i
	}
	page := client.ListOptions{Namespace: r.key.Namespace, LabelSelector: o.members.anyVersion, Limit: marksPage}
	for more := true; more; more = page.Continue != "" {
		var list metav1.PartialObjectMetadataList
		list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		if err := c.Live.List(ctx, &list, &page); err != nil {
			return fmt.Errorf("cannot read the drain marks of the pods of Service %s: %w", o.service.Name, err)
		}
		for i := range list.Items {
			if j, ours := at[list.Items[i].UID]; ours {
				o.Pods[j].Drain = drain(list.Items[i].Annotations)
			}
		}
		page.Continue = list.Continue
	}
	return nil
}

// replicas is how many pods the version that the Service selects is meant to have, zero when unknown. What
// may leave depends on it, so a fresh look does not take a cache's word for it.
func (c *Controller) replicas(ctx context.Context, service *corev1.Service, fresh bool) (int, error) {
	hash := service.Spec.Selector[rollouts.HashLabel]
	if hash == "" {
		return 0, nil
	}
	reader := client.Reader(c.Client)
	if fresh {
		reader = c.Live
	}
	var list appsv1.ReplicaSetList
	err := reader.List(ctx, &list, client.InNamespace(service.Namespace), client.MatchingLabels{rollouts.HashLabel: hash}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return 0, fmt.Errorf("cannot list the ReplicaSets of Service %s: %w", service.Name, err)
	}
	n := 0
	for _, rs := range list.Items {
		if rs.Spec.Replicas != nil && rs.DeletionTimestamp == nil {
			n += int(*rs.Spec.Replicas)
		}
	}
	return n, nil
}

// remember keeps which pod each address is for, and wakes the binding when one of them changes.
func (c *Controller) remember(r *round, o observation) {
	podAt := make(map[string]string, len(o.Targets))
	for _, t := range o.Targets {
		if t.RegisteredUID != "" {
			podAt[plan.Address(t.ID, t.Port)] = t.RegisteredUID
		}
	}
	for _, p := range o.Pods {
		if a := plan.Address(p.IP, p.Port); p.Selected && p.Life != plan.Dying && p.IP != "" {
			podAt[a] = p.UID
		}
	}
	r.memory.podAt = podAt
	c.memories.index(r.key, o.Targets)
}

// asProblem tells whether an error is the user's to put right.
func asProblem(err error) (*problem, bool) { return errors.AsType[*problem](err) }

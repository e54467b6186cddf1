package rollout

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/delivery/replicaset"
	"github.com/lockstep-delivery/lockstep/internal/delivery/traffic"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// observed is a snapshot and the objects that it was made from, which acting needs for their versions.
type observed struct {
	snapshot    canary.Snapshot
	rollout     *v1alpha1.Rollout
	router      traffic.ALB
	replicaSets map[string]*appsv1.ReplicaSet
	services    map[string]*corev1.Service
	ingresses   map[string]*networkingv1.Ingress
	// wanted is the present template with the API server's defaults; only known when no ReplicaSet has the
	// template's hash.
	wanted *corev1.PodTemplateSpec
}

// observe gathers everything that a decision needs. With notBefore, all of it is read from the API server
// and from AWS, not from caches.
func (c *Controller) observe(ctx context.Context, key types.NamespacedName, notBefore time.Time) (*observed, error) {
	var reader client.Reader = c.cached
	if !notBefore.IsZero() {
		reader = c.live
	}
	o := &observed{rollout: &v1alpha1.Rollout{}}
	if err := reader.Get(ctx, key, o.rollout); err != nil {
		return nil, fmt.Errorf("cannot read Rollout %s: %w", key, err)
	}
	r := o.rollout
	s := &o.snapshot
	s.Settings = c.Settings
	s.Rollout = canary.Rollout{
		Namespace: r.Namespace, Name: r.Name, Generation: r.Generation,
		Revision: number(r.Annotations[v1alpha1.RevisionAnnotation], 0), Spec: r.Spec, Status: *r.Status.DeepCopy(),
	}
	readSettings(s, r)
	if r.Spec.Malformed != "" {
		s.Now = c.Now()
		return o, nil // What could not be read must not be compared with what exists.
	}
	if r.Spec.Selector != nil {
		if err := c.observePods(ctx, reader, o); err != nil {
			return nil, err
		}
	}
	if strategy := r.Spec.Strategy.Canary; strategy != nil {
		s.Rollout.StepHash = replicaset.StepHash(strategy.Steps)
		if strategy.TrafficRouting != nil && strategy.TrafficRouting.ALB != nil {
			if err := c.observeTraffic(ctx, reader, o, notBefore); err != nil {
				return nil, err
			}
		}
	}
	s.Now = c.Now()
	return o, nil
}

// readSettings applies the Rollout's own settings, which are annotations.
func readSettings(s *canary.Snapshot, r *v1alpha1.Rollout) {
	for _, setting := range []struct {
		key, example string
		least        time.Duration
		into         *time.Duration
	}{
		{v1alpha1.SettleTimeAnnotation, "150s", 0, &s.Settings.Settle},
		{v1alpha1.EvidenceTimeoutAnnotation, "10m", time.Second, &s.Settings.EvidenceTimeout},
	} {
		text, ok := r.Annotations[setting.key]
		if !ok {
			continue
		}
		value, err := time.ParseDuration(text)
		if err != nil || value < setting.least {
			problem := "is not a duration"
			if err == nil {
				problem = "is less than " + setting.least.String()
			}
			s.Rollout.SettingError = fmt.Sprintf("metadata.annotations[%s]: %q %s; use a form such as %s", setting.key, text, problem, setting.example)
			continue
		}
		*setting.into = value
	}
}

// observePods reads the ReplicaSets that the Rollout owns, their pods, and which of them is the present one.
func (c *Controller) observePods(ctx context.Context, reader client.Reader, o *observed) error {
	r := o.rollout
	selector, err := metav1.LabelSelectorAsSelector(r.Spec.Selector)
	if err != nil {
		o.snapshot.Rollout.TemplateError = fmt.Sprintf("spec.selector: is invalid: %s; correct it", err)
		return nil
	}
	var sets appsv1.ReplicaSetList
	if err := reader.List(ctx, &sets, client.InNamespace(r.Namespace), client.HasLabels{v1alpha1.HashLabel}, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return fmt.Errorf("cannot list the ReplicaSets of Rollout %s/%s: %w", r.Namespace, r.Name, err)
	}
	var pods corev1.PodList
	// The pods are only read, so the cache need not copy hundreds of them for each look.
	if err := reader.List(ctx, &pods, client.InNamespace(r.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list the pods of Rollout %s/%s: %w", r.Namespace, r.Name, err)
	}
	byOwner := map[types.UID][]canary.Pod{}
	for i := range pods.Items {
		if owner := metav1.GetControllerOf(&pods.Items[i]); owner != nil {
			byOwner[owner.UID] = append(byOwner[owner.UID], readPod(&pods.Items[i]))
		}
	}
	o.replicaSets = map[string]*appsv1.ReplicaSet{}
	for i := range sets.Items {
		rs := &sets.Items[i]
		if !metav1.IsControlledBy(rs, r) {
			continue
		}
		if c.written.lag(client.ObjectKeyFromObject(r), rs) {
			return errLag
		}
		pods := byOwner[rs.UID]
		slices.SortFunc(pods, func(a, b canary.Pod) int { return cmp.Compare(a.Name, b.Name) })
		o.replicaSets[rs.Name] = rs
		o.snapshot.ReplicaSets = append(o.snapshot.ReplicaSets, readReplicaSet(rs, pods))
	}
	slices.SortFunc(o.snapshot.ReplicaSets, func(a, b canary.ReplicaSet) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Name, b.Name))
	})
	return c.identify(ctx, o)
}

// identify finds the ReplicaSet of the present template: by its hash as we or older builds compute it, and
// otherwise by comparing templates with the API server's defaults applied.
func (c *Controller) identify(ctx context.Context, o *observed) error {
	r, into := o.rollout, &o.snapshot.Rollout
	into.Hash = replicaset.Hash(r.Spec.Template, r.Status.CollisionCount)
	for _, hash := range []string{into.Hash, replicaset.OldHash(r.Spec.Template, r.Status.CollisionCount)} {
		for _, rs := range o.snapshot.ReplicaSets {
			if rs.Hash == hash {
				into.Hash = hash
				return nil
			}
		}
	}
	if hash := alreadyIdentified(o); hash != "" {
		into.Hash = hash
		return nil
	}
	trial := replicaset.New(r, into.Hash, 0, 0)
	trial.Name, trial.GenerateName, trial.OwnerReferences = "", r.Name+"-", nil
	err := c.cached.Create(ctx, trial, client.DryRunAll)
	switch {
	case apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err): // forbidden by quota or policy
		into.TemplateError = fmt.Sprintf("spec.template: the API server refuses it: %s; correct it", err)
		return nil
	case err != nil:
		return fmt.Errorf("cannot check the template of Rollout %s/%s: %w", r.Namespace, r.Name, err)
	}
	o.wanted = &trial.Spec.Template
	for _, rs := range o.snapshot.ReplicaSets {
		if replicaset.SameTemplate(o.replicaSets[rs.Name].Spec.Template, *o.wanted) {
			into.Hash = rs.Hash
			return nil
		}
	}
	return nil
}

// alreadyIdentified is the hash that the status names for this very spec, so that an adopted ReplicaSet is
// not compared anew at each look. A status that calls the spec invalid was published without comparing.
func alreadyIdentified(o *observed) string {
	status := o.rollout.Status
	if status.ObservedGeneration != strconv.FormatInt(o.rollout.Generation, 10) {
		return ""
	}
	for _, c := range status.Conditions {
		if c.Type == v1alpha1.ConditionInvalidSpec {
			return ""
		}
	}
	for _, rs := range o.snapshot.ReplicaSets {
		if rs.Hash == status.CurrentPodHash {
			return rs.Hash
		}
	}
	return ""
}

func readReplicaSet(rs *appsv1.ReplicaSet, pods []canary.Pod) canary.ReplicaSet {
	out := canary.ReplicaSet{
		Name: rs.Name, Hash: rs.Labels[v1alpha1.HashLabel], CreatedAt: rs.CreationTimestamp.Time,
		Revision: number(rs.Annotations[v1alpha1.RevisionAnnotation], 0), Replicas: 1,
		Current: rs.Status.Replicas, Ready: rs.Status.ReadyReplicas, Available: rs.Status.AvailableReplicas,
		DesiredReplicas: int32(number(rs.Annotations[v1alpha1.DesiredReplicasAnnotation], -1)),
		MinReadySeconds: rs.Spec.MinReadySeconds, Observed: rs.Status.ObservedGeneration >= rs.Generation,
		Deleting: rs.DeletionTimestamp != nil, Pods: pods,
	}
	if rs.Spec.Replicas != nil {
		out.Replicas = *rs.Spec.Replicas
	}
	if at, err := time.Parse(time.RFC3339, rs.Annotations[v1alpha1.ScaleDownDeadlineAnnotation]); err == nil {
		out.ScaleDownDeadline = at
	}
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			out.Failure, out.FailureReason = c.Message, c.Reason
		}
	}
	return out
}

func readPod(p *corev1.Pod) canary.Pod {
	out := canary.Pod{
		Name: p.Name, UID: string(p.UID), CreatedAt: p.CreationTimestamp.Time,
		Scheduled: p.Spec.NodeName != "", Running: p.Status.Phase == corev1.PodRunning,
		Terminating: p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded,
		Drain:       p.Annotations[evidence.DrainAnnotation],
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	return out
}

// observeTraffic reads Services and Ingresses, and what AWS shows of them.
func (c *Controller) observeTraffic(ctx context.Context, reader client.Reader, o *observed, notBefore time.Time) error {
	r, strategy := o.rollout, o.rollout.Spec.Strategy.Canary
	o.router = traffic.NewALB(r.Name, strategy)
	o.services, o.ingresses = map[string]*corev1.Service{}, map[string]*networkingv1.Ingress{}
	query := evidence.Query{Namespace: r.Namespace, Action: o.router.Action}
	port := strconv.Itoa(int(strategy.TrafficRouting.ALB.ServicePort))
	for _, name := range []string{strategy.CanaryService, strategy.StableService} {
		query.Services = append(query.Services, evidence.ServicePort{Service: name, Port: port})
		service := &corev1.Service{}
		err := reader.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: name}, service)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot read Service %s/%s: %w", r.Namespace, name, err)
		}
		if c.written.lag(client.ObjectKeyFromObject(r), service) {
			return errLag
		}
		o.services[name] = service
		o.snapshot.Services = append(o.snapshot.Services, readService(name, service, err != nil, r))
	}
	for _, name := range traffic.Ingresses(strategy.TrafficRouting.ALB) {
		ingress := &networkingv1.Ingress{}
		err := reader.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: name}, ingress)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot read Ingress %s/%s: %w", r.Namespace, name, err)
		}
		missing := err != nil
		o.ingresses[name] = ingress
		into := canary.Ingress{
			Name: name, Missing: missing, HasRule: o.router.HasRule(ingress),
			Action: ingress.Annotations[o.router.Key],
		}
		if into.Recorded, err = o.router.Recorded(ingress); err != nil {
			into.RecordError = err.Error()
		}
		into.Ours, into.Writer, into.WrittenAt = o.router.Writer(ingress)
		into.ChangedAt = o.router.ChangedAt(ingress)
		if !into.Missing && into.HasRule {
			query.Ingress = name
			into.Evidence, into.EvidenceError = c.ask(ctx, query, notBefore)
		}
		o.snapshot.Ingresses = append(o.snapshot.Ingresses, into)
	}
	return c.observeStrays(ctx, o)
}

// observeStrays finds what carries the Rollout's mark though its spec no longer names it. The cache will do:
// a release is only written to the version that was looked at.
func (c *Controller) observeStrays(ctx context.Context, o *observed) error {
	services, ingresses, err := c.marked(ctx, client.ObjectKeyFromObject(o.rollout))
	if err != nil {
		return err
	}
	for _, service := range services {
		if _, named := o.services[service.Name]; !named {
			o.services[service.Name] = service
			o.snapshot.StrayServices = append(o.snapshot.StrayServices, service.Name)
		}
	}
	for _, ingress := range ingresses {
		if _, named := o.ingresses[ingress.Name]; !named {
			o.ingresses[ingress.Name] = ingress
			o.snapshot.StrayIngresses = append(o.snapshot.StrayIngresses, ingress.Name)
		}
	}
	slices.Sort(o.snapshot.StrayServices)
	slices.Sort(o.snapshot.StrayIngresses)
	return nil
}

// ask gets evidence, for a bounded time.
func (c *Controller) ask(ctx context.Context, query evidence.Query, notBefore time.Time) (evidence.Snapshot, string) {
	ctx, cancel := context.WithTimeout(ctx, c.EvidenceTimeout)
	defer cancel()
	snapshot, err := c.Evidence.Observe(ctx, query, notBefore)
	if err != nil {
		return evidence.Snapshot{}, requestID.ReplaceAllString(err.Error(), "")
	}
	return snapshot, ""
}

// requestID is the part of an AWS error that is another one each time. It must not reach the status: every
// look would differ from the last, be written, and by that cause the next.
var requestID = regexp.MustCompile(`,? ?[Rr]equest ?I[Dd]: [^,\s]*`)

func readService(name string, service *corev1.Service, missing bool, r *v1alpha1.Rollout) canary.Service {
	out := canary.Service{
		Name: name, Missing: missing, Hash: service.Spec.Selector[v1alpha1.HashLabel],
		ManagedBy: service.Annotations[v1alpha1.ManagedByAnnotation],
	}
	for key, value := range service.Spec.Selector {
		if key != v1alpha1.HashLabel && r.Spec.Template.Labels[key] != value && (out.Mismatch == "" || key+"="+value < out.Mismatch) {
			out.Mismatch = key + "=" + value
		}
	}
	return out
}

// number reads a decimal annotation.
func number(text string, otherwise int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

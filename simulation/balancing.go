package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	translate "github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// balancing moves traffic: the controller of the Ingress.
type balancing struct {
	actor
	// mirror is that of the process: a late call of a former one does not reach its successor's.
	mirror *mirror
	// open is what the last plan wanted to be done, by Lockstep or by a person.
	open int
}

// stacks are translations by what they were made of, since the same few come again and again in all runs.
var stacks sync.Map

// translation is all of the world that a translation depends on.
type translation struct {
	delay    time.Duration
	recorded bool
	action   string
}

func newBalancing(w *world) *balancing {
	b := &balancing{actor: actor{w: w, name: "balancing"}, mirror: w.mirror}
	b.round = func() { b.plan(0) }
	return b
}

// plan translates, plans and carries out, one operation after the other.
func (b *balancing) plan(reads int) {
	in, _ := b.w.ingresses.cached.get(ingressName)
	observed, err := b.mirror.observed()
	if in == nil || err != nil {
		b.failed()
		return
	}
	stack, ok := b.translated(in)
	if !ok {
		b.done(time.Time{})
		return
	}
	p := b.w.brain.Balancer(stack, observed, plan.State{
		Now: b.w.now(), Cluster: cluster, Settle: b.w.config.Settle, HealthAge: 15 * time.Second,
		Health: b.mirror.healths(), Bindings: b.w.aws.bindings, BackendGroupID: b.w.aws.BackendGroupID(),
	})
	b.w.decisions++
	b.w.account.told(observed, p)
	b.w.account.ordered(p.Operations)
	for _, blocked := range p.Blocked {
		b.w.note("plan is blocked: %s: %s", blocked.Resource, blocked.Reason)
	}
	if len(p.Reads) > 0 && reads < 3 {
		for _, arn := range p.Reads {
			if b.mirror.readTargets(arn) != nil {
				b.failed()
				return
			}
		}
		b.later(b.w.between(20*time.Millisecond, 100*time.Millisecond), func() { b.plan(reads + 1) })
		return
	}
	b.open = len(p.Operations) + len(p.Blocked)
	again := time.Time{}
	for _, wait := range p.Waits {
		b.w.reach("balancing held something back")
		b.w.note("plan waits: %s", wait)
		if !wait.Until.IsZero() && (again.IsZero() || wait.Until.Before(again)) {
			again = wait.Until
		}
	}
	b.apply(p.Operations, 0, again)
}

func (b *balancing) apply(operations []plan.Operation, next int, again time.Time) {
	if next == len(operations) {
		b.done(again)
		return
	}
	delay := b.w.between(5*time.Millisecond, 120*time.Millisecond)
	if b.w.faults.mayCrash(4, func() { b.do(operations[next]) }) {
		return
	}
	b.later(delay, func() {
		result := b.do(operations[next])
		switch {
		case result.Err != nil: // it rests on something that the next plan knows
			b.failed()
		case !result.Again.IsZero():
			b.done(result.Again)
		default:
			b.open--
			b.apply(operations, next+1, again)
		}
	})
}

// do carries out one operation as production does.
func (b *balancing) do(op plan.Operation) apply.Result {
	b.w.note("%s", op)
	b.w.writes++
	result := apply.Round{Cloud: caller{b.w.aws, b.mirror}, Objects: b.w.aws, BackendGroupID: b.w.aws.BackendGroupID(), Now: b.w.now()}.Do(context.Background(), []plan.Operation{op})
	b.w.aws.bindings = b.w.aws.Bindings()
	b.w.account.untouched(op)
	if result.Err == nil && result.Again.IsZero() && b.mirror == b.w.mirror {
		b.mirror.wrote()
		for _, binding := range b.w.bindings {
			binding.wake()
		}
	}
	for _, o := range result.Outcomes {
		// How long to wait is told by the world's clock, which apply does not have.
		if e, ok := errors.AsType[*cloud.BusyError](o.Err); ok && result.Err == nil {
			result.Again = e.Until
		}
		if o.Err != nil {
			b.w.note("  refused: %v", o.Err)
		}
	}
	return result
}

// translated is what the Ingress asks for; false when it is invalid and nothing may be changed.
func (b *balancing) translated(in *ingress) (model.Stack, bool) {
	key := translation{b.w.config.DeregistrationDelay, in.recorded, in.action}
	if stack, ok := stacks.Load(key); ok {
		return stack.(model.Stack), true
	}
	objects := b.w.manifests(in)
	stack, _, err := translate.Translate(translate.Settings{Cluster: cluster, DefaultTargetType: "ip"}, objects, translate.Resolved{Subnets: []translate.Subnet{
		{ID: "subnet-a", Zone: "zone-a", FreeAddresses: 100, Tags: map[string]string{"kubernetes.io/role/internal-elb": "1"}},
		{ID: "subnet-b", Zone: "zone-b", FreeAddresses: 100, Tags: map[string]string{"kubernetes.io/role/internal-elb": "1"}},
	}})
	if err != nil {
		b.w.note("the Ingress cannot be translated: %v", err)
		b.w.reach("invalid Ingress")
		return stack, false
	}
	stacks.Store(key, stack)
	return stack, true
}

// manifests are the objects as a user would have written them.
func (w *world) manifests(in *ingress) translate.Objects {
	className := "alb"
	key := translate.Prefix + "actions." + stableService
	annotations := map[string]string{
		translate.Prefix + "target-type":             "ip",
		translate.Prefix + "target-group-attributes": fmt.Sprintf("deregistration_delay.timeout_seconds=%d", int(w.config.DeregistrationDelay.Seconds())),
	}
	if in.action != "" {
		annotations[key] = in.action
	}
	if in.recorded {
		managed, _ := json.Marshal(map[string][]string{namespace + "/" + rolloutName: {key}})
		annotations[v1alpha1.ManagedALBAnnotation] = string(managed)
	}
	services := map[string]*corev1.Service{}
	for _, name := range []string{canaryService, stableService} {
		services[name] = &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}}},
		}
	}
	prefix := networkingv1.PathTypePrefix
	return translate.Objects{
		Ingress: &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: ingressName, Annotations: annotations, Finalizers: []string{translate.Finalizer}},
			Spec: networkingv1.IngressSpec{IngressClassName: &className, Rules: []networkingv1.IngressRule{{
				IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
					Path: "/", PathType: &prefix,
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: stableService, Port: networkingv1.ServiceBackendPort{Name: "use-annotation"}}},
				}}}},
			}}},
		},
		Classes:  []networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: className}, Spec: networkingv1.IngressClassSpec{Controller: translate.ClassController}}},
		Services: services,
	}
}

// caller is AWS as one process calls it.
type caller struct {
	*aws
	mirror *mirror
}

// HealthyTargets is what the process knows.
func (c caller) HealthyTargets(arn string) int { return c.mirror.healths()[arn].Healthy }

var _ apply.Cloud = (*aws)(nil)

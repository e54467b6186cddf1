package ingressgroup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

const actionRoot = ingress.Prefix + "actions.root"

func weights(t testing.TB, canary, stable int32) string {
	t.Helper()
	text, err := split.Encode(split.Split{Destinations: []split.Destination{{Service: "canary", Port: "80", Weight: canary}, {Service: "stable", Port: "80", Weight: stable}}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// liveWeights are the weights of the only rule, by Service; nil while there is none.
func (e *env) liveWeights(t testing.TB, o *networkingv1.Ingress) map[string]int32 {
	t.Helper()
	observed, err := e.cloud.Cloud.Stack(t.Context(), ingress.StackID(o.Namespace, o.Name))
	if err != nil || len(observed.LoadBalancers) == 0 || len(observed.LoadBalancers[0].Listeners) == 0 || len(observed.LoadBalancers[0].Listeners[0].Rules) == 0 {
		return nil
	}
	services := map[string]string{}
	for _, g := range observed.TargetGroups {
		services[g.ARN] = strings.TrimSuffix(strings.TrimPrefix(g.ResourceID, o.Namespace+"/web-"), ":80")
	}
	out := map[string]int32{}
	for _, a := range observed.LoadBalancers[0].Listeners[0].Rules[0].Actions {
		if a.Type == model.ActionForward {
			for _, g := range a.Forward.TargetGroups {
				out[services[g.ARN]] = g.Weight
			}
		}
	}
	return out
}

func (e *env) waitForWeights(t testing.TB, o *networkingv1.Ingress, canary, stable int32) {
	t.Helper()
	eventually(t, func() string {
		if w := e.liveWeights(t, o); w["canary"] != canary || w["stable"] != stable {
			return fmt.Sprintf("the rule has %v, want canary %d, stable %d", w, canary, stable)
		}
		return ""
	})
}

func (e *env) waitForHostname(t testing.TB, o *networkingv1.Ingress) {
	t.Helper()
	eventually(t, func() string {
		if err := e.admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		if len(o.Status.LoadBalancer.Ingress) == 0 {
			return "the Ingress has no hostname"
		}
		return ""
	})
}

// From an Ingress to a load balancer that AWS knows, to one weight change by one call, to nothing at all.
func TestLifeOfAnIngress(t *testing.T) {
	e, namespace := newNamespace(t)
	o := e.newIngress(t, namespace, map[string]string{actionRoot: weights(t, 0, 100)})
	e.waitForHostname(t, o)
	if got := o.Status.LoadBalancer.Ingress[0]; !strings.HasSuffix(got.Hostname, ".elb.amazonaws.com") || got.Hostname != strings.ToLower(got.Hostname) {
		t.Errorf("hostname %q", got.Hostname)
	}
	if !slices.Contains(o.Finalizers, ingress.Finalizer) {
		t.Errorf("finalizers %v", o.Finalizers)
	}
	e.waitForWeights(t, o, 0, 100)
	var bindings elbv2.TargetGroupBindingList
	if err := e.admin.List(t.Context(), &bindings, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	if len(bindings.Items) != 2 {
		t.Fatalf("%d bindings", len(bindings.Items))
	}
	for _, b := range bindings.Items {
		if b.Spec.TargetGroupARN == "" || b.Spec.VpcID == "" || b.Spec.Networking == nil || !strings.HasPrefix(b.Spec.Networking.Ingress[0].From[0].SecurityGroup.GroupID, "sg-") {
			t.Errorf("binding %s: %+v", b.Name, b.Spec)
		}
	}

	// Quiet: passes that find nothing to do call AWS not once and write nothing.
	e.rest(t, o)
	writes, newest := e.writes.n.Load(), e.newest()
	e.rest(t, o)
	if calls := e.operations(newest); len(calls) > 0 {
		t.Errorf("a quiet pass calls %v", calls)
	}
	if n := e.writes.n.Load() - writes; n > 0 {
		t.Errorf("a quiet pass writes %d times", n)
	}

	// A weight change: one ModifyRule, and no read but those of the two target groups (nobody polls them
	// here) and the one that sees the rule again.
	newest = e.newest()
	e.annotate(t, o, actionRoot, weights(t, 20, 80))
	e.waitForWeights(t, o, 20, 80)
	e.rest(t, o)
	calls := e.operations(newest)
	if n := len(slices.DeleteFunc(slices.Clone(calls), func(op string) bool { return op != "ModifyRule" })); n != 1 {
		t.Errorf("%d calls of ModifyRule in %v", n, calls)
	}
	for _, op := range calls {
		if op != "ModifyRule" && op != "DescribeTargetHealth" && op != "DescribeRules" {
			t.Errorf("a weight change calls %s: %v", op, calls)
		}
	}

	// A broken action of a rollout keeps the rule.
	e.annotate(t, o, ingress.AnnotationManaged, `{"web":["`+actionRoot+`"]}`)
	e.annotate(t, o, actionRoot, `{"Type":"forw`)
	e.waitForEvent(t, namespace, "ActionHeld")
	e.rest(t, o)
	if w := e.liveWeights(t, o); w["canary"] != 20 || w["stable"] != 80 {
		t.Errorf("a broken action left %v", w)
	}

	e.remove(t.Context(), t, o)
	observed, err := e.cloud.Cloud.Stack(t.Context(), ingress.StackID(namespace, "web"))
	if err != nil || len(observed.LoadBalancers)+len(observed.TargetGroups)+len(observed.SecurityGroups) > 0 {
		t.Errorf("left in AWS: %+v %v", observed, err)
	}
	if all := e.emulator.LoadBalancers(); len(all) > 0 {
		t.Errorf("left in AWS: %+v", all)
	}
	groups, err := e.cloud.Cloud.SecurityGroupsByTag(t.Context(), map[string]string{model.TagCluster: "test"})
	if err != nil || len(groups) > 0 {
		t.Errorf("left in AWS: %+v %v", groups, err)
	}
}

func (e *env) waitForEvent(t *testing.T, namespace, reason string) (message string) {
	t.Helper()
	eventually(t, func() string {
		var list eventsv1.EventList
		if err := e.admin.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for _, event := range list.Items {
			if event.Reason == reason {
				message = event.Note
				return ""
			}
		}
		return fmt.Sprintf("no event %s among %d", reason, len(list.Items))
	})
	return message
}

// Bad input is told and changes nothing; it heals when corrected.
func TestBadInputHeals(t *testing.T) {
	e, namespace := newNamespace(t)
	o := e.newIngress(t, namespace, map[string]string{actionRoot: weights(t, 0, 100), ingress.Prefix + "scheme": "public"})
	if message := e.waitForEvent(t, namespace, "FailedBuildModel"); !strings.Contains(message, "internet-facing") {
		t.Errorf("the event names no remedy: %s", message)
	}
	if err := e.admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil || len(o.Finalizers) > 0 {
		t.Errorf("finalizers %v, %v", o.Finalizers, err)
	}
	e.annotate(t, o, ingress.Prefix+"scheme", "internal")
	e.waitForHostname(t, o)
}

// A Service that does not exist answers 503, and is found when it comes.
func TestServiceThatComesLater(t *testing.T) {
	e, namespace := newNamespace(t)
	o := e.newIngress(t, namespace, map[string]string{actionRoot: `{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"late","servicePort":80}]}}`})
	e.waitForHostname(t, o)
	e.waitForEvent(t, namespace, ingress.ReasonBackendMissing)
	late := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	late.Namespace, late.Name = namespace, "late"
	if err := e.admin.Create(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if w := e.liveWeights(t, o); len(w) != 1 {
			return fmt.Sprintf("the rule has %v", w)
		}
		return ""
	})
}

// The old sources of a load balancer are revoked when the new ones have been effective for the settle time.
func TestSourcesOverlap(t *testing.T) {
	e, namespace := newNamespace(t)
	o := e.newIngress(t, namespace, map[string]string{actionRoot: weights(t, 0, 100), ingress.Prefix + "inbound-cidrs": "10.0.0.0/8"})
	e.waitForHostname(t, o)
	newest := e.newest()
	e.annotate(t, o, ingress.Prefix+"inbound-cidrs", "10.1.0.0/16")
	eventually(t, func() string {
		observed, err := e.cloud.Cloud.Stack(t.Context(), ingress.StackID(namespace, "web"))
		if err != nil {
			t.Fatal(err)
		}
		if sources := observed.SecurityGroups[0].Ingress; len(sources) != 1 || sources[0].CIDR != "10.1.0.0/16" {
			return fmt.Sprintf("sources are %v", sources)
		}
		return ""
	})
	at := map[string]time.Time{}
	for _, r := range e.emulator.Journal().Since(newest) {
		at[r.Operation] = r.Received
	}
	authorized, read, revoked := at["AuthorizeSecurityGroupIngress"], at["DescribeSecurityGroups"], at["RevokeSecurityGroupIngress"]
	if authorized.IsZero() || revoked.Sub(authorized) < time.Second || !read.After(authorized.Add(time.Second)) || read.After(revoked) {
		t.Errorf("authorized %s, read %s, revoked %s", authorized, read, revoked)
	}
}

// While a rule still refers to the shared security group, the last Ingress waits for it, at a pace that costs AWS
// few calls; it does not wait for ever.
func TestTheSharedGroupIsWaitedForAtAPace(t *testing.T) {
	e, namespace := newNamespace(t)
	o := e.newIngress(t, namespace, map[string]string{actionRoot: weights(t, 0, 100)})
	e.waitForHostname(t, o)
	groups, err := e.cloud.SecurityGroupsByTag(t.Context(), map[string]string{model.TagBackendResource: model.BackendSecurityGroup})
	if err != nil || len(groups) != 1 {
		t.Fatalf("shared groups: %+v %v", groups, err)
	}
	node := e.emulator.EC2().NodeSecurityGroup()
	from := []model.Permission{{Protocol: "tcp", FromPort: 8080, ToPort: 8080, SourceGroupID: groups[0].GroupID}}
	if err := e.cloud.AuthorizeIngress(t.Context(), node, from); err != nil {
		t.Fatal(err)
	}
	e.remove(t.Context(), t, o)
	refused := e.operations(0)
	refused = slices.DeleteFunc(refused, func(op string) bool { return op != "DeleteSecurityGroup" })
	if n := len(refused); n > 20 {
		t.Errorf("DeleteSecurityGroup was called %d times", n)
	}
	if err := e.cloud.RevokeIngress(t.Context(), node, from); err != nil {
		t.Fatal(err)
	}
}

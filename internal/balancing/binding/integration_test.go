package binding_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

func labelled(app, hash string) map[string]string {
	return map[string]string{"app": app, rollouts.HashLabel: hash}
}

// One cluster and one AWS serve all of these, since starting them takes longer than the tests.
func TestBindings(t *testing.T) {
	w := newWorld(t)
	w.namespace("shop")
	for _, test := range []struct {
		name string
		run  func(*world)
	}{
		{"APodBecomesATargetAndItsGateOpens", podBecomesTarget},
		{"ANewVersionComesBeforeTheOldOneLeaves", newVersionFirst},
		{"AtWeightZeroTheOldVersionLeavesAtOnce", weightZero},
		{"AtAWeightTheLastVersionStays", weightHolds},
		{"MarkedPodsLeaveWhileTheyAreReady", marked},
		{"ADeletedBindingTakesEverythingAlong", deleted},
		{"TargetsOfOthersLeaveOnceOursAreHealthy", foreign},
		{"AWrongServicePortChangesNothing", wrongPort},
		{"WebhooksRefuseWhatCannotWork", refusals},
		{"APodThatIsNoLongerSelectedDoesNotWait", notNeeded},
		{"NodesAreTheTargetsOfInstanceGroups", instances},
		{"TheLeasesOfBothOriginalControllersAreOurs", leases},
	} {
		t.Run(test.name, func(t *testing.T) {
			sub := *w
			sub.T = t
			test.run(&sub)
		})
	}
}

func podBecomesTarget(w *world) {
	group := w.targetGroup("first", 100)
	w.service("shop", "first", map[string]string{"app": "first"})
	b := w.bind("shop", "first", group.ARN)
	if b.Spec.TargetType == nil || *b.Spec.TargetType != elbv2.TargetTypeIP || b.Spec.VpcID != w.aws.EC2().VPC() ||
		b.Spec.IPAddressType == nil || b.Spec.TargetGroupProtocol == nil {
		w.Fatalf("the webhook does not fill the spec from AWS: %+v", b.Spec)
	}
	w.gated("shop", "first", b)
	p := w.pod("shop", "first-1", map[string]string{"app": "first"})
	if want := []corev1.PodReadinessGate{{ConditionType: "target-health.elbv2.k8s.aws/first"}}; !slices.Equal(p.Spec.ReadinessGates, want) {
		w.Fatalf("readiness gates are %v, want %v", p.Spec.ReadinessGates, want)
	}
	// Health checks only pass when the firewall has let the load balancer in.
	w.becomes(group.ARN, p, "healthy")
	w.opens(p, b)

	w.must(w.client.Delete(w.ctx, p))
	w.eventually("the target of the dying pod leaves", func() (bool, string) {
		state := w.states(group.ARN)[p.Status.PodIP]
		return state != "healthy" && state != "initial", state
	})
	if c := w.gate(p, b); c.Status != corev1.ConditionTrue {
		w.Errorf("our own deregistration closes the gate: %+v", c)
	}
}

// gated waits until the webhook's cache knows the binding: a pod that is made before gets no gate.
func (w *world) gated(namespace, app string, b *elbv2.TargetGroupBinding, hash ...string) {
	w.Helper()
	labels := map[string]string{"app": app}
	if len(hash) > 0 {
		labels = labelled(app, hash[0])
	}
	w.eventually("new pods get the gate of "+b.Name, func() (bool, string) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "try-", Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
		w.must(w.client.Create(w.ctx, p, client.DryRunAll))
		return len(p.Spec.ReadinessGates) == 1, fmt.Sprint(p.Spec.ReadinessGates)
	})
}

func newVersionFirst(w *world) {
	group := w.targetGroup("switch", 100)
	s := w.service("shop", "switch", labelled("switch", "a"))
	b := w.bind("shop", "switch", group.ARN)
	w.gated("shop", "switch", b, "a")
	old := []*corev1.Pod{w.pod("shop", "switch-a1", labelled("switch", "a")), w.pod("shop", "switch-a2", labelled("switch", "a"))}
	for _, p := range old {
		w.becomes(group.ARN, p, "healthy")
		w.opens(p, b)
	}
	w.point(s, labelled("switch", "b"))
	w.told(b, "TargetsHeld")
	for _, p := range old {
		if state := w.states(group.ARN)[p.Status.PodIP]; state != "healthy" {
			w.Fatalf("with no pod of the new version, the target of %s is %q", p.Name, state)
		}
	}
	w.gated("shop", "switch", b, "b")
	// No ReplicaSet tells how many are to come: both have to be there before the first of them can be healthy.
	fresh := []*corev1.Pod{w.admitted("shop", "switch-b1", labelled("switch", "b")), w.admitted("shop", "switch-b2", labelled("switch", "b"))}
	for _, p := range fresh {
		w.run(p)
		w.becomes(group.ARN, p, "healthy")
	}
	for _, p := range old {
		w.becomes(group.ARN, p, "")
		if c := w.gate(p, b); c.Status != corev1.ConditionTrue {
			w.Errorf("the gate of %s closes: %+v", p.Name, c)
		}
	}
	// The order of the calls is what matters: both of the new in, before the first of the old out.
	in, out := w.calls("RegisterTargets", group.ARN, fresh), w.calls("DeregisterTargets", group.ARN, old)
	if len(in) == 0 || len(out) == 0 || slices.Max(in) > slices.Min(out) {
		w.Errorf("targets are registered by calls %v and deregistered by %v", in, out)
	}
}

// calls are the sequence numbers of the accepted calls that name a group and any of the pods.
func (w *world) calls(operation, arn string, pods []*corev1.Pod) []uint64 {
	var found []uint64
	for _, record := range w.aws.Journal().Since(0) {
		if record.Operation != operation || record.Code != "" || record.Parameters["TargetGroupArn"] != arn {
			continue
		}
		for _, value := range record.Parameters {
			if slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Status.PodIP == value }) {
				found = append(found, record.Sequence)
				break
			}
		}
	}
	return found
}

func weightZero(w *world) {
	group := w.targetGroup("canary", 0)
	s := w.service("shop", "canary", labelled("canary", "a"))
	w.bind("shop", "canary", group.ARN)
	old := w.pod("shop", "canary-a", labelled("canary", "a"))
	w.becomes(group.ARN, old, "healthy")
	w.point(s, labelled("canary", "b"))
	w.becomes(group.ARN, old, "")
}

func weightHolds(w *world) {
	group := w.targetGroup("held", 10)
	s := w.service("shop", "held", labelled("held", "a"))
	b := w.bind("shop", "held", group.ARN)
	old := w.pod("shop", "held-a", labelled("held", "a"))
	w.becomes(group.ARN, old, "healthy")
	w.point(s, labelled("held", "b"))
	w.told(b, "TargetsHeld")
	if calls := w.calls("DeregisterTargets", group.ARN, []*corev1.Pod{old}); len(calls) > 0 {
		w.Errorf("the only target of a group with a weight is deregistered by call %v", calls)
	}
}

func marked(w *world) {
	group := w.targetGroup("smaller", 100)
	w.service("shop", "smaller", map[string]string{"app": "smaller"})
	w.bind("shop", "smaller", group.ARN)
	stays, leaves := w.pod("shop", "smaller-1", map[string]string{"app": "smaller"}), w.pod("shop", "smaller-2", map[string]string{"app": "smaller"})
	w.becomes(group.ARN, stays, "healthy")
	w.becomes(group.ARN, leaves, "healthy")
	before := leaves.DeepCopy()
	leaves.Annotations = map[string]string{evidence.DrainAnnotation: evidence.DrainWhenCovered}
	w.must(w.client.Patch(w.ctx, leaves, client.MergeFrom(before)))
	w.becomes(group.ARN, leaves, "")
	w.becomes(group.ARN, stays, "healthy")
}

func deleted(w *world) {
	group := w.targetGroup("removed", 100)
	w.service("shop", "removed", map[string]string{"app": "removed"})
	b := w.bind("shop", "removed", group.ARN)
	// A rule that only this binding needs.
	before := b.DeepCopy()
	b.Spec.Networking.Ingress = append(b.Spec.Networking.Ingress, elbv2.NetworkingIngressRule{
		From:  []elbv2.NetworkingPeer{{IPBlock: &elbv2.IPBlock{CIDR: "192.0.2.0/24"}}},
		Ports: []elbv2.NetworkingPort{{Protocol: new(elbv2.NetworkingProtocolUDP)}}})
	w.must(w.client.Patch(w.ctx, b, client.MergeFrom(before)))
	p := w.pod("shop", "removed-1", map[string]string{"app": "removed"})
	w.becomes(group.ARN, p, "healthy")
	ours := func(rule model.Permission) bool { return rule.CIDR == "192.0.2.0/24" && plan.Owned(rule) }
	w.eventually("the rule is there", func() (bool, string) {
		rules := w.nodeRules()
		return slices.ContainsFunc(rules, ours), fmt.Sprint(rules)
	})
	w.must(w.client.Delete(w.ctx, b))
	w.gone(b)
	w.becomes(group.ARN, p, "")
	w.eventually("the rule is gone", func() (bool, string) {
		rules := w.nodeRules()
		return !slices.ContainsFunc(rules, ours), fmt.Sprint(rules)
	})
	if !slices.ContainsFunc(w.nodeRules(), func(rule model.Permission) bool { return rule.SourceGroupID == w.group }) {
		w.Error("the rule that other bindings need is gone too")
	}
}

// nodeRules are the rules of the security group of the pods' node.
func (w *world) nodeRules() []model.Permission {
	w.Helper()
	group, err := w.cloud.SecurityGroup(w.ctx, w.aws.EC2().NodeSecurityGroup())
	w.must(err)
	return group.Ingress
}

func foreign(w *world) {
	group := w.targetGroup("adopted", 100)
	elsewhere := w.pod("shop", "vm", map[string]string{"app": "none"})
	address := elsewhere.Status.PodIP
	w.must(w.client.Delete(w.ctx, elsewhere, client.GracePeriodSeconds(0)))
	w.gone(elsewhere)
	w.must(w.cloud.RegisterTargets(w.ctx, group.ARN, []model.Target{{ID: address, Port: 8080}}))
	elsewhere.Status.PodIP = address
	w.becomes(group.ARN, elsewhere, "healthy")
	w.service("shop", "adopted", map[string]string{"app": "adopted"})
	b := w.bind("shop", "adopted", group.ARN)
	w.told(b, "TargetsHeld")
	ours := w.pod("shop", "adopted-1", map[string]string{"app": "adopted"})
	w.becomes(group.ARN, ours, "healthy")
	w.becomes(group.ARN, elsewhere, "")
	in, out := w.calls("RegisterTargets", group.ARN, []*corev1.Pod{ours}), w.calls("DeregisterTargets", group.ARN, []*corev1.Pod{elsewhere})
	if len(in) == 0 || len(out) == 0 || slices.Min(in) > slices.Min(out) {
		w.Errorf("ours is registered by calls %v, the foreign target deregistered by %v", in, out)
	}
}

func wrongPort(w *world) {
	group := w.targetGroup("ported", 100)
	s := w.service("shop", "ported", map[string]string{"app": "ported"})
	b := w.bind("shop", "ported", group.ARN)
	p := w.pod("shop", "ported-1", map[string]string{"app": "ported"})
	w.becomes(group.ARN, p, "healthy")
	before := s.DeepCopy()
	s.Spec.Ports[0].Port = 81
	w.must(w.client.Patch(w.ctx, s, client.MergeFrom(before)))
	w.told(b, "BackendNotFound")
	w.becomes(group.ARN, p, "healthy")
	before = s.DeepCopy()
	s.Spec.Ports[0].Port = 80
	w.must(w.client.Patch(w.ctx, s, client.MergeFrom(before)))
	second := w.pod("shop", "ported-2", map[string]string{"app": "ported"})
	w.becomes(group.ARN, second, "healthy")
}

func refusals(w *world) {
	group := w.targetGroup("refused", 100)
	b := w.bind("shop", "refused", group.ARN)
	twin := &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "twin"}, Spec: elbv2.TargetGroupBindingSpec{
		TargetGroupARN: group.ARN, ServiceRef: b.Spec.ServiceRef}}
	w.eventually("a second binding of the group is refused", func() (bool, string) {
		err := w.client.Create(w.ctx, twin.DeepCopy(), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "bound by TargetGroupBinding shop/refused already"), fmt.Sprint(err)
	})
	wants := func(what, part string, err error) {
		w.Helper()
		if err == nil || !strings.Contains(err.Error(), part) {
			w.Errorf("%s: want an error with %q, got %v", what, part, err)
		}
	}
	before := b.DeepCopy()
	b.Spec.TargetGroupARN = strings.Replace(group.ARN, "refused", "another", 1)
	wants("another ARN", "spec.targetGroupARN cannot be changed", w.client.Patch(w.ctx, b, client.MergeFrom(before)))
	wants("an unknown group", "cannot look up target group nobody", w.client.Create(w.ctx, &elbv2.TargetGroupBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "nobody"},
		Spec:       elbv2.TargetGroupBindingSpec{TargetGroupName: "nobody", ServiceRef: b.Spec.ServiceRef}}))
	params := func(change func(*elbv2.IngressClassParamsSpec)) error {
		p := &elbv2.IngressClassParams{ObjectMeta: metav1.ObjectMeta{Name: "params"}}
		change(&p.Spec)
		return w.client.Create(w.ctx, p, client.DryRunAll)
	}
	w.must(params(func(s *elbv2.IngressClassParamsSpec) { s.InboundCIDRs = []string{"10.0.0.0/8"} }))
	wants("host bits", "write 10.0.0.0/8", params(func(s *elbv2.IngressClassParamsSpec) { s.InboundCIDRs = []string{"10.1.0.0/8"} }))
	wants("subnets both ways", "remove one of them", params(func(s *elbv2.IngressClassParamsSpec) {
		s.Subnets = &elbv2.SubnetSelector{IDs: []elbv2.SubnetID{"subnet-1"}, Tags: map[string][]string{"a": {"b"}}}
	}))
	wants("both spellings", "not both", params(func(s *elbv2.IngressClassParamsSpec) {
		s.PrefixListsIDs, s.PrefixListsIDsLegacy = []string{"pl-1"}, []string{"pl-1"}
	}))
}

func notNeeded(w *world) {
	group := w.targetGroup("waiting", 0)
	s := w.service("shop", "waiting", labelled("waiting", "a"))
	b := w.bind("shop", "waiting", group.ARN)
	w.gated("shop", "waiting", b, "a")
	p := w.admitted("shop", "waiting-a", labelled("waiting", "a"))
	// Before it is a target, the Service moves on.
	w.point(s, labelled("waiting", "b"))
	w.eventually("the gate opens, since nobody needs it", func() (bool, string) {
		c := w.gate(p, b)
		return c.Status == corev1.ConditionTrue && c.Reason == "NotNeeded", fmt.Sprint(c)
	})
}

func instances(w *world) {
	group := w.groupOf(model.TargetInstance, "nodes", 100)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "nodes"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "nodes"}, Ports: []corev1.ServicePort{{Port: 80}}}}
	w.must(w.client.Create(w.ctx, s))
	port := s.Spec.Ports[0].NodePort
	w.serve(netip.AddrPortFrom(w.node, uint16(port)))
	b := &elbv2.TargetGroupBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "nodes"},
		Spec: elbv2.TargetGroupBindingSpec{
			TargetGroupARN: group.ARN, ServiceRef: elbv2.ServiceReference{Name: "nodes", Port: intstr.FromInt32(80)},
			Networking: &elbv2.TargetGroupBindingNetworking{Ingress: []elbv2.NetworkingIngressRule{{
				From:  []elbv2.NetworkingPeer{{SecurityGroup: &elbv2.SecurityGroup{GroupID: w.group}}},
				Ports: []elbv2.NetworkingPort{{Port: new(intstr.FromInt32(port))}},
			}}},
		},
	}
	w.must(w.client.Create(w.ctx, b))
	if b.Spec.TargetType == nil || *b.Spec.TargetType != elbv2.TargetTypeInstance {
		w.Fatalf("the webhook fills in target type %v", b.Spec.TargetType)
	}
	w.eventually("the node is a healthy target", func() (bool, string) {
		got := w.states(group.ARN)
		return got[w.instance] == "healthy", fmt.Sprint(got)
	})
	node := &corev1.Node{}
	w.must(w.client.Get(w.ctx, types.NamespacedName{Name: "node-a"}, node))
	before := node.DeepCopy()
	node.Labels = map[string]string{"node.kubernetes.io/exclude-from-external-load-balancers": "true"}
	w.must(w.client.Patch(w.ctx, node, client.MergeFrom(before)))
	w.eventually("the excluded node leaves", func() (bool, string) {
		got := w.states(group.ARN)
		return got[w.instance] != "healthy", fmt.Sprint(got)
	})
	before = node.DeepCopy()
	delete(node.Labels, "node.kubernetes.io/exclude-from-external-load-balancers")
	w.must(w.client.Patch(w.ctx, node, client.MergeFrom(before)))
	w.eventually("the node is back", func() (bool, string) {
		got := w.states(group.ARN)
		return got[w.instance] == "healthy", fmt.Sprint(got)
	})
}

func leases(w *world) {
	for _, name := range []string{kube.LeaseLoadBalancer, kube.LeaseRollouts} {
		w.eventually("lease "+name+" is held", func() (bool, string) {
			lease := &coordinationv1.Lease{}
			err := w.client.Get(w.ctx, types.NamespacedName{Namespace: "default", Name: name}, lease)
			return err == nil && lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "", fmt.Sprint(err, lease.Spec)
		})
	}
}

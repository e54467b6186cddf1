package binding

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

func TestPodsAsThePlanSeesThem(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web", "rollouts-pod-template-hash": "b"}}}
	port := corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}
	conditions := func(list ...corev1.PodConditionType) (all []corev1.PodCondition) {
		for _, c := range list {
			all = append(all, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue})
		}
		return all
	}
	base := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "u", Labels: map[string]string{"app": "web", "rollouts-pod-template-hash": "b"},
				OwnerReferences: []metav1.OwnerReference{{Controller: new(true)}}},
			Spec: corev1.PodSpec{NodeName: "up", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
			Status: corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
				Conditions: conditions(corev1.ContainersReady, corev1.PodReady)},
		}
		change(p)
		return p
	}
	want := func(change func(*plan.Pod)) plan.Pod {
		p := plan.Pod{Namespace: "shop", Name: "p", UID: "u", IP: "10.0.0.1", Port: 8080, Selected: true, Owned: true, Life: plan.Ready}
		change(&p)
		return p
	}
	gate := elbv2.ReadinessGate("web")
	tests := []struct {
		name string
		pod  *corev1.Pod
		want plan.Pod
	}{
		{"ready", base(func(*corev1.Pod) {}), want(func(*plan.Pod) {})},
		{"of another version", base(func(p *corev1.Pod) { p.Labels["rollouts-pod-template-hash"] = "a" }),
			want(func(p *plan.Pod) { p.Selected, p.OtherVersion = false, true })},
		{"of another app", base(func(p *corev1.Pod) { p.Labels["app"] = "db" }), want(func(p *plan.Pod) { p.Selected = false })},
		{"of another namespace", base(func(p *corev1.Pod) { p.Namespace = "other" }),
			want(func(p *plan.Pod) { p.Namespace, p.Selected = "other", false })},
		{"orphaned", base(func(p *corev1.Pod) { p.OwnerReferences = nil }), want(func(p *plan.Pod) { p.Owned = false })},
		{"terminating", base(func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }), want(func(p *plan.Pod) { p.Life = plan.Dying })},
		{"finished", base(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), want(func(p *plan.Pod) { p.Life = plan.Dying })},
		{"starting", base(func(p *corev1.Pod) { p.Status.Conditions = nil }), want(func(p *plan.Pod) { p.Life = plan.Unready })},
		{"waiting for its gate", base(func(p *corev1.Pod) {
			p.Status.Conditions = conditions(corev1.ContainersReady)
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
		}), want(func(p *plan.Pod) { p.Life, p.Gate = plan.Waiting, &plan.Gate{} })},
		{"with its gate open and not yet counted by the kubelet", base(func(p *corev1.Pod) {
			p.Status.Conditions = conditions(corev1.ContainersReady, gate)
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
		}), want(func(p *plan.Pod) { p.Life, p.Gate = plan.Waiting, &plan.Gate{Status: plan.GateTrue} })},
		{"on a node that does not answer", base(func(p *corev1.Pod) {
			p.Status.Conditions, p.Spec.NodeName = conditions(corev1.ContainersReady), "down"
		}), want(func(p *plan.Pod) { p.Life = plan.Lost })},
		{"marked", base(func(p *corev1.Pod) { p.Annotations = map[string]string{evidence.DrainAnnotation: "true"} }),
			want(func(p *plan.Pod) { p.Drain = plan.WhenCovered })},
		{"marked to go anyway", base(func(p *corev1.Pod) { p.Annotations = map[string]string{evidence.DrainAnnotation: "anyway"} }),
			want(func(p *plan.Pod) { p.Drain = plan.Anyway })},
		{"without the named port", base(func(p *corev1.Pod) { p.Spec.Containers = nil }), want(func(p *plan.Pod) { p.Port = 0 })},
		{"with the port in a sidecar", base(func(p *corev1.Pod) { p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil }), want(func(*plan.Pod) {})},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			b := &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
			m := newMembers(b, service, port, func(node string) bool { return node == "up" })
			if diff := cmp.Diff(test.want, m.pod(test.pod)); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
		})
	}
	ipv6 := &elbv2.TargetGroupBinding{Spec: elbv2.TargetGroupBindingSpec{IPAddressType: new(elbv2.TargetGroupIPAddressTypeIPv6)}}
	if got := newMembers(ipv6, service, port, nil).pod(base(func(*corev1.Pod) {})).IP; got != "fd00::1" {
		t.Errorf("the address for an ipv6 group is %q", got)
	}
}

func TestShareIsTheHighestWeightSeen(t *testing.T) {
	seen := evidence.Snapshot{
		LoadBalancer: evidence.LoadBalancer{ARN: "lb"},
		Groups:       []evidence.Group{{Service: "web", ARN: "tg"}},
		Placements:   []evidence.Placement{{Weights: map[string]int32{"web": 0}}, {Weights: map[string]int32{"web": 7}}, {Weights: map[string]int32{"db": 100}}},
	}
	if got := shareOf(seen, "web", "tg"); !got.Known || got.Weight != 7 {
		t.Errorf("share is %+v, want a known weight of 7", got)
	}
	if got := shareOf(seen, "web", "another"); got.Known {
		t.Errorf("the share of a group that was not seen is known: %+v", got)
	}
	seen.LoadBalancer = evidence.LoadBalancer{}
	if got := shareOf(seen, "web", "tg"); got.Known {
		t.Errorf("without a load balancer the share is known: %+v", got)
	}
}

func TestQueryComesFromTheResourceTag(t *testing.T) {
	b := &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelStackNamespace: "ns", labelStackName: "group-less"}},
		Spec: elbv2.TargetGroupBindingSpec{ServiceRef: elbv2.ServiceReference{Name: "my-web", Port: intstr.FromInt32(80)}}}
	for tag, want := range map[string]evidence.Query{
		"shop/in-gress-my-web:http": {Namespace: "shop", Ingress: "in-gress", Services: []evidence.ServicePort{{Service: "my-web", Port: "http"}}},
		"":                          {Namespace: "ns", Ingress: "group-less", Services: []evidence.ServicePort{{Service: "my-web", Port: "80"}}},
	} {
		got, ok := queryOf(b, tag)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("tag %q (-want +got):\n%s", tag, diff)
		}
	}
	if _, ok := queryOf(b, "shop/web-other:80"); ok {
		t.Error("the tag of another Service gives a query")
	}
}

func TestZone(t *testing.T) {
	vpc := []string{"10.0.0.0/16", "fd00::/56"}
	for ip, want := range map[string]string{"10.0.3.4": "", "fd00::7": "", "192.168.0.1": "all"} {
		if got := zone(ip, vpc); got != want {
			t.Errorf("the zone of %s is %q, want %q", ip, got, want)
		}
	}
}

func TestSomeNamesAFewTargets(t *testing.T) {
	targets := []model.Target{{ID: "10.0.0.1", Port: 80}, {ID: "10.0.0.2", Port: 80}, {ID: "10.0.0.3", Port: 80}, {ID: "10.0.0.4", Port: 80}}
	if got, want := some(targets), "10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80, 1 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCheckpointIgnoresTheOrderOfEndpoints(t *testing.T) {
	spec := elbv2.TargetGroupBindingSpec{TargetGroupARN: "arn"}
	a, err := checkpoint([]string{"10.0.0.2:80:1", "10.0.0.1:80:1"}, spec)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := checkpoint([]string{"10.0.0.1:80:1", "10.0.0.2:80:1"}, spec)
	other, _ := checkpoint([]string{"10.0.0.1:80:2", "10.0.0.2:80:1"}, spec)
	if a != b || a == other {
		t.Errorf("checkpoints %s, %s, %s", a, b, other)
	}
}

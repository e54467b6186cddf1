package controller

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	bindingplan "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// gathered are the values of all metrics, by name and label values.
func gathered(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := []string{family.GetName()}
			for _, label := range m.Label {
				name = append(name, label.GetValue())
			}
			got[strings.Join(name, " ")] = m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return got
}

func TestInventoryTellsWhatTheCacheHolds(t *testing.T) {
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	bound := func(name, service, arn string) client.Object {
		return &elbv2.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec: elbv2.TargetGroupBindingSpec{TargetGroupARN: arn, ServiceRef: elbv2.ServiceReference{Name: service}}}
	}
	const arn = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/k8s-shop-web/0123456789abcdef"
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		bound("a", "web", arn), bound("twice", "web", arn), bound("not-yet", "web", ""),
		&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}},
	).Build()
	want := map[string]float64{
		"aws_target_group_info shop web targetgroup/k8s-shop-web/0123456789abcdef": 1,
		"awslbc_controller_cache_object_total targetgroupbinding":                  3,
		"awslbc_controller_cache_object_total ingress":                             1,
		"awslbc_controller_cache_object_total service":                             0,
	}
	if diff := cmp.Diff(want, gathered(t, inventory{reader, slog.New(slog.DiscardHandler)})); diff != "" {
		t.Error(diff)
	}
}

func TestTheWaitForAGateIsMeasuredOnce(t *testing.T) {
	start := time.Unix(1000, 0)
	pod := func(gate corev1.ConditionStatus, reason string, after time.Duration) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start)},
			{Type: elbv2.ReadinessGate("web"), Status: gate, Reason: reason, LastTransitionTime: metav1.NewTime(start.Add(after))},
		}}}
	}
	waiting, healthy := pod(corev1.ConditionFalse, "Elb.InitialHealthChecking", 5*time.Second), pod(corev1.ConditionTrue, bindingplan.ReasonHealthy, 20*time.Second)
	bare := pod(corev1.ConditionTrue, "", 0)
	bare.Status.Conditions = bare.Status.Conditions[:1]

	g := newGates()
	g.changed(bare, waiting)
	g.changed(waiting, healthy)
	g.changed(healthy, healthy)
	g.changed(waiting, pod(corev1.ConditionTrue, bindingplan.ReasonNotNeeded, 7*time.Second))
	got := gathered(t, g.ready)
	if want := map[string]float64{"awslbc_readiness_gate_ready_seconds web shop": 20}; !maps.Equal(got, want) {
		t.Errorf("measured %v, want %v (%v)", got, want, slices.Sorted(maps.Keys(got)))
	}
}

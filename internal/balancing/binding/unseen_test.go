package binding

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// throttledRules is a Cloud with one target group, and evidence whose reads of rules AWS throttles.
type throttledRules struct {
	Cloud
	health           []model.TargetHealth
	registered, left []string
}

func (c *throttledRules) VPC() cloud.VPC            { return cloud.VPC{} }
func (c *throttledRules) WatchTargets(string, bool) {}

func (c *throttledRules) TargetGroup(ctx context.Context, arn string) (model.ObservedTargetGroup, error) {
	return oneGroup{}.TargetGroup(ctx, arn)
}

func (c *throttledRules) TargetHealth(context.Context, string, time.Time) ([]model.TargetHealth, time.Time, error) {
	return c.health, time.Now(), nil
}

func (c *throttledRules) RegisterTargets(_ context.Context, _ string, targets []model.Target) error {
	for _, t := range targets {
		c.registered = append(c.registered, t.ID)
	}
	return nil
}

func (c *throttledRules) DeregisterTargets(_ context.Context, _ string, targets []model.Target) error {
	for _, t := range targets {
		c.left = append(c.left, t.ID)
	}
	return nil
}

type throttledEvidence struct{ evidence.Source }

func (throttledEvidence) Observe(context.Context, evidence.Query, time.Time) (evidence.Snapshot, error) {
	return evidence.Snapshot{}, &cloud.APIError{Kind: cloud.KindThrottled, Operation: "DescribeRules", Code: "Throttling"}
}

// web is a binding and its Service, which selects version b.
func web() (*elbv2.TargetGroupBinding, *corev1.Service) {
	b := &elbv2.TargetGroupBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Finalizers: []string{elbv2.FinalizerResources},
			Labels: map[string]string{labelStackNamespace: "shop", labelStackName: "web"}},
		Spec: elbv2.TargetGroupBindingSpec{TargetGroupARN: "arn:web", TargetType: new(elbv2.TargetTypeIP),
			ServiceRef: elbv2.ServiceReference{Name: "web", Port: intstr.FromInt32(80)}},
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web", rollouts.HashLabel: "b"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	return b, service
}

// webPod is a ready pod of a version.
func webPod(name, hash, ip string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web", rollouts.HashLabel: hash}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.ContainersReady, Status: corev1.ConditionTrue}}}}
}

// apiWith is an API server with these objects, or a cache of one.
func apiWith(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	none := func(client.Object) []string { return nil }
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&elbv2.TargetGroupBinding{}).
		WithIndex(&corev1.Pod{}, kube.IndexPodIP, func(o client.Object) []string { return []string{o.(*corev1.Pod).Status.PodIP} }).
		WithIndex(&corev1.Pod{}, kube.IndexReadinessGate, none).
		WithIndex(&elbv2.TargetGroupBinding{}, indexARN, func(o client.Object) []string {
			return []string{o.(*elbv2.TargetGroupBinding).Spec.TargetGroupARN}
		}).Build()
}

// Law 5: what the rules say matters to those who leave. Who comes must not wait until AWS lets them be read.
func TestATargetIsRegisteredThoughTheRulesCannotBeSeen(t *testing.T) {
	b, service := web()
	api := apiWith(t, b, service, webPod("new", "b", "10.0.0.2"), webPod("old", "a", "10.0.0.1"))
	aws := &throttledRules{health: []model.TargetHealth{{Target: model.Target{ID: "10.0.0.1", Port: 8080}, State: "healthy"}}}
	c := &Controller{Client: api, Live: api, Cloud: aws, Evidence: throttledEvidence{}, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Settings: Settings{Settings: plan.Settings{Settle: time.Minute, Freshness: time.Second}}}
	result, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(b)})
	if err != nil {
		t.Fatal(err)
	}
	if len(aws.registered) == 0 || aws.registered[0] != "10.0.0.2" {
		t.Errorf("registered %v, want the new pod", aws.registered)
	}
	if len(aws.left) > 0 {
		t.Errorf("%v left before the new pod is healthy", aws.left)
	}
	if result.RequeueAfter == 0 {
		t.Error("nobody comes again for what waits for the rules")
	}
}

package binding

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Law 3: no target leaves by a drain mark that only the cache still has.
func TestATargetStaysWhoseMarkWasTakenBack(t *testing.T) {
	marked := func(p *corev1.Pod, value string) *corev1.Pod {
		p.Annotations = map[string]string{evidence.DrainAnnotation: value}
		return p
	}
	for _, c := range []struct {
		why          string
		cached, live *corev1.Pod
		left         []string
	}{
		{"the mark is there", marked(webPod("second", "b", "10.0.0.2"), evidence.DrainWhenCovered), marked(webPod("second", "b", "10.0.0.2"), evidence.DrainWhenCovered), []string{"10.0.0.2"}},
		{"it was taken back", marked(webPod("second", "b", "10.0.0.2"), evidence.DrainWhenCovered), webPod("second", "b", "10.0.0.2"), nil},
		{"it said that no pods are wanted, and was taken back", marked(webPod("second", "b", "10.0.0.2"), evidence.DrainAnyway), webPod("second", "b", "10.0.0.2"), nil},
	} {
		b, service := web()
		first := webPod("first", "b", "10.0.0.1")
		aws := &throttledRules{}
		for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
			aws.health = append(aws.health, model.TargetHealth{Target: model.Target{ID: ip, Port: 8080}, State: "healthy"})
		}
		controller := &Controller{Client: apiWith(t, b, service, first, c.cached), Live: apiWith(t, service, first, c.live), Cloud: aws,
			Logger: slog.New(slog.DiscardHandler), Now: time.Now, Settings: Settings{Settings: plan.Settings{Settle: time.Minute, Freshness: time.Second}}}
		if _, err := controller.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(b)}); err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
		if !slices.Equal(aws.left, c.left) {
			t.Errorf("%s: %v left, want %v", c.why, aws.left, c.left)
		}
	}
}

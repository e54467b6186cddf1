package binding

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
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

// Ten thousand pods are not held in memory at once for the marks of a few.
func TestMarksAreReadInPages(t *testing.T) {
	first, second := webPod("first", "b", "10.0.0.1"), webPod("second", "b", "10.0.0.2")
	var asked []string
	live := interceptor.NewClient(nil, interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, to client.ObjectList, options ...client.ListOption) error {
		var o client.ListOptions
		o.ApplyOptions(options)
		if o.Limit == 0 || o.Limit > 500 || o.Namespace != "shop" || !o.LabelSelector.Matches(labels.Set(first.Labels)) {
			t.Errorf("asked for %+v", o)
		}
		asked = append(asked, o.Continue)
		list := to.(*metav1.PartialObjectMetadataList)
		list.Items = []metav1.PartialObjectMetadata{{ObjectMeta: second.ObjectMeta}}
		if o.Continue == "" {
			list.Continue, list.Items[0].ObjectMeta = "the rest", first.ObjectMeta
		}
		return nil
	}})
	o := &observation{service: &corev1.Service{}, members: members{anyVersion: labels.Everything()}}
	for _, pod := range []*corev1.Pod{first, second} {
		o.Pods = append(o.Pods, plan.Pod{UID: string(pod.UID), Drain: plan.Anyway})
	}
	c := &Controller{Live: live}
	if err := c.readMarks(t.Context(), &round{key: types.NamespacedName{Namespace: "shop", Name: "web"}}, o); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"", "the rest"}) || o.Pods[0].Drain != plan.Stay || o.Pods[1].Drain != plan.Stay {
		t.Errorf("pages %q, pods %+v", asked, o.Pods)
	}
}

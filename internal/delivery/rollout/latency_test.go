package rollout

import (
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// The time from the moment at which promote has returned until a watcher of the Ingress sees the new
// weight, with the pods already there. To repeat:
//
//	go test ./internal/delivery/rollout -run '^$' -bench PromoteToIngress -benchtime 40x
func BenchmarkPromoteToIngress(b *testing.B) {
	if admin == nil {
		b.Fatal("no control plane is built; run: make controlplane")
	}
	steps := []v1alpha1.CanaryStep{{SetCanaryScale: &v1alpha1.SetCanaryScale{Replicas: new(int32(2))}}, weight(1), pause()}
	for n := range 95 { // One more than benchtime may ask for.
		steps = append(steps, weight(int32(n%98)+2), pause())
	}
	s := openShop(b, nil, steps...)
	s.phase(v1alpha1.PhaseHealthy)
	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
	watcher, err := client.NewWithWatch(adminConfig, client.Options{Scheme: admin.Scheme()})
	if err != nil {
		b.Fatal(err)
	}
	w, err := watcher.Watch(s.ctx, &networkingv1.IngressList{}, client.InNamespace(s.key.Namespace))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	var times []time.Duration
	for b.Loop() {
		action := s.drainEvents(w)
		index := *s.phase(v1alpha1.PhasePaused).Status.CurrentStepIndex
		begin := time.Now()
		s.promote()
		for e := range w.ResultChan() {
			if i, ok := e.Object.(*networkingv1.Ingress); ok && i.Annotations["alb.ingress.kubernetes.io/actions.stable"] != action {
				break
			}
		}
		times = append(times, time.Since(begin))
		s.until("paused again", func(r *v1alpha1.Rollout) bool {
			return r.Status.Phase == v1alpha1.PhasePaused && *r.Status.CurrentStepIndex > index
		})
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*9/10].Microseconds())/1000, "p90-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
}

// drainEvents takes what has been watched so far and returns the present action.
func (s *shop) drainEvents(w watch.Interface) string {
	for {
		select {
		case <-w.ResultChan():
		default:
			var i networkingv1.Ingress
			if err := admin.Get(s.ctx, s.key, &i); err != nil {
				s.t.Fatal(err)
			}
			return i.Annotations["alb.ingress.kubernetes.io/actions.stable"]
		}
	}
}

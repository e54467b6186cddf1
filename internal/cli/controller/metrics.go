package controller

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	bindingplan "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
)

// inventory publishes what the caches hold, counted when it is asked for. The names are those under which
// existing dashboards know it.
type inventory struct {
	reader client.Reader
	logger *slog.Logger
}

var (
	targetGroupInfo = prometheus.NewDesc("aws_target_group_info", "The target group of a Service, named as in CloudWatch's dimension.",
		[]string{"namespace", "service", "target_group"}, nil)
	cacheObjects = prometheus.NewDesc("awslbc_controller_cache_object_total", "Objects in the controller's cache.", []string{"resource"}, nil)
)

// Describe names the metrics.
func (i inventory) Describe(to chan<- *prometheus.Desc) {
	to <- targetGroupInfo
	to <- cacheObjects
}

// collectWithin bounds the wait for a cache that is not filled yet.
const collectWithin = time.Second

// Collect counts. What cannot be read is left out, and not counted as 0.
func (i inventory) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectWithin)
	defer cancel()
	var bindings elbv2.TargetGroupBindingList
	var ingresses networkingv1.IngressList
	var services corev1.ServiceList
	for resource, list := range map[string]client.ObjectList{"targetgroupbinding": &bindings, "ingress": &ingresses, "service": &services} {
		if err := i.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			i.logger.Warn("cached objects are not counted", "resource", resource, "error", err)
			continue
		}
		to <- prometheus.MustNewConstMetric(cacheObjects, prometheus.GaugeValue, float64(meta.LenList(list)), resource)
	}
	known := map[[3]string]bool{}
	for _, b := range bindings.Items {
		arn := b.Spec.TargetGroupARN
		labels := [3]string{b.Namespace, b.Spec.ServiceRef.Name, arn[strings.LastIndex(arn, ":")+1:]}
		if arn != "" && !known[labels] {
			known[labels] = true
			to <- prometheus.MustNewConstMetric(targetGroupInfo, prometheus.GaugeValue, 1, labels[:]...)
		}
	}
}

// gates measures how long pods wait for their readiness gates.
type gates struct{ ready *prometheus.HistogramVec }

func newGates() gates {
	return gates{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "awslbc_readiness_gate_ready_seconds", Help: "Time from a pod's containers being ready until its readiness gate is True.",
		Buckets: append([]float64{10, 30}, prometheus.LinearBuckets(60, 60, 10)...),
	}, []string{"namespace", "name"})}
}

// changed looks at what an update of a pod did to its gates. The wait begins with the containers: a gate's own
// times tell only of the last step on the way. A gate that is answered since no traffic is to reach the pod has
// waited for nothing.
func (g gates) changed(was, is *corev1.Pod) {
	running := condition(is, corev1.ContainersReady)
	if running == nil || running.Status != corev1.ConditionTrue {
		return
	}
	for i := range is.Status.Conditions {
		gate := &is.Status.Conditions[i]
		name, ours := strings.CutPrefix(string(gate.Type), elbv2.ReadinessGatePrefix)
		if !ours || gate.Status != corev1.ConditionTrue || gate.Reason == bindingplan.ReasonNotNeeded {
			continue
		}
		if before := condition(was, gate.Type); before == nil || before.Status != corev1.ConditionTrue {
			waited := gate.LastTransitionTime.Sub(running.LastTransitionTime.Time)
			g.ready.WithLabelValues(is.Namespace, name).Observe(max(waited, 0).Seconds())
		}
	}
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// measure publishes both. Only the leader, who writes the gates, measures them.
func measure(m manager.Manager, registry prometheus.Registerer, logger *slog.Logger) error {
	g := newGates()
	for _, c := range []prometheus.Collector{inventory{m.GetClient(), logger}, g.ready} {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("cannot publish metrics: %w", err)
		}
	}
	return m.Add(manager.RunnableFunc(func(ctx context.Context) error {
		pods, err := m.GetCache().GetInformer(ctx, &corev1.Pod{})
		if err != nil {
			return err
		}
		_, err = pods.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(was, is any) {
			before, ok := was.(*corev1.Pod)
			after, ok2 := is.(*corev1.Pod)
			if ok && ok2 {
				g.changed(before, after)
			}
		}})
		return err
	}))
}

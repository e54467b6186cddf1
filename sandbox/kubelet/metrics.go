package kubelet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Where the metrics API is served: at an address of the VPC that clouds keep for themselves.
const (
	metricsHost    = 3
	metricsPort    = 4443
	metricsService = "metrics-server"
	metricsPath    = "/apis/metrics.k8s.io/v1beta1"
	apiServiceName = "v1beta1.metrics.k8s.io"
)

// metricsHandler serves metrics.k8s.io: what kubectl top and HorizontalPodAutoscalers ask for.
func (k *Kubelet) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+metricsPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, metricsResources()) })
	mux.HandleFunc("GET "+metricsPath+"/nodes", k.serveNodeMetrics)
	mux.HandleFunc("GET "+metricsPath+"/nodes/{name}", k.serveNodeMetrics)
	for _, path := range []string{"/pods", "/namespaces/{namespace}/pods", "/namespaces/{namespace}/pods/{name}"} {
		mux.HandleFunc("GET "+metricsPath+path, k.servePodMetrics)
	}
	return mux
}

func metricsResources() metav1.APIResourceList {
	verbs := metav1.Verbs{"get", "list"}
	return metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: metrics.SchemeGroupVersion.String(),
		APIResources: []metav1.APIResource{
			{Name: "nodes", Kind: "NodeMetrics", Verbs: verbs},
			{Name: "pods", Kind: "PodMetrics", Namespaced: true, Verbs: verbs},
		},
	}
}

func answer(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

// refuse answers as an API server does.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: reason, Message: message, Code: int32(code),
	})
}

func metricsType(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: metrics.SchemeGroupVersion.String()}
}

func (k *Kubelet) servePodMetrics(w http.ResponseWriter, r *http.Request) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	items := k.podMetrics(func(p *corev1.Pod) bool {
		return (namespace == "" || p.Namespace == namespace) && (name == "" || p.Name == name) && selector.Matches(labels.Set(p.Labels))
	})
	switch {
	case name == "":
		answer(w, metrics.PodMetricsList{TypeMeta: metricsType("PodMetricsList"), Items: items})
	case len(items) == 0:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("podmetrics.metrics.k8s.io %q not found", namespace+"/"+name))
	default:
		answer(w, items[0])
	}
}

// podMetrics returns what the wanted pods use. Pods with a container of which nothing is known yet are left out.
func (k *Kubelet) podMetrics(wanted func(*corev1.Pod) bool) []metrics.PodMetrics {
	items := []metrics.PodMetrics{}
	at, window := k.eachUsage(func(v view, readings []reading) {
		if !wanted(v.pod) {
			return
		}
		item := metrics.PodMetrics{
			TypeMeta:   metricsType("PodMetrics"),
			ObjectMeta: metav1.ObjectMeta{Name: v.pod.Name, Namespace: v.pod.Namespace, Labels: v.pod.Labels},
		}
		for _, c := range v.pod.Spec.Containers {
			i := slices.IndexFunc(readings, func(r reading) bool { return r.ref.Container == c.Name && r.known })
			if i < 0 {
				return
			}
			item.Containers = append(item.Containers, metrics.ContainerMetrics{Name: c.Name, Usage: readings[i].resources()})
		}
		items = append(items, item)
	})
	for i := range items {
		items[i].Timestamp, items[i].Window = metav1.NewTime(at), metav1.Duration{Duration: window}
		items[i].CreationTimestamp = items[i].Timestamp
	}
	slices.SortFunc(items, func(a, b metrics.PodMetrics) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return items
}

// eachUsage calls f with every pod of a node that can be reached, and returns the time of the last look and its window.
func (k *Kubelet) eachUsage(f func(view, []reading)) (at time.Time, window time.Duration) {
	k.mu.Lock()
	at, window = k.meter.at, k.meter.window
	pods := slices.Collect(maps.Values(k.pods))
	k.mu.Unlock()
	for _, p := range pods {
		if p.node.lost() {
			continue
		}
		p.mu.Lock()
		readings := p.usage
		p.mu.Unlock()
		f(p.now(), readings)
	}
	return at, window
}

func (k *Kubelet) serveNodeMetrics(w http.ResponseWriter, r *http.Request) {
	totals := map[*node]usage{}
	at, window := k.eachUsage(func(v view, readings []reading) {
		total := totals[v.node]
		for _, u := range readings {
			total.cpu += u.cpu
			total.memory += u.memory
		}
		totals[v.node] = total
	})
	items := []metrics.NodeMetrics{}
	for _, n := range k.allNodes() {
		if name := r.PathValue("name"); n.lost() || at.IsZero() || name != "" && n.name != name {
			continue
		}
		items = append(items, metrics.NodeMetrics{
			TypeMeta: metricsType("NodeMetrics"), ObjectMeta: metav1.ObjectMeta{Name: n.name, CreationTimestamp: metav1.NewTime(at)},
			Timestamp: metav1.NewTime(at), Window: metav1.Duration{Duration: window}, Usage: totals[n].resources(),
		})
	}
	switch {
	case r.PathValue("name") == "":
		answer(w, metrics.NodeMetricsList{TypeMeta: metricsType("NodeMetricsList"), Items: items})
	case len(items) == 0:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("nodemetrics.metrics.k8s.io %q not found", r.PathValue("name")))
	default:
		answer(w, items[0])
	}
}

// serveMetrics serves the metrics API and lets the API server find it, until ctx ends. A cluster works without, so
// problems are told and nothing more.
func (k *Kubelet) serveMetrics(ctx context.Context) {
	if k.identity == nil {
		return
	}
	vpc := k.cfg.VPC
	base := vpc.CIDR().Addr().As4()
	base[3] = metricsHost
	at := vpc.Real(netip.AddrPortFrom(netip.AddrFrom4(base), metricsPort))
	e, err := serve(ctx, at, k.identity, k.metricsHandler())
	if err != nil {
		k.cfg.Log.Warn("there are no metrics: HorizontalPodAutoscalers will not act", "error", err)
		return
	}
	defer e.close()
	err = k.retry(ctx, func() error { return k.publishMetrics(ctx, at) })
	if err != nil && ctx.Err() == nil {
		k.cfg.Log.Warn("there are no metrics: HorizontalPodAutoscalers will not act", "error", err)
		return
	}
	defer k.withdrawMetrics()
	k.measure(ctx)
}

// publishMetrics makes the API server pass requests for metrics.k8s.io on to an address. A Service of type ExternalName is the
// one that the API server does not look for endpoints of.
func (k *Kubelet) publishMetrics(ctx context.Context, at netip.AddrPort) error {
	service := map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": metricsService, "namespace": metav1.NamespaceSystem},
		"spec":     map[string]any{"type": "ExternalName", "externalName": at.Addr().String()},
	}
	api := map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
		"metadata": map[string]any{"name": apiServiceName},
		"spec": map[string]any{
			"group": metrics.GroupName, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
			"service": map[string]any{"name": metricsService, "namespace": metav1.NamespaceSystem, "port": at.Port()},
		},
	}
	if err := k.apply(ctx, "/api/v1/namespaces/"+metav1.NamespaceSystem+"/services/"+metricsService, service); err != nil {
		return err
	}
	return k.apply(ctx, "/apis/apiregistration.k8s.io/v1/apiservices/"+apiServiceName, api)
}

// apply writes an object whether it exists or not.
func (k *Kubelet) apply(ctx context.Context, path string, object map[string]any) error {
	patch, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return k.rest().Patch(types.ApplyPatchType).AbsPath(path).
		Param("fieldManager", "lockstep-sandbox-kubelet").Param("force", "true").Body(patch).Do(ctx).Error()
}

func (k *Kubelet) rest() rest.Interface { return k.client.CoreV1().RESTClient() }

// withdrawing bounds the farewell: the API server may have gone already.
const withdrawing = 2 * time.Second

// withdrawMetrics takes the API away again: one that nobody answers for makes discovery fail, and with it the deletion of
// namespaces.
func (k *Kubelet) withdrawMetrics() {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawing)
	defer cancel()
	_ = k.rest().Delete().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices/" + apiServiceName).Do(ctx).Error()
}

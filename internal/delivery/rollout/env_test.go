package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
	"github.com/lockstep-delivery/lockstep/internal/kube"
	"github.com/lockstep-delivery/lockstep/internal/split"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver/binary"
)

// Times of the tests: real, since the API server's are.
const (
	patience = 60 * time.Second
	settle   = 400 * time.Millisecond
	tick     = 20 * time.Millisecond
)

var (
	admin client.Client
	// adminConfig is what admin was made with.
	adminConfig *rest.Config
	clouds      sync.Map // namespace -> *cloud
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run starts one API server and one manager for all tests, each of which has a namespace of its own.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rollout-test")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	plane, err := apiserver.Start(ctx, apiserver.Config{Dir: dir})
	if errors.Is(err, binary.ErrNotBuilt) {
		fmt.Println("the tests against a real API server are left out:", err)
		return m.Run()
	}
	if err != nil {
		panic(err)
	}
	defer plane.Stop()
	config, err := plane.RESTConfig()
	if err != nil {
		panic(err)
	}
	stopped := startManager(ctx, config)
	code := m.Run()
	cancel()
	<-stopped
	return code
}

func startManager(ctx context.Context, config *rest.Config) (stopped <-chan struct{}) {
	scheme, err := kube.Scheme()
	must(err)
	must(apiextensionsv1.AddToScheme(scheme))
	adminConfig = config
	admin, err = client.New(config, client.Options{Scheme: scheme})
	must(err)
	installCRDs(ctx)
	return startController(ctx, "")
}

// startController runs a manager with the controller of one instance id until ctx ends.
func startController(ctx context.Context, instance string) (stopped <-chan struct{}) {
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("LOCKSTEP_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	manager, err := kube.NewManager(ctx, kube.Options{Config: adminConfig, Logger: logger, AllowSameNames: true})
	must(err)
	must(Add(manager, Options{
		Evidence: everywhere{}, Logger: logger, InstanceID: instance,
		Settings: canary.Settings{Settle: settle, Poll: 200 * time.Millisecond},
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := manager.Start(ctx); ctx.Err() == nil {
			must(err) // Ended before its caches were filled is no failure.
		}
	}()
	return done
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func installCRDs(ctx context.Context) {
	files, err := filepath.Glob("../../../deploy/crds/*.yaml")
	must(err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(err)
		var crd apiextensionsv1.CustomResourceDefinition
		must(yaml.UnmarshalStrict(data, &crd))
		must(admin.Create(ctx, &crd))
		for {
			must(admin.Get(ctx, client.ObjectKeyFromObject(&crd), &crd))
			if established(crd) {
				break
			}
			<-time.After(tick)
		}
	}
}

func established(crd apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
			return true
		}
	}
	return false
}

// everywhere gives each namespace the evidence of its own cloud.
type everywhere struct{}

func (everywhere) Observe(_ context.Context, q evidence.Query, _ time.Time) (evidence.Snapshot, error) {
	c, ok := clouds.Load(q.Namespace)
	if !ok {
		return evidence.Snapshot{SeenAt: time.Now()}, nil
	}
	return c.(*cloud).answer()
}

var subscribers sync.Map // *func -> nil

func (everywhere) Subscribe(changed func(namespace, ingress string)) func() {
	subscribers.Store(&changed, nil)
	return func() { subscribers.Delete(&changed) }
}

// wake tells every controller that the evidence of an Ingress may have changed.
func wake(namespace, ingress string) {
	subscribers.Range(func(changed, _ any) bool {
		(*changed.(*func(namespace, ingress string)))(namespace, ingress)
		return true
	})
}

// cloud imitates the load balancer half and AWS for one namespace, and the kubelet: it brings groups and
// weights to what Kubernetes says, one tick after the other, unless it is told to stand still.
type cloud struct {
	namespace string

	mu sync.Mutex
	// throttled makes every question fail, frozen keeps the weights as they are.
	throttled, frozen bool
	weights           map[string]int32
	groups            map[string]map[string]*target
	// removal: the user has deleted everything, so nothing has to be kept.
	removal bool
	// broken are the laws that were seen broken.
	broken []string
}

type target struct {
	hash     string
	state    evidence.TargetState
	leavesAt time.Time
}

// drainTime is the deregistration delay.
const drainTime = 300 * time.Millisecond

func (c *cloud) answer() (evidence.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.throttled {
		return evidence.Snapshot{}, errors.New("Throttling: Rate exceeded")
	}
	s := evidence.Snapshot{SeenAt: time.Now()}
	if c.weights == nil {
		return s, nil
	}
	s.LoadBalancer = evidence.LoadBalancer{ARN: "lb", Active: true}
	weights := map[string]int32{}
	for service, w := range c.weights {
		weights[service] = w
	}
	s.Placements = []evidence.Placement{{ARN: "rule", Weights: weights}}
	for _, service := range []string{"canary", "stable"} {
		g := evidence.Group{Service: service, ARN: "tg-" + service}
		for uid, t := range c.groups[service] {
			g.Targets = append(g.Targets, evidence.Target{Address: uid, PodUID: uid, PodTemplateHash: t.hash, State: t.state})
		}
		s.Groups = append(s.Groups, g)
	}
	return s, nil
}

func (c *cloud) run(ctx context.Context) {
	for ctx.Err() == nil {
		pods := c.kubelet(ctx)
		if pods != nil && c.step(ctx, pods) {
			wake(c.namespace, "web")
		}
		select {
		case <-ctx.Done():
		case <-time.After(tick):
		}
	}
}

// kubelet makes every pod ready.
func (c *cloud) kubelet(ctx context.Context) *corev1.PodList {
	var pods corev1.PodList
	if admin.List(ctx, &pods, client.InNamespace(c.namespace)) != nil {
		return nil
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.Phase == corev1.PodRunning || pod.DeletionTimestamp != nil {
			continue
		}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		_ = admin.Status().Update(ctx, pod) // A conflict is tried again at the next tick.
	}
	return &pods
}

// step brings AWS one step on and looks at the laws; it reports whether anything changed.
func (c *cloud) step(ctx context.Context, pods *corev1.PodList) (changed bool) {
	var ingress networkingv1.Ingress
	selectors := map[string]map[string]string{}
	for _, name := range []string{"canary", "stable"} {
		var s corev1.Service
		if admin.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: name}, &s) != nil {
			return false
		}
		selectors[name] = s.Spec.Selector
	}
	if admin.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: "web"}, &ingress) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, err := split.Decode(ingress.Annotations["alb.ingress.kubernetes.io/actions.stable"]); err == nil && !c.frozen {
		weights := map[string]int32{}
		for _, d := range s.Destinations {
			weights[d.Service] = d.Weight
		}
		changed = fmt.Sprint(weights) != fmt.Sprint(c.weights)
		c.weights = weights
	}
	alive := map[string]bool{}
	for _, p := range pods.Items {
		alive[string(p.UID)] = p.DeletionTimestamp == nil
	}
	for service, selector := range selectors {
		if c.groups[service] == nil {
			c.groups[service] = map[string]*target{}
		}
		changed = c.register(service, selector, pods, alive) || changed
	}
	return changed
}

func (c *cloud) register(service string, selector map[string]string, pods *corev1.PodList, alive map[string]bool) (changed bool) {
	group := c.groups[service]
	wanted, unwanted := map[string]bool{}, map[string]bool{}
	for _, p := range pods.Items {
		unwanted[string(p.UID)] = p.Annotations[evidence.DrainAnnotation] == evidence.DrainAnyway
		uid, selected := string(p.UID), p.Status.Phase == corev1.PodRunning && p.Annotations[evidence.DrainAnnotation] == "" && p.DeletionTimestamp == nil
		for key, value := range selector {
			selected = selected && p.Labels[key] == value
		}
		if wanted[uid] = selected; selected && (group[uid] == nil || !group[uid].leavesAt.IsZero()) {
			group[uid], changed = &target{hash: p.Labels[v1alpha1.HashLabel], state: evidence.Healthy}, true
		}
	}
	for uid, t := range group {
		switch {
		case !alive[uid] && c.removal:
			delete(group, uid)
		case !alive[uid]:
			c.broken = append(c.broken, fmt.Sprintf("law 2: a pod of %s is gone while it is %s in the group of %s", t.hash, t.state, service))
			delete(group, uid)
		case !wanted[uid] && t.leavesAt.IsZero():
			if c.weights[service] > 0 && c.healthy(group, wanted) == 0 && !unwanted[uid] {
				c.broken = append(c.broken, fmt.Sprintf("law 3: the last healthy target of %s leaves at weight %d", service, c.weights[service]))
			}
			t.state, t.leavesAt, changed = evidence.Draining, time.Now().Add(drainTime), true
		case !t.leavesAt.IsZero() && time.Now().After(t.leavesAt):
			delete(group, uid)
			changed = true
		}
	}
	return changed
}

func (c *cloud) healthy(group map[string]*target, wanted map[string]bool) (n int) {
	for uid := range group {
		if wanted[uid] {
			n++
		}
	}
	return n
}

func (c *cloud) set(edit func(*cloud)) {
	c.mu.Lock()
	edit(c)
	c.mu.Unlock()
}

// shop is one Rollout with its Services and its Ingress in a namespace of its own.
type shop struct {
	t     testing.TB
	ctx   context.Context
	cloud *cloud
	key   types.NamespacedName
	// instance is the instance id of the controller that is to run the Rollout.
	instance string
}

func newShop(t *testing.T, prepare func(*shop), steps ...v1alpha1.CanaryStep) *shop {
	t.Helper()
	if admin == nil {
		t.Fatal("no control plane is built; run: make controlplane")
	}
	t.Parallel()
	return openShop(t, prepare, steps...)
}

func openShop(t testing.TB, prepare func(*shop), steps ...v1alpha1.CanaryStep) *shop {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-"}}
	s := &shop{t: t, ctx: t.Context()}
	s.create(ns)
	s.key = types.NamespacedName{Namespace: ns.Name, Name: "web"}
	s.cloud = &cloud{namespace: ns.Name, groups: map[string]map[string]*target{}}
	clouds.Store(ns.Name, s.cloud)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		s.cloud.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		for _, b := range s.cloud.broken {
			t.Error(b)
		}
	})
	for _, name := range []string{"canary", "stable"} {
		s.create(&corev1.Service{ObjectMeta: s.meta(name), Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}})
	}
	exact := networkingv1.PathTypePrefix
	s.create(&networkingv1.Ingress{ObjectMeta: s.meta("web"), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{
		HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &exact, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "stable", Port: networkingv1.ServiceBackendPort{Name: "use-annotation"}}}}}}}}}}})
	if prepare != nil {
		prepare(s)
	}
	meta := s.meta("web")
	if s.instance != "" {
		meta.Labels = map[string]string{v1alpha1.InstanceIDLabel: s.instance}
	}
	s.create(&v1alpha1.Rollout{ObjectMeta: meta, Spec: v1alpha1.RolloutSpec{
		Replicas: new(int32(4)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("web:1"),
		Strategy: v1alpha1.RolloutStrategy{Canary: &v1alpha1.CanaryStrategy{
			CanaryService: "canary", StableService: "stable", Steps: steps, ScaleDownDelaySeconds: new(int32(1)), AbortScaleDownDelaySeconds: new(int32(1)),
			TrafficRouting: &v1alpha1.RolloutTrafficRouting{ALB: &v1alpha1.ALBTrafficRouting{Ingress: "web", ServicePort: 80}},
		}},
	}})
	return s
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: image}}, TerminationGracePeriodSeconds: new(int64(0))},
	}
}

func (s *shop) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: s.key.Namespace, Name: name}
}

func (s *shop) create(o client.Object) {
	s.t.Helper()
	if err := admin.Create(s.ctx, o); err != nil {
		s.t.Fatal(err)
	}
}

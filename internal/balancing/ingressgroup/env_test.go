package ingressgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/deploy"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/kube"
	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver/binary"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// patience bounds every wait; a wait ends as soon as what it waits for is there.
const (
	patience = 60 * time.Second
	tick     = 10 * time.Millisecond
)

// env is one real API server, one emulated AWS account without traffic, and the controller between them.
type env struct {
	admin    client.Client
	emulator *aws.Emulator
	cloud    *countingCloud
	writes   *writes
}

// shared is the env of all tests, which run one after the other in namespaces of their own. It is nil when the control plane has
// not been built.
var shared *env

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ingressgroup-test")
	must(err)
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	plane, err := apiserver.Start(ctx, apiserver.Config{Dir: dir})
	if errors.Is(err, binary.ErrNotBuilt) {
		fmt.Println("the tests against a real API server are left out:", err)
		return m.Run()
	}
	must(err)
	defer plane.Stop()
	config, err := plane.RESTConfig()
	must(err)
	vpc, err := address.Claim()
	must(err)
	emulator, err := aws.New(aws.Config{VPC: vpc.Mapping, Cluster: "test", Seed: 1, WithoutTraffic: true})
	must(err)
	endpoint := httptest.NewServer(emulator)
	defer endpoint.Close()
	stopped := start(ctx, config, emulator, endpoint.URL)
	code := m.Run()
	cancel()
	<-stopped
	must(emulator.Close())
	return code
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func start(ctx context.Context, config *rest.Config, emulator *aws.Emulator, url string) (stopped <-chan struct{}) {
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("LOCKSTEP_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	scheme, err := kube.Scheme()
	must(err)
	must(apiextensionsv1.AddToScheme(scheme))
	must(eventsv1.AddToScheme(scheme))
	admin, err := client.New(config, client.Options{Scheme: scheme})
	must(err)
	installCRDs(ctx, admin)
	must(admin.Create(ctx, &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "alb"}, Spec: networkingv1.IngressClassSpec{Controller: ingress.ClassController}}))
	aws, err := cloud.New(ctx, cloud.Config{
		ClusterName: "test", VPCID: emulator.EC2().VPC(), Region: "eu-west-1", Logger: logger,
		Endpoints:   map[string]string{"Elastic Load Balancing v2": url, "EC2": url},
		Settings:    cloud.Settings{ProvisioningInterval: 50 * time.Millisecond},
		Credentials: credentials.NewStaticCredentialsProvider("AKIALOCKSTEPSANDBOX0", "lockstep-sandbox-secret-access-key-000000", ""),
	})
	must(err)
	shared = &env{admin: admin, emulator: emulator, cloud: &countingCloud{Cloud: aws, passes: map[string]int{}}, writes: &writes{}}
	counted := rest.CopyConfig(config)
	counted.Wrap(shared.writes.count)
	manager, err := kube.NewManager(ctx, kube.Options{Config: counted, Logger: logger})
	must(err)
	must(manager.Add(aws))
	must(Add(ctx, manager, Options{
		Cloud: shared.cloud, Settings: ingress.Settings{Cluster: "test", DefaultTargetType: "ip"}, Logger: logger,
		Settle: time.Second, FirewallSettle: time.Second, Recheck: 200 * time.Millisecond, SharedPatience: 5 * time.Second,
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		must(manager.Start(ctx))
		aws.Close()
	}()
	return done
}

func installCRDs(ctx context.Context, admin client.Client) {
	files, err := deploy.CRDs.ReadDir("crds")
	must(err)
	for _, file := range files {
		data, err := deploy.CRDs.ReadFile(path.Join("crds", file.Name()))
		must(err)
		var crd apiextensionsv1.CustomResourceDefinition
		must(yaml.Unmarshal(data, &crd))
		must(admin.Create(ctx, &crd))
		for !established(crd) {
			<-time.After(tick)
			must(admin.Get(ctx, client.ObjectKeyFromObject(&crd), &crd))
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

// countingCloud counts the passes over each stack: each asks for the stack once.
type countingCloud struct {
	*cloud.Cloud
	mu     sync.Mutex
	passes map[string]int
}

// Stack counts.
func (c *countingCloud) Stack(ctx context.Context, stackID string) (model.Observed, error) {
	c.mu.Lock()
	c.passes[stackID]++
	c.mu.Unlock()
	return c.Cloud.Stack(ctx, stackID)
}

func (c *countingCloud) passesOver(stackID string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passes[stackID]
}

// writes counts the controller's writes to the API server, events apart.
type writes struct{ n atomic.Int64 }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (w *writes) count(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/events") {
			w.n.Add(1)
		}
		return next.RoundTrip(r)
	})
}

// eventually waits for a condition, which says what is missing.
func eventually(t testing.TB, missing func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		what := missing()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s", patience, what)
		}
		<-time.After(tick)
	}
}

// newNamespace gives the test a namespace with Services stable and canary.
func newNamespace(t testing.TB) (e *env, namespace string) {
	t.Helper()
	if shared == nil {
		t.Fatal("no control plane is built; run: make controlplane")
	}
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: strings.ToLower(t.Name()) + "-"}}
	if err := shared.admin.Create(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	namespace = made.Name
	for _, name := range []string{"stable", "canary"} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		service.Spec.Ports = []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}
		if err := shared.admin.Create(t.Context(), service); err != nil {
			t.Fatal(err)
		}
	}
	return shared, namespace
}

// newIngress makes an Ingress whose only rule takes its action from annotation actions.root.
func (e *env) newIngress(t testing.TB, namespace string, annotations map[string]string) *networkingv1.Ingress {
	t.Helper()
	o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", Annotations: annotations}}
	o.Spec.IngressClassName = new("alb")
	o.Spec.Rules = []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
		Path: "/", PathType: new(networkingv1.PathTypePrefix),
		Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "root", Port: networkingv1.ServiceBackendPort{Name: "use-annotation"}}},
	}}}}}}
	if err := e.admin.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.remove(context.Background(), t, o) })
	return o
}

// remove deletes the Ingress and waits until it is gone.
func (e *env) remove(ctx context.Context, t testing.TB, o *networkingv1.Ingress) {
	t.Helper()
	if err := e.admin.Delete(ctx, o); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		live := &networkingv1.Ingress{}
		if err := e.admin.Get(ctx, client.ObjectKeyFromObject(o), live); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the Ingress is there still: %v %v", err, live.Finalizers)
		}
		return ""
	})
}

// annotate sets one annotation of the Ingress.
func (e *env) annotate(t testing.TB, o *networkingv1.Ingress, key, value string) {
	t.Helper()
	before := o.DeepCopy()
	o.Annotations[key] = value
	if err := e.admin.Patch(t.Context(), o, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// rest waits until the controller has looked at the Ingress again twice, so at least once from beginning to
// end, and found nothing to do.
func (e *env) rest(t testing.TB, o *networkingv1.Ingress) {
	t.Helper()
	stackID := ingress.StackID(o.Namespace, o.Name)
	eventually(t, func() string {
		observed, err := e.cloud.Cloud.Stack(t.Context(), stackID)
		if err != nil || len(observed.LoadBalancers) == 0 || observed.LoadBalancers[0].State != "active" || observed.LoadBalancers[0].Attributes == nil {
			return fmt.Sprintf("the load balancer is not active and read: %+v %v", observed, err)
		}
		return ""
	})
	calls := e.emulator.Journal().Since(0)
	for n := 0; ; n++ {
		for range 2 {
			passes := e.cloud.passesOver(stackID)
			e.annotate(t, o, "example.com/touched", time.Now().String())
			eventually(t, func() string {
				if e.cloud.passesOver(stackID) > passes {
					return ""
				}
				return "no pass over " + stackID
			})
		}
		now := e.emulator.Journal().Since(0)
		if len(now) == len(calls) {
			return
		}
		if calls = now; n > 500 {
			t.Fatalf("no rest; the last call is %s", calls[len(calls)-1].Operation)
		}
		<-time.After(tick)
	}
}

// operations are the AWS operations called after the journal's record.
func (e *env) operations(after uint64) []string {
	var out []string
	for _, r := range e.emulator.Journal().Since(after) {
		if r.Operation != "" {
			out = append(out, r.Operation)
		}
	}
	return out
}

func (e *env) newest() uint64 {
	records := e.emulator.Journal().Since(0)
	if len(records) == 0 {
		return 0
	}
	return records[len(records)-1].Sequence
}

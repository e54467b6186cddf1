package kube_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	registration "k8s.io/api/admissionregistration/v1"

	"github.com/lockstep-delivery/lockstep/internal/kube"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver"
)

// replica is one controller process.
type replica struct {
	elected <-chan struct{}
	stop    func()
}

// startReplica starts a process whose webhooks, if it has any, are reached by URL.
func startReplica(t *testing.T, config *rest.Config, leases []types.NamespacedName, webhooks ...kube.Webhook) replica {
	t.Helper()
	o := kube.WebhookOptions{Namespace: "default"}
	if len(webhooks) > 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listener = l
	}
	return startServing(t, config, leases, o, webhooks...)
}

func startServing(t *testing.T, config *rest.Config, leases []types.NamespacedName, o kube.WebhookOptions, webhooks ...kube.Webhook) replica {
	t.Helper()
	return startWith(t, config, leases, o, nil, webhooks...)
}

// startWith starts a process with something to run in it.
func startWith(t *testing.T, config *rest.Config, leases []types.NamespacedName, o kube.WebhookOptions, run manager.Runnable, webhooks ...kube.Webhook) replica {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m, err := kube.NewManager(ctx, kube.Options{Config: config, Leases: leases, Logger: slog.New(slog.DiscardHandler), AllowSameNames: true})
	if err != nil {
		t.Fatal(err)
	}
	if run != nil {
		if err := m.Add(run); err != nil {
			t.Fatal(err)
		}
	}
	if len(webhooks) > 0 {
		if err := kube.ServeWebhooks(ctx, m, o, webhooks); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- m.Start(ctx) }()
	stopped := false
	r := replica{elected: m.Elected(), stop: func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				t.Errorf("a manager ended with: %v", err)
			}
		}
	}}
	t.Cleanup(r.stop)
	return r
}

func within(t *testing.T, limit time.Duration, what string, done <-chan struct{}) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s did not happen within %s", what, limit)
	}
	return time.Since(start)
}

func startControlPlane(t *testing.T) (*rest.Config, client.Client) {
	t.Helper()
	cp, err := apiserver.Start(t.Context(), apiserver.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cp.Stop() })
	config, err := cp.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return config, c
}

func TestReplicas(t *testing.T) {
	config, c := startControlPlane(t)

	t.Run("LeadershipIsHandedOverWithinFiveSeconds", func(t *testing.T) {
		leases, err := kube.FindLeases(t.Context(), c, "default", kube.LeaseLoadBalancer, kube.LeaseRollouts)
		if err != nil {
			t.Fatal(err)
		}
		first := startReplica(t, config, leases)
		within(t, 20*time.Second, "the election of the first replica", first.elected)
		second := startReplica(t, config, leases)
		first.stop()
		if took := within(t, 20*time.Second, "the election of the second replica", second.elected); took > 5*time.Second {
			t.Errorf("the planned hand-over took %s", took)
		}
		second.stop()
	})

	t.Run("TheLeaseOfAnotherControllerIsRespected", func(t *testing.T) {
		other := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: kube.LeaseRollouts},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: new("another"), LeaseDurationSeconds: new(int32(3)),
				AcquireTime: new(metav1.NowMicro()), RenewTime: new(metav1.NewMicroTime(time.Now().Add(time.Hour)))}}
		if err := c.Create(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		leases, err := kube.FindLeases(t.Context(), c, "default", kube.LeaseLoadBalancer, kube.LeaseRollouts)
		if err != nil {
			t.Fatal(err)
		}
		if want := (types.NamespacedName{Namespace: "kube-public", Name: kube.LeaseRollouts}); leases[1] != want {
			t.Fatalf("the lease is looked for in %s, want %s", leases[1], want)
		}
		r := startReplica(t, config, leases)
		// The other one goes on renewing its lease, for longer than its duration.
		for i := range 10 {
			select {
			case <-r.elected:
				t.Fatal("elected although another controller holds one of the leases")
			case <-time.After(500 * time.Millisecond):
			}
			other.Spec.LeaseTransitions = new(int32(i))
			if err := c.Update(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
		// Then it is switched off.
		within(t, 20*time.Second, "the election after the lease has run out", r.elected)
	})

	t.Run("EveryReplicasWebhooksAreTrusted", func(t *testing.T) {
		hook := kube.Webhook{
			Name: "test.lockstep.dev", Path: "/test", FailurePolicy: registration.Fail,
			Rules: []registration.RuleWithOperations{{Operations: []registration.OperationType{registration.Create},
				Rule: registration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "default"}},
			Handler: admission.HandlerFunc(func(_ context.Context, r admission.Request) admission.Response {
				return admission.Denied("seen " + r.Name)
			}),
		}
		for i := range 2 {
			r := startReplica(t, config, nil, hook)
			name := fmt.Sprintf("map-%d", i)
			refused := make(chan struct{})
			go func() {
				for t.Context().Err() == nil {
					err := c.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, client.DryRunAll)
					if err != nil && err.Error() == `admission webhook "test.lockstep.dev" denied the request: seen `+name {
						close(refused)
						return
					}
				}
			}()
			within(t, 20*time.Second, "a request through the webhook", refused)
			r.stop()
		}
		var secret corev1.Secret
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: "default", Name: kube.CertificateSecret}, &secret); err != nil {
			t.Fatal(err)
		}
	})

	for name, test := range map[string]func(*testing.T, *rest.Config, client.Client){
		"WebhooksGoWithTheProcess":                  webhooksGoWithTheProcess,
		"WebhooksOfASuccessorStay":                  webhooksOfASuccessorStay,
		"WebhooksOfTheFormerControllerAreTakenOver": webhooksOfTheFormerControllerAreTakenOver,
		"WebhooksOfALeaderAreLeftAlone":             webhooksOfALeaderAreLeftAlone,
		"WebhooksOfALeaderOutliveAStandby":          webhooksOfALeaderOutliveAStandby,
		"AbandonedWebhooksAreWithdrawn":             abandonedWebhooksAreWithdrawn,
		"WebhooksGoWithTheLastReplica":              webhooksGoWithTheLastReplica,
		"NothingIsDecidedBeforeTheTakeover":         nothingIsDecidedBeforeTheTakeover,
		"AConflictDoesNotEndTheProcess":             aConflictDoesNotEndTheProcess,
		"AnEmptiedConfigurationIsGivenBack":         anEmptiedConfigurationIsGivenBack,
	} {
		t.Run(name, func(t *testing.T) { test(t, config, c) })
	}
}

// Without webhooks, too, a kubelet that asks whether the process is ready gets an answer.
func TestEveryManagerAnswersProbes(t *testing.T) {
	config, _ := startControlPlane(t)
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	m, err := kube.NewManager(ctx, kube.Options{Config: config, HealthAddress: address, Logger: slog.New(slog.DiscardHandler), AllowSameNames: true})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, path := range []string{"/healthz", "/readyz"} {
		var response *http.Response
		for deadline := time.Now().Add(10 * time.Second); response == nil && time.Now().Before(deadline); {
			response, err = http.Get("http://" + address + path)
		}
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s answers %s", path, response.Status)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// An address that is taken, or is none, is named with the flag to change, and is not blamed on the API server.
func TestAnAddressThatCannotBeServedIsNamed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, address := range []string{taken.Addr().String(), "nowhere"} {
		for flag, o := range map[string]kube.Options{
			"--health-probe-bind-addr": {HealthAddress: address}, "--metrics-bind-addr": {MetricsAddress: address},
		} {
			o.Config = &rest.Config{Host: "http://127.0.0.1:1"}
			_, err := kube.NewManager(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), flag) || strings.Contains(err.Error(), "API server") {
				t.Errorf("%s at %s: %v", flag, address, err)
			}
		}
	}
}

package kube_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	registration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// podHook is a webhook as the controller has it: the API server must not do without it, if that can be.
func podHook() kube.Webhook {
	return kube.Webhook{Name: "mpod.elbv2.k8s.aws", Path: "/mutate-v1-pod", Mutating: true, FailurePolicy: registration.Fail,
		Rules: []registration.RuleWithOperations{{Operations: []registration.OperationType{registration.Create},
			Rule: registration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
		Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") }),
	}
}

func hooksOf(t *testing.T, c client.Client, name string) (*registration.MutatingWebhookConfiguration, bool) {
	t.Helper()
	found := &registration.MutatingWebhookConfiguration{}
	err := c.Get(t.Context(), client.ObjectKey{Name: name}, found)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return found, err == nil
}

// until waits for a condition of the API server.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func create(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.Background(), object) })
}

// Whatever a process outside the cluster registers can be answered by nobody else: it goes with the process, and
// after a crash the API server does without it.
func webhooksGoWithTheProcess(t *testing.T, config *rest.Config, c client.Client) {
	r := startReplica(t, config, nil, podHook())
	have, found := hooksOf(t, c, kube.WebhookConfiguration)
	if !found || len(have.Webhooks) != 1 || *have.Webhooks[0].FailurePolicy != registration.Ignore {
		t.Fatalf("registered are %+v", have.Webhooks)
	}
	r.stop()
	if _, found := hooksOf(t, c, kube.WebhookConfiguration); found {
		t.Error("the webhooks stay registered after the end of the only process that answers them")
	}
	validating := &registration.ValidatingWebhookConfiguration{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: kube.WebhookConfiguration}, validating); !apierrors.IsNotFound(err) {
		t.Errorf("the validating webhooks stay registered: %v", err)
	}
}

func webhooksOfASuccessorStay(t *testing.T, config *rest.Config, c client.Client) {
	first := startReplica(t, config, nil, podHook())
	was, _ := hooksOf(t, c, kube.WebhookConfiguration)
	second := startReplica(t, config, nil, podHook())
	until(t, "the second process, which leads as well, has registered its own", func() bool {
		have, _ := hooksOf(t, c, kube.WebhookConfiguration)
		return have.ResourceVersion != was.ResourceVersion
	})
	first.stop()
	if _, found := hooksOf(t, c, kube.WebhookConfiguration); !found {
		t.Error("the end of one process has removed the webhooks that another one answers")
	}
	second.stop()
}

// The configuration of the controller whose place is taken would, left alone, block what nobody answers any more.
func webhooksOfTheFormerControllerAreTakenOver(t *testing.T, config *rest.Config, c client.Client) {
	service := func(path string) registration.WebhookClientConfig {
		return registration.WebhookClientConfig{CABundle: []byte("theirs"), Service: &registration.ServiceReference{
			Namespace: "kube-system", Name: "aws-load-balancer-webhook-service", Path: &path, Port: new(int32(443))}}
	}
	hook := func(name, path string) registration.MutatingWebhook {
		return registration.MutatingWebhook{Name: name, ClientConfig: service(path), Rules: podHook().Rules, FailurePolicy: new(registration.Fail),
			SideEffects: new(registration.SideEffectClassNone), AdmissionReviewVersions: []string{"v1beta1"},
			// So that nothing else in this cluster is blocked.
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"selected": "by-the-user"}}}
	}
	theirs := &registration.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "aws-load-balancer-webhook", Annotations: map[string]string{"cert-manager.io/inject-ca-from": "kube-system/cert"}},
		Webhooks:   []registration.MutatingWebhook{hook("mpod.elbv2.k8s.aws", "/a"), hook("mservice.elbv2.k8s.aws", "/b"), hook("other.example.com", "/c")},
	}
	create(t, c, theirs)

	r := startReplica(t, config, nil, podHook())
	var taken *registration.MutatingWebhookConfiguration
	until(t, "the webhooks are taken over", func() bool {
		taken, _ = hooksOf(t, c, theirs.Name)
		return len(taken.Webhooks) == 2
	})
	if own, found := hooksOf(t, c, kube.WebhookConfiguration); found {
		t.Errorf("every pod is asked about twice: %+v", own.Webhooks)
	}
	ours := taken.Webhooks[0]
	if ours.Name != "mpod.elbv2.k8s.aws" || ours.ClientConfig.URL == nil || *ours.FailurePolicy != registration.Ignore || ours.ObjectSelector.MatchLabels["selected"] == "" {
		t.Errorf("the pod webhook has become %+v", ours)
	}
	if diff := cmp.Diff(theirs.Webhooks[2], taken.Webhooks[1]); diff != "" {
		t.Errorf("somebody else's webhook has changed (-want +got):\n%s", diff)
	}
	if taken.Annotations["cert-manager.io/inject-ca-from"] != "" {
		t.Error("cert-manager would put its own authority beside our address")
	}

	r.stop()
	given, _ := hooksOf(t, c, theirs.Name)
	if diff := cmp.Diff(theirs.Webhooks, given.Webhooks); diff != "" {
		t.Errorf("what was taken over is not given back (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(theirs.Annotations, given.Annotations); diff != "" {
		t.Errorf("the annotations are not given back (-want +got):\n%s", diff)
	}
}

// decider is a controller that only notes what it finds when it may begin.
type decider struct{ begins func(context.Context) }

func (d decider) Start(ctx context.Context) error {
	d.begins(ctx)
	<-ctx.Done()
	return nil
}

func (decider) Reconcile(context.Context, reconcile.Request) (reconcile.Result, error) {
	return reconcile.Result{}, nil
}

// A controller that begins before the webhooks point here makes pods without their gates.
func nothingIsDecidedBeforeTheTakeover(t *testing.T, config *rest.Config, c client.Client) {
	theirs := &registration.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "aws-load-balancer-webhook"},
		Webhooks: []registration.MutatingWebhook{{Name: podHook().Name, Rules: podHook().Rules, FailurePolicy: new(registration.Ignore),
			ClientConfig: registration.WebhookClientConfig{URL: new("https://127.0.0.1:1/")}, SideEffects: new(registration.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"selected": "by-the-user"}}}}}
	create(t, c, theirs)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan string, 1)
	// The API server takes its time with the configurations, so that a controller could well be faster.
	slow := rest.CopyConfig(config)
	slow.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper{next, func(r *http.Request) {
			if strings.Contains(r.URL.Path, "webhookconfigurations") {
				<-time.After(100 * time.Millisecond)
			}
		}}
	})
	r := startWith(t, slow, nil, kube.WebhookOptions{Namespace: "default", Listener: l}, decider{func(ctx context.Context) {
		have := &registration.MutatingWebhookConfiguration{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(theirs), have); err != nil {
			begun <- err.Error()
			return
		}
		begun <- *have.Webhooks[0].ClientConfig.URL
	}}, podHook())
	select {
	case url := <-begun:
		if want := "https://" + l.Addr().String() + podHook().Path; url != want {
			t.Errorf("when a controller begins, the webhook is asked at %s, want %s", url, want)
		}
	case <-time.After(20 * time.Second):
		t.Error("the controller does not begin")
	}
	r.stop()
}

// roundTripper sees each request of a process before it is sent.
type roundTripper struct {
	http.RoundTripper
	before func(*http.Request)
}

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	r.before(request)
	return r.RoundTripper.RoundTrip(request)
}

// Somebody else writes the configuration at the same time, as an authority's injector does: the process starts all
// the same.
func aConflictDoesNotEndTheProcess(t *testing.T, config *rest.Config, c client.Client) {
	theirs := &registration.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "aws-load-balancer-webhook", Annotations: map[string]string{"lockstep.dev/webhooks-before": `{"webhooks":[]}`}},
		Webhooks: []registration.MutatingWebhook{{Name: "mpod.elbv2.k8s.aws", Rules: podHook().Rules, SideEffects: new(registration.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			FailurePolicy: new(registration.Ignore), ClientConfig: registration.WebhookClientConfig{URL: new("https://127.0.0.1:1/")}}}}
	create(t, c, theirs)
	contended := rest.CopyConfig(config)
	writes := 0
	contended.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper{next, func(r *http.Request) {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/"+theirs.Name) {
				return
			}
			if writes++; writes <= 2 {
				theirs.Labels = map[string]string{"written": strconv.Itoa(writes)}
				if err := c.Update(t.Context(), theirs); err != nil {
					t.Error(err)
				}
			}
		}}
	})
	r := startReplica(t, contended, nil, podHook())
	have, _ := hooksOf(t, c, theirs.Name)
	if *have.Webhooks[0].ClientConfig.URL == "https://127.0.0.1:1/" || have.Labels["written"] != "2" {
		t.Errorf("taken over after two conflicts is %+v with %v", have.Webhooks, have.Labels)
	}
	r.stop()
}

// As long as another controller may answer its webhooks, they are its own.
func webhooksOfALeaderAreLeftAlone(t *testing.T, config *rest.Config, c client.Client) {
	theirs := &registration.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "aws-load-balancer-webhook"},
		Webhooks: []registration.MutatingWebhook{{Name: "mpod.elbv2.k8s.aws", Rules: podHook().Rules, SideEffects: new(registration.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			FailurePolicy: new(registration.Ignore), ClientConfig: registration.WebhookClientConfig{URL: new("https://127.0.0.1:1/")}}}}
	create(t, c, theirs)
	leases, err := kube.FindLeases(t.Context(), c, "default", kube.LeaseLoadBalancer)
	if err != nil {
		t.Fatal(err)
	}
	leader := startReplica(t, config, leases)
	within(t, 20*time.Second, "the election", leader.elected)
	r := startReplica(t, config, leases, podHook())
	if have, _ := hooksOf(t, c, theirs.Name); have.ResourceVersion != theirs.ResourceVersion {
		t.Error("a replica that does not lead has taken over the leader's webhooks")
	}
	leader.stop()
	within(t, 20*time.Second, "the election of the second replica", r.elected)
	until(t, "the new leader takes over", func() bool {
		have, _ := hooksOf(t, c, theirs.Name)
		return *have.Webhooks[0].ClientConfig.URL != "https://127.0.0.1:1/"
	})
	r.stop()
}

// Without a Service each process has an address of its own: one that waits for its turn neither takes the leader's webhooks nor, when
// it ends, removes them.
func webhooksOfALeaderOutliveAStandby(t *testing.T, config *rest.Config, c client.Client) {
	leases, err := kube.FindLeases(t.Context(), c, "default", kube.LeaseLoadBalancer)
	if err != nil {
		t.Fatal(err)
	}
	leader := startReplica(t, config, leases, podHook())
	within(t, 20*time.Second, "the election", leader.elected)
	until(t, "the leader's webhooks are registered", func() bool { _, found := hooksOf(t, c, kube.WebhookConfiguration); return found })
	before, _ := hooksOf(t, c, kube.WebhookConfiguration)
	standby := startReplica(t, config, leases, podHook())
	standby.stop()
	if have, _ := hooksOf(t, c, kube.WebhookConfiguration); have.ResourceVersion != before.ResourceVersion {
		t.Errorf("a process that never led has written %+v", have.Webhooks)
	}
	next := startReplica(t, config, leases, podHook())
	leader.stop()
	within(t, 20*time.Second, "the election of the next process", next.elected)
	until(t, "the next leader registers its own", func() bool {
		have, found := hooksOf(t, c, kube.WebhookConfiguration)
		return found && *have.Webhooks[0].ClientConfig.URL != *before.Webhooks[0].ClientConfig.URL
	})
	next.stop()
}

// A process that serves no webhooks takes back what a crashed one has left, and nothing else.
func abandonedWebhooksAreWithdrawn(t *testing.T, config *rest.Config, c client.Client) {
	logger := slog.New(slog.DiscardHandler)
	r := startReplica(t, config, nil, podHook())
	if err := kube.WithdrawAbandonedWebhooks(t.Context(), config, logger); err != nil {
		t.Fatal(err)
	}
	left, found := hooksOf(t, c, kube.WebhookConfiguration)
	if !found {
		t.Fatal("the webhooks of a living process have been removed")
	}
	r.stop()

	left.ObjectMeta = metav1.ObjectMeta{Name: left.Name}
	create(t, c, left)
	if err := kube.WithdrawAbandonedWebhooks(t.Context(), config, logger); err != nil {
		t.Fatal(err)
	}
	if _, found := hooksOf(t, c, kube.WebhookConfiguration); found {
		t.Error("webhooks that nobody answers stay registered")
	}
}

// In the cluster the last replica takes the webhooks with it, and no other.
func webhooksGoWithTheLastReplica(t *testing.T, config *rest.Config, c client.Client) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "aws-load-balancer-webhook-service"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 8443}}}}
	if _, err := kube.FindWebhookService(t.Context(), c, "default"); err == nil {
		t.Error("a Service that does not exist is found")
	}
	create(t, c, service)
	port, err := kube.FindWebhookService(t.Context(), c, "default")
	if err != nil || *port != (kube.ServicePort{Namespace: "default", Name: service.Name, Port: 8443}) {
		t.Fatalf("the Service in front of the webhooks is %v, %v", port, err)
	}
	behind := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "replicas", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}}}
	create(t, c, behind)

	serve := func() replica {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hook := podHook()
		hook.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "has-this"}}
		return startServing(t, config, nil, kube.WebhookOptions{Namespace: "default", Listener: l, Service: port}, hook)
	}
	serve().stop()
	have, found := hooksOf(t, c, kube.WebhookConfiguration)
	if !found || have.Webhooks[0].ClientConfig.Service == nil || *have.Webhooks[0].FailurePolicy != registration.Fail {
		t.Fatalf("while another replica serves, the webhooks are %+v", have.Webhooks)
	}
	// All are stopped at once: the other one is marked as leaving only after this one has begun to stop.
	last := serve()
	stopped := make(chan struct{})
	go func() { last.stop(); close(stopped) }()
	behind.Endpoints[0].Conditions.Terminating = new(true)
	if err := c.Update(t.Context(), behind); err != nil {
		t.Fatal(err)
	}
	<-stopped
	if _, found := hooksOf(t, c, kube.WebhookConfiguration); found {
		t.Error("the webhooks stay registered after the end of the last replica")
	}
}

// A configuration of which nothing is served here is emptied, and given back with the others.
func anEmptiedConfigurationIsGivenBack(t *testing.T, config *rest.Config, c client.Client) {
	nowhere := registration.WebhookClientConfig{URL: new("https://127.0.0.1:1/")}
	theirs := &registration.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "aws-load-balancer-webhook"},
		Webhooks: []registration.ValidatingWebhook{{Name: "vingress.elbv2.k8s.aws", Rules: podHook().Rules, SideEffects: new(registration.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"}, FailurePolicy: new(registration.Ignore), ClientConfig: nowhere}}}
	create(t, c, theirs)
	have := func() *registration.ValidatingWebhookConfiguration {
		t.Helper()
		found := &registration.ValidatingWebhookConfiguration{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(theirs), found); err != nil {
			t.Fatal(err)
		}
		return found
	}
	r := startReplica(t, config, nil, podHook())
	until(t, "what is not served is taken out", func() bool { return len(have().Webhooks) == 0 })
	if err := kube.WithdrawAbandonedWebhooks(t.Context(), config, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if n := len(have().Webhooks); n != 0 {
		t.Error("the configuration is given back although its new owner lives")
	}
	left := have()
	r.stop()
	if given := have(); len(given.Webhooks) != 1 || len(given.Annotations) != 0 {
		t.Errorf("given back is %+v, annotated with %v", given.Webhooks, given.Annotations)
	}

	// After a crash the next process without webhooks does it.
	left.ResourceVersion = have().ResourceVersion
	if err := c.Update(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	if err := kube.WithdrawAbandonedWebhooks(t.Context(), config, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if n := len(have().Webhooks); n != 1 {
		t.Errorf("after a crash %d webhooks are given back, want 1", n)
	}
}

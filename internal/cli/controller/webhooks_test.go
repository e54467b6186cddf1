package controller

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// In a cluster 127.0.0.1 is the API server's own pod or node: whoever does not say how webhooks are reached is
// told, instead of getting pods without gates.
func TestInAClusterTheWebhooksNeedAService(t *testing.T) {
	documents := map[string]string{
		"/api":    `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis":   `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
		"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"services","namespaced":true,"kind":"Service","verbs":["get"]}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if document, found := documents[r.URL.Path]; found {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(document))
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	t.Setenv("POD_NAMESPACE", "kube-system")

	var o options
	_, err := o.webhooksBehind(t.Context(), config, true)
	if err == nil || !strings.Contains(err.Error(), "--webhook-service") || !strings.Contains(err.Error(), "aws-load-balancer-webhook-service") {
		t.Errorf("without any Service: %v", err)
	}
	documents["/api/v1/namespaces/kube-system/services/aws-load-balancer-webhook-service"] = `{"kind":"Service","apiVersion":"v1","spec":{"ports":[{"port":443}]}}`
	if service, err := o.webhooksBehind(t.Context(), config, true); err != nil || service.Name != "aws-load-balancer-webhook-service" || service.Namespace != "kube-system" {
		t.Errorf("with the Service of the former controller: %v, %v", service, err)
	}
	if service, err := o.webhooksBehind(t.Context(), config, false); err != nil || service != nil {
		t.Errorf("outside a cluster: %v, %v", service, err)
	}
}

// Whoever works on one namespace has no say in the others: it would refuse what it cannot see.
func TestWebhooksStayWithinTheWatchedNamespace(t *testing.T) {
	refuse := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Denied("seen") })
	labelled := &metav1.LabelSelector{MatchLabels: map[string]string{"gates": "enabled"}}
	allowed := func(w kube.Webhook, namespace string) bool {
		return w.Handler.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Namespace: namespace}}).Allowed
	}
	for _, w := range within("shop", []kube.Webhook{{Handler: refuse, NamespaceSelector: labelled}, {Handler: refuse}}) {
		if allowed(w, "shop") || allowed(w, "") || !allowed(w, "other") {
			t.Errorf("in shop %t, in no namespace %t, in another %t: only the last is to be allowed unseen", allowed(w, "shop"), allowed(w, ""), allowed(w, "other"))
		}
		selector, err := metav1.LabelSelectorAsSelector(w.NamespaceSelector)
		if err != nil {
			t.Fatal(err)
		}
		in := func(name string) bool {
			return selector.Matches(labels.Set{"kubernetes.io/metadata.name": name, "gates": "enabled"})
		}
		if !in("shop") || in("other") {
			t.Errorf("the selector is %s", selector)
		}
	}
	if len(labelled.MatchExpressions) > 0 {
		t.Error("the selector that was given has been changed")
	}
	if w := within("", []kube.Webhook{{Handler: refuse}})[0]; w.NamespaceSelector != nil || allowed(w, "other") {
		t.Error("without a namespace of its own the webhook is left out somewhere")
	}
}

func TestWebhooksByURLNeedAnAPIServerOnThisMachine(t *testing.T) {
	for server, want := range map[string]bool{
		"https://127.0.0.1:6443": true, "https://127.3.0.1:6443/path": true, "https://localhost:6443": true, "https://[::1]:6443": true, "127.0.0.1:6443": true,
		"https://10.0.0.1:6443": false, "https://api.example.com": false, "api.example.com:443": false,
	} {
		if got := onThisMachine(server); got != want {
			t.Errorf("%s: %t, want %t", server, got, want)
		}
	}
}

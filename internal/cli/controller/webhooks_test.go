package controller

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
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

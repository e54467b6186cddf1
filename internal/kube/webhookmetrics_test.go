package kube

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func TestRefusalsOfWebhooksAreCounted(t *testing.T) {
	answers := map[string]admission.Response{
		"Forbidden": admission.Denied("no"),
		"Error":     admission.Errored(http.StatusInternalServerError, errors.New("broken")),
		"allowed":   admission.Allowed(""),
	}
	for _, mutating := range []bool{true, false} {
		for category, answer := range answers {
			w := Webhook{Path: "/counted", Mutating: mutating, Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return answer })}
			if got := w.counted().Handle(t.Context(), admission.Request{}); got.Allowed != answer.Allowed {
				t.Errorf("%s is answered with %v", category, got)
			}
		}
		name := "awslbc_webhook_validation_failure_total"
		if mutating {
			name = "awslbc_webhook_mutation_failure_total"
		}
		if got, want := countedAt(t, name, "/counted"), "Error Forbidden"; got != want {
			t.Errorf("%s counts once each %s, want %s", name, got, want)
		}
	}
}

// countedAt are the sorted categories that a counter has counted once for a webhook.
func countedAt(t *testing.T, name, webhook string) string {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var categories []string
	for _, family := range families {
		for _, metric := range family.Metric {
			if family.GetName() == name && metric.Label[1].GetValue() == webhook && metric.Counter.GetValue() == 1 {
				categories = append(categories, metric.Label[0].GetValue())
			}
		}
	}
	slices.Sort(categories)
	return strings.Join(categories, " ")
}

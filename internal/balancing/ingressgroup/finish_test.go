package ingressgroup

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// What AWS refuses is told on the Ingress: also what only waiting resolves, and also beside something that waits.
func TestRefusalsAreTold(t *testing.T) {
	throttled := &cloud.APIError{Operation: "ModifyRule", Kind: cloud.KindThrottled, Code: "Throttling", Resource: "arn:rule"}
	denied := &cloud.APIError{Operation: "CreateRule", Kind: cloud.KindDenied, Permission: "elasticloadbalancing:CreateRule", Resource: "arn:listener"}
	busy := &cloud.BusyError{Operation: "CreateRule", Until: time.Now().Add(time.Minute)}
	for _, c := range []struct {
		name     string
		outcomes []apply.Outcome
		err      error
		want     []string
	}{
		{name: "a throttled mutation", outcomes: []apply.Outcome{{Operation: plan.ModifyRule{}, Err: throttled}}, want: []string{"Warning FailedDeployModel", "ModifyRule", "throttles", "by itself"}},
		{name: "a throttled read", err: throttled, want: []string{"Warning FailedDeployModel", "throttles", "by itself"}},
		{name: "a denied call beside a busy one", err: errors.Join(busy, denied), want: []string{"Warning FailedDeployModel", "elasticloadbalancing:CreateRule"}},
		{name: "the own budget", err: busy},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorder := events.NewFakeRecorder(10)
			controller := &Controller{Options: Options{Logger: slog.New(slog.DiscardHandler)}.withDefaults(), events: recorder, told: map[types.NamespacedName]map[string]bool{}}
			key := types.NamespacedName{Namespace: "shop", Name: "web"}
			r := &round{key: key, ingress: &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}, result: apply.Result{Outcomes: c.outcomes}}
			if _, err := controller.finish(t.Context(), r, c.err); err != nil {
				t.Errorf("the pass is retried at the queue's pace: %v", err)
			}
			close(recorder.Events)
			var told []string
			for e := range recorder.Events {
				told = append(told, e)
			}
			if len(told) != min(1, len(c.want)) {
				t.Fatalf("told %q", told)
			}
			for _, part := range c.want {
				if !strings.Contains(told[0], part) {
					t.Errorf("%q does not contain %q", told[0], part)
				}
			}
		})
	}
}

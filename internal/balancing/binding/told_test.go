package binding

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// told is what the controller says on a binding.
func told(t *testing.T, do func(c *Controller, r *round)) []string {
	t.Helper()
	recorder := events.NewFakeRecorder(10)
	c := &Controller{Events: recorder, Logger: slog.New(slog.DiscardHandler), Now: time.Now}
	b := &elbv2.TargetGroupBinding{}
	b.Namespace, b.Name = "shop", "web"
	do(c, &round{binding: b, key: types.NamespacedName{Namespace: "shop", Name: "web"}, memory: &memory{}})
	close(recorder.Events)
	var all []string
	for e := range recorder.Events {
		all = append(all, e)
	}
	return all
}

func TestThrottlingIsToldOnce(t *testing.T) {
	throttled := &cloud.APIError{Operation: "RegisterTargets", Kind: cloud.KindThrottled, Code: "Throttling", Resource: "arn:tg"}
	busy := &cloud.BusyError{Operation: "RegisterTargets", Until: time.Now().Add(time.Minute)}
	got := told(t, func(c *Controller, r *round) {
		for _, err := range []error{busy, throttled, throttled} {
			if _, err := c.result(t.Context(), r, plan.Decision{}, err); err != nil {
				t.Errorf("retried at the queue's pace: %v", err)
			}
		}
	})
	if len(got) != 1 || !strings.Contains(got[0], "Warning FailedReconcile") || !strings.Contains(got[0], "RegisterTargets") || !strings.Contains(got[0], "throttles") {
		t.Errorf("told %q", got)
	}
}

// The API server refuses an event with a longer note; AWS's denials can be much longer.
func TestALongMessageIsCutNotLost(t *testing.T) {
	got := told(t, func(c *Controller, r *round) {
		_, _ = c.result(t.Context(), r, plan.Decision{}, errors.New("denied elasticloadbalancing:RegisterTargets "+strings.Repeat("é", 3000)))
	})
	if len(got) != 1 || len(got[0]) > len("Warning FailedReconcile ")+1024 || !strings.Contains(got[0], "RegisterTargets") {
		t.Errorf("told %d events", len(got))
	}
}

func TestAServiceThatIsGoneIsTold(t *testing.T) {
	got := told(t, func(c *Controller, r *round) {
		gone := observation{Snapshot: plan.Snapshot{Removal: "Service web does not exist"}}
		for _, o := range []observation{gone, gone, {}, gone} {
			c.tellMissing(r, o)
		}
	})
	if len(got) != 2 || !strings.Contains(got[0], "Warning BackendNotFound Service web does not exist") {
		t.Errorf("told %q", got)
	}
}

package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// The rollout waits for the time that its annotation names; its bindings must wait for the same.
func TestTheSettleTimeOfARolloutIsThatOfItsBindings(t *testing.T) {
	t.Parallel()
	seen := []rollouts.TrafficStatus{{Weights: map[string]int32{"web": 0}, Since: new(metav1.NowMicro())}}
	for _, row := range []struct {
		name, annotation string
		traffic          []rollouts.TrafficStatus
		want             *time.Duration
	}{
		{"a duration", "20s", seen, new(20 * time.Second)},
		{"0 is 0", "0s", seen, new(time.Duration(0))},
		{"also before any weight was seen", "0s", nil, new(time.Duration(0))},
		{"none is the controller's", "", seen, nil},
		{"nonsense is the controller's, and the rollout says so", "soon", seen, nil},
		{"so is less than nothing", "-1s", seen, nil},
	} {
		rollout := rollouts.Rollout{}
		if row.annotation != "" {
			rollout.Annotations = map[string]string{rollouts.SettleTimeAnnotation: row.annotation}
		}
		rollout.Status.Traffic = row.traffic
		got := record(rollout, "web")
		if (got.Settle == nil) != (row.want == nil) || got.Settle != nil && *got.Settle != *row.want {
			t.Errorf("%s: %v, want %v", row.name, got.Settle, row.want)
		}
		if got.Since.IsZero() != (row.traffic == nil) {
			t.Errorf("%s: the weight is recorded since %s", row.name, got.Since)
		}
	}
}

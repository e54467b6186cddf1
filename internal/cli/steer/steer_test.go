package steer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// The edits are those of the kubectl plugin, since both steer the same controller.
func TestPromotionIsThePluginsEdit(t *testing.T) {
	steps := []v1alpha1.CanaryStep{{SetWeight: new(int32(10))}, {Pause: &v1alpha1.RolloutPause{}}}
	canary := func(status v1alpha1.RolloutStatus) *v1alpha1.Rollout {
		r := &v1alpha1.Rollout{Status: status}
		r.Spec.Strategy.Canary = &v1alpha1.CanaryStrategy{Steps: steps}
		return r
	}
	updating := v1alpha1.RolloutStatus{CurrentPodHash: "b", StableRS: "a", CurrentStepIndex: new(int32(1))}
	paused := updating
	paused.PauseConditions = []v1alpha1.PauseCondition{{Reason: v1alpha1.PauseReasonCanaryPauseStep}}
	ended := updating
	ended.CurrentStepIndex = new(int32(2))
	promoted := v1alpha1.RolloutStatus{CurrentPodHash: "a", StableRS: "a"}

	for name, row := range map[string]struct {
		rollout *v1alpha1.Rollout
		full    bool
		want    map[string]any
	}{
		"a pause ends":                  {canary(paused), false, map[string]any{"pauseConditions": nil}},
		"without a pause the next step": {canary(updating), false, map[string]any{"pauseConditions": nil, "currentStepIndex": int32(2)}},
		"never past the last step":      {canary(ended), false, map[string]any{"pauseConditions": nil, "currentStepIndex": int32(2)}},
		"full":                          {canary(updating), true, map[string]any{"promoteFull": true}},
		"full on a promoted rollout does nothing": {canary(promoted), true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, promotion(row.rollout, row.full)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestImageEditsTouchOnlyTheNamedContainers(t *testing.T) {
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "proxy", Image: "p:1"}, {Name: "app", Image: "a:1"}}}
	got, err := imageEdits(spec, map[string]string{"app": "a:2"})
	if err != nil {
		t.Fatal(err)
	}
	want := []edit{{"test", "/spec/template/spec/containers/1/name", "app"}, {"replace", "/spec/template/spec/containers/1/image", "a:2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	spec.InitContainers = []corev1.Container{{Name: "init", Image: "i:1"}}
	got, err = imageEdits(spec, map[string]string{"*": "x:2"})
	if err != nil || len(got) != 6 || got[0].Path != "/spec/template/spec/initContainers/0/name" {
		t.Errorf("the edits of all containers are %v, %v", got, err)
	}
	_, err = imageEdits(spec, map[string]string{"ap": "a:2"})
	if err == nil || !strings.Contains(err.Error(), `no container "ap"`) || !strings.Contains(err.Error(), "app, init, proxy") {
		t.Errorf("an unknown container gives %v", err)
	}
}

func TestParseImages(t *testing.T) {
	for _, wrong := range []string{"app", "=a:1", "app="} {
		if _, err := parseImages([]string{wrong}); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
}

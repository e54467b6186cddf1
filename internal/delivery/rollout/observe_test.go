package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
)

func TestErrorsOfAWSReadTheSameEachTime(t *testing.T) {
	const text = "operation error ELBv2: DescribeRules, https response error StatusCode: 400, RequestID: 0a-1b, api error Throttling: Rate exceeded"
	want := "operation error ELBv2: DescribeRules, https response error StatusCode: 400, api error Throttling: Rate exceeded"
	if got := requestID.ReplaceAllString(text, ""); got != want {
		t.Error(got)
	}
}

func TestSettingsOfARollout(t *testing.T) {
	for name, row := range map[string]struct {
		key, value, problem string
		want                canary.Settings
	}{
		"settle time":      {v1alpha1.SettleTimeAnnotation, "90s", "", canary.Settings{Settle: 90 * time.Second}},
		"no settle time":   {v1alpha1.SettleTimeAnnotation, "0s", "", canary.Settings{}},
		"no duration":      {v1alpha1.SettleTimeAnnotation, "soon", `"soon" is not a duration; use a form such as 150s`, canary.Settings{Settle: time.Hour}},
		"negative":         {v1alpha1.SettleTimeAnnotation, "-1s", `"-1s" is less than 0s; use`, canary.Settings{Settle: time.Hour}},
		"evidence timeout": {v1alpha1.EvidenceTimeoutAnnotation, "5m", "", canary.Settings{Settle: time.Hour, EvidenceTimeout: 5 * time.Minute}},
		"no time at all":   {v1alpha1.EvidenceTimeoutAnnotation, "0s", `"0s" is less than 1s; use`, canary.Settings{Settle: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			s := canary.Snapshot{Settings: canary.Settings{Settle: time.Hour}}
			r := &v1alpha1.Rollout{}
			r.Annotations = map[string]string{row.key: row.value}
			readSettings(&s, r)
			if s.Settings != row.want || !strings.Contains(s.Rollout.SettingError, row.problem) || (row.problem == "") != (s.Rollout.SettingError == "") {
				t.Errorf("%+v, %q", s.Settings, s.Rollout.SettingError)
			}
		})
	}
}

package cloud_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

func delayed(t *testing.T, source evidence.Source) evidence.Delay {
	t.Helper()
	snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Delay
}

// A weight that AWS's throttling holds up is told, since when it waits; so is its end.
func TestEvidenceTellsThatAWeightWaitsForAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		believed(t, c)
		seen(t, source)
		told := make(chan struct{}, 100)
		defer source.Subscribe(func(string, string) { told <- struct{}{} })()
		if got := delayed(t, source); got != (evidence.Delay{}) {
			t.Errorf("nothing waits, and told is %+v", got)
		}
		f.set(func(f *fake) { f.failing["ModifyRule"] = "Throttling" })
		since := time.Now()
		for range 3 { // AWS throttles; then, for that reason, the budget has no token either
			if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); !errors.Is(err, cloud.ErrThrottled) && !errors.Is(err, cloud.ErrBusy) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(told) != 1 {
			t.Errorf("told %d times that a weight waits, want once", len(told))
		}
		if got := delayed(t, source); !got.Since.Equal(since) || !strings.Contains(got.Reason, "AWS throttles") || !strings.Contains(got.Reason, "ModifyRule") {
			t.Errorf("waiting: %+v, want AWS's throttling since %s", got, since)
		}
		f.set(func(f *fake) { delete(f.failing, "ModifyRule") })
		time.Sleep(30 * time.Second)
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		if got := delayed(t, source); got != (evidence.Delay{}) {
			t.Errorf("it was sent, and told is %+v", got)
		}
	})
}

func TestEvidenceTellsThatAWeightWaitsForAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		believed(t, c)
		seen(t, source)
		var err error
		for weight := int32(1); err == nil; weight++ {
			err = c.ModifyRule(t.Context(), ruleARN, split(100-weight, weight), nil)
		}
		if got := delayed(t, source); !errors.Is(err, cloud.ErrBusy) || got.Since.IsZero() || got.Reason != "the call budget has no token for ModifyRule" {
			t.Errorf("after %v: %+v", err, got)
		}
		time.Sleep(2 * time.Minute) // nobody wants the weight any more
		if got := delayed(t, source); got != (evidence.Delay{}) {
			t.Errorf("two minutes after the last attempt: %+v", got)
		}
	})
}

package canary

import (
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// What holds a weight up is said where the weight is waited for.
func TestAWaitForAWeightNamesWhatHoldsItUp(t *testing.T) {
	w := unseenWeight(t, nil)
	w.s.Ingresses[0].Evidence.Delay = evidence.Delay{Since: time.Date(2026, 1, 1, 9, 8, 7, 0, time.UTC), Reason: "AWS throttles the account's calls (Throttling to ModifyRule)"}
	w.wantWait(w.once(), "WeightNotSeen")
	if c := w.condition("TrafficVerified"); !contains(c.Message, "the write waits since 09:08:07: AWS throttles") {
		t.Errorf("TrafficVerified: %s", c.Message)
	}
}

// Law 6: a lost write that may still arrive holds what cannot be taken back, and no longer than that.
func TestLaw6ALostWriteHoldsWhatCannotBeTakenBack(t *testing.T) {
	w := atHalf(t, nil)
	w.image("C")
	w.once()
	w.aws()
	w.still()
	w.s.Now = w.s.Now.Add(151 * time.Second)
	until := w.s.Now.Add(5 * time.Minute)
	w.s.Ingresses[0].Evidence.UnansweredUntil = until
	d := w.once()
	w.wantWait(d, "Settling")
	if len(d.Operations) > 0 || !d.Wait.Again.Equal(until) || !contains(d.Wait.Message, "may still change the weights") {
		t.Errorf("%v, again at %s: %s", d.Operations, d.Wait.Again, d.Wait.Message)
	}
	w.s.Ingresses[0].Evidence.UnansweredUntil = time.Time{}
	w.wantOps(w.once(), `point Service shop-canary from "B" to "C"`)
}

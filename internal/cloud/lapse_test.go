package cloud

import (
	"testing"
	"time"
)

// Rules come and go; what waited for one that nobody asks about again must not stay for ever.
func TestDelaysThatNobodyAsksAboutAreForgotten(t *testing.T) {
	var d delays
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	busy := &BusyError{Operation: "ModifyRule"}
	d.note("rule-a", busy, now)
	d.note("rule-b", busy, now.Add(delayLapse/2))
	d.note("rule-c", nil, now.Add(delayLapse))
	if _, there := d.byResource["rule-b"]; !there || len(d.byResource) != 1 {
		t.Errorf("kept are %v, want rule-b alone", d.byResource)
	}
}

package nlb

import (
	"testing"
	"time"
)

func TestNewFlowsGoByTheScaleOfTheMoment(t *testing.T) {
	t.Parallel()
	scale := 1.0
	c := Config{Scale: 3, ScaleNow: func() float64 { return scale }}
	before := c.idle(time.Minute)
	scale = 0.5
	if after := c.idle(time.Minute); before != time.Minute || after != 30*time.Second {
		t.Errorf("a minute was %s, and is %s at scale 0.5", before, after)
	}
}

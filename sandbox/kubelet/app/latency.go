package app

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Latency is a distribution of answer times: constant (Low only), even between Low and High, or
// log-normal with the median Low and the 99th percentile High.
type Latency struct {
	Low, High time.Duration
	LogNormal bool
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// longest bounds a draw: longer than anything that runs.
const longest = 365 * 24 * time.Hour

// ParseLatency reads 20ms, 5ms..50ms or p50=20ms,p99=300ms.
func ParseLatency(s string) (Latency, error) {
	var l Latency
	if low, high, ok := strings.Cut(s, ".."); ok {
		return l, l.read(s, low, high)
	}
	if rest, ok := strings.CutPrefix(s, "p50="); ok {
		low, high, _ := strings.Cut(rest, ",p99=")
		l.LogNormal = true
		err := l.read(s, low, high)
		if err == nil && l.Low == 0 {
			err = fmt.Errorf("latency %q: a median of 0 has no log-normal distribution", s)
		}
		return l, err
	}
	return l, duration(&l.Low, s)
}

func (l *Latency) read(whole, low, high string) error {
	if duration(&l.Low, low) != nil || duration(&l.High, high) != nil || l.High < l.Low {
		return fmt.Errorf("latency %q is not understood: write 20ms, 5ms..50ms or p50=20ms,p99=300ms, the smaller first", whole)
	}
	return nil
}

// At returns the latency at a point of the distribution, u from 0 to 1, evenly spread.
func (l Latency) At(u float64) time.Duration {
	switch {
	case l.LogNormal:
		sigma := math.Log(float64(l.High)/float64(l.Low)) / z99
		z := math.Sqrt2 * math.Erfinv(2*min(max(u, 1e-6), 1-1e-6)-1)
		// Far above a 99th percentile of a day there is no Duration any more.
		return time.Duration(min(float64(l.Low)*math.Exp(sigma*z), float64(longest)))
	case l.High > l.Low:
		return l.Low + time.Duration(u*float64(l.High-l.Low))
	default:
		return l.Low
	}
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

package dataplane

import "time"

// ramp is who of a pool is in slow start, since when. The zero value is a pool in which nobody is.
type ramp struct {
	since map[*target]time.Time
	lasts time.Duration
	until time.Time // the last one ends
}

// beginSlowStart lets a target that has just become healthy start slowly if there is somebody healthy to take over the rest of its share. It is
// called with group.mu held, before the new state counts.
func (g *group) beginSlowStart(t *target, now time.Time) {
	t.slowSince = time.Time{}
	if g.settings.SlowStart <= 0 {
		return
	}
	for _, other := range g.order {
		atFull := !now.Before(other.slowSince.Add(g.settings.SlowStart))
		if other != t && other.State == Registered && other.health.State == Healthy && atFull {
			t.slowSince = now
			return
		}
	}
}

// newRamp collects the targets in slow start. Called with group.mu held.
func newRamp(eligible []*target, lasts time.Duration, now time.Time) ramp {
	r := ramp{lasts: lasts}
	if lasts <= 0 {
		return r
	}
	for _, t := range eligible {
		if end := t.slowSince.Add(lasts); t.health.State == Healthy && now.Before(end) {
			if r.since == nil {
				r.since = map[*target]time.Time{}
			}
			r.since[t] = t.slowSince
			if end.After(r.until) {
				r.until = end
			}
		}
	}
	return r
}

// share is the part of a full share that a target takes at a moment, in 1/1024: it grows evenly from nothing.
func (r *ramp) share(t *target, now time.Time) uint64 {
	since, slow := r.since[t]
	if !slow {
		return 1024
	}
	return uint64(min(1024, max(1, 1024*now.Sub(since)/r.lasts)))
}

// roundRobin goes around; a target in slow start lets the others go first as often as its share is missing.
func (g *group) roundRobin(p *pool, now time.Time) *target {
	n := uint64(len(p.eligible))
	t := p.eligible[g.turn.Add(1)%n]
	if !now.Before(p.ramp.until) {
		return t
	}
	for range 64 * n { // everybody may be in slow start by now: then the shares are relative
		if g.node.draw()%1024 < p.ramp.share(t, now) {
			break
		}
		t = p.eligible[g.turn.Add(1)%n]
	}
	return t
}

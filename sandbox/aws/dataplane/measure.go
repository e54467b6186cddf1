package dataplane

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// times is how long targets took for their answers, in microseconds, counted in buckets of which each is a sixteenth wider than the one before
// it or less. It takes every time up to 67 s exactly enough for percentiles, and those up to 71 min at all.
type times struct {
	buckets [464]atomic.Uint64
}

func (m *times) add(d time.Duration) {
	m.buckets[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	v := uint64(min(max(0, d.Microseconds()), 1<<32-1))
	if v < 16 {
		return int(v)
	}
	shift := bits.Len64(v) - 5
	return 16*shift + int(v>>shift)
}

// middle is the time that stands for those in a bucket.
func middle(bucket int) time.Duration {
	if bucket < 32 {
		return time.Duration(bucket) * time.Microsecond
	}
	shift := bucket/16 - 1
	low := uint64(bucket%16+16) << shift
	return time.Duration(low+1<<(shift-1)) * time.Microsecond
}

func (m *times) snapshot() (all []Measured) {
	for i := range m.buckets {
		if n := m.buckets[i].Load(); n > 0 {
			all = append(all, Measured{Seconds: middle(i).Seconds(), Count: n})
		}
	}
	return all
}

// Anomalies. What AWS looks at is known (answers of 5xx and connections that fail, compared with the other targets of the group), and how it
// decides is not. Here a target is anomalous while, of its newest requests, at least a tenth have failed and three times as many as
// elsewhere in the group; it is normal again when that is true of half these figures no more. The newest are those of about ten looks.
const (
	anomalyTargets  = 3 // healthy ones, without which nothing is detected
	anomalyRequests = 10
	anomalyRate     = 0.1
	anomalyFactor   = 3
	anomalyFades    = 0.9
	// fullShare is that of a target in weighted_random; mitigation halves it look by look, down to leastShare.
	fullShare  = 1024
	leastShare = 64
)

// anomaly is what is known of the failures of one target. Guarded by group.mu, but for share.
type anomaly struct {
	requests, failures         float64 // the newest, older ones count less
	seenRequests, seenFailures uint64
	anomalous                  bool
	share                      atomic.Uint32
}

// look brings the figures up to date.
func (a *anomaly) look(u *usage) {
	failures := u.status[5].Load() + u.connectErrors.Load() + u.tlsErrors.Load() + u.brokenResponses.Load()
	requests := u.requests.Load() + u.connectErrors.Load() + u.tlsErrors.Load()
	a.requests = a.requests*anomalyFades + float64(requests-a.seenRequests)
	a.failures = a.failures*anomalyFades + float64(failures-a.seenFailures)
	a.seenRequests, a.seenFailures = requests, failures
}

// judge says whether the target behaves differently from the others of its group.
func (a *anomaly) judge(requests, failures float64) bool {
	if a.requests < anomalyRequests {
		return a.anomalous && a.requests >= 1 // too few to change one's mind, and in the end too few to say anything
	}
	others := 0.0
	if requests > a.requests {
		others = (failures - a.failures) / (requests - a.requests)
	}
	own, strict := a.failures/a.requests, 1.0
	if a.anomalous {
		strict = 0.5
	}
	return own >= strict*anomalyRate && own >= strict*anomalyFactor*others
}

// detect looks for anomalous targets, and shifts requests away from them if the group says so and they are the smaller part.
func (g *group) detect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settings == nil {
		return
	}
	var requests, failures float64
	healthy := 0
	for _, t := range g.order {
		t.anomaly.look(&t.usage)
		if t.State == Registered && t.health.State == Healthy {
			healthy++
			requests += t.anomaly.requests
			failures += t.anomaly.failures
		}
	}
	anomalous := 0
	was := make([]bool, len(g.order))
	for i, t := range g.order {
		was[i] = t.anomaly.anomalous
		t.anomaly.anomalous = healthy >= anomalyTargets && t.State == Registered && t.health.State == Healthy && t.anomaly.judge(requests, failures)
		if t.anomaly.anomalous {
			anomalous++
		}
	}
	mitigates := g.settings.Mitigate && g.settings.Algorithm == WeightedRandom && 2*anomalous <= healthy
	for i, t := range g.order {
		before := t.anomaly.share.Load()
		after := min(fullShare, before*2)
		if mitigates && t.anomaly.anomalous {
			after = max(leastShare, before/2)
		}
		t.anomaly.share.Store(after)
		if was[i] != t.anomaly.anomalous || (before < fullShare) != (after < fullShare) {
			t.report()
		}
	}
}

// weightedRandom draws a target; one whose share is smaller is passed over as often as that.
func (g *group) weightedRandom(p *pool) *target {
	n := uint64(len(p.eligible))
	t := p.eligible[g.node.draw()%n]
	for range 64 {
		share := t.anomaly.share.Load()
		if share >= fullShare || g.node.draw()%fullShare < uint64(share) {
			return t
		}
		t = p.eligible[g.node.draw()%n]
	}
	return t
}

package budget

import "time"

// How the refill of a bucket answers to throttling by AWS.
const (
	// decrease is the factor of one throttled answer on its category's bucket; sharedDecrease that on the
	// account's bucket, which is only perhaps the one that was empty.
	decrease       = 0.5
	sharedDecrease = 0.8
	// increasePerSecond is what the factor regains of the nominal refill in each second.
	increasePerSecond = 0.05
	// leastFactor keeps a trickle, so that the end of the throttling is noticed.
	leastFactor = 0.1
	// decreaseInterval is how long several throttled answers count as one: they were on their way together.
	decreaseInterval = time.Second
)

// bucket is a token bucket whose refill shrinks when AWS throttles. It has no clock of its own.
type bucket struct {
	burst  float64
	rate   float64 // tokens a second
	factor float64 // share of rate that is refilled now, leastFactor to 1
	tokens float64
	at     time.Time // when tokens and factor were right

	throttledAt time.Time
}

func newBucket(limit Limit, margin float64, now time.Time) *bucket {
	burst := max(limit.Burst*margin, 1)
	return &bucket{burst: burst, rate: limit.Rate * margin, factor: 1, tokens: burst, at: now}
}

// refill brings the bucket to now. A clock that goes back adds nothing.
func (b *bucket) refill(now time.Time) {
	elapsed := now.Sub(b.at).Seconds()
	if elapsed <= 0 {
		return
	}
	b.tokens = min(b.burst, b.tokens+elapsed*b.rate*b.factor)
	b.factor = min(1, b.factor+elapsed*increasePerSecond)
	b.at = now
}

// demand is for one token that leaves reserve behind, a share of the burst, or slack tokens less, when ahead others take theirs first.
type demand struct {
	reserve      float64
	ahead, slack int
}

// wait is how long it takes at the present refill until a demand can be met; zero when it can be met now. The
// bucket must be refilled to now.
func (b *bucket) wait(d demand) time.Duration {
	left := max(0, d.reserve*b.burst-float64(d.slack))
	need := min(left+1, b.burst) + float64(d.ahead)
	if b.tokens >= need {
		return 0
	}
	// Rounded up by a microsecond, so that the token is there when the wait is over.
	return time.Duration((need-b.tokens)/(b.rate*b.factor)*float64(time.Second)) + time.Microsecond
}

// throttled answers to AWS having refused a call that we had a token for.
func (b *bucket) throttled(now time.Time, by float64) {
	b.refill(now)
	if !b.throttledAt.IsZero() && now.Sub(b.throttledAt) < decreaseInterval {
		return
	}
	b.throttledAt = now
	b.factor = max(leastFactor, b.factor*by)
	if by == decrease {
		b.tokens = min(b.tokens, 0)
	}
}

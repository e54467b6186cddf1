package budget

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Settings of a Budget; the zero value of each field asks for its default.
type Settings struct {
	// Margin is the share of AWS's published limits that is used; default 0.9.
	Margin float64
	// MaxWait bounds how long a call waits for a token; default 5 s.
	MaxWait time.Duration
	// Patience is how long a waiting call of a lower lane gives way before it counts as one of lane Targets,
	// so that polling never starves configuration. It never counts as traffic. Default 10 s.
	Patience time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Budget hands out the tokens. It is safe for concurrent use.
type Budget struct {
	settings Settings

	mu      sync.Mutex
	buckets map[string]*bucket
	queue   []*waiter // by arrival
	refused map[call]time.Time
}

// call is what Take has refused, until when.
type call struct {
	lane               Lane
	service, operation string
}

// roundReads is how many calls whoever was refused may make before it tries again: it looks anew at what it acts on, and its
// own reads must not take, each time, the token that it came back for.
const roundReads = 4

// waiter is a call that waits for a token.
type waiter struct {
	lane     Lane
	category string
	since    time.Time
	wake     chan struct{}
}

// New makes a budget with all buckets full.
func New(settings Settings) *Budget {
	if settings.Margin == 0 {
		settings.Margin = 0.9
	}
	if settings.MaxWait == 0 {
		settings.MaxWait = 5 * time.Second
	}
	if settings.Patience == 0 {
		settings.Patience = 10 * time.Second
	}
	if settings.Now == nil {
		settings.Now = time.Now
	}
	return &Budget{settings: settings, buckets: map[string]*bucket{}, refused: map[call]time.Time{}}
}

// BusyError says that no token could be had.
type BusyError struct {
	Lane      Lane
	Operation string
	// Until is when a token can be had at the earliest.
	Until time.Time
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("no token for %s on lane %s until %s", e.Operation, e.Lane, e.Until.Format(time.RFC3339Nano))
}

// Take takes the tokens of one call, or gives a *BusyError at once. A call that was refused and comes again in time may
// go a few tokens into what its lane leaves to the lanes above.
func (b *Budget) Take(lane Lane, service, operation string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, key := b.settings.Now(), call{lane, service, operation}
	slack := 0
	if until, was := b.refused[key]; was && !now.Before(until) {
		slack = roundReads
	}
	if wait := b.take(bucketsOf(service, operation), demand{reserve: reserves[lane], slack: slack}, now); wait > 0 {
		b.refused[key] = now.Add(wait)
		return &BusyError{Lane: lane, Operation: operation, Until: now.Add(wait)}
	}
	delete(b.refused, key)
	return nil
}

// Wait takes the tokens of one call and waits for them if need be: behind calls of more urgent lanes,
// and in the order of arrival within one. Unless background is set, it gives up with a *BusyError
// after MaxWait. It returns the context's error when that ends first.
func (b *Budget) Wait(ctx context.Context, lane Lane, service, operation string, background bool) error {
	counted := bucketsOf(service, operation)
	now := b.settings.Now()
	w := &waiter{lane: lane, category: counted[0].name, since: now, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	b.queue = append(b.queue, w)
	b.mu.Unlock()
	defer b.leave(w)

	var tooLate <-chan time.Time
	if !background {
		timer := time.NewTimer(b.settings.MaxWait)
		defer timer.Stop()
		tooLate = timer.C
	}
	for {
		b.mu.Lock()
		now = b.settings.Now()
		rank := b.rank(w, now)
		wait := b.take(counted, demand{reserve: reserves[rank], ahead: b.ahead(w, now)}, now)
		b.mu.Unlock()
		if wait == 0 {
			return nil
		}
		sleep := wait
		if patience := b.settings.Patience - now.Sub(w.since); patience > 0 {
			sleep = min(wait, patience) // its rank changes then
		}
		timer := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-tooLate:
			timer.Stop()
			return &BusyError{Lane: lane, Operation: operation, Until: now.Add(wait)}
		case <-w.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// When tells when a token can be had at the earliest; now if there is one.
func (b *Budget) When(lane Lane, service, operation string, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	var wait time.Duration
	for _, c := range bucketsOf(service, operation) {
		bucket := b.bucket(c, now)
		wait = max(wait, bucket.wait(demand{reserve: reserves[lane]}))
	}
	return now.Add(wait)
}

// Throttled tells the budget that AWS refused a call for its rate.
func (b *Budget) Throttled(service, operation string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.settings.Now()
	for i, c := range bucketsOf(service, operation) {
		by := decrease
		if i > 0 {
			by = sharedDecrease
		}
		b.bucket(c, now).throttled(now, by)
	}
}

// take takes one token of every bucket, or of none, and then gives how long to wait. Calls that are
// ahead of this one in the queue have a claim on the category's bucket.
func (b *Budget) take(counted []counted, d demand, now time.Time) time.Duration {
	var wait time.Duration
	for _, c := range counted {
		wait = max(wait, b.bucket(c, now).wait(d))
		d.ahead = 0
	}
	if wait > 0 {
		return wait
	}
	for _, c := range counted {
		b.buckets[c.name].tokens--
	}
	return 0
}

func (b *Budget) bucket(c counted, now time.Time) *bucket {
	found, ok := b.buckets[c.name]
	if !ok {
		found = newBucket(c.limit, b.settings.Margin, now)
		b.buckets[c.name] = found
	}
	found.refill(now)
	return found
}

// rank is the lane as which a waiting call counts now.
func (b *Budget) rank(w *waiter, now time.Time) Lane {
	if w.lane > Targets && now.Sub(w.since) >= b.settings.Patience {
		return Targets
	}
	return w.lane
}

// ahead counts the waiting calls of the same category that go before w.
func (b *Budget) ahead(w *waiter, now time.Time) int {
	n, rank, earlier := 0, b.rank(w, now), true
	for _, other := range b.queue {
		if other == w {
			earlier = false
			continue
		}
		otherRank := b.rank(other, now)
		if other.category == w.category && (otherRank < rank || otherRank == rank && earlier) {
			n++
		}
	}
	return n
}

// leave takes w out of the queue and lets those behind it look again.
func (b *Budget) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = slices.DeleteFunc(b.queue, func(other *waiter) bool { return other == w })
	for _, other := range b.queue {
		if other.category == w.category {
			select {
			case other.wake <- struct{}{}:
			default:
			}
		}
	}
}

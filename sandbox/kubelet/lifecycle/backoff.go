package lifecycle

import "time"

// The kubelet's own constants for both crashing containers and images that cannot be pulled.
const (
	backoffFirst  = 10 * time.Second
	backoffMax    = 5 * time.Minute
	backoffForget = 2 * backoffMax
)

// backoff is how long to wait before something that failed is tried again. The zero value is that of
// something that has not failed yet.
type backoff struct {
	delay time.Duration
	last  time.Time // of the last try
}

// pending returns how long after a failure at t the next try has to wait: 0 the first time, and
// again after a quiet time of backoffForget.
func (b backoff) pending(t time.Time) time.Duration {
	if b.delay == 0 || t.Sub(b.last) > backoffForget {
		return 0
	}
	return b.delay
}

// tried returns the backoff after a try at t that followed a failure.
func (b backoff) tried(t time.Time) backoff {
	if b.pending(t) == 0 {
		return backoff{delay: backoffFirst, last: t}
	}
	return backoff{delay: min(2*b.delay, backoffMax), last: t}
}

package cloud

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// delayLapse is how long after its last attempt a write counts as waiting: attempts are at most half of that
// apart, and what is not wanted any more is not attempted any more.
const delayLapse = time.Minute

// delays are the weights that are to be written and cannot be sent. The zero value is ready.
type delays struct {
	mu         sync.Mutex
	byResource map[string]delay
}

// delay is one of them, by its rule or listener.
type delay struct {
	evidence.Delay
	throttled bool
	last      time.Time
}

// lapse forgets what is not attempted any more, also of rules that nobody asks about again. Callers hold the lock.
func (d *delays) lapse(now time.Time) {
	maps.DeleteFunc(d.byResource, func(_ string, waiting delay) bool { return now.Sub(waiting.last) >= delayLapse })
}

// noteDelay keeps what came of an attempt to write a weight to a rule or listener; subscribers hear when it begins
// to wait.
func (c *Cloud) noteDelay(resource, listenerARN string, err error) {
	if c.delayed.note(resource, err, c.now()) {
		c.notifyTraffic(listenerARN)
	}
}

// note keeps what came of an attempt, and says whether the weight begins to wait.
func (d *delays) note(resource string, err error, now time.Time) (begins bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lapse(now)
	was, waiting := d.byResource[resource]
	if _, waits := RetryAfter(err); !waits {
		delete(d.byResource, resource)
		return false
	}
	if !waiting {
		was = delay{Delay: evidence.Delay{Since: now}}
	}
	was.last = now
	switch api, ok := errors.AsType[*APIError](err); {
	case ok:
		was.Reason, was.throttled = fmt.Sprintf("AWS throttles the account's calls (%s to %s)", api.Code, api.Operation), true
	case !was.throttled: // a budget without tokens is what throttling leaves behind
		busy, _ := errors.AsType[*BusyError](err)
		was.Reason = "the call budget has no token for " + busy.Operation
	}
	if d.byResource == nil {
		d.byResource = map[string]delay{}
	}
	d.byResource[resource] = was
	return !waiting
}

// delayOf is what a write to a rule or listener waits for.
func (c *Cloud) delayOf(resource string) evidence.Delay {
	c.delayed.mu.Lock()
	defer c.delayed.mu.Unlock()
	c.delayed.lapse(c.now())
	return c.delayed.byResource[resource].Delay
}

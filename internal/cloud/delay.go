package cloud

import (
	"errors"
	"fmt"
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

// noteDelay keeps what came of an attempt to write a weight to a rule or listener; subscribers hear when it begins
// to wait.
func (c *Cloud) noteDelay(resource, listenerARN string, err error) {
	d := &c.delayed
	now := c.now()
	d.mu.Lock()
	was, waiting := d.byResource[resource]
	if _, waits := RetryAfter(err); !waits {
		delete(d.byResource, resource)
		d.mu.Unlock()
		return
	}
	if waiting = waiting && now.Sub(was.last) < delayLapse; !waiting {
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
	d.mu.Unlock()
	if !waiting {
		c.notifyTraffic(listenerARN)
	}
}

// delayOf is what a write to a rule or listener waits for.
func (c *Cloud) delayOf(resource string) evidence.Delay {
	c.delayed.mu.Lock()
	defer c.delayed.mu.Unlock()
	found, waiting := c.delayed.byResource[resource]
	if waiting && c.now().Sub(found.last) >= delayLapse {
		delete(c.delayed.byResource, resource)
		return evidence.Delay{}
	}
	return found.Delay
}

package cloud

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// flights joins equal reads: who wants what is being read already, recent enough and on a lane at least as
// urgent, waits for that answer instead of asking again.
type flights struct {
	mu   sync.Mutex
	list map[string][]*flight
}

type flight struct {
	lane    budget.Lane
	started mirror.Moment // before the token was waited for: the answer is at least as recent
	done    chan struct{}
	err     error
}

// join runs read under the key, or waits for one that runs: it must have been started at or after
// notBefore and after the moment since. The read belongs to the one who started it; when that one's
// context ends, those who joined start their own.
func (c *Cloud) join(ctx context.Context, lane budget.Lane, key string, notBefore time.Time, since mirror.Moment, read func(context.Context) error) error {
	for {
		mine, f := c.board(lane, key, notBefore, since)
		if mine {
			f.err = read(ctx)
			c.land(key, f)
			return f.err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.done:
		}
		if f.err == nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !interrupted(f.err) {
			return f.err
		}
	}
}

func (c *Cloud) board(lane budget.Lane, key string, notBefore time.Time, since mirror.Moment) (mine bool, f *flight) {
	c.reads.mu.Lock()
	defer c.reads.mu.Unlock()
	for _, f := range c.reads.list[key] {
		if f.lane <= lane && !f.started.Time.Before(notBefore) && since.Before(f.started) {
			return false, f
		}
	}
	if c.reads.list == nil {
		c.reads.list = map[string][]*flight{}
	}
	f = &flight{lane: lane, started: c.moment(), done: make(chan struct{})}
	c.reads.list[key] = append(c.reads.list[key], f)
	return true, f
}

func (c *Cloud) land(key string, f *flight) {
	c.reads.mu.Lock()
	defer c.reads.mu.Unlock()
	left := c.reads.list[key][:0]
	for _, other := range c.reads.list[key] {
		if other != f {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		delete(c.reads.list, key)
	} else {
		c.reads.list[key] = left
	}
	close(f.done)
}

// interrupted reports whether a read ended because the one who had started it went away.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

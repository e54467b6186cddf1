package dataplane

import (
	"context"
	"slices"
	"time"
)

// shared is an HTTP/2 connection to a target, on which several requests are at the same time. Each of them has an upstream of its own that
// stands for its stream; whoever aborts one of these closes the connection under all, which is right, since only the end of a target does so.
type shared struct {
	trunk   *upstream
	streams int
	since   time.Time // when the last stream ended
	broken  bool      // takes no streams any more
}

// stream returns a stream for one request: on a connection that has room, or on a new one.
func (t *target) stream(ctx context.Context, g *Group, idleTimeout time.Duration) (*upstream, error) {
	if u, err := t.join(nil, idleTimeout); u != nil || err != nil {
		return u, err
	}
	trunk, err := t.connect(ctx, g)
	if err != nil {
		return nil, err
	}
	u, err := t.join(&shared{trunk: trunk}, idleTimeout)
	if u == nil && err == nil { // a target that takes no stream at all
		err = errConnect
	}
	if err != nil {
		_ = trunk.conn.Close()
	}
	return u, err
}

// join begins a stream on fresh, or else on any connection that has room; nil: none has.
func (t *target) join(fresh *shared, idleTimeout time.Duration) (*upstream, error) {
	t.flights.mu.Lock()
	defer t.flights.mu.Unlock()
	if t.closed {
		return nil, errLeft
	}
	on := fresh
	if fresh == nil {
		i := slices.IndexFunc(t.shared, func(s *shared) bool { return !s.broken && s.trunk.alive() && s.trunk.h2.Reserve() == nil })
		if i < 0 {
			return nil, nil
		}
		on = t.shared[i]
	} else {
		if fresh.trunk.h2.Reserve() != nil {
			return nil, nil
		}
		t.shared = append(t.shared, fresh)
	}
	on.streams++
	u := &upstream{conn: on.trunk.conn, h2: on.trunk.h2, owner: t, on: on, idleTimeout: idleTimeout}
	t.activate(u)
	return u, nil
}

// endStream ends a stream; the connection goes when it is broken or the target takes no more requests, and the last stream has ended. Called with
// the lock; it returns whether the connection is to be closed.
func (f *flights) endStream(s *shared) bool {
	s.streams--
	s.since = time.Now()
	s.broken = s.broken || s.trunk.h2.Err() != nil
	if s.streams > 0 || !s.broken && !f.closed {
		return false
	}
	f.shared = slices.DeleteFunc(f.shared, func(one *shared) bool { return one == s })
	return true
}

// unused takes out the connections without streams that are broken, or idle since before a moment. Called with the lock.
func (f *flights) unused(before time.Time) (dead []*upstream) {
	f.shared = slices.DeleteFunc(f.shared, func(s *shared) bool {
		gone := s.streams == 0 && (s.since.Before(before) || s.trunk.h2.Err() != nil)
		if gone {
			dead = append(dead, s.trunk)
		}
		return gone
	})
	return dead
}

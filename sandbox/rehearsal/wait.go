package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lookEvery is how often a condition is looked at that nothing announces.
const lookEvery = 50 * time.Millisecond

// until looks again and again until done says true, or the context ends; the error then says what was
// awaited and what the last look said.
func until(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var last error
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			cause := context.Cause(ctx)
			if last != nil {
				cause = errors.Join(cause, last)
			}
			return fmt.Errorf("waited in vain for %s: %w", what, cause)
		}
	}
}

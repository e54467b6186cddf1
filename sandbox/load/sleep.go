package load

import (
	"context"
	"time"
)

// longestSleep is how late the end of the context may be noticed.
const longestSleep = 5 * time.Millisecond

// until waits for a moment, false when the context ended first. It pauses as exactly as the system can, since what it is late would be
// counted as latency of the server.
func (a alarm) until(ctx context.Context, moment time.Time) bool {
	for {
		if ctx.Err() != nil {
			return false
		}
		left := time.Until(moment)
		if left <= 0 {
			return true
		}
		a.pause(min(left, longestSleep))
	}
}

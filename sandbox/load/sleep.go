package load

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// longestSleep is how late the end of the context may be noticed.
const longestSleep = 5 * time.Millisecond

// sleepUntil waits for a moment, false when the context ended first. It sleeps in the kernel, since the timers of the Go
// runtime round short waits up to a millisecond, and that would be counted as latency of the server.
func sleepUntil(ctx context.Context, moment time.Time) bool {
	for {
		if ctx.Err() != nil {
			return false
		}
		left := time.Until(moment)
		if left <= 0 {
			return true
		}
		pause := unix.NsecToTimespec(int64(min(left, longestSleep)))
		_ = unix.Nanosleep(&pause, nil) // interrupted by a signal: the loop looks again
	}
}

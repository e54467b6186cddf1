//go:build !linux

package load

import "time"

// pause sleeps by a timer of the Go runtime, up to a millisecond longer than asked for.
func pause(d time.Duration) { time.Sleep(d) }

//go:build !unix

package simulation

import "time"

var started = time.Now()

// cpuTime is the time that has passed, where the processor's is not known.
func cpuTime() time.Duration { return time.Since(started) }

package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// pause sleeps in the kernel: timers of the Go runtime round short waits up to a millisecond. A signal may end it early.
func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil)
}

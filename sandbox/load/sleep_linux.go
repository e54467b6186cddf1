package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm is a timer of the kernel, which the goroutine that waits for it sees as it sees a socket. Timers of the Go runtime round short waits up to
// a millisecond; a goroutine that sleeps in the kernel itself keeps its processor from others until the runtime notices, and is woken later.
type alarm struct {
	fd   int // of file, whose own method would make it block
	file *os.File
}

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return alarm{}, os.NewSyscallError("timerfd_create", err)
	}
	return alarm{fd, os.NewFile(uintptr(fd), "timer")}, nil
}

// pause waits for d, which is above 0.
func (a alarm) pause(d time.Duration) {
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if unix.TimerfdSettime(a.fd, 0, &once, nil) == nil {
		var expirations [8]byte
		_, _ = a.file.Read(expirations[:])
	}
}

func (a alarm) close() { _ = a.file.Close() }

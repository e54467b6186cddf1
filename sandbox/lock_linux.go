package sandbox

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// take locks the file, or answers errLocked.
func take(file *os.File) error {
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, whole(unix.F_WRLCK))
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errLocked
	}
	return err
}

// taken asks whether the file is locked, without locking it.
func taken(file *os.File) (bool, error) {
	answer := whole(unix.F_WRLCK)
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, answer)
	return answer.Type != unix.F_UNLCK, err
}

// whole is a lock on all of a file. It belongs to the open file and not to the process, so that two sandboxes of one
// process exclude each other as well.
func whole(kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart}
}

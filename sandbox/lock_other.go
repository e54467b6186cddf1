//go:build !linux

package sandbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// take locks the file, or answers errLocked. The lock belongs to the open file, as on Linux.
func take(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// taken tries a shared lock, as these systems cannot ask without locking; it ends when the file is closed.
func taken(file *os.File) (bool, error) {
	err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

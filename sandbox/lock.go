package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile, in a sandbox's folder, is locked by the process that runs the sandbox. The kernel frees it when that
// process ends in any way, so that neither a state that was left behind nor a process number that now belongs to
// somebody else can pass for a running sandbox. The file itself stays: a lock on a file that is removed guards nothing.
const lockFile = "lock"

// errLocked says that another process runs the sandbox, or is about to.
var errLocked = errors.New("it runs already, or is being started")

// lock takes the folder's lock; closing it gives it back. It is errLocked when another process, or another sandbox of
// this one, has it.
func lock(dir string) (io.Closer, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, whole(unix.F_WRLCK))
	if err == nil {
		return file, nil
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = errLocked
	}
	return nil, errors.Join(err, file.Close())
}

// locked reports whether a process holds the folder's lock. It only asks, so that it is never in the way of one that starts.
func locked(dir string) (bool, error) {
	path := filepath.Join(dir, lockFile)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	answer := whole(unix.F_WRLCK)
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, answer); err != nil {
		return false, fmt.Errorf("cannot ask for the lock %s: %w", path, err)
	}
	return answer.Type != unix.F_UNLCK, nil
}

// whole is a lock on all of a file. It belongs to the open file and not to the process, so that two sandboxes of one
// process exclude each other as well.
func whole(kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart}
}

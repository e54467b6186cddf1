package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	if err := take(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// locked reports whether a process holds the folder's lock. On Linux it only asks, so that it is never in the way of one that starts.
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
	held, err := taken(file)
	if err != nil {
		return false, fmt.Errorf("cannot ask for the lock %s: %w", path, err)
	}
	return held, nil
}

package aws

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

// objects is the little of S3 that load balancing reads: bundles of certificates and lists of revoked ones, for trust stores. They are
// files of a folder, BUCKET/KEY, or in memory if there is no folder. They belong to the user: no reset takes them away.
type objects struct {
	dir string // empty: in memory

	mu     sync.Mutex
	memory map[string][]byte
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// objectPath is bucket/key, if both can be; no key leads out of its bucket.
func objectPath(bucket, key string) (string, error) {
	if !bucketName.MatchString(bucket) {
		return "", fmt.Errorf("%q is not the name of a bucket", bucket)
	}
	path := bucket + "/" + key
	if key == "" || !fs.ValidPath(path) {
		return "", fmt.Errorf("%q cannot be the key of an object here", key)
	}
	return path, nil
}

// read finds an object. Of every object there is one version, so a version is not looked at.
func (o *objects) read(bucket, key, _ string) ([]byte, bool) {
	path, err := objectPath(bucket, key)
	if err != nil {
		return nil, false
	}
	if o.dir == "" {
		o.mu.Lock()
		defer o.mu.Unlock()
		text, ok := o.memory[path]
		return text, ok
	}
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return nil, false
	}
	defer root.Close()
	text, err := root.ReadFile(path)
	return text, err == nil
}

func (o *objects) write(bucket, key string, text []byte) error {
	path, err := objectPath(bucket, key)
	if err != nil {
		return err
	}
	if o.dir == "" {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.memory == nil {
			o.memory = map[string][]byte{}
		}
		o.memory[path] = text
		return nil
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return root.WriteFile(path, text, 0o600)
}

// putObject keeps the body as an object.
func (e *Emulator) putObject(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil && len(text) == 0 {
		err = errors.New("the body is empty")
	}
	if err == nil {
		err = e.objects.write(r.PathValue("bucket"), r.PathValue("key"), text)
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("cannot keep the object: %v", err), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

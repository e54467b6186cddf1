// Package binary finds and builds the executable of the sandbox's control plane.
//
// That executable is kube-apiserver and its neighbours, compiled from the nested module sandbox/controlplane. A
// first build takes minutes, so a finished one is kept in the user's cache directory under a key made from its
// sources: every clone with the same sources finds it there, and a change of the sources misses it.
//
// Start reading at [Find] and [Build]. The package uses the standard library only, so that the build program
// (sandbox/apiserver/build) is itself compiled in a moment.
package binary

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Variable is the environment variable that names an executable to use before all others.
const Variable = "LOCKSTEP_CONTROLPLANE"

// ErrNotBuilt is what [Find] returns when there is no executable anywhere.
var ErrNotBuilt = errors.New("the control plane has not been built; run: make controlplane")

// modulePath tells the root of Lockstep's source tree from other directories with a go.mod.
const modulePath = "github.com/lockstep-delivery/lockstep"

// Find returns the path of the executable. It looks, in this order, at $LOCKSTEP_CONTROLPLANE, in the user's cache
// for the build of the source tree at hand, beside the running executable, and in bin/ of the source tree. The
// source tree is the one around the running executable or the working directory, if any.
func Find() (string, error) {
	if path := os.Getenv(Variable); path != "" {
		if !executable(path) {
			return "", fmt.Errorf("%s names %s, which is not an executable file; correct or unset it", Variable, path)
		}
		return path, nil
	}
	var candidates []string
	self, selfErr := os.Executable()
	root, inTree := sourceTree(self)
	if inTree {
		if cached, err := Cached(root); err == nil {
			candidates = append(candidates, cached)
		}
	}
	if selfErr == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(self), "controlplane"))
	}
	if inTree {
		candidates = append(candidates, filepath.Join(root, "bin", "controlplane"))
	}
	for _, path := range candidates {
		if executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w (looked for %s)", ErrNotBuilt, strings.Join(candidates, ", "))
}

// Cached returns where the executable of the source tree at root lies in the user's cache once it is built.
func Cached(root string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot tell the user's cache directory: %w; set XDG_CACHE_HOME", err)
	}
	key, err := Key(sources(root))
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "lockstep", "controlplane-"+key), nil
}

// Key returns a short hash of all that makes the executable what it is: the module's Go files without tests, its
// dependencies, and the platform.
func Key(dir string) (string, error) {
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%s/%s\n", runtime.GOOS, runtime.GOARCH)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !isSource(entry.Name()) {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// The length keeps the end of one file apart from the start of the next.
		_, err = fmt.Fprintf(hash, "%s %d\n%s", filepath.ToSlash(name), len(content), content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot read the sources of the control plane: %w", err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:8]), nil
}

func isSource(name string) bool {
	if name == "go.mod" || name == "go.sum" {
		return true
	}
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

func sources(root string) string { return filepath.Join(root, "sandbox", "controlplane") }

// sourceTree returns the root of the Lockstep tree that holds self or, if none does, the working directory.
func sourceTree(self string) (root string, ok bool) {
	starts := []string{filepath.Dir(self)}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if isRoot(dir) {
				return dir, true
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", false
}

func isRoot(dir string) bool {
	content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		if strings.TrimSpace(line) == "module "+modulePath {
			return true
		}
	}
	return false
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

package binary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// keep is how long an executable that no tree asks for stays in the cache. Each has 120 MB.
const keep = 30 * 24 * time.Hour

// Build makes sure that the executable of the source tree at root is in the user's cache, and installs it at path,
// which gets the present time. It tells progress what it does, and compiles only what the cache lacks: a first
// build takes some minutes, a cached one no time. The compiler's own output goes to progress.
func Build(ctx context.Context, root, path string, progress io.Writer) error {
	cached, err := Cached(root)
	if err != nil {
		return err
	}
	if executable(cached) {
		_, _ = fmt.Fprintf(progress, "control plane: using %s\n", cached)
	} else {
		_, _ = fmt.Fprintf(progress, "control plane: compiling kube-apiserver, etcd and the controllers; the first time this takes some minutes\n")
		if err := compile(ctx, sources(root), cached, progress); err != nil {
			return err
		}
	}
	if err := install(cached, path); err != nil {
		return fmt.Errorf("cannot install the control plane: %w", err)
	}
	prune(filepath.Dir(cached), time.Now().Add(-keep))
	return nil
}

// install puts the executable at path, at once, so that a control plane which is running from there is not
// disturbed. It is a hard link where the file system allows it. Its time is renewed: make compares it with the
// sources, and prune with the present.
func install(from, path string) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is there and is no regular file; name another path", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	target := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer os.Remove(target) // does nothing after the rename
	if err := os.Link(from, target); err != nil {
		if err := copyFile(from, target); err != nil {
			return err
		}
	}
	now := time.Now()
	if err := os.Chtimes(target, now, now); err != nil {
		return err
	}
	_ = os.Chtimes(from, now, now) // the cache may be another's and read-only, and is then not ours to prune
	// Renaming one link to another of the same file is defined to do nothing, so the old link goes first.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(target, path)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// prune removes executables that have not been asked for since before. It is a courtesy, so errors are nothing.
func prune(cache string, before time.Time) {
	old, _ := filepath.Glob(filepath.Join(cache, "controlplane-*"))
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && info.ModTime().Before(before) {
			_ = os.Remove(path)
		}
	}
}

// compile builds the nested module in dir to path. The executable appears there when it is complete, so two
// builds at once end with one of two equal files.
func compile(ctx context.Context, dir, path string, progress io.Writer) error {
	version, err := kubernetesVersion(ctx, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot make the cache directory: %w", err)
	}
	target := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer os.Remove(target) // does nothing after the rename
	build := goCommand(ctx, dir, "build", "-trimpath", "-ldflags", linkerFlags(version), "-o", target, ".")
	build.Stdout, build.Stderr = progress, progress
	if err := build.Run(); err != nil {
		return fmt.Errorf("cannot compile the control plane in %s: %w", dir, err)
	}
	return os.Rename(target, path)
}

// linkerFlags strip the symbols, which halves the file, and set the version that the API server tells: clients
// choose what they send by it. Kubernetes' own release build sets the same variables.
func linkerFlags(version string) string {
	flags := []string{"-s", "-w"}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags,
			"-X", pkg+".gitVersion="+version,
			"-X", pkg+".gitMajor="+major,
			"-X", pkg+".gitMinor="+minor,
			"-X", pkg+".gitTreeState=clean")
	}
	return strings.Join(flags, " ")
}

// kubernetesVersion returns the version of k8s.io/kubernetes that the module in dir requires.
func kubernetesVersion(ctx context.Context, dir string) (string, error) {
	out, err := goCommand(ctx, dir, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("cannot tell the version of Kubernetes in %s: %w", dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// goCommand runs the go command in dir. There is no C in the control plane, and saying so makes the build the
// same with and without a C compiler. A go.work around the tree must not mix the two modules.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

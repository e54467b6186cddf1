package binary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build makes sure that the executable of the source tree at root is in the user's cache, and puts a copy of it
// at path. It tells progress what it does, and compiles only what the cache lacks: a first build takes some
// minutes and about 3 GB of memory, a cached one no time. The compiler's own output goes to progress.
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
	return nil
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

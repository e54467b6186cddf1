package binary

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree makes a source tree whose control plane is "built" into an otherwise empty cache, and enters it.
func tree(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(Variable, "")
	write(t, filepath.Join(root, "go.mod"), "module "+modulePath+"\n\ngo 1.26.0\n", 0o644)
	write(t, filepath.Join(root, "sandbox", "controlplane", "go.mod"), "module "+modulePath+"/sandbox/controlplane\n", 0o644)
	write(t, filepath.Join(root, "sandbox", "controlplane", "main.go"), "package main\n", 0o644)
	t.Chdir(filepath.Join(root, "sandbox", "controlplane"))
	return root
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func cached(t *testing.T, root string) string {
	t.Helper()
	path, err := Cached(root)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindPrefersTheBuildOfTheSourcesAtHand(t *testing.T) {
	root := tree(t)
	if _, err := Find(); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("nothing built: got %v, want ErrNotBuilt", err)
	}
	inBin := filepath.Join(root, "bin", "controlplane")
	write(t, inBin, "old", 0o755)
	if got, err := Find(); err != nil || got != inBin {
		t.Errorf("only bin/: got %q, %v", got, err)
	}
	inCache := cached(t, root)
	write(t, inCache, "exact", 0o755)
	if got, err := Find(); err != nil || got != inCache {
		t.Errorf("cache and bin/: got %q, %v, want the cache", got, err)
	}
	named := filepath.Join(t.TempDir(), "mine")
	write(t, named, "mine", 0o755)
	t.Setenv(Variable, named)
	if got, err := Find(); err != nil || got != named {
		t.Errorf("named by the variable: got %q, %v", got, err)
	}
}

func TestKeyFollowsTheSources(t *testing.T) {
	root := tree(t)
	dir := filepath.Join(root, "sandbox", "controlplane")
	before := cached(t, root)
	write(t, filepath.Join(dir, "main_test.go"), "package main\n", 0o644)
	write(t, filepath.Join(dir, "README.md"), "words\n", 0o644)
	if after := cached(t, root); after != before {
		t.Error("a test or a text file changes the key")
	}
	for _, name := range []string{"main.go", "go.mod", "go.sum", "credentials/credentials.go"} {
		before := cached(t, root)
		write(t, filepath.Join(dir, name), "changed\n", 0o644)
		if after := cached(t, root); after == before {
			t.Errorf("a change of %s leaves the key as it was", name)
		}
	}
}

func TestBuildTakesWhatTheCacheHolds(t *testing.T) {
	root := tree(t)
	write(t, cached(t, root), "compiled before", 0o755)
	target := filepath.Join(root, "bin", "controlplane")
	var progress strings.Builder
	if err := Build(t.Context(), root, target, &progress); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != "compiled before" || !executable(target) {
		t.Errorf("installed %q, executable: %v", content, executable(target))
	}
	if !strings.Contains(progress.String(), "using") {
		t.Errorf("progress says %q", progress.String())
	}
	if err := Build(t.Context(), root, target, io.Discard); err != nil {
		t.Errorf("again: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(target))
	if err != nil || len(left) != 1 {
		t.Errorf("bin/ holds %v (%v), want the executable alone", left, err)
	}
}

func TestBuildReplacesOnlyFiles(t *testing.T) {
	root := tree(t)
	write(t, cached(t, root), "compiled before", 0o755)
	target := filepath.Join(root, "bin") // empty, so that removing it would succeed
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Build(t.Context(), root, target, io.Discard); err == nil || !strings.Contains(err.Error(), target) {
		t.Errorf("got %v, want a refusal that names %s", err, target)
	}
	if info, err := os.Stat(target); err != nil || !info.IsDir() {
		t.Errorf("the directory was replaced (%v)", err)
	}
}

func TestBuildForgetsWhatNoTreeAsksFor(t *testing.T) {
	root := tree(t)
	used := cached(t, root)
	recent, old := used+"-recent", used+"-old"
	for _, path := range []string{used, recent, old} {
		write(t, path, "compiled before", 0o755)
	}
	ago := time.Now().Add(-keep - time.Hour)
	for _, path := range []string{used, old} {
		if err := os.Chtimes(path, ago, ago); err != nil {
			t.Fatal(err)
		}
	}
	if err := Build(t.Context(), root, filepath.Join(root, "bin", "controlplane"), io.Discard); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{used: true, recent: true, old: false} {
		if executable(path) != want {
			t.Errorf("%s is there: %v, want %v", path, !want, want)
		}
	}
}

func TestBuildThatCannotCompileLeavesNothing(t *testing.T) {
	root := tree(t)
	if err := Build(t.Context(), root, filepath.Join(root, "bin", "controlplane"), io.Discard); err == nil {
		t.Fatal("sources without Kubernetes were compiled")
	}
	if _, err := Find(); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("got %v, want ErrNotBuilt", err)
	}
}

func TestLinkerFlagsTellTheVersion(t *testing.T) {
	flags := linkerFlags("v1.36.3")
	for _, want := range []string{"version.gitVersion=v1.36.3", "version.gitMajor=1", "version.gitMinor=36"} {
		if !strings.Contains(flags, want) {
			t.Errorf("%q lacks %s", flags, want)
		}
	}
}

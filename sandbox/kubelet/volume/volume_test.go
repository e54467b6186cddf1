package volume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T) (*Folder, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pod")
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Remove() })
	return f, dir
}

func mountAll(t *testing.T, f *Folder, container string, mounts []Mount) Relocation {
	t.Helper()
	r, err := f.Mount(container, mounts)
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMount(t *testing.T) {
	f, _ := open(t)
	must(t, f.Empty("work"))
	_, err := f.Files("settings", map[string]File{"colour": {[]byte("blue"), 0o400}, "deep/er/size": {[]byte("L"), 0o644}})
	must(t, err)
	mounts := []Mount{
		{Volume: "settings", At: "/etc/app"},
		{Volume: "settings", At: "/etc/one.conf", SubPath: "colour"},
		{Volume: "settings", At: "/copies", SubPath: "deep"},
		{Volume: "work", At: "/work/"},
		{Volume: "work", At: "/outside/part", SubPath: "part"},
		{Volume: "settings", At: "/work/inner"},
	}
	home, err := f.Container("main")
	must(t, err)
	mountAll(t, f, "main", mounts)
	for name, want := range map[string]string{"etc/app/colour": "blue", "etc/app/deep/er/size": "L", "etc/one.conf": "blue", "copies/er/size": "L", "work/inner/colour": "blue"} {
		if got := read(t, filepath.Join(home, name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	info, err := os.Stat(filepath.Join(home, "etc/app/colour"))
	must(t, err)
	if info.Mode().Perm() != 0o400 {
		t.Errorf("its mode is %s", info.Mode())
	}
	must(t, os.WriteFile(filepath.Join(home, "outside/part/result"), []byte("42"), 0o600))
	if got := read(t, filepath.Join(home, "work/part/result")); got != "42" {
		t.Errorf("through the other mount: %q", got)
	}
	dir, err := f.WorkingDir("main", "/work/new", mounts)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "here"), nil, 0o600))
	read(t, filepath.Join(home, "work/new/here"))

	// A second run, and another container, find the same volumes.
	for _, container := range []string{"main", "other"} {
		home, err := f.Container(container)
		must(t, err)
		mountAll(t, f, container, mounts)
		if got := read(t, filepath.Join(home, "work/part/result")); got != "42" {
			t.Errorf("%s: %q", container, got)
		}
	}
}

// Files change all at one moment; what was mounted by its subPath does not change.
func TestFilesChange(t *testing.T) {
	f, dir := open(t)
	_, err := f.Files("settings", map[string]File{"old": {[]byte("1"), 0o644}, "colour": {[]byte("blue"), 0o644}})
	must(t, err)
	home, err := f.Container("main")
	must(t, err)
	mountAll(t, f, "main", []Mount{{Volume: "settings", At: "/s"}, {Volume: "settings", At: "/one", SubPath: "colour"}})
	next := map[string]File{"colour": {[]byte("green"), 0o644}, "new": {[]byte("2"), 0o600}}
	for i, want := range []bool{true, false} {
		changed, err := f.Files("settings", next)
		must(t, err)
		if changed != want {
			t.Errorf("write %d: changed %v", i, changed)
		}
	}
	if got := read(t, filepath.Join(home, "s/colour")) + read(t, filepath.Join(home, "s/new")) + read(t, filepath.Join(home, "one")); got != "green2blue" {
		t.Errorf("the files hold %q", got)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "volumes", "settings"))
	must(t, err)
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..2") {
			names = append(names, e.Name())
		}
	}
	if want := []string{"..data", "colour", "new"}; !slices.Equal(names, want) || len(entries) != 4 {
		t.Errorf("the volume has %v of %d entries, want %v and one version", names, len(entries), want)
	}
}

// Neither a manifest nor a command gets anything written outside of the pod's folder.
func TestNothingOutside(t *testing.T) {
	f, dir := open(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	must(t, os.Mkdir(outside, 0o700))
	must(t, f.Empty("work"))
	_, err := f.Files("settings", map[string]File{"colour": {[]byte("blue"), 0o644}})
	must(t, err)
	home, err := f.Container("main")
	must(t, err)
	must(t, os.Symlink(outside, filepath.Join(dir, "volumes/work/link")))
	must(t, os.Symlink("../../../outside", filepath.Join(dir, "volumes/work/up")))
	for _, mounts := range [][]Mount{
		{{Volume: "work", At: "/"}},
		{{Volume: "work", At: "/w", SubPath: "../../.."}},
		{{Volume: "work", At: "/w", SubPath: "link/new"}},
		{{Volume: "work", At: "/w", SubPath: "up/new"}},
		{{Volume: "work", At: "/w"}, {Volume: "settings", At: "/w/link/s"}},
		{{Volume: "work", At: "/w"}, {Volume: "settings", At: "/w/up/s"}},
		{{Volume: "settings", At: "/s"}, {Volume: "work", At: "/s/w"}},
	} {
		if _, err := f.Mount("main", mounts); err == nil {
			t.Errorf("%+v is mounted", mounts)
		}
	}
	if _, err := f.WorkingDir("main", "/w/link/new", []Mount{{Volume: "work", At: "/w"}}); err == nil {
		t.Error("a working directory is made outside")
	}
	for _, name := range []string{"../x", "/x", "..x", "a/../../x", ""} {
		if _, err := f.Files("bad", map[string]File{name: {}}); err == nil {
			t.Errorf("a file %q is written", name)
		}
	}
	mountAll(t, f, "main", []Mount{{Volume: "work", At: "../../../up"}})
	read(t, filepath.Join(dir, "volumes/settings/colour"))
	if _, err := os.Lstat(filepath.Join(home, "up")); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(outside)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("outside there is %v", left)
	}
	around, err := os.ReadDir(filepath.Dir(dir))
	must(t, err)
	if len(around) != 2 {
		t.Errorf("around the pod's folder there is %v", around)
	}
}

func TestRemoved(t *testing.T) {
	f, dir := open(t)
	must(t, f.Remove())
	must(t, f.Remove())
	_, err := f.Files("settings", map[string]File{"colour": {}})
	_, home := f.Container("main")
	_, mounted := f.Mount("main", nil)
	if err == nil || home == nil || f.Empty("work") == nil || mounted == nil {
		t.Error("a folder that is gone is written to")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

func TestRelocate(t *testing.T) {
	r := Relocation{Root: "/tmp/pod", To: map[string]string{"/data": "/tmp/pod/D", "/etc/app": "/tmp/pod/A", "/etc/app/in": "/tmp/pod/I", "/tmp": "/tmp/pod/T"}}
	for text, want := range map[string]string{
		"":                                        "",
		"/data":                                   "/tmp/pod/D",
		"cp /etc/app/x /data/; ls":                "cp /tmp/pod/A/x /tmp/pod/D/; ls",
		"--file=/data/x,/data/y":                  "--file=/tmp/pod/D/x,/tmp/pod/D/y",
		`cat "/data/x" '/etc/app'>/tmp/o`:         `cat "/tmp/pod/D/x" '/tmp/pod/A'>/tmp/pod/T/o`,
		"PATH=/bin:/data/bin":                     "PATH=/bin:/tmp/pod/D/bin",
		"X=${Y:-/data} $(cat /data/x)":            "X=${Y:-/tmp/pod/D} $(cat /tmp/pod/D/x)",
		"/database /etc/application /data.txt":    "/database /etc/application /data.txt",
		"http://host/data/x x/data a.b/etc/app":   "http://host/data/x x/data a.b/etc/app",
		"cat /etc/app/in/x /etc/app/inner":        "cat /tmp/pod/I/x /tmp/pod/A/inner",
		"/data$X /data* /etc":                     "/data$X /data* /etc",
		"$CONTAINER_SANDBOX_MOUNT_POINT/data":     "$CONTAINER_SANDBOX_MOUNT_POINT/data",
		`"${CONTAINER_SANDBOX_MOUNT_POINT}"/data`: `"${CONTAINER_SANDBOX_MOUNT_POINT}"/data`,
		"cat /tmp/pod/T/o /tmp/other/o":           "cat /tmp/pod/T/o /tmp/pod/T/other/o",
	} {
		got, moved := r.Relocate(text)
		if got != want || moved != (text != want) {
			t.Errorf("%s\n got %s (%v)\nwant %s", text, got, moved, want)
		}
		if again, moved := r.Relocate(got); again != got || moved {
			t.Errorf("a second time %s comes to %s", got, again)
		}
	}
	if !r.Safe() || (Relocation{Root: "/tmp/my files/x"}).Safe() {
		t.Error("what is safe in scripts is not told")
	}
}

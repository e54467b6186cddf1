// Package volume keeps the volumes of one pod in a folder of this machine, for commands that run as its processes.
//
// A process without rights of its own over the machine cannot mount anything, and sees the machine's own files. So each
// container has a folder in which a volume that it mounts at /etc/app is found at etc/app, as a symbolic link: this is how
// Kubernetes shows mounts to processes without a file system of their own elsewhere (host process containers of Windows), under
// the same variable, [Variable]. What a manifest says of paths is moved there by [Relocation].
//
//	<pod>/volumes/settings/..data -> ..2026_11_21_08_00_00.1   files that change all at one moment, as a kubelet writes them
//	<pod>/volumes/settings/colour -> ..data/colour
//	<pod>/containers/main/etc/app -> ../../../volumes/settings
//
// Nothing is ever written outside of the folder, whatever paths manifests name and links commands make: everything goes through
// an [os.Root]. That a volume is read-only is not enforced.
//
// Start reading at [Folder.Mount].
package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Variable names the environment variable that holds the folder of a container. On a cluster of real nodes it is not set, and
// "$CONTAINER_SANDBOX_MOUNT_POINT/etc/app" is the same path in both.
const Variable = "CONTAINER_SANDBOX_MOUNT_POINT"

const (
	volumesIn    = "volumes"
	containersIn = "containers"
)

// Folder is a pod's folder. It is safe for concurrent use.
type Folder struct {
	mu   sync.Mutex
	root *os.Root
	// held is what was last written to each volume of files; the number tells its versions apart.
	held   map[string]map[string]File
	number int
}

// errRemoved is what there is to say of a folder that is gone.
var errRemoved = errors.New("the pod's folder has been removed")

// Open makes the folder of a pod, which must not exist yet.
func Open(dir string) (*Folder, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the pod: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		_ = os.Remove(dir)
		return nil, fmt.Errorf("cannot open the folder of the pod: %w", err)
	}
	return &Folder{root: root, held: map[string]map[string]File{}}, nil
}

// Remove removes the folder with all that is in it. Nothing can be written to it afterwards. A folder that is gone is no error.
func (f *Folder) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return nil
	}
	dir := f.root.Name()
	_ = f.root.Close()
	f.root = nil
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove the folder of the pod: %w", err)
	}
	return nil
}

// Container makes the folder of a container anew, empty, and returns its path.
func (f *Folder) Container(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return "", errRemoved
	}
	at := path.Join(containersIn, name)
	if err := errors.Join(f.root.RemoveAll(at), f.root.MkdirAll(at, 0o700)); err != nil {
		return "", fmt.Errorf("cannot make the folder of the container: %w", err)
	}
	return f.Path(at), nil
}

// Path returns the path of something within the folder.
func (f *Folder) Path(at string) string { return filepath.Join(f.root.Name(), filepath.FromSlash(at)) }

// WorkingDir makes a directory for a container to work in, given its path as the container sees it, unless it is there.
func (f *Folder) WorkingDir(container, dir string, mounts []Mount) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return "", errRemoved
	}
	at := place(container, clean(dir), mounts)
	if err := f.root.MkdirAll(at, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the working directory %s: %w", dir, err)
	}
	return f.Path(at), nil
}

// Empty makes a volume for containers to write to, unless it is there.
func (f *Folder) Empty(volume string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return errRemoved
	}
	at := path.Join(volumesIn, volume)
	if err := f.root.MkdirAll(at, 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of the volume: %w", err)
	}
	return f.root.Chmod(at, 0o777) // umask does not count
}

// Mount is where a container finds a volume.
type Mount struct {
	// Volume is its name, and SubPath what of it is mounted; empty: all.
	Volume, SubPath string
	// At is the path that the manifest names.
	At string
}

// Mount gives a container, whose folder must be there, what it mounts, and returns where that is: not the links, which some
// programs do not follow. Of a volume of files a SubPath is copied: as in a cluster, it does not change any more.
func (f *Folder) Mount(container string, mounts []Mount) (Relocation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return Relocation{}, errRemoved
	}
	r := Relocation{Root: f.root.Name(), To: map[string]string{}}
	for _, m := range sorted(mounts) {
		at, err := f.mount(container, m, mounts)
		if err != nil {
			return Relocation{}, fmt.Errorf("cannot mount volume %q at %s: %w", m.Volume, m.At, err)
		}
		r.To[clean(m.At)] = f.Path(at)
	}
	return r, nil
}

// sorted puts mounts into the order of their paths, so that what is mounted within another comes after it.
func sorted(mounts []Mount) []Mount {
	return slices.SortedStableFunc(slices.Values(mounts), func(a, b Mount) int { return strings.Compare(clean(a.At), clean(b.At)) })
}

// mount mounts one volume, and returns where that is within the folder.
func (f *Folder) mount(container string, m Mount, all []Mount) (where string, err error) {
	to := clean(m.At)
	if to == "/" {
		return "", errors.New("a volume cannot take the place of all files of the machine")
	}
	above := within(all, to)
	for _, other := range above {
		if _, files := f.held[other.Volume]; files {
			return "", fmt.Errorf("it is within volume %q, which is read-only", other.Volume)
		}
	}
	at := path.Join(place(container, path.Dir(to), above), path.Base(to))
	if err := f.makeRoom(at); err != nil {
		return "", err
	}
	from := path.Join(volumesIn, m.Volume, m.SubPath)
	if !inside(from, path.Join(volumesIn, m.Volume)) {
		return "", fmt.Errorf("subPath %q is not within the volume", m.SubPath)
	}
	_, files := f.held[m.Volume]
	switch _, err := f.root.Stat(from); {
	case err == nil && files && m.SubPath != "":
		return at, f.copy(from, at)
	case err == nil:
		return from, f.link(from, at)
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("subPath %q: %w", m.SubPath, err)
	case files: // a runtime makes an empty directory of what is missing
		return at, f.root.Mkdir(at, 0o755)
	default:
		return from, errors.Join(f.root.MkdirAll(from, 0o755), f.link(from, at))
	}
}

// makeRoom makes the parent of what is to be mounted, and takes away what an earlier run has mounted in its place.
func (f *Folder) makeRoom(at string) error {
	if err := f.root.MkdirAll(path.Dir(at), 0o755); err != nil {
		return err
	}
	info, err := f.root.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().IsRegular():
		return errors.New("there is a file")
	}
	return f.root.Remove(at) // a link, or a directory if it is empty
}

// link makes at a link to from, relative, since an os.Root follows no other.
func (f *Folder) link(from, at string) error {
	relative, err := filepath.Rel(filepath.FromSlash(path.Dir(at)), filepath.FromSlash(from))
	if err != nil {
		return err
	}
	return f.root.Symlink(relative, at)
}

// copy copies a file, or a directory of files.
func (f *Folder) copy(from, at string) error {
	info, err := f.root.Stat(from)
	if err != nil {
		return err
	}
	source, err := f.root.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if !info.IsDir() {
		data, err := io.ReadAll(source)
		if err != nil {
			return err
		}
		return f.write(at, File{data, info.Mode().Perm()})
	}
	if err := f.root.Mkdir(at, 0o755); err != nil {
		return err
	}
	names, err := source.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := f.copy(path.Join(from, name), path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// place returns where within the folder a path of a container is.
func place(container, at string, mounts []Mount) string {
	for _, m := range slices.Backward(sorted(mounts)) {
		if to := clean(m.At); inside(at, to) {
			return path.Join(volumesIn, m.Volume, m.SubPath, strings.TrimPrefix(at, to))
		}
	}
	return path.Join(containersIn, container, at)
}

// within returns the mounts above a path.
func within(mounts []Mount, at string) (above []Mount) {
	for _, m := range mounts {
		if to := clean(m.At); to != at && inside(at, to) {
			above = append(above, m)
		}
	}
	return above
}

func clean(at string) string { return path.Join("/", at) }

func inside(at, dir string) bool { return at == dir || strings.HasPrefix(at, dir+"/") }

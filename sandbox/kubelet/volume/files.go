package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// File is a file of a volume.
type File struct {
	Data []byte
	Mode fs.FileMode
}

// Names of a volume of files: dataLink names the present version, a directory whose name begins with two dots, too.
const (
	dataLink = "..data"
	newLink  = "..data_tmp"
)

// Files gives a volume these files, by their paths within it, instead of those that it has. Who looks at the volume sees all
// of the old ones or all of the new ones. It reports whether anything has changed.
func (f *Folder) Files(volume string, files map[string]File) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root == nil {
		return false, errRemoved
	}
	held, known := f.held[volume]
	if known && maps.EqualFunc(held, files, func(a, b File) bool { return a.Mode == b.Mode && bytes.Equal(a.Data, b.Data) }) {
		return false, nil
	}
	if err := f.renew(path.Join(volumesIn, volume), files); err != nil {
		return false, fmt.Errorf("cannot write the files of the volume: %w", err)
	}
	f.held[volume] = maps.Clone(files)
	return true, nil
}

// renew writes a new version beside the present one, and lets the link to it change at one moment.
func (f *Folder) renew(dir string, files map[string]File) error {
	if err := f.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f.number++
	version := fmt.Sprintf("..%s.%d", time.Now().UTC().Format("2006_01_02_15_04_05"), f.number)
	if err := f.root.Mkdir(path.Join(dir, version), 0o755); err != nil {
		return err
	}
	shown := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		top, _, _ := strings.Cut(name, "/")
		if path.Clean(name) != name || strings.HasPrefix(name, "/") || strings.HasPrefix(top, "..") {
			return fmt.Errorf("%q is not the path of a file in a volume", name)
		}
		shown[top] = true
		at := path.Join(dir, version, name)
		if err := errors.Join(f.root.MkdirAll(path.Dir(at), 0o755), f.write(at, files[name])); err != nil {
			return err
		}
	}
	old, _ := f.root.Readlink(path.Join(dir, dataLink)) // none at first
	if err := f.root.RemoveAll(path.Join(dir, newLink)); err != nil {
		return err
	}
	if err := f.root.Symlink(version, path.Join(dir, newLink)); err != nil {
		return err
	}
	if err := f.root.Rename(path.Join(dir, newLink), path.Join(dir, dataLink)); err != nil {
		return err
	}
	if err := f.show(dir, shown); err != nil {
		return err
	}
	if old == "" || path.Base(old) != old {
		return nil
	}
	return f.root.RemoveAll(path.Join(dir, old))
}

// show makes the links by which the files are seen, and takes away those to files that are gone.
func (f *Folder) show(dir string, shown map[string]bool) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !shown[name] && !strings.HasPrefix(name, "..") {
			err = errors.Join(err, f.root.RemoveAll(path.Join(dir, name)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		if !slices.Contains(names, name) {
			err = errors.Join(err, f.root.Symlink(path.Join(dataLink, name), path.Join(dir, name)))
		}
	}
	return err
}

// write writes a file that does not exist yet. Its mode counts whatever the umask is.
func (f *Folder) write(at string, file File) error {
	w, err := f.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(file.Data)
	return errors.Join(err, w.Chmod(file.Mode), w.Close())
}

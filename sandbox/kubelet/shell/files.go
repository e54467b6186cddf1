package shell

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// room is how many bytes the files of a container may have together.
const room = 1 << 20

// Files are the files of a simulated container. The zero value is empty but for the usual folders. It is safe for
// concurrent use.
type Files struct {
	mu    sync.Mutex
	files map[string][]byte
	live  map[string]func() string
	dirs  map[string]bool
	size  int
}

// folders are there in every container.
var folders = []string{"/", "/tmp", "/etc", "/var", "/var/run", "/run", "/dev", "/root", "/home"}

// Mount puts a file in place whose content is what read returns whenever it is looked at. It cannot be written.
func (f *Files) Mount(name string, read func() string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live == nil {
		f.live = map[string]func() string{}
	}
	f.live[path.Clean(name)] = read
}

func (f *Files) open(name string, flag int) (io.ReadWriteCloser, error) {
	if name == "/dev/null" {
		return null{}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	if read := f.live[name]; read != nil {
		if writes {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
		}
		return &handle{Reader: strings.NewReader(read())}, nil
	}
	content, exists := f.files[name]
	switch {
	case f.isDir(name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	case !exists && flag&os.O_CREATE == 0, !exists && !f.isDir(path.Dir(name)):
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	case !exists || flag&os.O_TRUNC != 0:
		f.put(name, nil)
		content = nil
	}
	return &handle{Reader: bytes.NewReader(content), files: f, name: name}, nil
}

// put replaces a file. The caller holds mu.
func (f *Files) put(name string, content []byte) {
	if f.files == nil {
		f.files = map[string][]byte{}
	}
	f.size += len(content) - len(f.files[name])
	f.files[name] = content
}

func (f *Files) isDir(name string) bool {
	if slices.Contains(folders, name) || f.dirs[name] {
		return true
	}
	for file := range f.live {
		if strings.HasPrefix(file, name+"/") {
			return true
		}
	}
	return false
}

// handle is an open file. What is written goes to its end.
type handle struct {
	io.Reader
	files *Files
	name  string
}

func (h *handle) Write(b []byte) (int, error) {
	if h.files == nil {
		return 0, syscall.EBADF
	}
	h.files.mu.Lock()
	defer h.files.mu.Unlock()
	if h.files.size+len(b) > room {
		return 0, syscall.ENOSPC
	}
	old := h.files.files[h.name]
	h.files.put(h.name, append(old[:len(old):len(old)], b...))
	return len(b), nil
}

func (h *handle) Close() error { return nil }

type null struct{}

func (null) Read([]byte) (int, error)    { return 0, io.EOF }
func (null) Write(b []byte) (int, error) { return len(b), nil }
func (null) Close() error                { return nil }

func (f *Files) stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, exists := f.files[name]
	read := f.live[name]
	switch {
	case f.isDir(name):
		return info{name: path.Base(name), dir: true}, nil
	case read != nil:
		return info{name: path.Base(name), size: len(read())}, nil
	case exists:
		return info{name: path.Base(name), size: len(content)}, nil
	default:
		return nil, &fs.PathError{Op: "stat", Path: name, Err: syscall.ENOENT}
	}
}

// list returns what is in a folder, in order.
func (f *Files) list(dir string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isDir(dir) {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOENT}
	}
	inside := strings.TrimSuffix(dir, "/") + "/"
	found := map[string]bool{} // name -> is a folder
	note := func(full string, isDir bool) {
		rest, ok := strings.CutPrefix(full, inside)
		if !ok || rest == "" {
			return
		}
		first, _, deeper := strings.Cut(rest, "/")
		found[first] = found[first] || isDir || deeper
	}
	for name := range f.files {
		note(name, false)
	}
	for name := range f.live {
		note(name, false)
	}
	for name := range f.dirs {
		note(name, true)
	}
	for _, name := range folders {
		note(name, true)
	}
	var list []fs.DirEntry
	for name, isDir := range found {
		list = append(list, fs.FileInfoToDirEntry(info{name: name, dir: isDir, size: len(f.files[inside+name])}))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func (f *Files) remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, exists := f.files[name]; {
	case f.live[name] != nil:
		return syscall.EROFS
	case exists:
		f.put(name, nil)
		delete(f.files, name)
	case f.dirs[name]:
		delete(f.dirs, name)
	case f.isDir(name):
		return syscall.EBUSY
	default:
		return syscall.ENOENT
	}
	return nil
}

func (f *Files) makeDir(name string, parents bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.isDir(name) && parents:
		return nil
	case f.isDir(name):
		return syscall.EEXIST
	case !parents && !f.isDir(path.Dir(name)):
		return syscall.ENOENT
	}
	if f.dirs == nil {
		f.dirs = map[string]bool{}
	}
	for ; !f.isDir(name); name = path.Dir(name) {
		f.dirs[name] = true
	}
	return nil
}

// info describes a file.
type info struct {
	name string
	dir  bool
	size int
}

func (i info) Name() string { return i.name }
func (i info) Size() int64  { return int64(i.size) }
func (i info) IsDir() bool  { return i.dir }
func (i info) Sys() any     { return nil }

// ModTime is not kept.
func (i info) ModTime() time.Time { return time.Time{} }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// reason is what a program says of an error of a file.
func reason(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	text := errno.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

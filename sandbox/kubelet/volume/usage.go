package volume

import (
	"io/fs"
	"path"
	"syscall"
)

// block is the unit in which systems count what files take.
const block = 512

// Usage is how many bytes of the disk a volume takes, with its directories; what is linked from elsewhere does not count. What cannot be read, or is
// just being removed, is left out.
func (f *Folder) Usage(volume string) (bytes int64) {
	f.mu.Lock()
	root := f.root
	f.mu.Unlock()
	if root == nil {
		return 0
	}
	counted := map[uint64]bool{} // files of several names
	_ = fs.WalkDir(root.FS(), path.Join(volumesIn, volume), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry == nil {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !entry.IsDir() && stat.Nlink > 1 && counted[stat.Ino] {
			return nil
		}
		counted[stat.Ino] = true
		bytes += stat.Blocks * block
		return nil
	})
	return bytes
}

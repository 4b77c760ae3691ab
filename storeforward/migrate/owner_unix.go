//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package migrate

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownAs gives a folder with all in it to the owner of another file: who runs
// the migration, root perhaps, need not be who runs the node.
func ownAs(like, tree string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	want, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if have, ok := info.Sys().(*syscall.Stat_t); ok && (have.Uid != want.Uid || have.Gid != want.Gid) {
			return os.Lchown(path, int(want.Uid), int(want.Gid))
		}
		return nil
	})
}

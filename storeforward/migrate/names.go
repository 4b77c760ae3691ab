package migrate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// names is a folder as the switch sees it: names that appear, move and go. A
// name may have one folder before it.
type names interface {
	// Rename moves a file, or a folder with all in it, atomically.
	Rename(from, to string) error
	// Remove removes a file, or a folder with all in it.
	Remove(name string) error
	// SyncDir makes all that happened to names durable.
	SyncDir() error
}

// place puts the new store, made in the folder aside, beside the old one.
// Nobody looks at it there as long as that folder is.
func place(n names, to Engine) error {
	if err := n.Rename(to.aside()+"/"+to.name(), to.name()); err != nil {
		return err
	}
	return n.SyncDir()
}

// flip is the switch: without the name of the old store, the new one is the
// one in use.
func flip(n names, from, to Engine) error {
	if err := n.Rename(from.name(), from.kept(to)); err != nil {
		return err
	}
	if err := n.SyncDir(); err != nil {
		// Nobody knows which of them the disk has. As long as nothing runs they
		// hold the same, so the old one stays.
		return errors.Join(err, n.Rename(from.kept(to), from.name()))
	}
	return nil
}

// clean removes what a migration left that did not end: what stands where the
// new store belongs before the folder that says that it means nothing.
func clean(n names, p Place) error {
	if p.Unfinished != "" {
		if err := errors.Join(n.Remove(p.Unfinished.name()), n.SyncDir()); err != nil {
			return err
		}
	}
	for _, e := range []Engine{Journal, Bolt} {
		if err := errors.Join(n.Remove(e.aside()), n.SyncDir()); err != nil {
			return err
		}
	}
	return nil
}

// folder is names of a folder of the system.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

func (f folder) Rename(from, to string) error { return os.Rename(f.path(from), f.path(to)) }

func (f folder) Remove(name string) error { return os.RemoveAll(f.path(name)) }

// SyncDir syncs the folder, and those in it in which stores are made.
func (f folder) SyncDir() error {
	for _, name := range []string{Journal.aside(), Bolt.aside(), "."} {
		err := syncFile(f.path(name), true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// syncTree makes a file, or a folder with all in it, durable.
func syncTree(path string) error {
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return syncFile(path, d.IsDir())
	})
}

func syncFile(path string, dir bool) error {
	if dir && runtime.GOOS == "windows" {
		return nil // has no such call
	}
	how := os.O_RDWR
	if dir {
		how = os.O_RDONLY
	}
	f, err := os.OpenFile(path, how, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if dir && errors.Is(err, syscall.EINVAL) {
		err = nil // some file systems refuse to sync a folder; they need not
	}
	return errors.Join(err, f.Close())
}

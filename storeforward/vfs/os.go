package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// osFS is one directory of the system.
type osFS struct{ dir string }

// OS returns the directory dir, which must exist. Files are made for their
// owner alone.
func OS(dir string) (FS, error) {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return nil, err
	}
	return &osFS{dir}, nil
}

// path refuses names that lead out of the directory.
func (d *osFS) path(name string) (string, error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
		return "", fmt.Errorf("%q is not the name of a file", name)
	}
	return filepath.Join(d.dir, name), nil
}

func (d *osFS) open(name string, flag int) (File, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, full(err)
	}
	return &osFile{f}, nil
}

func (d *osFS) Create(name string) (File, error) { return d.open(name, os.O_CREATE|os.O_EXCL) }

func (d *osFS) Open(name string) (File, error) { return d.open(name, 0) }

func (d *osFS) Rename(from, to string) error {
	old, err := d.path(from)
	if err != nil {
		return err
	}
	path, err := d.path(to)
	if err != nil {
		return err
	}
	return full(os.Rename(old, path))
}

func (d *osFS) Remove(name string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// List leaves out what is not a regular file.
func (d *osFS) List() ([]string, error) {
	entries, err := os.ReadDir(d.dir) // sorted
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *osFS) SyncDir() error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(full(f.Sync()), f.Close())
}

// osFile is a file of the system.
type osFile struct{ f *os.File }

func (f *osFile) ReadAt(b []byte, off int64) (int, error) { return f.f.ReadAt(b, off) }

func (f *osFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(b, off)
	return n, full(err)
}

func (f *osFile) Truncate(size int64) error { return full(f.f.Truncate(size)) }

func (f *osFile) Size() (int64, error) {
	st, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Close() error { return f.f.Close() }

// extend sets the size where blocks cannot be reserved.
func (f *osFile) extend(size int64) error {
	if have, err := f.Size(); err != nil || have >= size {
		return err
	}
	return f.Truncate(size)
}

// full gives the error of a disk, or a quota, without room its common name.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

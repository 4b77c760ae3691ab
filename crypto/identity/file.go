package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// MaxFile bounds every file this package reads, in bytes.
const MaxFile = 64 << 10

// ErrTooOpen is returned for a file or directory that others than its owner
// may read or change; the error holds the chmod to run.
var ErrTooOpen = errors.New("permissions are too open")

// Permission bits that must be clear. Windows has no such bits.
const (
	othersAny   fs.FileMode = 0o077
	othersWrite fs.FileMode = 0o022
)

// MakeDir makes a key directory (mode 0700) that survives a power cut, and
// refuses one that others may write in.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make key directory: %w", err)
	}
	if err := checkDir(dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// ReadSecret reads a file of secrets, at most MaxFile bytes. It refuses a file
// that anyone but its owner may read, or whose directory others may write in.
func ReadSecret(path string) ([]byte, error) { return readFile(path, othersAny, MaxFile) }

// ReadPublic reads a file that may be read by all but written by its owner
// only, such as a certificate; limit is its largest size in bytes.
func ReadPublic(path string, limit int64) ([]byte, error) { return readFile(path, othersWrite, limit) }

func readFile(path string, forbidden fs.FileMode, limit int64) ([]byte, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key directory: %w", err)
	}
	defer f.Close()
	// Stat the open file, not the path: nobody can swap it in between.
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key directory: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	if err := checkMode(path, st.Mode(), forbidden, "600"); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, limit)
	}
	return data, nil
}

// WriteFile puts data at path with mode 0600, whole or not at all, and returns
// once it is durable: temporary file, fsync, rename, fsync of the directory.
// One writer per path: a data directory has one owner.
func WriteFile(path string, data []byte) (err error) {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a power cut
		return fmt.Errorf("save %s: %w", path, err)
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save %s: %w", path, err)
			f.Close() // a second Close only returns an error
			os.Remove(tmp)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func checkDir(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("read key directory: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("read key directory: %s is not a directory", dir)
	}
	return checkMode(dir, st.Mode(), othersWrite, "700")
}

func checkMode(path string, mode, forbidden fs.FileMode, want string) error {
	if runtime.GOOS == "windows" || mode.Perm()&forbidden == 0 {
		return nil
	}
	return fmt.Errorf("%s has mode %04o: %w: run: chmod %s %s", path, mode.Perm(), ErrTooOpen, want, path)
}

// syncDir makes a rename durable. Windows cannot sync a directory.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

//go:build !linux

package proc

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Datasync makes a file durable.
func Datasync(f *os.File) error { return f.Sync() }

// Allocate sets the size of a file.
func Allocate(f *os.File, size int64) error { return f.Truncate(size) }

// Forget does nothing.
func Forget(*os.File) error { return nil }

// CPU knows nothing of a process.
func CPU(int) (time.Duration, error) { return 0, nil }

// OwnCPU knows nothing of this process.
func OwnCPU() time.Duration { return 0 }

// Yield does nothing.
func Yield() {}

// MemoryOf knows nothing of a process.
func MemoryOf(int) (Memory, error) { return Memory{}, nil }

// Written knows nothing of a process.
func Written(int) (int64, error) { return 0, nil }

// InMemory reports false.
func InMemory(string) bool { return false }

// FileSystem knows no name.
func FileSystem(string) string { return "" }

// DiskBytes adds up the sizes of the files of a folder.
func DiskBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info os.FileInfo
			if info, err = d.Info(); err == nil {
				n += info.Size()
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}

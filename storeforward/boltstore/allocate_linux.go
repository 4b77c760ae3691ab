package boltstore

import (
	"errors"
	"os"
	"syscall"
)

// allocate extends f from size by n bytes of real blocks, so that a full disk
// shows here and not in the middle of a commit. The blocks are written with
// zeros: to turn reserved ones into written ones costs every sync that does it.
func allocate(f *os.File, size, n int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, size, n)
		switch {
		case err == nil:
			return extend(f, size, n)
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS):
			return extend(f, size, n)
		}
		return err
	}
}

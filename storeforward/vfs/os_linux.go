package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var errQuota error = unix.EDQUOT

func (f *osFile) Sync() error {
	return f.call("fdatasync", func(fd int) error { return unix.Fdatasync(fd) })
}

func (f *osFile) Allocate(size int64) error {
	if size <= 0 {
		return nil
	}
	err := f.call("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.extend(size)
	}
	return full(err)
}

// call makes a system call with the descriptor, again when a signal cut in.
func (f *osFile) call(name string, do func(fd int) error) error {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = do(int(fd)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	if err == nil && failed != nil {
		err = full(&os.PathError{Op: name, Path: f.f.Name(), Err: failed})
	}
	return err
}

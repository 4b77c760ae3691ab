//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package migrate

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes a lock of an open folder, shared or alone; errLocked when
// another has it. The system gives it up with the process.
func tryLock(f *os.File, alone bool) error {
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		}
		return err
	}
}

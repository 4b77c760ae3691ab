package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockName is the file that is locked while the journal is open. Nothing is
// ever written to it.
const lockName = "lock"

var errLocked = errors.New("locked")

// dirLock is the ownership of a directory.
type dirLock struct{ f *os.File }

// takeLock waits for the lock of a directory that exists.
func takeLock(dir string, wait time.Duration) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err = tryLock(f)
		if err == nil {
			return &dirLock{f}, nil
		}
		if !errors.Is(err, errLocked) || time.Now().After(until) {
			break
		}
	}
	if errors.Is(err, errLocked) {
		err = fmt.Errorf("%w: data directory %s is in use by another farhop (lock on %s); stop it or choose another --dir",
			ErrInUse, filepath.Dir(dir), path)
	}
	return nil, errors.Join(err, f.Close())
}

func (l *dirLock) release() {
	if l != nil {
		_ = l.f.Close()
	}
}

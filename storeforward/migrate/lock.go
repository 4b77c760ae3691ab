package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// ErrBusy says that a migration runs in the folder, or, to a migration, that
// somebody is opening a store there.
var ErrBusy = errors.New("a migration runs")

var errLocked = errors.New("locked")

// lockWait is how long a migration waits for those that look into the folder:
// they hold it for as long as it takes to open a store.
const lockWait = time.Second

// Hold keeps migrations away from a folder of stores until release is called:
// for whoever chooses a store there, until it is open and has its own lock. It
// makes no file. ErrBusy: a migration runs.
func Hold(dir string) (release func(), err error) { return take(dir, false, 0) }

func take(dir string, alone bool, wait time.Duration) (release func(), err error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // nothing is there that could be migrated
	}
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err = tryLock(f, alone)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, errLocked) || !time.Now().Before(until) {
			break
		}
	}
	if errors.Is(err, errLocked) && alone {
		err = fmt.Errorf("%w: %s is in use by another farhop; stop it first", ErrBusy, dir)
	} else if errors.Is(err, errLocked) {
		err = fmt.Errorf("%w: the store in %s moves to another engine; wait until farhop store migrate has ended", ErrBusy, dir)
	}
	return nil, errors.Join(err, f.Close())
}

package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// bindUnix listens on a unix socket. A socket on which nobody listens, left by
// a process that was killed, is replaced; one with a listener, or a file that
// is no socket, never. Closing the listener removes the file.
func bindUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	unlock, err := lockDir(filepath.Dir(path)) // two that start at once must not remove each other's
	if err != nil {
		return nil, fmt.Errorf("%w: make the folder first", err)
	}
	defer unlock()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// Linux gives the file the mode of the descriptor, less the umask, so
		// nobody can connect between bind and chmod. Elsewhere this has no
		// effect, and the folder's mode has to see to it.
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes the socket at path if nobody listens there.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket: move it away, or choose another path", path)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("%s has a listener: stop the program that has it, or choose another path", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	// A full queue, or no permission: somebody may well listen.
	return fmt.Errorf("%s may have a listener: %w", path, err)
}

// lockDir keeps other processes from binding in a folder by this package. The
// lock goes with its descriptor, so none is left behind.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

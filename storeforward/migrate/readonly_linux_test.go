package migrate_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/farhop/farhop/storeforward/migrate"
)

// TestReadOnly: on a disk that cannot be written everything is refused in one
// line, which does not send anybody for a backup.
func TestReadOnly(t *testing.T) {
	for _, e := range engines {
		for _, what := range []string{"sound", "later"} {
			t.Run(string(e)+"/"+what, func(t *testing.T) {
				dir := t.TempDir()
				fill(t, e, dir, 100)
				if what == "later" {
					later(t, e, dir, 2)
				}
				before := tree(t, dir)
				readOnly(t, dir, func() {
					_, err := migrate.Run(t.Context(), migrate.Config{Dir: dir, To: other(e)})
					for _, err := range []error{opens(e, dir, nil), err} {
						oneLine(t, what, err)
						if err != nil && strings.Contains(err.Error(), "backup") {
							t.Errorf("wrong advice: %v", err)
						}
					}
				})
				same(t, "the folder", tree(t, dir), before)
			})
		}
	}
}

// readOnly runs f in a thread to which a folder cannot be written: mounted so,
// where this process may mount, else without the permission. The thread ends
// with f.
func readOnly(t *testing.T, dir string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: nobody else gets this thread
		if err := mountReadOnly(dir); err != nil {
			t.Logf("without a mount: %v", err)
			modes(t, dir, 0o500, 0o400)
			if os.Geteuid() == 0 {
				if err := syscall.Setfsuid(65534); err != nil {
					t.Error(err)
				}
			}
		}
		f()
	}()
	<-done
	modes(t, dir, 0o700, 0o600)
}

func mountReadOnly(dir string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS | syscall.CLONE_FS); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	return syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}

func modes(t *testing.T, dir string, folder, file os.FileMode) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, folder)
		}
		return os.Chmod(path, file)
	})
	if err != nil {
		t.Error(err)
	}
}

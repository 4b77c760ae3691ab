package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/vfs"
)

// both runs a test on a real directory and on one in memory.
func both(t *testing.T, run func(t *testing.T, d vfs.FS)) {
	t.Run("os", func(t *testing.T) {
		d, err := vfs.OS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		run(t, d)
	})
	t.Run("mem", func(t *testing.T) { run(t, vfs.NewMem()) })
	t.Run("image", func(t *testing.T) { run(t, vfs.NewMem().Copy()) })
}

func create(t testing.TB, d vfs.FS, name, text string) vfs.File {
	t.Helper()
	f, err := d.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, text, 0)
	return f
}

func write(t testing.TB, f vfs.File, text string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(text), off); err != nil || n != len(text) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func read(t testing.TB, d vfs.FS, name string) string {
	t.Helper()
	f, err := d.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(b)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, d vfs.FS) {
		f := create(t, d, "a", "hello")
		write(t, f, "j", 0)
		write(t, f, "!", 7)
		must(t, f.Sync(), d.SyncDir())
		if got := read(t, d, "a"); got != "jello\x00\x00!" {
			t.Errorf("%q", got)
		}
		b := make([]byte, 10)
		if n, err := f.ReadAt(b, 2); n != 6 || err != io.EOF || string(b[:n]) != "llo\x00\x00!" {
			t.Errorf("read over the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(b[:3], 5); n != 3 || err != nil {
			t.Errorf("read to the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(b, 100); n != 0 || err != io.EOF {
			t.Errorf("read behind the end: %d, %v", n, err)
		}
		must(t, f.Truncate(3), f.Truncate(6))
		if got := read(t, d, "a"); got != "jel\x00\x00\x00" {
			t.Errorf("after truncations: %q", got)
		}
		must(t, f.Allocate(4096), f.Allocate(10))
		write(t, f, "x", 4000)
		if size, err := f.Size(); size != 4096 || err != nil {
			t.Errorf("size %d, %v", size, err)
		}
		if got := read(t, d, "a"); got[:6] != "jel\x00\x00\x00" || got[4000] != 'x' || got[4095] != 0 {
			t.Error("bytes changed when they were allocated")
		}
		must(t, f.Close())
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if err := f.Sync(); err == nil {
			t.Error("sync after close")
		}
	})
}

func TestNames(t *testing.T) {
	both(t, func(t *testing.T, d vfs.FS) {
		a, b := create(t, d, "a", "one"), create(t, d, "b", "two")
		if _, err := d.Create("a"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create over a file: %v", err)
		}
		for _, err := range []error{d.Remove("c"), d.Rename("c", "d")} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what is not there: %v", err)
			}
		}
		if _, err := d.Open("c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open: %v", err)
		}
		must(t, d.Rename("a", "b"))
		names, err := d.List()
		if err != nil || !slices.Equal(names, []string{"b"}) || read(t, d, "b") != "one" {
			t.Errorf("%v, %v", names, err)
		}
		write(t, a, "ONE", 0) // the open files are what they were
		write(t, b, "TWO", 0)
		create(t, d, "a", "three")
		must(t, d.Remove("b"), a.Close(), b.Close())
		names, err = d.List()
		if err != nil || !slices.Equal(names, []string{"a"}) || read(t, d, "a") != "three" {
			t.Errorf("%v, %v", names, err)
		}
	})
}

func TestOSRefuses(t *testing.T) {
	dir := t.TempDir()
	d, err := vfs.OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../a", "/a"} {
		if f, err := d.Create(name); err == nil {
			_ = f.Close()
			t.Errorf("made %q", name)
		}
		if err := d.Rename("a", name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("renamed to %q: %v", name, err)
		}
	}
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	if names, err := d.List(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := vfs.OS(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	create(t, d, "file", "text")
	if _, err := vfs.OS(filepath.Join(dir, "file")); err == nil {
		t.Error("a file is no directory")
	}
}

// A real disk without room says so as the one in memory does.
func TestOSFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here; run the test on Linux")
	}
	_ = f.Close()
	d, err := vfs.OS("/dev")
	if err != nil {
		t.Fatal(err)
	}
	full, err := d.Open("full")
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := full.WriteAt([]byte("x"), 0); !errors.Is(err, vfs.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
}

func TestCapacity(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "")
	must(t, f.Allocate(1000))
	m.SetCapacity(1100)
	g := create(t, m, "b", "")
	if n, err := g.WriteAt(make([]byte, 150), 0); n != 100 || !errors.Is(err, vfs.ErrFull) {
		t.Errorf("write over the limit: %d, %v", n, err)
	}
	if n, err := f.WriteAt(make([]byte, 1000), 0); n != 1000 || err != nil {
		t.Errorf("write within what was allocated: %d, %v", n, err)
	}
	if err := g.Allocate(200); !errors.Is(err, vfs.ErrFull) || m.Used() != 1100 {
		t.Errorf("allocate: %v, %d used", err, m.Used())
	}
	if n, err := g.WriteAt(bytes.Repeat([]byte("x"), 50), 20); n != 50 || err != nil {
		t.Errorf("write over what is there: %d, %v", n, err)
	}
	must(t, f.Truncate(500), g.Allocate(600))
	must(t, m.Remove("a"))
	m.SetCapacity(-1)
	must(t, g.Allocate(1<<40))
}

func TestFail(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "")
	m.Fail("write", 2)
	write(t, f, "first", 0)
	if n, err := f.WriteAt(make([]byte, 2000), 0); n != 512 || !errors.Is(err, vfs.ErrIO) {
		t.Errorf("the second write: %d, %v", n, err)
	}
	write(t, f, "third", 0)
	m.Fail("syncdir", 1)
	if err := m.SyncDir(); !errors.Is(err, vfs.ErrIO) {
		t.Error(err)
	}
	must(t, m.SyncDir())
	var calls []string
	stop := errors.New("stop")
	m.Hook(func(op, name string) error {
		calls = append(calls, op+" "+name)
		if op == "rename" {
			return stop
		}
		return nil
	})
	must(t, f.Sync(), f.Truncate(1))
	if err := m.Rename("a", "b"); err != stop {
		t.Error(err)
	}
	if want := []string{"sync a", "truncate a", "rename a"}; !slices.Equal(calls, want) {
		t.Errorf("%q", calls)
	}
	m.Hook(nil)
	must(t, m.Rename("a", "b"))
}

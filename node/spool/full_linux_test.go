package spool

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk writes until the disk of a spool is full: that is said with where
// it is, what was written before can be read, and once some is freed there is
// room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("farhop", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatalf("mount a small file system: %v: run as root", err)
		}
		t.Skipf("mount a small file system: %v: run as root", err)
	}
	f := New(dir, 64<<20)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	const n = 2 * unit
	var kept []Span
	fill := func(b byte) error {
		s, err := f.Take(n)
		if err != nil {
			t.Fatal(err)
		}
		if err = f.Write(s, 0, bytes.Repeat([]byte{b}, n)); err == nil {
			kept = append(kept, s)
			return nil
		}
		f.Free(s)
		return err
	}
	var err error
	for b := byte(1); err == nil; b++ {
		if err = fill(b); len(kept) > 8 {
			t.Fatalf("%d spans of %d bytes fit in 1 MiB", len(kept), n)
		}
	}
	if !strings.Contains(err.Error(), "free space on the disk of "+dir) || len(kept) < 4 {
		t.Errorf("after %d spans: %v", len(kept), err)
	}
	got := make([]byte, n)
	for i, s := range kept {
		if err := f.Read(s, got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, n)) {
			t.Errorf("span %d: %v", i, err)
		}
	}
	f.Free(kept[0])
	kept = kept[1:]
	if err := fill(99); err != nil {
		t.Errorf("after a span was freed: %v", err)
	}
}

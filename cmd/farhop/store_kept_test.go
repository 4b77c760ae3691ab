package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/storeforward/journal"
)

// A segment that was set aside for damage is named until somebody removes it.
func TestStoreCheckNamesWhatWasSetAside(t *testing.T) {
	dir := t.TempDir()
	s, err := journal.Open(journal.Config{Dir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, "", "store", "check", "--dir", dir)
	kept := filepath.Join(dir, "store", journal.FolderName, "0000000000000007.seg.damaged")
	if err := os.WriteFile(kept, []byte("whatever"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := call(t.Context(), "", "store", "check", "--dir", dir)
	if code != exitBroken || !strings.Contains(out, kept) || !strings.Contains(stderr, "1 place is damaged") {
		t.Errorf("check: %d %q %q", code, out, stderr)
	}
	code, out, _ = call(t.Context(), "", "store", "check", "--json", "--dir", dir)
	if c := fromJSON[node.StoreCheck](t, out); code != exitBroken || c.Damaged != 1 || len(c.Faults) != 1 || !strings.Contains(c.Faults[0], kept) {
		t.Errorf("check: %d %+v", code, c)
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "whatever" {
		t.Errorf("a check changed it: %q, %v", b, err)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	must(t, "", "store", "check", "--dir", dir)
}

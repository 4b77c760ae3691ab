package resume

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tickets")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := func(s *Store, address, ticket string) {
		t.Helper()
		if got, err := s.Ticket(address); err != nil || string(got) != ticket {
			t.Errorf("ticket of %s: %q, %v, want %q", address, got, err, ticket)
		}
	}
	keep := func(address string, ticket []byte) {
		t.Helper()
		if err := s.Keep(address, ticket); err != nil {
			t.Fatal(err)
		}
	}
	want(s, "moon:7400", "")
	keep("moon:7400", []byte("one"))
	keep("../../etc/passwd:1", []byte("elsewhere"))
	keep("moon:7400", []byte("two"))
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want(again, "moon:7400", "two")
	want(again, "../../etc/passwd:1", "elsewhere")
	keep("moon:7400", nil)
	keep("moon:7400", nil)
	want(again, "moon:7400", "")
	if info, err := os.Stat(s.path("../../etc/passwd:1")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a secret has mode %v, %v", info.Mode(), err)
	}
}

// TestRoom: the number of files has an end, and the newest stay.
func TestRoom(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "tickets"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxTickets {
		if err := os.WriteFile(s.path(fmt.Sprint(i)), []byte{1}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Keep("new", []byte("ticket")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != MaxTickets {
		t.Errorf("%d files, %v, want %d", len(entries), err, MaxTickets)
	}
	if got, _ := s.Ticket("new"); !bytes.Equal(got, []byte("ticket")) {
		t.Errorf("the newest has gone: %q", got)
	}
}

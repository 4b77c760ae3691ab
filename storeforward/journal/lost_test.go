package journal_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// A value that the disk lost is named, and all others are given.
func TestLostState(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true})
	large := bytes.Repeat([]byte("large value "), 500)
	u.must(&store.Batch{Sets: []store.Set{
		{Key: "a", Value: []byte("small")}, {Key: "b", Value: large}, {Key: "c", Value: []byte("after")},
	}})
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	ruined := 0
	for _, name := range segments(t, u.cfg.Dir) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, large)
		if at < 0 {
			continue
		}
		ruined++
		b[at+len(large)/2] ^= 4
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ruined != 1 {
		t.Fatalf("the value is in %d segments", ruined)
	}
	u.open()
	var keys []string
	err := u.s.State("", func(key string, _ []byte) error { keys = append(keys, key); return nil })
	var lost *store.LostState
	if !errors.As(err, &lost) || !errors.Is(err, store.ErrDamaged) || !slices.Equal(lost.Keys, []string{"b"}) {
		t.Errorf("%v (%+v), want key b to be lost", err, lost)
	}
	if !slices.Equal(keys, []string{"a", "c"}) {
		t.Errorf("keys %v, want a and c", keys)
	}
}

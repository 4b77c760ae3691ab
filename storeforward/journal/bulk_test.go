package journal_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// Values of one journal are read alike whether memory had them when they were
// written or not, with an index of either, without one, and after a rewrite.
func TestBulk(t *testing.T) {
	for _, drop := range []bool{false, true} {
		u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true})
		want := map[string][]byte{}
		for round := range 8 {
			u.cfg.Bulk = [][]string{{"r/"}, nil, {"r/", "s/"}, nil}[round%4]
			u.reopen()
			for i := range 400 {
				key := fmt.Sprintf("%c/%03d", "rst"[i%3], (i*7+round*31)%300)
				value := bytes.Repeat([]byte{byte(i), byte(round)}, 1+i%90)
				if i%97 == 0 {
					value = bytes.Repeat([]byte{byte(i)}, 12_000) // behind its block
				}
				set := store.Set{Key: key, Value: value[:1], Blob: &store.Blob{B: value[1:]}}
				if want[key] = value; i%11 == 0 {
					set = store.Set{Key: key}
					delete(want, key)
				}
				u.must(&store.Batch{Sets: []store.Set{set}})
			}
			if err := u.s.Clean(); err != nil {
				t.Fatal(err)
			}
			checkBulk(t, u, want)
			if drop {
				u.s.Abandon()
				dropIndex(t, u.cfg.Dir)
				u.open()
				checkBulk(t, u, want)
			}
		}
		if err := u.s.Close(); err != nil {
			t.Fatal(err)
		}
		if rep, err := journal.Check(u.cfg.Dir); err != nil || !rep.OK() {
			t.Errorf("%+v, %v; want nothing wrong", rep, err)
		}
	}
}

func checkBulk(t *testing.T, u *user, want map[string][]byte) {
	t.Helper()
	var keys []string
	err := u.s.State("", func(key string, value []byte) error {
		keys = append(keys, key)
		if !bytes.Equal(value, want[key]) {
			return fmt.Errorf("%s: %d bytes, want %d", key, len(value), len(want[key]))
		}
		return nil
	})
	if err != nil || len(keys) != len(want) || !slices.IsSorted(keys) {
		t.Fatalf("%d keys, want %d: %v", len(keys), len(want), err)
	}
	n := 0
	if err = u.s.State("s/1", func(key string, value []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	for key := range want {
		if key[:3] == "s/1" {
			n--
		}
	}
	if n != 0 {
		t.Errorf("%d keys more with a prefix than there are", n)
	}
}

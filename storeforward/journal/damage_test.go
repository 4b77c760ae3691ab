package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

// The only segment of a buffer that was closed in order is overwritten: the
// index knows what was in it, so nothing ends without a word.
func TestDamageOfAllTheIndexKnows(t *testing.T) {
	u := watch(t)
	u.puts(1, 30, 300)
	u.must(&store.Batch{Sets: []store.Set{{Key: "small", Value: []byte("v")}, {Key: "large", Value: payload(7, 5000)}}})
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	now := overwrite(t, u.path(seg1), 0, 0)
	rep, err := journal.Check(u.cfg.Dir)
	if err != nil || rep.OK() || len(rep.Damage) < 2 || len(rep.Unread) != 30 || rep.Messages != 30 || rep.Index != "" || len(rep.Disagrees) != 0 {
		t.Errorf("check: %+v, %v", rep, err)
	}
	u.has(seg1, now)
	for range 2 { // what is known stays known
		u.open()
		u.told(1)
		want(t, u.user, nil, upTo(30))
		if _, err := u.s.Read(7); !isDamaged(err) {
			t.Errorf("read: %v", err)
		}
		var keys []string
		err = u.s.State("", func(key string, value []byte) error { keys = append(keys, key+"="+string(value)); return nil })
		if !isDamaged(err) || !slices.Equal(keys, []string{"small=v"}) {
			t.Errorf("state %v, %v", keys, err)
		}
		u.alarms = nil
		if err := u.s.Close(); err != nil {
			t.Fatal(err)
		}
		u.has(seg1, now)
	}
	u.open()
	u.drop(upTo(30)...)
	u.must(&store.Batch{Sets: []store.Set{{Key: "small", Value: []byte("w")}, {Key: "large"}}})
	u.reopen()
	u.has(seg1, nil) // all of it was accounted for
	u.has(seg1+".damaged", nil)
	u.puts(31, 35, 300)
	u.reopen()
	want(t, u.user, []uint64{31, 32, 33, 34, 35}, nil)
}

// Without the index nobody can say that an overwritten file is ours: it is
// refused and left as it is.
func TestDamageOfAllWithoutIndex(t *testing.T) {
	for name, n := range map[string]int{"all": 0, "head": 128} {
		t.Run(name, func(t *testing.T) {
			u := watch(t)
			u.puts(1, 30, 300)
			_ = u.s.Close()
			now := overwrite(t, u.path(seg1), 0, n)
			dropIndex(t, u.cfg.Dir)
			_, err := journal.Open(u.cfg)
			_, err2 := journal.Check(u.cfg.Dir)
			if !errors.Is(err, journal.ErrForeign) || !errors.Is(err2, journal.ErrForeign) {
				t.Errorf("%v and %v, want ErrForeign", err, err2)
			}
			if all := files(t, u.cfg.Dir); len(all) != 1 {
				t.Errorf("%d files, want one", len(all))
			}
			u.has(seg1, now)
		})
	}
}

// Damaged heads: with the index, and without as long as another head says
// whose segments these are, all blocks are read as ever.
func TestDamagedHeads(t *testing.T) {
	for _, c := range []struct {
		name    string
		segment int
		index   bool
	}{
		{"first, known", 0, true},
		{"middle, known", 1, true},
		{"newest, known", 2, true},
		{"first", 0, false},
		{"middle", 1, false},
		{"newest", 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := watch(t)
			u.three()
			name := segments(t, u.cfg.Dir)[c.segment]
			now := overwrite(t, name, 0, 128)
			if !c.index {
				dropIndex(t, u.cfg.Dir)
			}
			rep, err := journal.Check(u.cfg.Dir)
			if err != nil || rep.OK() || len(rep.Damage) != 1 || len(rep.Unread) != 0 || rep.Messages != 30 {
				t.Errorf("check: %+v, %v", rep, err)
			}
			u.open()
			u.told(1)
			want(t, u.user, upTo(30), nil)
			u.readAll(upTo(30), 300)
			u.puts(31, 33, 300)
			u.reopen()
			u.told(1)
			want(t, u.user, upTo(33), nil)
			u.has(filepath.Base(name), now)
			u.drop(upTo(30)...)
			u.reopen()
			u.has(filepath.Base(name), nil)
			u.has(filepath.Base(name)+".damaged", nil) // all of it was accounted for
			want(t, u.user, []uint64{31, 32, 33}, nil)
		})
	}
}

// After a kill the head of the newest is damaged, and no index is there: all
// groups are found, and what is behind the last one need not be a torn tail.
func TestDamagedHeadOfNewest(t *testing.T) {
	for _, c := range []struct {
		name    string
		at, n   int // what is overwritten besides
		good    []uint64
		unknown []journal.Damage
	}{
		{"alone", 0, 0, upTo(20), nil},
		{"and the first blocks", 128, 700, slices.Concat(upTo(10), upTo(20)[12:]), []journal.Damage{{Segment: 2, FirstSeq: 11, LastSeq: 12}}},
		{"and the end", 3000, 2000, upTo(18), []journal.Damage{{Segment: 2, FirstSeq: 19, LastSeq: 18}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := watch(t)
			u.puts(1, 10, 300)
			u.reopen()
			u.puts(11, 20, 300)
			u.s.Abandon()
			now := overwrite(t, u.path(seg2), 0, 128)
			if c.n > 0 {
				now = overwrite(t, u.path(seg2), c.at, c.n)
			}
			dropIndex(t, u.cfg.Dir)
			u.open()
			u.told(1, c.unknown...)
			want(t, u.user, c.good, nil)
			u.puts(31, 33, 300)
			u.drop(upTo(20)...)
			u.reopen()
			want(t, u.user, []uint64{31, 32, 33}, nil)
			u.has(seg2, nil)
			if c.unknown == nil {
				now = nil
			}
			u.has(seg2+".damaged", now)
		})
	}
}

// The head of a newest segment with one group is damaged: no later block knew
// it to be synced, but no power cut leaves such a head.
func TestDamagedHeadOfOneGroup(t *testing.T) {
	u := watch(t)
	u.puts(1, 10, 300)
	u.reopen()
	u.puts(11, 11, 300)
	u.s.Abandon()
	dropIndex(t, u.cfg.Dir)
	change(t, u.path(seg2), func(b []byte) []byte { b[50] ^= 1; return b })
	u.open()
	u.told(1)
	want(t, u.user, upTo(11), nil)
}

// The newest of several is overwritten after it was closed in order: the index
// knows it, so it is no file that never began.
func TestDamageOfNewestTheIndexKnows(t *testing.T) {
	u := watch(t)
	u.three()
	name := filepath.Base(segments(t, u.cfg.Dir)[2])
	now := overwrite(t, u.path(name), 0, 0)
	u.open()
	u.told(1)
	want(t, u.user, upTo(20), upTo(30)[20:])
	u.has(name, now)
	u.has(name+".damaged", nil)
}

// Only the head of the next segment knows where one ended: without it a bad
// last block may be anything but a torn tail.
func TestDamageBeforeDamagedHead(t *testing.T) {
	u := watch(t)
	u.three()
	overwrite(t, segments(t, u.cfg.Dir)[2], 0, 128)
	flip(t, u.path(seg2), payload(20, 300))
	dropIndex(t, u.cfg.Dir)
	u.open()
	u.told(1, journal.Damage{Segment: 2, FirstSeq: 20, LastSeq: 19})
	want(t, u.user, slices.Delete(upTo(30), 19, 20), nil)
}

// Of a group that begins in damage, the blocks that are sound are taken, as
// anywhere behind damage.
func TestDamagedHeadAndHalfAGroup(t *testing.T) {
	u := watch(t)
	u.puts(1, 10, 300)
	u.reopen()
	b := &store.Batch{}
	for seq := uint64(11); seq <= 20; seq++ {
		b.Puts = append(b.Puts, put(seq, 3000))
	}
	u.must(b)
	u.s.Abandon()
	overwrite(t, u.path(seg2), 0, 700)
	dropIndex(t, u.cfg.Dir)
	u.open()
	good, _ := u.seqs()
	if len(good) <= 10 || len(good) >= 20 || good[len(good)-1] != 20 {
		t.Errorf("messages %v, want the first ten and the end of the others", good)
	}
	u.told(1, journal.Damage{Segment: 2, FirstSeq: 11, LastSeq: good[10] - 1})
}

// A file that became shorter is damaged like any other.
func TestDamageByTruncation(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %v", known), func(t *testing.T) {
			u := watch(t)
			u.three()
			for _, name := range []string{seg2, "0000000000000003.seg"} {
				if err := os.Truncate(u.path(name), 1000); err != nil {
					t.Fatal(err)
				}
			}
			if !known {
				dropIndex(t, u.cfg.Dir)
			}
			rep, err := journal.Check(u.cfg.Dir)
			if err != nil || rep.OK() {
				t.Errorf("check: %+v, %v", rep, err)
			}
			u.open()
			good := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 21, 22}
			if known {
				u.told(0)
				_, bad := u.seqs()
				for _, seq := range slices.Concat(upTo(20)[13:], upTo(30)[23:]) {
					if !slices.Contains(bad, seq) {
						t.Errorf("message %d is not damaged", seq)
					}
				}
				u.readAll(upTo(10), 300)
				return
			}
			u.told(0, journal.Damage{Segment: 2, FirstSeq: 13, LastSeq: 20})
			want(t, u.user, good, nil)
		})
	}
}

// An alarm says which messages may have been in a place: those between the
// puts around it, up to what the next segment knows, or none.
func TestDamageNumbers(t *testing.T) {
	for _, c := range []struct {
		name        string
		ruin        [][]byte // blocks of segment 2
		first, last uint64
	}{
		{"a block", [][]byte{payload(15, 300)}, 15, 15},
		{"the last block", [][]byte{payload(20, 300)}, 20, 20},
		{"no message fits", [][]byte{[]byte("marker 17")}, 0, 0},
		{"two, and no put between", [][]byte{payload(17, 300), payload(18, 300)}, 17, 18},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := watch(t)
			u.puts(1, 10, 300)
			u.reopen()
			u.puts(11, 17, 300)
			u.must(&store.Batch{Sets: []store.Set{{Key: "k", Value: []byte("marker 17")}}})
			u.puts(18, 20, 300)
			u.reopen()
			u.puts(21, 30, 300)
			_ = u.s.Close()
			for _, b := range c.ruin {
				flip(t, u.path(seg2), b)
			}
			dropIndex(t, u.cfg.Dir)
			u.open()
			var unknown []journal.Damage
			for range c.ruin {
				unknown = append(unknown, journal.Damage{Segment: 2, FirstSeq: c.first, LastSeq: c.last})
			}
			u.told(0, unknown...)
		})
	}
}

// sources makes a cold segment of the first two of three, and puts these back
// as they were, as a crash between its name and their removal leaves them.
func sources(t *testing.T) (u *watched, coldName string, was map[string][]byte) {
	u = watch(t)
	u.cfg.SegmentBytes = 64 << 10
	u.three()
	was = files(t, u.cfg.Dir)
	u.open()
	u.drop(slices.DeleteFunc(upTo(20), func(seq uint64) bool { return seq%10 == 5 })...)
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	_ = u.s.Close()
	for name := range files(t, u.cfg.Dir) {
		if filepath.Ext(name) == ".cold" {
			coldName = name
		}
	}
	for _, name := range []string{seg1, seg2} {
		if err := os.WriteFile(u.path(name), was[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u, coldName, was
}

// What a damaged segment stands for may have more of it, and is kept.
func TestQuarantineOfSources(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %v", known), func(t *testing.T) {
			u, name, was := sources(t)
			if !known {
				dropIndex(t, u.cfg.Dir)
			}
			now := overwrite(t, u.path(name), 0, 128)
			u.open()
			u.has(seg1, nil)
			u.has(seg1+".damaged", was[seg1])
			u.has(seg2+".damaged", was[seg2])
			u.has(name, now)
			u.told(1)
			good := append([]uint64{5, 15}, upTo(30)[20:]...)
			want(t, u.user, good, nil)
			u.readAll(good, 300)
		})
	}
}

// With a sound one in their place they are of no use.
func TestSourcesOfSoundSegmentGo(t *testing.T) {
	for _, known := range []bool{true, false} {
		u, name, _ := sources(t)
		if !known {
			dropIndex(t, u.cfg.Dir)
		}
		u.open()
		all := files(t, u.cfg.Dir)
		if all[name] == nil || all[seg1] != nil || all[seg1+".damaged"] != nil {
			t.Errorf("known %v: %d files", known, len(all))
		}
		u.told(0)
	}
}

package journal_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// segments returns the segment files of a data directory, in order.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.seg", "*.cold"} {
		names, err := filepath.Glob(filepath.Join(dir, journal.FolderName, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return all
}

// change rewrites a file.
func change(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit of what find finds last.
func flip(t testing.TB, path string, find []byte) {
	t.Helper()
	change(t, path, func(b []byte) []byte {
		at := bytes.LastIndex(b, find)
		if at < 0 {
			t.Fatalf("%s does not hold %x", path, find)
		}
		b[at] ^= 1
		return b
	})
}

func dropIndex(t testing.TB, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, journal.FolderName, index.FileName)); err != nil {
		t.Fatal(err)
	}
}

func upTo(n uint64) (out []uint64) {
	for seq := uint64(1); seq <= n; seq++ {
		out = append(out, seq)
	}
	return out
}

func want(t testing.TB, u *user, good, damaged []uint64) {
	t.Helper()
	g, d := u.seqs()
	if !slices.Equal(g, good) || !slices.Equal(d, damaged) {
		t.Fatalf("messages %v, damaged %v; want %v and %v", g, d, good, damaged)
	}
}

// What a power cut left of the last group is cut off without an alarm, and
// what follows is found again.
func TestTornTail(t *testing.T) {
	for name, tear := range map[string]func(b []byte, end int) []byte{
		"cut within a block": func(b []byte, end int) []byte { return b[:end-10] },
		"half a sector": func(b []byte, end int) []byte {
			clear(b[end-20 : end])
			return b
		},
		"head alone": func(b []byte, end int) []byte { return b[:end-300] },
	} {
		t.Run(name, func(t *testing.T) {
			u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { t.Errorf("alarm %+v", d) }})
			u.puts(1, 9, 300)
			u.s.Abandon()
			segs := segments(t, u.cfg.Dir)
			change(t, segs[len(segs)-1], func(b []byte) []byte { return tear(b, len(bytes.TrimRight(b, "\x00"))) })
			u.open()
			want(t, u, upTo(8), nil)
			if next := u.summary().NextSeq; next != 9 {
				t.Errorf("next %d, want 9", next)
			}
			u.puts(9, 12, 300)
			u.crash()
			want(t, u, upTo(12), nil)
			u.readAll(upTo(12), 300)
		})
	}
}

// A bad block that a later one knew to be synced is damage, wherever it is:
// nothing behind it is lost, and it is told.
func TestDamageIsNoTornTail(t *testing.T) {
	var alarms []journal.Damage
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { alarms = append(alarms, d) }})
	u.puts(1, 9, 300)
	u.s.Abandon()
	flip(t, segments(t, u.cfg.Dir)[0], payload(5, 300))
	u.open()
	want(t, u, []uint64{1, 2, 3, 4, 6, 7, 8, 9}, nil)
	if len(alarms) != 1 || alarms[0].FirstSeq != 5 || alarms[0].LastSeq != 5 || !alarms[0].Unknown || alarms[0].Bytes < 300 {
		t.Fatalf("alarms %+v, want one about message 5", alarms)
	}
	u.puts(10, 12, 300)
	u.reopen()
	want(t, u, []uint64{1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12}, nil)
}

// Damage under messages that the index knows: they are returned as damaged
// until they are dropped, and all others are as they were.
func TestQuarantine(t *testing.T) {
	var alarms []journal.Damage
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { alarms = append(alarms, d) }})
	u.puts(1, 100, 300)
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, segments(t, u.cfg.Dir)[0], payload(50, 300))
	u.open()
	want(t, u, slices.Delete(upTo(100), 49, 50), []uint64{50})
	if _, err := u.s.Read(50); !isDamaged(err) {
		t.Errorf("read of a damaged message: %v", err)
	}
	u.readAll(slices.Delete(upTo(100), 49, 50), 300)
	want(t, u, slices.Delete(upTo(100), 49, 50), []uint64{50})
	if len(alarms) != 1 || alarms[0].FirstSeq > 50 || alarms[0].LastSeq < 50 || alarms[0].Unknown {
		t.Errorf("alarms %+v, want one about message 50", alarms)
	}
	if st := u.s.Stats(); st.Damaged != 1 || st.Messages != 100 {
		t.Errorf("stats %+v", st)
	}
	// A segment with damage is not rewritten.
	for seq := uint64(1); seq <= 90; seq++ {
		if seq != 50 {
			u.drop(seq)
		}
	}
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	want(t, u, upTo(100)[90:], []uint64{50})
	u.must(&store.Batch{Drops: []store.Drop{{Queue: queueA, Seq: 50, Size: 300}}})
	u.reopen()
	want(t, u, upTo(100)[90:], nil)
}

// A large payload that is damaged does not take its header along.
func TestDamagedTail(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true})
	u.puts(1, 3, 100_000)
	u.must(&store.Batch{Sets: []store.Set{{Key: "large", Value: payload(77, 50_000)}, {Key: "small", Value: []byte("v")}}})
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, segments(t, u.cfg.Dir)[0], payload(2, 100_000))
	flip(t, segments(t, u.cfg.Dir)[0], payload(77, 50_000))
	u.open()
	want(t, u, upTo(3), nil)
	u.readAll([]uint64{1, 3}, 100_000)
	if _, err := u.s.Read(2); !isDamaged(err) {
		t.Errorf("read of a damaged payload: %v", err)
	}
	var keys []string
	err := u.s.State("", func(key string, _ []byte) error { keys = append(keys, key); return nil })
	if !isDamaged(err) || !slices.Equal(keys, []string{"small"}) {
		t.Errorf("state %v, %v; want the sound key and an error", keys, err)
	}
}

// Bytes that an earlier life of a file left behind its end mean nothing.
func TestOldBytes(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { t.Errorf("alarm %+v", d) }})
	u.puts(1, 20, 300)
	u.reopen()
	u.puts(21, 25, 300)
	u.s.Abandon()
	segs := segments(t, u.cfg.Dir)
	old, err := os.ReadFile(segs[0])
	if err != nil {
		t.Fatal(err)
	}
	change(t, segs[1], func(b []byte) []byte {
		end := len(bytes.TrimRight(b, "\x00"))
		copy(b[end:], old[128:])
		return b
	})
	u.open()
	want(t, u, upTo(25), nil)
}

// The index is a cache: missing or damaged, nothing is lost. An older one that
// still fits is used, and one that does not is ignored.
func TestIndexIsACache(t *testing.T) {
	state := func(u *user) {
		u.puts(1, 200, 3000)
		for seq := uint64(1); seq <= 150; seq++ {
			u.drop(seq)
		}
		u.must(&store.Batch{
			Sets:  []store.Set{{Key: "a", Value: []byte("1")}, {Key: "b", Value: payload(5, 5000)}},
			Marks: []store.Mark{{Queue: queueA, Seq: 160, State: store.Received}},
		})
		if err := u.s.Clean(); err != nil {
			u.t.Fatal(err)
		}
	}
	ix := func(u *user) string { return filepath.Join(u.cfg.Dir, journal.FolderName, index.FileName) }
	var older []byte
	for name, ruin := range map[string]func(u *user){
		"as it was": func(*user) {},
		"missing":   func(u *user) { dropIndex(u.t, u.cfg.Dir) },
		"damaged":   func(u *user) { change(u.t, ix(u), func(b []byte) []byte { clear(b[8192:]); return b }) },
		"garbage":   func(u *user) { change(u.t, ix(u), func([]byte) []byte { return []byte("hello") }) },
		"older":     func(u *user) { change(u.t, ix(u), func([]byte) []byte { return older }) },
	} {
		t.Run(name, func(t *testing.T) {
			u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true, Alarm: func(d journal.Damage) { t.Errorf("alarm %+v", d) }})
			u.puts(1000, 1010, 300) // the older index knows only these
			for seq := uint64(1000); seq <= 1010; seq++ {
				u.drop(seq)
			}
			_ = u.s.Close()
			older, _ = os.ReadFile(ix(u))
			if err := os.RemoveAll(filepath.Join(u.cfg.Dir, journal.FolderName)); err != nil {
				t.Fatal(err)
			}
			u.open()
			state(u)
			if err := u.s.Close(); err != nil {
				t.Fatal(err)
			}
			ruin(u)
			u.open()
			want(t, u, upTo(200)[150:], nil)
			u.readAll(upTo(200)[150:], 3000)
			items, err := u.s.Scan(queueA, 159, 1)
			if err != nil || items[0].Entry.State != store.Received {
				t.Errorf("%+v, %v; want a received entry", items, err)
			}
			if b := u.summary().Queues[0].Bytes; b != 50*3000 {
				t.Errorf("%d bytes, want %d", b, 50*3000)
			}
			n := 0
			err = u.s.State("", func(_ string, v []byte) error { n += len(v); return nil })
			if err != nil || n != 5001 {
				t.Errorf("%d bytes of state, %v", n, err)
			}
			u.reopen()
			want(t, u, upTo(200)[150:], nil)
		})
	}
}

// An index of an hour ago is right as long as the journal since then is there.
func TestOlderCheckpoint(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true})
	ix := filepath.Join(u.cfg.Dir, journal.FolderName, index.FileName)
	u.puts(1, 30, 3000)
	u.reopen() // a clean checkpoint
	older, err := os.ReadFile(ix)
	if err != nil {
		t.Fatal(err)
	}
	u.puts(31, 60, 3000)
	u.drop(1, 2, 3, 40)
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ix, older, 0o600); err != nil {
		t.Fatal(err)
	}
	u.open()
	want(t, u, slices.Delete(upTo(60)[3:], 36, 37), nil)
	// And one that knows segments which are gone is not used.
	u.drop(upTo(30)[3:]...)
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ix, older, 0o600); err != nil {
		t.Fatal(err)
	}
	u.open()
	want(t, u, slices.Delete(upTo(60)[30:], 9, 10), nil)
}

// The head of a segment is damaged: its blocks are found all the same.
func TestDamagedHead(t *testing.T) {
	alarms := 0
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(journal.Damage) { alarms++ }})
	u.puts(1, 10, 300)
	u.reopen()
	u.puts(11, 20, 300)
	u.reopen()
	u.puts(21, 30, 300)
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range segments(t, u.cfg.Dir)[1:] {
		change(t, name, func(b []byte) []byte { b[50] ^= 1; return b })
	}
	u.open()
	want(t, u, upTo(30), nil)
	if alarms != 2 {
		t.Errorf("%d alarms, want 2", alarms)
	}
}

// A write or sync that fails ends the writing life of a store; a new start
// finds what was acknowledged.
func TestPoison(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			mem := vfs.NewMem()
			u := use(t, journal.Config{FS: mem, Manual: true})
			u.puts(1, 3, 100)
			mem.Fail(op, 1)
			for range 2 {
				if err := u.write(&store.Batch{Puts: []store.Put{put(4, 100)}}); !isPoisoned(err) {
					t.Fatalf("%v, want ErrPoisoned", err)
				}
			}
			if !u.s.Stats().Poisoned {
				t.Error("stats do not tell")
			}
			u.readAll(upTo(3), 100)
			want(t, u, upTo(3), nil)
			before := mem.Ops()
			if err := u.write(&store.Batch{Drops: []store.Drop{{Queue: queueA, Seq: 1}}}); !isPoisoned(err) {
				t.Errorf("%v, want ErrPoisoned", err)
			}
			_ = u.s.Close()
			if mem.Ops() != before {
				t.Errorf("a poisoned store wrote: %s", mem.History(before, mem.Ops()))
			}
			u.open()
			if good, _ := u.seqs(); len(good) < 3 {
				t.Errorf("messages %v, want at least the three that were acknowledged", good)
			}
		})
	}
}

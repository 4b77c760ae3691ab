package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// diskBytes is what the segment files of a directory take.
func diskBytes(t testing.TB, dir string) (n int64) {
	t.Helper()
	for _, name := range segments(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// Messages for a destination that never comes back do not hold on to the
// traffic of others, and the dead stay dead whatever becomes of the index.
func TestPinned(t *testing.T) {
	for _, rebuild := range []bool{false, true} {
		t.Run(fmt.Sprintf("rebuild=%v", rebuild), func(t *testing.T) {
			u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, CheckpointBytes: 128 << 10, Manual: true})
			var pinned []uint64
			for seq := uint64(1); seq <= 3000; seq++ {
				b := &store.Batch{Puts: []store.Put{put(seq, 1000)}}
				if seq%20 == 0 {
					pinned = append(pinned, seq)
				}
				if seq > 10 && (seq-10)%20 != 0 {
					b.Drops = []store.Drop{{Queue: queueA, Seq: seq - 10, Size: 1000}}
				}
				u.must(b)
				if seq%500 == 0 {
					if err := u.s.Clean(); err != nil {
						t.Fatal(err)
					}
				}
				if seq%700 == 0 {
					u.crash()
				}
			}
			for seq := uint64(2991); seq <= 3000; seq++ {
				if seq%20 != 0 {
					u.drop(seq)
				}
			}
			if err := u.s.Clean(); err != nil {
				t.Fatal(err)
			}
			want(t, u, pinned, nil)
			u.readAll(pinned, 1000)
			if have, need := diskBytes(t, u.cfg.Dir), int64(len(pinned)*1000); have > need*3/2+(128<<10) {
				t.Errorf("%d bytes on the disk for %d that wait", have, need)
			}
			if err := u.s.Close(); err != nil {
				t.Fatal(err)
			}
			if rebuild {
				dropIndex(t, u.cfg.Dir)
			}
			u.open()
			want(t, u, pinned, nil)
			u.drop(pinned...)
			u.reopen()
			if err := u.s.Clean(); err != nil {
				t.Fatal(err)
			}
			want(t, u, nil, nil)
			if have := diskBytes(t, u.cfg.Dir); have > 130<<10 {
				t.Errorf("%d bytes on the disk for nothing", have)
			}
		})
	}
}

// Deletes of keys and drops are needed only while there is something to
// delete; then they go as well.
func TestTombstones(t *testing.T) {
	dir := fastDir(t)
	u := use(t, journal.Config{Dir: dir, SegmentBytes: 64 << 10, Manual: true})
	// A segment of messages of which half wait, so that it stays as it is.
	u.puts(1, 60, 1000)
	u.reopen()
	for seq := uint64(1); seq <= 30; seq++ {
		u.drop(seq)
		u.must(&store.Batch{Sets: []store.Set{{Key: fmt.Sprint("key", seq), Value: []byte("v")}}})
	}
	for seq := uint64(1); seq <= 30; seq++ {
		u.must(&store.Batch{Sets: []store.Set{{Key: fmt.Sprint("key", seq)}}})
	}
	u.must(&store.Batch{Marks: []store.Mark{{Queue: queueA, Seq: 40, State: store.Received}}})
	for round := range 4 {
		u.puts(100+uint64(round)*50, 149+uint64(round)*50, 1000)
		for seq := 100 + uint64(round)*50; seq < 150+uint64(round)*50; seq++ {
			u.drop(seq)
		}
		if err := u.s.Clean(); err != nil {
			t.Fatal(err)
		}
		if err := u.s.Close(); err != nil {
			t.Fatal(err)
		}
		dropIndex(t, dir)
		u.open()
		want(t, u, upTo(60)[30:], nil)
		items, err := u.s.Scan(queueA, 39, 1)
		if err != nil || items[0].Entry.State != store.Received {
			t.Fatalf("round %d: %+v, %v; want the mark", round, items, err)
		}
		err = u.s.State("", func(key string, _ []byte) error { return errors.New(key) })
		if err != nil {
			t.Fatalf("round %d: key %v is back", round, err)
		}
	}
	u.drop(upTo(60)[30:]...)
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	u.reopen()
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	if have := diskBytes(t, dir); have > 130<<10 {
		t.Errorf("%d bytes on the disk for nothing: %v", have, segments(t, dir))
	}
	if next := u.summary().NextSeq; next != 300 {
		t.Errorf("next %d, want 300", next)
	}
}

// State that stays is carried along, large values as well.
func TestCleanKeepsState(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true})
	for i := range 20 {
		u.must(&store.Batch{Sets: []store.Set{
			{Key: "large", Value: payload(uint64(i), 20_000)},
			{Key: "middle", Value: payload(uint64(i), 2000)},
			{Key: "small", Value: []byte{byte(i)}},
			{Key: fmt.Sprint("of ", i), Value: payload(uint64(i), 1500)},
		}})
		if i%4 == 0 {
			if err := u.s.Clean(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		for key, n := range map[string]int{"large": 20_000, "middle": 2000, "small": 1} {
			err := u.s.State(key, func(_ string, v []byte) error {
				if string(v) != string(payload(19, n)) {
					return fmt.Errorf("%s: %d bytes of %d", key, len(v), v[0])
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		u.reopen()
	}
	if have := diskBytes(t, u.cfg.Dir); have > 300<<10 {
		t.Errorf("%d bytes on the disk", have)
	}
}

// Messages with several entries, in all states, come through a rewrite.
func TestCleanKeepsEntries(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true})
	other := queueOf(1)
	for seq := uint64(1); seq <= 200; seq++ {
		p := put(seq, 1000)
		p.Header.Entries = append(p.Header.Entries, store.Entry{Queue: other, DSeq: seq, QoS: 2, Frozen: []byte("f")})
		b := &store.Batch{Puts: []store.Put{p}}
		if seq%10 != 0 {
			b.Drops = []store.Drop{{Queue: queueA, Seq: seq}, {Queue: other, Seq: seq}}
		} else if seq%20 == 0 {
			b.Drops = []store.Drop{{Queue: queueA, Seq: seq}}
			b.Marks = []store.Mark{{Queue: other, Seq: seq, State: store.Ended}}
		}
		u.must(b)
	}
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(segments(t, u.cfg.Dir), func(n string) bool { return strings.HasSuffix(n, ".cold") }) {
		t.Fatal("nothing was rewritten")
	}
	for range 2 {
		items, err := u.s.Scan(other, 0, 100)
		if err != nil || len(items) != 20 {
			t.Fatalf("%d items, %v", len(items), err)
		}
		for _, it := range items {
			ended := it.Header.Seq%20 == 0
			if (it.Entry.State == store.Ended) != ended || (len(it.Header.Entries) == 1) != ended || string(it.Entry.Frozen) != "f" || it.Entry.DSeq != it.Header.Seq {
				t.Errorf("item %+v of %+v", it.Entry, it.Header)
			}
			if _, err := u.s.Read(it.Header.Seq); errors.Is(err, store.ErrNotFound) != ended {
				t.Errorf("payload of %d: %v", it.Header.Seq, err)
			}
		}
		if err := u.s.Close(); err != nil {
			t.Fatal(err)
		}
		dropIndex(t, u.cfg.Dir)
		u.open()
	}
}

// The goroutine of the store does all that by itself.
func TestDrained(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 256 << 10})
	for seq := uint64(1); seq <= 4000; seq += 100 {
		b := &store.Batch{}
		for i := range uint64(100) {
			b.Puts = append(b.Puts, put(seq+i, 1000))
		}
		u.must(b)
	}
	full := diskBytes(t, u.cfg.Dir)
	u.drop(upTo(4000)...)
	for u.s.Stats().Segments > 3 { // ends with the test's deadline at the latest
		u.must(&store.Batch{})
	}
	if err := u.s.Close(); err != nil { // files go after their segments
		t.Fatal(err)
	}
	if left := diskBytes(t, u.cfg.Dir); left > 800<<10 || full < 4000_000 {
		t.Errorf("%d bytes on the disk, of %d", left, full)
	}
}

// A merge that a crash ended leaves nothing that counts.
func TestCrashedMerge(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true})
	u.puts(1, 200, 1000)
	u.drop(upTo(190)...)
	if err := u.s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(u.cfg.Dir, journal.FolderName)
	before := map[string][]byte{}
	for _, name := range append(segments(t, u.cfg.Dir), filepath.Join(folder, index.FileName)) {
		before[name], _ = os.ReadFile(name)
	}
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	u.s.Abandon()
	// As if neither the new checkpoint nor the removals had got to the disk.
	for name, b := range before {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u.open()
	want(t, u, upTo(200)[190:], nil)
	u.reopen()
	u.readAll(upTo(200)[190:], 1000)
	u.s.Abandon()
	dropIndex(t, u.cfg.Dir)
	u.open()
	want(t, u, upTo(200)[190:], nil)
}

// Cleaning on a full disk fails without harm, and works once there is room.
func TestCleanFull(t *testing.T) {
	mem := vfs.NewMem()
	u := use(t, journal.Config{FS: mem, SegmentBytes: 64 << 10, Manual: true})
	u.puts(1, 200, 1000)
	for seq := uint64(1); seq <= 200; seq++ {
		if seq%10 != 0 {
			u.drop(seq)
		}
	}
	mem.SetCapacity(mem.Used())
	if err := u.s.Clean(); !errors.Is(err, vfs.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	mem.SetCapacity(-1)
	used := mem.Used()
	if err := u.s.Clean(); err != nil || mem.Used() > used/2 {
		t.Errorf("%d bytes of %d, %v", mem.Used(), used, err)
	}
	good, damaged := u.seqs()
	if len(good) != 20 || len(damaged) != 0 {
		t.Errorf("messages %v, damaged %v", good, damaged)
	}
}

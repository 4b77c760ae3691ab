package journal_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// These tests exist because a bug that was planted on purpose went unnoticed
// (make mutants).

// Only the newest segment can have a torn tail. A bad last block of an older
// one is damage, and told.
func TestOldSegmentHasNoTornTail(t *testing.T) {
	var alarms []journal.Damage
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { alarms = append(alarms, d) }})
	u.puts(1, 9, 300)
	u.reopen() // begins a segment
	u.puts(10, 12, 300)
	u.s.Abandon()
	dropIndex(t, u.cfg.Dir)
	flip(t, segments(t, u.cfg.Dir)[0], payload(9, 300))
	u.open()
	want(t, u, slices.Concat(upTo(8), []uint64{10, 11, 12}), nil)
	if len(alarms) != 1 || alarms[0].FirstSeq != 9 || alarms[0].Bytes < 300 {
		t.Errorf("alarms %+v, want one about message 9", alarms)
	}
}

// A group that ends in a large value is there when all of the value is.
func TestTornLargeValue(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true, Alarm: func(d journal.Damage) { t.Errorf("alarm %+v", d) }})
	u.puts(1, 3, 100_000)
	u.s.Abandon()
	flip(t, segments(t, u.cfg.Dir)[0], payload(3, 1000))
	u.open()
	want(t, u, upTo(2), nil)
	u.readAll(upTo(2), 100_000)
}

// A key that was deleted, and a state that an entry has, are facts about an
// older segment: they outlive a rewrite of the segment they were written to.
func TestCleanKeepsFactsOfOlderSegments(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, Manual: true})
	u.must(&store.Batch{Sets: []store.Set{{Key: "gone", Value: []byte("v")}, {Key: "kept", Value: []byte("v")}}})
	u.puts(1, 55, 1000) // nearly a segment, and all of it waits
	u.reopen()
	u.must(&store.Batch{
		Sets:  []store.Set{{Key: "gone"}},
		Marks: []store.Mark{{Queue: queueA, Seq: 7, State: store.Received, Size: 1000}},
	})
	u.puts(101, 150, 1000)
	for seq := uint64(101); seq < 150; seq++ { // one stays
		u.drop(seq)
	}
	u.reopen()
	if err := u.s.Clean(); err != nil {
		t.Fatal(err)
	}
	if all := segments(t, u.cfg.Dir); !strings.HasSuffix(all[0], ".seg") || !slices.ContainsFunc(all, func(n string) bool { return strings.HasSuffix(n, ".cold") }) {
		t.Fatalf("the first segment should be as it was and another one rewritten: %v", all)
	}
	if err := u.s.Close(); err != nil {
		t.Fatal(err)
	}
	dropIndex(t, u.cfg.Dir)
	u.open()
	want(t, u, append(upTo(55), 150), nil)
	var keys []string
	if err := u.s.State("", func(key string, _ []byte) error { keys = append(keys, key); return nil }); err != nil || !slices.Equal(keys, []string{"kept"}) {
		t.Errorf("keys %q, %v; want the one that was not deleted", keys, err)
	}
	items, err := u.s.Scan(queueA, 6, 1)
	if err != nil || len(items) != 1 || items[0].Entry.State != store.Received {
		t.Errorf("message 7: %+v, %v; want it received", items, err)
	}
}

// What left a queue for good leaves the checkpoint too.
func TestCheckpointForgets(t *testing.T) {
	const far = 1 << 22 // a place of its own in the set of the queue
	u := use(t, journal.Config{Dir: fastDir(t), Manual: true})
	u.puts(1, 10, 100)
	u.puts(far, far+3, 100)
	if err := u.s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	u.drop(upTo(10)...)
	u.reopen()
	want(t, u, []uint64{far, far + 1, far + 2, far + 3}, nil)
}

// What a start found in the newest segment without knowing it to be synced is
// synced before anybody sees it: the next power cut does not take it back.
func TestWhatIsFoundIsDurable(t *testing.T) {
	disk := vfs.NewMem()
	u := use(t, journal.Config{FS: disk, Manual: true})
	u.puts(1, 3, 300)
	before := disk.Ops()
	u.append(&store.Batch{Lazy: true, Drops: []store.Drop{{Queue: queueA, Seq: 1, Size: 300}}})
	for disk.Ops() == before { // until it is written; it will not be synced
		runtime.Gosched()
	}
	u.crash()
	want(t, u, []uint64{2, 3}, nil)
	u.s.Abandon()
	u.cfg.FS = disk.Image(nil, disk.Ops())
	u.open()
	want(t, u, []uint64{2, 3}, nil)
}

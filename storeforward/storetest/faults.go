package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/store"
)

// faultCases are the promises that hold when the disk does not.
var faultCases = [...]struct {
	name string
	can  func(Faults) bool
	run  func(*testing.T, *driver)
}{
	{
		"power cut, nothing of the rest", func(f Faults) bool { return f.LoseUnsynced != nil },
		func(t *testing.T, d *driver) { testCrash(t, d, d.h.LoseUnsynced) },
	},
	{
		"power cut, the rest torn", func(f Faults) bool { return f.Tear != nil },
		func(t *testing.T, d *driver) { testCrash(t, d, d.h.Tear) },
	},
	{"a power cut undoes lazy batches from the last", func(f Faults) bool { return f.LoseUnsynced != nil }, testLazyCut},
	{"a failed commit ends all writes", func(f Faults) bool { return f.FailCommit != nil }, testFailCommit},
	{"a commit fails among others", func(f Faults) bool { return f.FailCommit != nil }, testFailAmong},
	{"full and not full", func(f Faults) bool { return f.Full != nil }, testFullDisk},
	{"a full disk passes drops", func(f Faults) bool { return f.Full != nil }, testFullDrops},
	{"a changed bit is noticed", func(f Faults) bool { return f.FlipBit != nil }, testFlipBit},
	{"a slow disk keeps the order", func(f Faults) bool { return f.Slow != nil }, testSlow},
}

// message is a put of one message alone, into queue a.
func message(seq uint64, size int) *store.Batch { return puts(newPut(seq, size, in("a"))) }

func dropOf(seq uint64) *store.Batch {
	return &store.Batch{Drops: []store.Drop{{Queue: queueOf("a"), Seq: seq}}}
}

// testLazy has lazy batches between others: reports keep their order, and what
// is reported includes what came before it.
func testLazy(t *testing.T, d *driver) {
	for seq := range uint64(60) {
		b := message(seq+1, 20)
		b.Lazy = seq%3 != 0
		d.append(b)
		if seq%10 == 0 {
			d.sync()
		}
	}
	b := dropOf(2)
	b.Lazy = true
	d.append(b)
	for i, r := range d.sync() {
		if r.lsn != store.LSN(i+1) || r.err != nil {
			t.Fatalf("report %d: batch %d, %v", i, r.lsn, r.err)
		}
	}
	d.crash(d.h.Crash)
	want := []uint64{1}
	for seq := uint64(3); seq <= 60; seq++ {
		want = append(want, seq)
	}
	wantSeqs(t, d.s, queueOf("a"), want...)
	wantNoPayload(t, d.s, 2)
}

func testLazyClose(t *testing.T, d *driver) {
	d.must(message(1, 10))
	b := message(2, 10)
	b.Lazy = true
	d.append(b)
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(d.reports) != 2 || d.reports[1].err != nil {
		t.Fatalf("reports %v after Close, want two", d.reports)
	}
	d.open()
	wantSeqs(t, d.s, queueOf("a"), 1, 2)
}

// testLazyCut expects that of lazy batches at the end any number may be gone,
// and none from the middle.
func testLazyCut(t *testing.T, d *driver) {
	total := uint64(0)
	for range 5 {
		total++
		d.must(message(total, 30))
		first := total
		for range 8 {
			total++
			b := message(total, 30)
			b.Lazy = true
			d.append(b)
		}
		d.crash(d.h.LoseUnsynced)
		got := seqs(t, d.s, queueOf("a"))
		if last := got[len(got)-1]; last < first || last > total || !consecutive(got, last) {
			t.Fatalf("%v are left, of %d with %d acknowledged", got, total, first)
		}
		total = got[len(got)-1]
	}
}

// consecutive reports whether got is 1 to last.
func consecutive(got []uint64, last uint64) bool {
	return uint64(len(got)) == last && slices.IsSorted(got) && (last == 0 || got[0] == 1)
}

// testFailCommit fails one commit with nothing else under way.
func testFailCommit(t *testing.T, d *driver) {
	p := newPut(1, 3000, in("a"))
	d.must(puts(p))
	d.h.FailCommit()
	for seq := uint64(2); seq <= 4; seq++ {
		if err := d.write(message(seq, 3000)); !errors.Is(err, store.ErrPoisoned) {
			t.Fatalf("batch %d: %v, want ErrPoisoned", seq, err)
		}
	}
	if err := d.write(dropOf(1)); !errors.Is(err, store.ErrPoisoned) {
		t.Fatalf("a drop: %v, want ErrPoisoned", err)
	}
	wantPayload(t, d.s, p)
	afterPoison(t, d, 1)
}

// testFailAmong fails a commit while many batches wait.
func testFailAmong(t *testing.T, d *driver) {
	for seq := uint64(1); seq <= 20; seq++ {
		d.append(message(seq, 500))
	}
	d.sync()
	d.h.FailCommit()
	for seq := uint64(21); seq <= 120; seq++ {
		d.append(message(seq, 500))
	}
	acked := uint64(0)
	for i, r := range d.sync() {
		switch {
		case r.lsn != store.LSN(i+1):
			t.Fatalf("report %d is of batch %d", i+1, r.lsn)
		case r.err == nil && acked == uint64(i):
			acked++
		case !errors.Is(r.err, store.ErrPoisoned):
			t.Fatalf("batch %d after %d good ones: %v", r.lsn, acked, r.err)
		}
	}
	if acked < 20 || acked == 120 {
		t.Fatalf("%d batches were acknowledged", acked)
	}
	afterPoison(t, d, acked)
}

// afterPoison opens the store again: what was acknowledged is there, the rest
// is whole from its front, or not, and it works as before.
func afterPoison(t *testing.T, d *driver, acked uint64) {
	t.Helper()
	_ = d.s.Close() // may well tell of the disk
	d.open()
	got := seqs(t, d.s, queueOf("a"))
	last := uint64(len(got))
	if last < acked || !consecutive(got, last) {
		t.Fatalf("%v are left, %d were acknowledged", got, acked)
	}
	for _, seq := range got {
		if _, err := d.s.Read(seq); err != nil {
			t.Fatalf("message %d: %v", seq, err)
		}
	}
	d.must(message(summary(t, d.s).NextSeq, 100))
	d.must(dropOf(1))
	d.reopen()
	if got := seqs(t, d.s, queueOf("a")); uint64(len(got)) != last {
		t.Fatalf("%d messages, want %d", len(got), last)
	}
}

// fill stores messages until the disk is full and returns those that fitted.
func fill(t *testing.T, d *driver, seq *uint64, size int) (kept []uint64) {
	t.Helper()
	for range 3000 {
		*seq++
		err := d.write(message(*seq, size))
		if errors.Is(err, store.ErrFull) {
			return kept
		}
		if err != nil {
			t.Fatalf("message %d: %v, want ErrFull", *seq, err)
		}
		kept = append(kept, *seq)
	}
	t.Fatalf("%d messages of %d bytes fit on a full disk", len(kept), size)
	return nil
}

func testFullDisk(t *testing.T, d *driver) {
	seq := uint64(0)
	var kept []uint64
	for _, size := range []int{20_000, 300, 70_000} {
		for range 5 {
			seq++
			d.must(message(seq, size))
			kept = append(kept, seq)
		}
		d.h.Full(true)
		kept = append(kept, fill(t, d, &seq, size)...)
		wantSeqs(t, d.s, queueOf("a"), kept...)
		d.must(dropOf(kept[0]))
		wantPayload(t, d.s, newPut(kept[1], int(d.sizes[kept[1]])))
		d.h.Full(false)
		seq++
		d.must(message(seq, size))
		kept = append(kept[1:], seq)
		d.reopen()
		wantSeqs(t, d.s, queueOf("a"), kept...)
	}
}

func testFullDrops(t *testing.T, d *driver) {
	seq := uint64(0)
	for range 40 {
		seq++
		d.must(message(seq, 5000))
	}
	d.h.Full(true)
	kept := fill(t, d, &seq, 5000)
	// Puts and drops in one go: the former are refused or not, each alone.
	first := int(d.next - 1)
	batches := make([]*store.Batch, 40)
	for i := range batches {
		seq++
		if batches[i] = message(seq, 5000); i%2 == 1 {
			batches[i] = dropOf(uint64(i/2) + 1)
		}
		d.append(batches[i])
	}
	for i, r := range d.sync()[first:] {
		switch put := len(batches[i].Puts) > 0; {
		case put && r.err == nil:
			kept = append(kept, batches[i].Puts[0].Header.Seq)
		case put && !errors.Is(r.err, store.ErrFull):
			t.Fatalf("put: %v, want ErrFull", r.err)
		case !put && r.err != nil:
			t.Fatalf("drop: %v", r.err)
		}
	}
	for n := uint64(21); n <= 40; n++ {
		d.must(&store.Batch{
			Drops: dropOf(n).Drops,
			Sets:  []store.Set{{Key: "trace", Value: fmt.Appendf(nil, "%d", n)}},
		})
	}
	for range 2 {
		wantSeqs(t, d.s, queueOf("a"), kept...)
		wantState(t, d.s, "", "trace=40")
		d.h.Full(false)
		d.reopen()
	}
}

func testFlipBit(t *testing.T, d *driver) {
	const low, hit, high = 0x61, 0x62, 0x63
	good := []store.Put{newPut(low, 3000, in("a")), newPut(high, 3000, in("a"))}
	bad := newPut(hit, 3000, in("a"), in("b"))
	d.must(puts(good[0]))
	d.must(puts(bad))
	d.must(puts(good[1]))
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	d.s = nil
	d.h.FlipBit(bad)
	s, err := d.h.Open(d.done)
	if err != nil {
		return // refused at open: noticed as well
	}
	_ = s.Close()
	d.open()
	for range 2 {
		for _, p := range good {
			wantPayload(t, d.s, p)
		}
		if b, err := d.s.Read(hit); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("%d bytes, as written %v, and %v; want ErrDamaged", len(b), bytes.Equal(b, bad.Blob.B), err)
		}
		wantSeqs(t, d.s, queueOf("a"), low, hit, high)
		items, err := d.s.Scan(queueOf("b"), 0, 9)
		if err != nil || len(items) != 1 || items[0].Entry.Queue != queueOf("b") ||
			!items[0].Damaged && items[0].Header.Topic != bad.Header.Topic {
			t.Fatalf("%+v, %v; want message %d, damaged or whole", items, err, hit)
		}
		d.reopen()
	}
	d.must(&store.Batch{Drops: []store.Drop{{Queue: queueOf("a"), Seq: hit}, {Queue: queueOf("b"), Seq: hit}}})
	for range 2 {
		wantSeqs(t, d.s, queueOf("a"), low, high)
		wantSeqs(t, d.s, queueOf("b"))
		wantNoPayload(t, d.s, hit)
		wantPayload(t, d.s, good[1])
		d.reopen()
	}
}

func testSlow(t *testing.T, d *driver) {
	d.h.Slow(true)
	for seq := uint64(1); seq <= 60; seq++ {
		d.append(message(seq, 100))
		if got := seqs(t, d.s, queueOf("a")); !consecutive(got, uint64(len(got))) {
			t.Fatalf("%v are seen while messages are on their way", got)
		}
	}
	for i, r := range d.sync() {
		if r.lsn != store.LSN(i+1) || r.err != nil {
			t.Fatalf("report %d: batch %d, %v", i+1, r.lsn, r.err)
		}
	}
	d.h.Slow(false)
	d.reopen()
	if got := seqs(t, d.s, queueOf("a")); !consecutive(got, 60) {
		t.Fatalf("%v are left", got)
	}
}

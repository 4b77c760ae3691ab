package storetest

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// cases are the named promises of the contract.
var cases = [...]struct {
	name string
	run  func(*testing.T, *driver)
}{
	{"empty store", testEmpty},
	{"put is read back whole", testRoundTrip},
	{"payload lives until the last drop", testLastDrop},
	{"ended entries free the payload", testEnded},
	{"marks survive a reopen", testMarks},
	{"ended is final", testEndedFinal},
	{"a message moves to other queues", testMove},
	{"drops that come before their put do not concern it", testEarlyDrop},
	{"parts of a batch apply in order", testPartOrder},
	{"what is not there is passed over", testUnknown},
	{"scan keeps order and honours its cursor", testScan},
	{"state has prefixes, order, deletes and blobs", testState},
	{"numbers are never used again", testNextSeq},
	{"a used number is refused", testUsedNumber},
	{"a malformed batch is refused whole", testMalformed},
	{"reports come in order", testReports},
	{"a crash keeps what was reported", func(t *testing.T, d *driver) { testCrash(t, d, d.h.Crash) }},
	{"lazy batches wait for others", testLazy},
	{"close reports lazy batches", testLazyClose},
	{"a megabyte", testLarge},
	{"many queues", testManyQueues},
	{"many entries of one message", testManyEntries},
	{"old messages enter a new queue", testLateQueue},
	{"close waits for what was appended", testClose},
}

// seqs scans a whole queue.
func seqs(t *testing.T, s store.Store, q store.Queue) (out []uint64) {
	t.Helper()
	items, err := s.Scan(q, 0, math.MaxInt32)
	if err != nil {
		t.Fatalf("scan %v: %v", q, err)
	}
	for _, it := range items {
		out = append(out, it.Header.Seq)
	}
	return out
}

func wantSeqs(t *testing.T, s store.Store, q store.Queue, want ...uint64) {
	t.Helper()
	if got := seqs(t, s, q); !slices.Equal(got, want) {
		t.Fatalf("queue %v holds %v, want %v", q, got, want)
	}
}

func wantPayload(t *testing.T, s store.Store, p store.Put) {
	t.Helper()
	got, err := s.Read(p.Header.Seq)
	if err != nil || !bytes.Equal(got, p.Blob.B) {
		t.Fatalf("payload of %d: %d bytes, %v; want %d bytes", p.Header.Seq, len(got), err, len(p.Blob.B))
	}
}

func wantNoPayload(t *testing.T, s store.Store, seq uint64) {
	t.Helper()
	if got, err := s.Read(seq); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("payload of %d: %d bytes, %v; want ErrNotFound", seq, len(got), err)
	}
}

func summary(t *testing.T, s store.Store) store.Summary {
	t.Helper()
	sum, err := s.Summary()
	if err != nil {
		t.Fatalf("summary: %v", err)
	}
	return sum
}

func testEmpty(t *testing.T, d *driver) {
	for range 2 {
		if sum := summary(t, d.s); sum.NextSeq != 1 || len(sum.Queues) != 0 {
			t.Fatalf("summary %+v, want NextSeq 1 and no queues", sum)
		}
		wantSeqs(t, d.s, queueOf("a"))
		wantNoPayload(t, d.s, 1)
		d.must(&store.Batch{}) // an empty batch is reported like any other
		d.reopen()
	}
}

func testRoundTrip(t *testing.T, d *driver) {
	full := newPut(1, 100, in("a"))
	bare := store.Put{Header: &store.Header{Seq: 2, Entries: []store.Entry{
		{Queue: store.Queue{Kind: store.ToOrder, Class: bundle.Control}, State: store.Received},
	}}}
	empty := newPut(3, 0, in("a"))
	d.must(puts(full, bare, empty))
	for range 2 {
		for _, p := range []store.Put{full, bare, empty} {
			items, err := d.s.Scan(p.Header.Entries[0].Queue, p.Header.Seq-1, 1)
			if err != nil || len(items) != 1 {
				t.Fatalf("scan: %d items, %v", len(items), err)
			}
			got, want := itemText(items[0]), itemText(store.Item{Header: p.Header, Entry: p.Header.Entries[0]})
			if got != want {
				t.Errorf("read back %s\nwant      %s", got, want)
			}
		}
		wantPayload(t, d.s, full)
		wantNoPayload(t, d.s, 2)
		wantPayload(t, d.s, empty)
		d.reopen()
	}
}

func testLastDrop(t *testing.T, d *driver) {
	p := newPut(1, 10, in("a"), in("b"), in("c"))
	d.must(puts(p))
	for _, name := range []string{"b", "a"} {
		d.must(&store.Batch{Drops: []store.Drop{{Queue: queueOf(name), Seq: 1}}})
		wantSeqs(t, d.s, queueOf(name))
		wantSeqs(t, d.s, queueOf("c"), 1)
		wantPayload(t, d.s, p)
		d.reopen()
	}
	items, err := d.s.Scan(queueOf("c"), 0, 1)
	if err != nil || len(items) != 1 || len(items[0].Header.Entries) != 1 {
		t.Fatalf("scan: %+v, %v; want the one entry that waits", items, err)
	}
	d.must(&store.Batch{Drops: []store.Drop{{Queue: queueOf("c"), Seq: 1}}})
	for range 2 {
		wantNoPayload(t, d.s, 1)
		wantSeqs(t, d.s, queueOf("c"))
		if sum := summary(t, d.s); len(sum.Queues) != 0 {
			t.Fatalf("queues %+v after the last drop", sum.Queues)
		}
		d.reopen()
	}
}

func testEnded(t *testing.T, d *driver) {
	p := newPut(1, 10, in("a"), in("b"))
	alone := newPut(2, 10, in("a"))
	d.must(puts(p, alone))
	end := func(name string, seq uint64) {
		d.must(&store.Batch{Marks: []store.Mark{{Queue: queueOf(name), Seq: seq, State: store.Ended}}})
	}
	end("a", 1)
	wantPayload(t, d.s, p)
	end("b", 1)
	end("a", 2)
	for range 2 {
		wantNoPayload(t, d.s, 1)
		wantNoPayload(t, d.s, 2)
		wantSeqs(t, d.s, queueOf("a"), 1, 2) // the obituaries still wait
		for _, q := range summary(t, d.s).Queues {
			if q.Bytes != 0 {
				t.Errorf("queue %v counts %d bytes of ended messages", q.Queue, q.Bytes)
			}
		}
		d.reopen()
	}
}

func testMarks(t *testing.T, d *driver) {
	d.must(puts(newPut(1, 10, in("a"), in("b"), in("c"), in("d"), in("e")), newPut(2, 10, in("a"))))
	d.must(&store.Batch{Marks: []store.Mark{
		{Queue: queueOf("e"), Seq: 1, State: store.Received},
		{Queue: queueOf("b"), Seq: 1, State: store.Ended},
		{Queue: queueOf("a"), Seq: 2, State: store.Received},
	}})
	want := map[string]store.EntryState{"a": store.Pending, "b": store.Ended, "c": store.Pending, "e": store.Received}
	for range 2 {
		for name, state := range want {
			items, err := d.s.Scan(queueOf(name), 0, 1)
			if err != nil || len(items) != 1 || items[0].Entry.State != state {
				t.Fatalf("entry in %s: %+v, %v; want state %d", name, items, err, state)
			}
		}
		items, err := d.s.Scan(queueOf("a"), 1, 1)
		if err != nil || len(items) != 1 || items[0].Entry.State != store.Received {
			t.Fatalf("message 2: %+v, %v", items, err)
		}
		d.reopen()
	}
	d.must(&store.Batch{Marks: []store.Mark{{Queue: queueOf("a"), Seq: 2, State: store.Pending}}})
	d.must(&store.Batch{Drops: []store.Drop{{Queue: queueOf("a"), Seq: 2}}})
	d.reopen()
	wantSeqs(t, d.s, queueOf("a"), 1)
}

func testEndedFinal(t *testing.T, d *driver) {
	d.must(puts(newPut(1, 10, in("a"))))
	d.must(&store.Batch{Marks: []store.Mark{{Queue: queueOf("a"), Seq: 1, State: store.Ended}}})
	d.must(&store.Batch{Marks: []store.Mark{{Queue: queueOf("a"), Seq: 1, State: store.Pending}}})
	d.reopen()
	items, err := d.s.Scan(queueOf("a"), 0, 1)
	if err != nil || len(items) != 1 || items[0].Entry.State != store.Ended {
		t.Fatalf("%+v, %v; want the entry to stay ended", items, err)
	}
}

// testMove puts a message under a new number with the payload of the old one,
// which goes in the same batch.
func testMove(t *testing.T, d *driver) {
	old := newPut(1, 5000, in("region"))
	d.must(puts(old))
	moved := newPut(2, 5000, in("node"), in("third"))
	moved.Blob, moved.From = nil, 1
	d.must(&store.Batch{Puts: []store.Put{moved}, Drops: []store.Drop{{Queue: queueOf("region"), Seq: 1}}})
	again := newPut(3, 5000, in("last"))
	again.Blob, again.From = nil, 2
	both := newPut(4, 5000, in("late"))
	both.Blob, both.From = nil, 3
	d.must(&store.Batch{ // both within one batch, and from a message of that batch
		Puts: []store.Put{again, both}, Drops: []store.Drop{{Queue: queueOf("node"), Seq: 2}, {Queue: queueOf("third"), Seq: 2}},
	})
	d.reopen()
	wantSeqs(t, d.s, queueOf("region"))
	wantSeqs(t, d.s, queueOf("node"))
	wantSeqs(t, d.s, queueOf("last"), 3)
	wantNoPayload(t, d.s, 1)
	wantNoPayload(t, d.s, 2)
	for _, seq := range []uint64{3, 4} {
		b, err := d.s.Read(seq)
		if err != nil || !bytes.Equal(b, old.Blob.B) {
			t.Fatalf("payload of message %d: %d bytes, %v; want that of message 1", seq, len(b), err)
		}
	}
}

// testEarlyDrop has drops of messages that are put, and copied, only later:
// within the same group of commits where the engine makes groups.
func testEarlyDrop(t *testing.T, d *driver) {
	early := &store.Batch{Lazy: true}
	for seq := range uint64(4) {
		early.Drops = append(early.Drops, store.Drop{Queue: queueOf("a"), Seq: seq + 1})
	}
	d.append(early)
	first := newPut(1, 30, in("a"))
	copied := newPut(2, 30, in("b"))
	copied.Blob, copied.From = nil, 1
	d.append(&store.Batch{Puts: []store.Put{first, copied}, Lazy: true})
	third := newPut(3, 30, in("a"))
	d.append(&store.Batch{Puts: []store.Put{third}, Lazy: true})
	fourth := newPut(4, 30, in("a"))
	fourth.Blob, fourth.From = nil, 3
	d.must(&store.Batch{Puts: []store.Put{fourth}})
	for range 2 {
		wantSeqs(t, d.s, queueOf("a"), 1, 3, 4)
		wantSeqs(t, d.s, queueOf("b"), 2)
		for _, p := range []store.Put{first, third} {
			wantPayload(t, d.s, p)
			b, err := d.s.Read(p.Header.Seq + 1)
			if err != nil || !bytes.Equal(b, p.Blob.B) {
				t.Fatalf("payload of message %d: %d bytes, %v; want that of message %d", p.Header.Seq+1, len(b), err, p.Header.Seq)
			}
		}
		d.reopen()
	}
}

func testPartOrder(t *testing.T, d *driver) {
	keep := newPut(2, 10, in("b"))
	d.must(&store.Batch{
		Puts:  []store.Put{newPut(1, 10, in("b")), keep},
		Marks: []store.Mark{{Queue: queueOf("b"), Seq: 2, State: store.Received}},
		Drops: []store.Drop{{Queue: queueOf("b"), Seq: 1}},
		Sets:  []store.Set{{Key: "k", Value: []byte("first")}, {Key: "k", Value: []byte("last")}},
	})
	for range 2 {
		wantSeqs(t, d.s, queueOf("a"))
		wantSeqs(t, d.s, queueOf("b"), 2)
		wantNoPayload(t, d.s, 1)
		wantPayload(t, d.s, keep)
		items, err := d.s.Scan(queueOf("b"), 0, 9)
		if err != nil || items[0].Entry.State != store.Received {
			t.Fatalf("%+v, %v; want a received entry", items, err)
		}
		wantState(t, d.s, "", "k=last")
		d.reopen()
	}
}

func testUnknown(t *testing.T, d *driver) {
	p := newPut(1, 10, in("a"))
	d.must(puts(p))
	for _, b := range []*store.Batch{
		{Drops: []store.Drop{{Queue: queueOf("b"), Seq: 1}, {Queue: queueOf("a"), Seq: 2}}},
		{Marks: []store.Mark{{Queue: queueOf("b"), Seq: 1, State: store.Ended}, {Queue: queueOf("a"), Seq: 9}}},
		{Sets: []store.Set{{Key: "nothing"}}},
	} {
		d.must(b)
	}
	d.reopen()
	wantSeqs(t, d.s, queueOf("a"), 1)
	wantSeqs(t, d.s, queueOf("c"))
	wantPayload(t, d.s, p)
}

func testScan(t *testing.T, d *driver) {
	var b store.Batch
	for seq := uint64(3); seq <= 3000; seq += 3 {
		b.Puts = append(b.Puts, newPut(seq, 3, in("a")))
	}
	d.must(&b)
	var drops store.Batch
	var want []uint64
	for i, p := range b.Puts {
		if i%7 == 2 {
			drops.Drops = append(drops.Drops, store.Drop{Queue: queueOf("a"), Seq: p.Header.Seq})
		} else {
			want = append(want, p.Header.Seq)
		}
	}
	d.must(&drops)
	for range 2 {
		wantSeqs(t, d.s, queueOf("a"), want...)
		for _, after := range []uint64{0, 2, 3, 4, 1500, 2999, 3000, math.MaxUint64} {
			items, err := d.s.Scan(queueOf("a"), after, 2)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, it := range items {
				got = append(got, it.Header.Seq)
			}
			rest := want[len(want)-countAbove(want, after):]
			if !slices.Equal(got, rest[:min(2, len(rest))]) {
				t.Errorf("scan after %d: %v, want the first two of %v", after, got, rest)
			}
		}
		if items, err := d.s.Scan(queueOf("a"), 0, 0); err != nil || len(items) != 0 {
			t.Errorf("scan of none: %d items, %v", len(items), err)
		}
		d.reopen()
	}
}

func countAbove(s []uint64, x uint64) (n int) {
	for _, v := range s {
		if v > x {
			n++
		}
	}
	return n
}

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// wantState expects the keys of a prefix, as key=value, in order.
func wantState(t *testing.T, s store.Store, prefix string, want ...string) {
	t.Helper()
	var got []string
	err := s.State(prefix, func(key string, value []byte) error {
		got = append(got, key+"="+string(value))
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("state %q: %q, %v; want %q", prefix, got, err, want)
	}
}

func testState(t *testing.T, d *driver) {
	d.must(&store.Batch{Sets: []store.Set{
		{Key: "b/2", Value: []byte("two")},
		{Key: "b/10", Value: []byte("ten")},
		{Key: "a", Value: []byte{}},
		{Key: "b/1", Value: []byte("head+"), Blob: &store.Blob{B: []byte("blob")}},
		{Key: "c", Blob: &store.Blob{B: []byte("blob alone")}},
		{Key: "", Value: []byte("empty key")},
	}})
	for range 2 {
		wantState(t, d.s, "b/", "b/1=head+blob", "b/10=ten", "b/2=two")
		wantState(t, d.s, "", "=empty key", "a=", "b/1=head+blob", "b/10=ten", "b/2=two", "c=blob alone")
		wantState(t, d.s, "b/3")
		d.reopen()
	}
	d.must(&store.Batch{Sets: []store.Set{{Key: "b/10"}, {Key: "a", Value: []byte("new")}, {Key: "c", Value: []byte{}}}})
	d.reopen()
	wantState(t, d.s, "", "=empty key", "a=new", "b/1=head+blob", "b/2=two", "c=")

	stop := errors.New("stop")
	calls := 0
	err := d.s.State("", func(string, []byte) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("State went on after an error: %d calls, %v", calls, err)
	}
	// More keys than an engine may hold in one piece, read within the walk.
	var b store.Batch
	for i := range 2000 {
		b.Sets = append(b.Sets, store.Set{Key: fmt.Sprintf("many/%04d", i), Value: make([]byte, 1000)})
	}
	d.must(&b)
	n := 0
	err = d.s.State("many/", func(key string, _ []byte) error {
		if want := fmt.Sprintf("many/%04d", n); key != want {
			return fmt.Errorf("key %q, want %q", key, want)
		}
		n++
		_, err := d.s.Read(1)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil || n != 2000 {
		t.Errorf("%d keys, %v", n, err)
	}
}

func testNextSeq(t *testing.T, d *driver) {
	d.must(puts(newPut(41, 10, in("a")), newPut(42, 10, in("a"))))
	d.must(&store.Batch{Drops: []store.Drop{{Queue: queueOf("a"), Seq: 41}, {Queue: queueOf("a"), Seq: 42}}})
	d.reopen()
	if n := summary(t, d.s).NextSeq; n != 43 {
		t.Fatalf("NextSeq %d after all was dropped, want 43", n)
	}
	// Stored and dropped at once, or wanted by no queue: used all the same.
	d.must(&store.Batch{
		Puts:  []store.Put{newPut(50, 10, in("a")), newPut(51, 10)},
		Drops: []store.Drop{{Queue: queueOf("a"), Seq: 50}},
	})
	d.crash(d.h.Crash)
	if sum := summary(t, d.s); sum.NextSeq != 52 || len(sum.Queues) != 0 {
		t.Fatalf("summary %+v, want NextSeq 52 and no queues", sum)
	}
}

func testUsedNumber(t *testing.T, d *driver) {
	p := newPut(5, 10, in("a"))
	d.must(puts(p))
	for _, seq := range []uint64{5, 4, 0} {
		if err := d.write(puts(newPut(seq, 20, in("b")))); err == nil {
			t.Errorf("put of message %d behind 5 was taken", seq)
		}
	}
	if err := d.write(puts(newPut(6, 10, in("b")), newPut(6, 10, in("b")))); err == nil {
		t.Error("two messages of one number were taken")
	}
	d.must(puts(newPut(6, 10, in("a"))))
	d.reopen()
	wantSeqs(t, d.s, queueOf("a"), 5, 6)
	wantSeqs(t, d.s, queueOf("b"))
	wantPayload(t, d.s, p)
}

func testMalformed(t *testing.T, d *driver) {
	kind, class, state := in("x"), in("x"), in("x")
	kind.Queue.Kind, class.Queue.Class, state.State = 0, bundle.NumClasses, 3
	good := store.Set{Key: "trace", Value: []byte("left behind")}
	for name, b := range map[string]*store.Batch{
		"kind":       {Puts: []store.Put{newPut(1, 1, kind)}},
		"class":      {Puts: []store.Put{newPut(1, 1, class)}},
		"state":      {Puts: []store.Put{newPut(1, 1, state)}},
		"same queue": {Puts: []store.Put{newPut(1, 1, in("x"), in("x"))}},
		"in a mark":  {Marks: []store.Mark{{Queue: queueOf("a"), Seq: 1, State: 3}}},
	} {
		b.Sets = append(b.Sets, good)
		if err := d.write(b); err == nil || errors.Is(err, store.ErrPoisoned) {
			t.Errorf("%s: %v, want a refusal of this batch alone", name, err)
		}
	}
	d.must(puts(newPut(1, 10, in("a"))))
	d.reopen()
	wantState(t, d.s, "")
	wantSeqs(t, d.s, queueOf("a"), 1)
}

func testReports(t *testing.T, d *driver) {
	for seq := range uint64(300) {
		d.append(puts(newPut(seq+1, 20, in("a"))))
		if seq%3 == 0 {
			d.append(&store.Batch{})
		}
	}
	for i, r := range d.sync() {
		if r.lsn != store.LSN(i+1) || r.err != nil {
			t.Fatalf("report %d: batch %d, %v", i, r.lsn, r.err)
		}
	}
}

func testCrash(t *testing.T, d *driver, kill func(store.Store)) {
	total := uint64(0)
	for range 5 {
		first := total + 1
		for range 40 {
			total++
			d.append(&store.Batch{
				Puts: []store.Put{newPut(2*total, 50, in("a")), newPut(2*total+1, 50, in("b"))},
				Sets: []store.Set{{Key: fmt.Sprintf("%06d", total), Value: []byte("x")}},
			})
			if total == first+20 {
				d.sync()
			}
		}
		acked := uint64(d.crash(kill))
		if acked < 20 {
			t.Fatalf("%d batches acknowledged, want at least 20", acked)
		}
		a, b := seqs(t, d.s, queueOf("a")), seqs(t, d.s, queueOf("b"))
		var states int
		if err := d.s.State("", func(string, []byte) error { states++; return nil }); err != nil {
			t.Fatal(err)
		}
		if len(a) != len(b) || len(a) != states {
			t.Fatalf("torn batches: %d and %d messages, %d keys", len(a), len(b), states)
		}
		for _, seq := range append(a, b...) {
			if _, err := d.s.Read(seq); err != nil {
				t.Fatal(err)
			}
		}
		for n := first; n < first+acked; n++ {
			if !slices.Contains(a, 2*n) {
				t.Fatalf("message %d was reported and is gone", 2*n)
			}
		}
		total = (summary(t, d.s).NextSeq - 2) / 2
	}
}

func testLarge(t *testing.T, d *driver) {
	p := newPut(1, 1<<20, in("a"), in("b"))
	d.must(puts(newPut(0+1, 1<<20, in("a"), in("b")), newPut(2, 10, in("a"))))
	for range 2 {
		wantPayload(t, d.s, p)
		d.reopen()
	}
	d.must(&store.Batch{Drops: []store.Drop{{Queue: queueOf("a"), Seq: 1}, {Queue: queueOf("b"), Seq: 1}}})
	d.reopen()
	wantNoPayload(t, d.s, 1)
	wantPayload(t, d.s, newPut(2, 10))
}

func testManyQueues(t *testing.T, d *driver) {
	const queues = 2000
	var b store.Batch
	for i := range uint64(2 * queues) {
		b.Puts = append(b.Puts, newPut(i+1, 5, in(fmt.Sprintf("q%d", i%queues))))
	}
	d.must(&b)
	for range 2 {
		sum := summary(t, d.s)
		if len(sum.Queues) != queues {
			t.Fatalf("%d queues, want %d", len(sum.Queues), queues)
		}
		if !slices.IsSortedFunc(sum.Queues, func(a, b store.QueueSummary) int { return compareQueues(a.Queue, b.Queue) }) {
			t.Error("the summary is not in order")
		}
		for i := range uint64(queues) {
			wantSeqs(t, d.s, queueOf(fmt.Sprintf("q%d", i)), i+1, i+1+queues)
		}
		d.reopen()
	}
}

func testManyEntries(t *testing.T, d *driver) {
	const n = 500
	var entries []store.Entry
	for i := range n {
		entries = append(entries, in(fmt.Sprintf("q%d", i)))
	}
	p := newPut(1, 100, entries...)
	d.must(puts(p))
	for i := range n {
		wantPayload(t, d.s, p)
		d.append(&store.Batch{Drops: []store.Drop{{Queue: queueOf(fmt.Sprintf("q%d", (i*7)%n)), Seq: 1}}})
		if i%100 == 50 {
			d.sync()
			d.reopen()
			if got := len(summary(t, d.s).Queues); got != n-i-1 {
				t.Fatalf("%d queues left after %d drops", got, i+1)
			}
		}
		d.sync()
	}
	wantNoPayload(t, d.s, 1)
	if got := summary(t, d.s).Queues; len(got) != 0 {
		t.Fatalf("%d queues left", len(got))
	}
}

// testLateQueue moves a long queue to another one, bit by bit.
func testLateQueue(t *testing.T, d *driver) {
	const n, step = 2500, 100
	var b store.Batch
	for i := range uint64(n) {
		b.Puts = append(b.Puts, newPut(i+1, 5, in("region")))
	}
	d.must(&b)
	for i := uint64(0); i < n; i += step {
		var moves store.Batch
		for seq := i + 1; seq <= i+step; seq++ {
			p := newPut(n+seq, 5, in("node"))
			p.Blob, p.From = nil, seq
			moves.Puts = append(moves.Puts, p)
			moves.Drops = append(moves.Drops, store.Drop{Queue: queueOf("region"), Seq: seq})
		}
		d.must(&moves)
	}
	for range 2 {
		got := seqs(t, d.s, queueOf("node"))
		if len(got) != n || !slices.IsSorted(got) || got[0] != n+1 || got[n-1] != 2*n {
			t.Fatalf("%d messages in the new queue, want %d in order", len(got), n)
		}
		wantSeqs(t, d.s, queueOf("region"))
		d.reopen()
	}
}

func testClose(t *testing.T, d *driver) {
	for seq := range uint64(50) {
		d.append(puts(newPut(seq+1, 10, in("a"))))
	}
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(d.reports); got != 50 {
		t.Fatalf("%d reports after Close, want 50", got)
	}
	d.open()
	if got := seqs(t, d.s, queueOf("a")); len(got) != 50 {
		t.Fatalf("%d messages, want 50", len(got))
	}
}

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/store"
)

// filled opens a store with messages 1 to n, which wait in 7 queues in turn,
// every tenth in one more.
func filled(t *testing.T, n int) (s *Store, write func(*store.Batch)) {
	t.Helper()
	fate := make(chan error, 1)
	s, err := Open(Config{Dir: t.TempDir(), Manual: true, Done: func(_ store.LSN, err error) { fate <- err }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	write = func(b *store.Batch) {
		t.Helper()
		s.Append(b)
		if err := <-fate; err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= uint64(n); {
		b := &store.Batch{}
		for ; len(b.Puts) < 100 && seq <= uint64(n); seq++ {
			h := testHeader(seq)
			h.Size = uint32(len(testPayload(seq)))
			h.Entries = []store.Entry{{Queue: queueNamed(seq % 7), DSeq: seq, Bundle: 9}}
			if seq%10 == 0 {
				h.Entries = append(h.Entries, store.Entry{Queue: queueNamed(99), DSeq: seq / 10})
			}
			b.Puts = append(b.Puts, store.Put{Header: h, Blob: &store.Blob{B: testPayload(seq)}})
		}
		write(b)
	}
	return s, write
}

// testPayload is a few bytes, or now and then so many that they stand behind
// their block.
func testPayload(seq uint64) []byte {
	n := 50 + int(seq%300)
	if seq%211 == 0 {
		n = inlineMax + 100
	}
	return bytes.Repeat([]byte{byte(seq), byte(seq >> 8)}, n)
}

// Readers that share a cache of a few pages all get what was written.
func TestReadersShareCache(t *testing.T) {
	const n = 3000
	s, _ := filled(t, n)
	s.cache = newCache(80 << 10)
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for who := range 4 {
		wg.Go(func() { errs <- readQueues(s, who) })
	}
	wg.Wait()
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if s.cache.size > s.cache.limit || s.cache.ahead.size > s.cache.ahead.limit {
		t.Errorf("%d bytes of pages and %d of payloads, want %d and %d at most",
			s.cache.size, s.cache.ahead.size, s.cache.limit, s.cache.ahead.limit)
	}
	for el := s.cache.order.Front(); el != nil; el = el.Next() {
		if p := el.Value.(*page); p.users != 1 {
			t.Errorf("a page has %d users when all is read", p.users)
		}
	}
}

// readQueues drains all queues in windows; every second reader reads payloads
// twice.
func readQueues(s *Store, who int) error {
	for q := range uint64(7) {
		for after := uint64(0); ; {
			items, err := s.Scan(queueNamed(q), after, 20+who)
			if err != nil || len(items) == 0 {
				if err != nil {
					return err
				}
				break
			}
			for _, it := range items {
				after = it.Header.Seq
				want := testHeader(after)
				if it.Damaged || it.Header.Topic != want.Topic || it.Header.Received != want.Received || it.Header.Message != want.Message || it.Entry.DSeq != after {
					return fmt.Errorf("message %d: %+v", after, it)
				}
				for range 1 + who%2 {
					if b, err := s.Read(after); err != nil || !bytes.Equal(b, testPayload(after)) {
						return fmt.Errorf("payload of %d: %d bytes, %v", after, len(b), err)
					}
				}
			}
		}
	}
	return nil
}

// What was read ahead is returned only as long as somebody waits for it.
func TestReadAfterScan(t *testing.T) {
	all, one := queueNamed(99), func(seq uint64) store.Queue { return queueNamed(seq % 7) }
	tests := []struct {
		name  string
		batch store.Batch
		gone  bool
	}{
		{name: "nothing happened"},
		{"dropped from the queue that was scanned", store.Batch{Drops: []store.Drop{{Queue: all, Seq: 10}}}, false},
		{"dropped from the other", store.Batch{Drops: []store.Drop{{Queue: one(10), Seq: 10}}}, false},
		{"dropped", store.Batch{Drops: []store.Drop{{Queue: all, Seq: 10}, {Queue: one(10), Seq: 10}}}, true},
		{"ended", store.Batch{Marks: []store.Mark{{Queue: all, Seq: 10, State: store.Ended}, {Queue: one(10), Seq: 10, State: store.Ended}}}, true},
		{"ended in one", store.Batch{Marks: []store.Mark{{Queue: all, Seq: 10, State: store.Ended}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, write := filled(t, 40)
			if items, err := s.Scan(all, 0, 10); err != nil || len(items) != 4 {
				t.Fatalf("%d items, %v", len(items), err)
			}
			write(&tt.batch)
			for range 2 {
				b, err := s.Read(10)
				if tt.gone && !errors.Is(err, store.ErrNotFound) || !tt.gone && (err != nil || !bytes.Equal(b, testPayload(10))) {
					t.Fatalf("%d bytes, %v", len(b), err)
				}
			}
		})
	}
}

// A block whose checksum holds and whose records make no sense is damage from
// there on; what else is in the page is read.
func TestReaderPassesSenselessBlock(t *testing.T) {
	e := newEncoder()
	e.reset(0)
	p := &page{key: pageKey{off: 1000}}
	for seq := uint64(1); seq <= 3; seq++ {
		at := len(e.buf)
		h := testHeader(seq)
		e.putMessage(h, h.Entries, body{b: testPayload(seq), has: true})
		if seq == 2 {
			e.buf = append(e.buf, 77) // no such record
		}
		e.end(nil)
		p.blocks = append(p.blocks, pageBlock{at: at, body: len(e.buf) - at - blockHeadLen})
	}
	p.buf = e.buf
	var r pageReader
	r.start(p)
	var got []uint64
	for r.step() {
		got = append(got, r.rec.seq)
	}
	b := p.blocks[1]
	if want := []badSpan{{1000 + int64(b.at), int64(blockHeadLen + b.body)}}; !slices.Equal(got, []uint64{1, 2, 3}) || !slices.Equal(r.bad, want) {
		t.Errorf("messages %v, damage %v; want 1 to 3 and %v", got, r.bad, want)
	}
	for _, seqs := range [][]uint64{{3}, {2, 2, 3}, {1, 3}} {
		r.start(p)
		for _, seq := range seqs {
			if !r.seek(seq) || !bytes.Equal(r.rec.payload, testPayload(seq)) {
				t.Errorf("message %d of %v was not found", seq, seqs)
			}
		}
		if r.seek(4) {
			t.Error("message 4 was found")
		}
	}
}

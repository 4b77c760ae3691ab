package memstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/memstore"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(storetest.TB) storetest.Harness {
		var kept *memstore.Store
		var done store.Done
		tears := 0
		return storetest.Harness{
			Open: func(d store.Done) (store.Store, error) {
				done = d
				if kept == nil {
					kept = memstore.New(memstore.Config{Done: func(lsn store.LSN, err error) { done(lsn, err) }})
				} else {
					kept = kept.Crash() // what is durable, as a new store
				}
				return kept, nil
			},
			Sync:  func(s store.Store) { s.(*memstore.Store).Sync() },
			Crash: func(s store.Store) {}, // Open drops what is only staged
			Faults: storetest.Faults{
				LoseUnsynced: func(s store.Store) {},
				Tear: func(s store.Store) {
					tears++
					kept = kept.CrashAfter(tears % (kept.Staged() + 1))
				},
				FailCommit: func() { kept.FailAt(1, store.ErrPoisoned) },
				Full:       func(full bool) { kept.SetFull(full) },
				FlipBit:    func(p store.Put) { kept.Damage(p.Header.Seq) },
			},
		}
	})
}

var queue = store.Queue{Kind: store.ToNode, Name: "a"}

func put(lsn store.LSN, seq uint64) *store.Batch {
	return &store.Batch{LSN: lsn, Puts: []store.Put{{
		Header: &store.Header{Seq: seq, Size: 3, Entries: []store.Entry{{Queue: queue}}},
		Blob:   &store.Blob{B: []byte("abc")},
	}}}
}

func drop(lsn store.LSN, seq uint64) *store.Batch {
	return &store.Batch{LSN: lsn, Drops: []store.Drop{{Queue: queue, Seq: seq}}}
}

func TestSyncAndCrash(t *testing.T) {
	s := memstore.New(memstore.Config{Incarnation: 9})
	if lsn, ok := s.Sync(); ok || lsn != 0 {
		t.Fatalf("Sync of nothing: %d, %v", lsn, ok)
	}
	s.Append(put(1, 1))
	s.Append(put(2, 2))
	if _, err := s.Read(1); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a staged message is read: %v", err)
	}
	if lsn, ok := s.Sync(); !ok || lsn != 2 {
		t.Fatalf("Sync: %d, %v; want 2", lsn, ok)
	}
	s.Append(put(3, 3))
	after := s.Crash()
	if _, err := s.Read(1); !errors.Is(err, memstore.ErrClosed) {
		t.Errorf("the crashed store answers: %v", err)
	}
	s.Append(put(4, 4))
	if _, ok := s.Sync(); ok {
		t.Error("the crashed store takes batches")
	}
	sum, err := after.Summary()
	if err != nil || sum.NextSeq != 3 || after.Staged() != 0 || after.Incarnation() != 9 {
		t.Errorf("after the crash: %+v, %v", sum, err)
	}
}

func TestKnobs(t *testing.T) {
	var fates []string
	done := func(lsn store.LSN, err error) {
		fate := "ok"
		switch {
		case errors.Is(err, store.ErrFull):
			fate = "full"
		case errors.Is(err, store.ErrPoisoned):
			fate = "poisoned"
		case err != nil:
			fate = err.Error()
		}
		fates = append(fates, fmt.Sprintf("%d %s", lsn, fate))
	}
	s := memstore.New(memstore.Config{Done: done})
	for seq := range uint64(3) {
		s.Append(put(store.LSN(seq+1), seq+1))
	}
	s.FailAt(2, errors.New("odd"))
	if lsn, ok := s.Sync(); !ok || lsn != 3 {
		t.Errorf("Sync: %d, %v; want 3 although 2 failed", lsn, ok)
	}
	s.SetFull(true)
	s.Append(put(4, 4))
	s.Append(drop(5, 1))
	s.Sync()
	s.SetFull(false)
	s.Append(put(6, 5))
	s.Sync()
	s.FailAt(1, fmt.Errorf("disk: %w", store.ErrPoisoned))
	s.Append(put(7, 6))
	s.Append(drop(8, 3))
	s.Sync()
	want := []string{"1 ok", "2 odd", "3 ok", "4 full", "5 ok", "6 ok", "7 poisoned", "8 poisoned"}
	if !slices.Equal(fates, want) {
		t.Errorf("fates %q, want %q", fates, want)
	}
	s = s.Crash()
	s.Append(drop(1, 3))
	if _, ok := s.Sync(); !ok {
		t.Error("a crash does not lift the poison")
	}
	if s.Messages() != 1 || s.Bytes() != 3 {
		t.Errorf("%d messages of %d bytes, want 1 of 3", s.Messages(), s.Bytes())
	}
}

// BenchmarkPutDrop is the steady state of the core: every message is put,
// synced and dropped.
func BenchmarkPutDrop(b *testing.B) {
	s := memstore.New(memstore.Config{})
	blob := &store.Blob{B: make([]byte, 256)}
	const group = 64
	seq, lsn := uint64(0), store.LSN(0)
	b.ReportAllocs()
	ops := 0
	for b.Loop() {
		headers := make([]store.Header, group)
		entries := make([]store.Entry, group)
		in := &store.Batch{Puts: make([]store.Put, group)}
		out := &store.Batch{Drops: make([]store.Drop, group)}
		for i := range group {
			seq++
			entries[i].Queue = queue
			headers[i] = store.Header{Seq: seq, Size: 256, Entries: entries[i : i+1]}
			in.Puts[i] = store.Put{Header: &headers[i], Blob: blob}
			out.Drops[i] = store.Drop{Queue: queue, Seq: seq}
		}
		in.LSN, out.LSN = lsn+1, lsn+2
		lsn += 2
		s.Append(in)
		s.Sync()
		s.Append(out)
		s.Sync()
		ops += 2 * group
	}
	b.ReportMetric(float64(ops)/b.Elapsed().Seconds(), "ops/s")
}

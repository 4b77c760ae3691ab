package journal_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// A full store refuses puts, keeps what it has, and takes drops until there
// is room again.
func TestFull(t *testing.T) {
	const limit = 2 << 20
	for name, size := range map[string]int{"small": 200, "page": 4000, "large": 100_000} {
		t.Run("limit/"+name, func(t *testing.T) {
			u := use(t, journal.Config{Dir: fastDir(t), MaxBytes: limit})
			testFull(t, u, size, limit)
			if st := u.s.Stats(); st.FileBytes-st.IndexBytes > limit {
				t.Errorf("stats %+v, the limit is %d", st, limit)
			}
		})
		t.Run("disk/"+name, func(t *testing.T) {
			mem := vfs.NewMem()
			u := use(t, journal.Config{FS: mem, SegmentBytes: 128 << 10})
			mem.SetCapacity(limit)
			testFull(t, u, size, limit)
		})
	}
}

func testFull(t *testing.T, u *user, size, limit int) {
	t.Helper()
	seq := uint64(0)
	var kept []uint64
	fill := func() error {
		for {
			b := &store.Batch{}
			for len(b.Puts) == 0 || size < 1000 && len(b.Puts) < 50 {
				seq++
				b.Puts = append(b.Puts, put(seq, size))
			}
			if err := u.write(b); err != nil {
				return err
			}
			for _, p := range b.Puts {
				kept = append(kept, p.Header.Seq)
			}
		}
	}
	for round := range 3 {
		if err := fill(); !errors.Is(err, store.ErrFull) {
			t.Fatalf("round %d: %v, want ErrFull", round, err)
		}
		if used := len(kept) * size; used < limit/2 {
			t.Errorf("round %d: full with %d payload bytes of %d", round, used, limit)
		}
		// One by one at first, as acknowledgements come.
		for _, n := range []int{1, 1, 1, 2, len(kept) / 2} {
			n = min(n, len(kept))
			b := &store.Batch{Sets: []store.Set{{Key: "trace", Value: []byte("state travels with drops")}}}
			for _, seq := range kept[:n] {
				b.Drops = append(b.Drops, store.Drop{Queue: queueA, Seq: seq, Size: uint32(size)})
			}
			kept = kept[n:]
			if err := u.write(b); err != nil {
				t.Fatalf("round %d: drop on a full store: %v", round, err)
			}
		}
	}
	want(t, u, kept, nil)
	u.reopen()
	want(t, u, kept, nil)
	u.readAll(kept, size)
}

// A batch that does not fit takes no other batch of its group with it.
func TestFullConcernsOneBatch(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), MaxBytes: 2 << 20})
	u.append(&store.Batch{Puts: []store.Put{put(1, 100)}})
	u.append(&store.Batch{Puts: []store.Put{put(2, 8<<20)}})
	u.append(&store.Batch{Puts: []store.Put{put(3, 100)}})
	u.append(&store.Batch{Drops: []store.Drop{{Queue: queueA, Seq: 1}}})
	for i, want := range []error{nil, store.ErrFull, nil, nil} {
		if err := u.f.wait(i + 1); !errors.Is(err, want) {
			t.Errorf("batch %d: %v, want %v", i+1, err, want)
		}
	}
	want(t, u, []uint64{3}, nil)
}

// With Strict, nothing is written after a batch that was refused: the caller's
// later batches rest on it. Opened again, the buffer takes batches as before.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{true, false} {
		u := use(t, journal.Config{Dir: fastDir(t), MaxBytes: 1 << 20, Strict: strict})
		u.append(&store.Batch{Puts: []store.Put{put(1, 10)}})
		u.append(&store.Batch{Puts: []store.Put{put(2, 4<<20)}}) // cannot fit
		u.append(&store.Batch{Puts: []store.Put{put(3, 10)}})
		if err := errors.Join(u.f.wait(1)); err != nil {
			t.Fatal(err)
		}
		if err := u.f.wait(2); !errors.Is(err, store.ErrFull) {
			t.Fatalf("strict %v: the large batch: %v, want ErrFull", strict, err)
		}
		if err := u.f.wait(3); (err != nil) != strict {
			t.Errorf("strict %v: the batch after it: %v", strict, err)
		}
		u.reopen()
		if good, _ := u.seqs(); len(good) != map[bool]int{true: 1, false: 2}[strict] {
			t.Errorf("strict %v: messages %v", strict, good)
		}
		u.must(&store.Batch{Puts: []store.Put{put(9, 10)}})
	}
}

// Lazy batches are not reported before something else is, and are undone by a
// crash; Close waits for them.
func TestLazy(t *testing.T) {
	mem := vfs.NewMem()
	u := use(t, journal.Config{FS: mem, Manual: true})
	u.puts(1, 2, 100)
	syncs := u.s.Stats().Commits
	for seq := uint64(3); seq <= 5; seq++ {
		u.append(&store.Batch{Lazy: true, Puts: []store.Put{put(seq, 100)}})
	}
	u.must(&store.Batch{Drops: []store.Drop{{Queue: queueA, Seq: 4}}})
	want(t, u, []uint64{1, 2, 3, 5}, nil)
	if n := u.s.Stats().Commits - syncs; n > 2 {
		t.Errorf("%d syncs for lazy batches and another", n)
	}
	moved := put(6, 100)
	moved.Blob, moved.From = nil, 5
	u.append(&store.Batch{Lazy: true, Puts: []store.Put{moved}, Drops: []store.Drop{{Queue: queueA, Seq: 5}}})
	again := put(7, 100)
	again.Blob, again.From = nil, 6
	u.append(&store.Batch{Lazy: true, Puts: []store.Put{again}, Drops: []store.Drop{{Queue: queueA, Seq: 6}}})
	u.reopen()
	want(t, u, []uint64{1, 2, 3, 7}, nil)
	if b, err := u.s.Read(7); err != nil || b[0] != 5 {
		t.Errorf("payload that moved twice: %v, %v", b, err)
	}
}

// Many messages in many queues: all are there, in order, after a clean start,
// a kill, and without the index.
func TestManyMessages(t *testing.T) {
	const n, queues = 100_000, 1000
	u := use(t, journal.Config{Dir: fastDir(t)})
	fill(t, u.s, u.f, n, queues, 64)
	for _, how := range []string{"running", "closed", "killed", "rebuilt"} {
		switch how {
		case "closed":
			u.reopen()
		case "killed":
			u.crash()
		case "rebuilt":
			_ = u.s.Close()
			dropIndex(t, u.cfg.Dir)
			u.open()
		}
		if sum := u.summary(); len(sum.Queues) != queues || sum.NextSeq != n+1 {
			t.Fatalf("%s: %d queues, next %d", how, len(sum.Queues), sum.NextSeq)
		}
		for i := 0; i < queues; i += 50 {
			var got []uint64
			items, err := u.s.Scan(queueOf(i), 0, n)
			for _, it := range items {
				got = append(got, it.Header.Seq)
			}
			if err != nil || len(got) != n/queues || !slices.IsSorted(got) || got[0] != uint64(i+1) {
				t.Fatalf("%s: queue %d: %v, %v", how, i, got, err)
			}
		}
	}
}

// Readers run beside commits and cleaning and never see half a change.
func TestConcurrentReaders(t *testing.T) {
	u := use(t, journal.Config{Dir: fastDir(t), SegmentBytes: 64 << 10, CheckpointBytes: 32 << 10})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	other := queueOf(1)
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, q := range []store.Queue{queueA, other} {
					if err := readSome(u.s, q); err != nil {
						t.Error(err)
						return
					}
				}
				u.s.Stats()
			}
		})
	}
	const n = 400
	for i := range uint64(n) {
		// Each batch stores two messages and moves one of the batch before.
		b := &store.Batch{Puts: []store.Put{put(3*i+1, 3000), put(3*i+2, 50)}}
		if i > 0 {
			moved := put(3*i+3, 3000)
			moved.Blob, moved.From = nil, 3*i-2
			moved.Header.Entries = []store.Entry{{Queue: other}}
			b.Puts = append(b.Puts, moved)
			b.Drops = []store.Drop{{Queue: queueA, Seq: 3*i - 2, Size: 3000}}
		}
		if i > 20 {
			b.Drops = append(b.Drops, store.Drop{Queue: other, Seq: 3*(i-20) + 3}, store.Drop{Queue: queueA, Seq: 3*(i-20) + 2})
		}
		u.append(b)
	}
	for i := range n {
		if err := u.f.wait(i + 1); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func readSome(s *journal.Store, q store.Queue) error {
	items, err := s.Scan(q, 0, 50)
	if err != nil {
		return err
	}
	last := uint64(0)
	for _, it := range items {
		if it.Damaged || it.Header.Seq <= last {
			return fmt.Errorf("item %+v behind %d", it, last)
		}
		last = it.Header.Seq
		if _, err := s.Read(last); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	_, err = s.Summary()
	return err
}

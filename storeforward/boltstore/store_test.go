package boltstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(tb storetest.TB) storetest.Harness {
		dir := fastDir(tb)
		var file *os.File
		cfg := boltstore.Config{Dir: dir}.WithOpenFile(func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		})
		return storetest.Harness{
			Open: func(done store.Done) (store.Store, error) {
				cfg.Done = done
				return boltstore.Open(cfg)
			},
			Crash: func(s store.Store) { s.(*boltstore.Store).Abandon() },
			Faults: storetest.Faults{
				FailCommit: func() { _ = file.Close() }, // as a disk that went away
				FlipBit:    func(p store.Put) { flipBit(tb, filepath.Join(dir, boltstore.FileName), p.Blob.B) },
			},
		}
	})
}

// flipBit changes a bit in all places of a file where a long text stands. It
// may be in several pieces.
func flipBit(tb storetest.TB, path string, text []byte) {
	tb.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	part, found := text[:len(text)/4], 0
	for at := 0; ; at += len(part) {
		n := bytes.Index(file[at:], part)
		if n < 0 {
			break
		}
		at, found = at+n, found+1
		file[at+len(part)/2] ^= 4
	}
	if err := os.WriteFile(path, file, 0o600); err != nil || found == 0 {
		tb.Fatalf("%d places, %v", found, err)
	}
}

// fastDir is a temporary directory in RAM where the system has one: many
// small stores would otherwise mostly wait for the disk, which their tests
// are not about.
func fastDir(tb storetest.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "boltstore")
	if err != nil {
		dir, err = os.MkdirTemp("", "boltstore")
	}
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// fates collects reports.
type fates struct {
	mu   sync.Mutex
	cond *sync.Cond
	errs []error
}

func newFates() *fates {
	f := &fates{}
	f.cond = sync.NewCond(&f.mu)
	return f
}

func (f *fates) done(_ store.LSN, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
	f.cond.Broadcast()
}

// wait returns the fate of batch n, from 1.
func (f *fates) wait(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.errs) < n {
		f.cond.Wait()
	}
	return f.errs[n-1]
}

func open(t *testing.T, cfg boltstore.Config) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var queue = store.Queue{Kind: store.ToNode, Name: "peer"}

func put(seq uint64, size int) store.Put {
	return store.Put{
		Header: &store.Header{Seq: seq, Size: uint32(size), Topic: "t", Entries: []store.Entry{{Queue: queue}}},
		Blob:   &store.Blob{B: make([]byte, size)},
	}
}

func TestIncarnation(t *testing.T) {
	dir := t.TempDir()
	s := open(t, boltstore.Config{Dir: dir})
	first := s.Incarnation()
	if first == 0 || first > 1<<20-1 || s.Created().IsZero() {
		t.Errorf("incarnation %d, created %v", first, s.Created())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again := open(t, boltstore.Config{Dir: dir}).Incarnation(); again != first {
		t.Errorf("incarnation %d after a reopen, was %d", again, first)
	}
	others := map[uint32]bool{first: true}
	for range 4 {
		others[open(t, boltstore.Config{Dir: t.TempDir()}).Incarnation()] = true
	}
	if len(others) == 1 {
		t.Error("all stores have the same incarnation")
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg boltstore.Config
		ok  bool
	}{
		"plain":         {boltstore.Config{Dir: "d"}, true},
		"no directory":  {boltstore.Config{}, false},
		"small limit":   {boltstore.Config{Dir: "d", MaxBytes: 1000}, false},
		"negative":      {boltstore.Config{Dir: "d", MaxBytes: -1}, false},
		"negative wait": {boltstore.Config{Dir: "d", LockTimeout: -1}, false},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStats(t *testing.T) {
	f := newFates()
	s := open(t, boltstore.Config{Dir: t.TempDir(), Done: f.done})
	s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1, 1000), put(2, 500)}})
	f.wait(1)
	s.Append(&store.Batch{LSN: 2, Drops: []store.Drop{{Queue: queue, Seq: 1}}})
	s.Append(&store.Batch{LSN: 3, Puts: []store.Put{put(1, 1)}}) // the number is used
	f.wait(3)
	st := s.Stats()
	if st.Messages != 1 || st.Queues != 1 || st.Bytes != 500 || st.PeakBytes != 1500 ||
		st.Batches != 3 || st.Refused != 1 || st.Commits < 2 || st.Waiting != 0 || st.WaitingBytes != 0 || st.Poisoned {
		t.Errorf("stats %+v", st)
	}
	info, err := os.Stat(s.Path())
	if err != nil || info.Size() != st.FileBytes {
		t.Errorf("the file has %d bytes, stats say %d (%v)", info.Size(), st.FileBytes, err)
	}
}

// A full store refuses puts, keeps what it has, and takes drops until there
// is room again.
func TestFull(t *testing.T) {
	for name, size := range map[string]int{"small": 200, "page": 4000, "large": 100_000} {
		t.Run(name, func(t *testing.T) { testFull(t, size) })
	}
}

func testFull(t *testing.T, size int) {
	const limit = 2 << 20
	f := newFates()
	dir := fastDir(t)
	s := open(t, boltstore.Config{Dir: dir, MaxBytes: limit, Done: f.done})
	lsn, seq := 0, uint64(0)
	write := func(b *store.Batch) error {
		lsn++
		b.LSN = store.LSN(lsn)
		s.Append(b)
		return f.wait(lsn)
	}
	var kept []uint64
	fill := func() error {
		for {
			seq++
			b := &store.Batch{Puts: []store.Put{put(seq, size)}}
			for size < 1000 && len(b.Puts) < 50 {
				seq++
				b.Puts = append(b.Puts, put(seq, size))
			}
			if err := write(b); err != nil {
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
				b.Drops = append(b.Drops, store.Drop{Queue: queue, Seq: seq})
			}
			kept = kept[n:]
			if err := write(b); err != nil {
				t.Fatalf("round %d: drop on a full store: %v", round, err)
			}
		}
	}
	if st := s.Stats(); st.FileBytes > limit || st.Messages != len(kept) || st.Poisoned {
		t.Errorf("stats %+v, want %d messages in at most %d bytes", st, len(kept), limit)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, boltstore.Config{Dir: dir, MaxBytes: limit})
	items, err := s.Scan(queue, 0, 1<<20)
	if err != nil || len(items) != len(kept) {
		t.Fatalf("%d messages after reopen, %v; want %d", len(items), err, len(kept))
	}
}

// A batch that does not fit takes no other batch of its commit with it.
func TestFullConcernsOneBatch(t *testing.T) {
	f := newFates()
	s := open(t, boltstore.Config{Dir: t.TempDir(), MaxBytes: 2 << 20, Done: f.done})
	s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1, 100)}})
	s.Append(&store.Batch{LSN: 2, Puts: []store.Put{put(2, 8<<20)}})
	s.Append(&store.Batch{LSN: 3, Puts: []store.Put{put(3, 100)}})
	s.Append(&store.Batch{LSN: 4, Drops: []store.Drop{{Queue: queue, Seq: 1}}})
	for i, want := range []error{nil, store.ErrFull, nil, nil} {
		if err := f.wait(i + 1); !errors.Is(err, want) {
			t.Errorf("batch %d: %v, want %v", i+1, err, want)
		}
	}
	items, err := s.Scan(queue, 0, 9)
	if err != nil || len(items) != 1 || items[0].Header.Seq != 3 {
		t.Errorf("%+v, %v; want message 3", items, err)
	}
}

// After a failed write nothing is acknowledged any more; a new start finds
// what was.
func TestPoison(t *testing.T) {
	dir := t.TempDir()
	f := newFates()
	var file *os.File
	cfg := boltstore.Config{Dir: dir, Done: f.done}.WithOpenFile(func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	})
	s := open(t, cfg)
	s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1, 100)}})
	if err := f.wait(1); err != nil {
		t.Fatal(err)
	}
	_ = file.Close() // as a disk that went away
	s.Append(&store.Batch{LSN: 2, Puts: []store.Put{put(2, 100)}})
	s.Append(&store.Batch{LSN: 3, Drops: []store.Drop{{Queue: queue, Seq: 1}}})
	for n := 2; n <= 3; n++ {
		if err := f.wait(n); !errors.Is(err, store.ErrPoisoned) {
			t.Errorf("batch %d: %v, want ErrPoisoned", n, err)
		}
	}
	if !s.Stats().Poisoned {
		t.Error("stats do not tell")
	}
	if b, err := s.Read(1); err != nil || len(b) != 100 {
		t.Errorf("a poisoned store still reads: %d bytes, %v", len(b), err)
	}
	_ = s.Close()
	s = open(t, boltstore.Config{Dir: dir})
	items, err := s.Scan(queue, 0, 9)
	if err != nil || len(items) != 1 {
		t.Errorf("%d messages, %v; want the one that was acknowledged", len(items), err)
	}
}

func TestAppendAfterClose(t *testing.T) {
	f := newFates()
	s := open(t, boltstore.Config{Dir: t.TempDir(), Done: f.done})
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s.Append(&store.Batch{LSN: 1})
	if err := f.wait(1); err == nil {
		t.Error("a closed store takes batches")
	}
	if _, err := s.Read(1); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a closed store answers: %v", err)
	}
}

// Readers run beside commits that grow the file and never see half a change.
func TestConcurrentReaders(t *testing.T) {
	f := newFates()
	s := open(t, boltstore.Config{Dir: t.TempDir(), Done: f.done})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	other := store.Queue{Kind: store.ToNode, Name: "other"}
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, q := range []store.Queue{queue, other} {
					items, err := s.Scan(q, 0, 50)
					if err != nil {
						t.Error(err)
						return
					}
					for _, it := range items {
						if _, err := s.Read(it.Header.Seq); err != nil && !errors.Is(err, store.ErrNotFound) {
							t.Error(err)
							return
						}
					}
					if !slices.IsSortedFunc(items, func(a, b store.Item) int { return int(a.Header.Seq) - int(b.Header.Seq) }) {
						t.Error("out of order")
					}
				}
				if _, err := s.Summary(); err != nil {
					t.Error(err)
				}
				s.Stats()
			}
		})
	}
	const n = 150
	for i := range uint64(n) {
		// Each batch stores two messages and moves one of the batch before.
		b := &store.Batch{LSN: store.LSN(i + 1), Puts: []store.Put{put(3*i+1, 3000), put(3*i+2, 50)}}
		if i > 0 {
			moved := put(3*i+3, 3000)
			moved.Blob, moved.From = nil, 3*i-2
			moved.Header.Entries = []store.Entry{{Queue: other}}
			b.Puts = append(b.Puts, moved)
			b.Drops = []store.Drop{{Queue: queue, Seq: 3*i - 2}}
		}
		if i > 20 {
			b.Drops = append(b.Drops, store.Drop{Queue: other, Seq: 3*(i-20) + 3}, store.Drop{Queue: queue, Seq: 3*(i-20) + 2})
		}
		s.Append(b)
	}
	for i := range n {
		if err := f.wait(i + 1); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// What one commit stores and drops is never written.
func TestGroupCancels(t *testing.T) {
	f := newFates()
	s := open(t, boltstore.Config{Dir: t.TempDir(), Done: f.done})
	for i := range uint64(20) {
		s.Append(&store.Batch{LSN: store.LSN(i + 1), Puts: []store.Put{put(i+1, 10)}, Drops: []store.Drop{{Queue: queue, Seq: i + 1}}})
	}
	if err := f.wait(20); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if st.Messages != 0 || st.Bytes != 0 || st.Queues != 0 || st.PeakBytes != 0 {
		t.Errorf("stats %+v", st)
	}
	if sum, err := s.Summary(); err != nil || sum.NextSeq != 21 {
		t.Errorf("summary %+v, %v", sum, err)
	}
}

func Example() {
	dir, _ := os.MkdirTemp("", "buffer")
	defer os.RemoveAll(dir)
	done := make(chan error, 1)
	s, err := boltstore.Open(boltstore.Config{Dir: dir, Done: func(_ store.LSN, err error) { done <- err }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1, 5)}})
	fmt.Println("durable:", <-done == nil)
	sum, _ := s.Summary()
	fmt.Println("next:", sum.NextSeq, "waiting:", sum.Queues[0].Count)
	// Output:
	// durable: true
	// next: 2 waiting: 1
}

// With Strict, nothing is written after a batch that was refused: the caller's
// later batches rest on it. Opened again, the buffer takes batches as before.
func TestStrictStopsAfterARefusal(t *testing.T) {
	for _, strict := range []bool{true, false} {
		f, dir := newFates(), t.TempDir()
		s := open(t, boltstore.Config{Dir: dir, MaxBytes: 1 << 20, Strict: strict, Done: f.done})
		s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(1, 10)}})
		s.Append(&store.Batch{LSN: 2, Puts: []store.Put{put(2, 4<<20)}}) // cannot fit
		s.Append(&store.Batch{LSN: 3, Puts: []store.Put{put(3, 10)}})
		if err := f.wait(1); err != nil {
			t.Fatal(err)
		}
		if err := f.wait(2); !errors.Is(err, store.ErrFull) {
			t.Fatalf("strict %v: the large batch: %v, want ErrFull", strict, err)
		}
		if err := f.wait(3); (err != nil) != strict {
			t.Errorf("strict %v: the batch after it: %v", strict, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again := newFates()
		s = open(t, boltstore.Config{Dir: dir, MaxBytes: 1 << 20, Strict: strict, Done: again.done})
		items, err := s.Scan(queue, 0, 9)
		if want := map[bool]int{true: 1, false: 2}[strict]; err != nil || len(items) != want {
			t.Errorf("strict %v: %d messages, %v, want %d", strict, len(items), err, want)
		}
		s.Append(&store.Batch{LSN: 1, Puts: []store.Put{put(9, 10)}})
		if err := again.wait(1); err != nil {
			t.Errorf("strict %v: after opening again: %v", strict, err)
		}
	}
}

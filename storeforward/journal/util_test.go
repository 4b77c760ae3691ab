package journal_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
)

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

func (f *fates) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.errs)
}

// user is a store and what was appended to it.
type user struct {
	t   testing.TB
	cfg journal.Config
	s   *journal.Store
	f   *fates
	lsn int
}

func use(t testing.TB, cfg journal.Config) *user {
	t.Helper()
	u := &user{t: t, cfg: cfg}
	u.open()
	t.Cleanup(func() {
		if u.s != nil {
			_ = u.s.Close()
		}
	})
	return u
}

func (u *user) open() {
	u.t.Helper()
	u.f, u.lsn = newFates(), 0
	u.cfg.Done = u.f.done
	var err error
	if u.s, err = journal.Open(u.cfg); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) reopen() {
	u.t.Helper()
	if err := u.s.Close(); err != nil {
		u.t.Fatal(err)
	}
	u.open()
}

// crash ends the store as a kill does.
func (u *user) crash() {
	u.t.Helper()
	u.s.Abandon()
	u.open()
}

func (u *user) append(b *store.Batch) int {
	u.lsn++
	b.LSN = store.LSN(u.lsn)
	u.s.Append(b)
	return u.lsn
}

func (u *user) write(b *store.Batch) error { return u.f.wait(u.append(b)) }

func (u *user) must(b *store.Batch) {
	u.t.Helper()
	if err := u.write(b); err != nil {
		u.t.Fatalf("batch %d: %v", u.lsn, err)
	}
}

// puts stores messages from first to last, one batch each.
func (u *user) puts(first, last uint64, size int) {
	u.t.Helper()
	for seq := first; seq <= last; seq++ {
		u.must(&store.Batch{Puts: []store.Put{put(seq, size)}})
	}
}

func (u *user) drop(seqs ...uint64) {
	u.t.Helper()
	b := &store.Batch{}
	for _, seq := range seqs {
		b.Drops = append(b.Drops, store.Drop{Queue: queueA, Seq: seq})
	}
	u.must(b)
}

// seqs scans queueA: the messages that can be read, and those that cannot.
func (u *user) seqs() (good, damaged []uint64) {
	u.t.Helper()
	items, err := u.s.Scan(queueA, 0, 1<<30)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, it := range items {
		if it.Damaged {
			damaged = append(damaged, it.Header.Seq)
		} else {
			good = append(good, it.Header.Seq)
		}
	}
	return good, damaged
}

func (u *user) summary() store.Summary {
	u.t.Helper()
	sum, err := u.s.Summary()
	if err != nil {
		u.t.Fatal(err)
	}
	return sum
}

// readAll checks the payloads of messages.
func (u *user) readAll(seqs []uint64, size int) {
	u.t.Helper()
	for _, seq := range seqs {
		b, err := u.s.Read(seq)
		if err != nil || !bytes.Equal(b, payload(seq, size)) {
			u.t.Fatalf("payload of %d: %d bytes, %v", seq, len(b), err)
		}
	}
}

var queueA = store.Queue{Kind: store.ToNode, Name: "peer"}

func queueOf(i int) store.Queue {
	return store.Queue{Kind: store.ToNode, Name: fmt.Sprintf("node-%d", i)}
}

func payload(seq uint64, size int) []byte { return bytes.Repeat([]byte{byte(seq)}, size) }

func put(seq uint64, size int) store.Put {
	return store.Put{
		Header: &store.Header{Seq: seq, Size: uint32(size), Topic: "t", Entries: []store.Entry{{Queue: queueA}}},
		Blob:   &store.Blob{B: payload(seq, size)},
	}
}

// fill puts n messages of size bytes into queues in turn.
func fill(b testing.TB, s *journal.Store, f *fates, n, queues, size int) {
	const step = 2000
	lsn := f.count()
	for seq := 0; seq < n; {
		bt := &store.Batch{LSN: store.LSN(lsn + 1)}
		for range min(step, n-seq) {
			p := put(uint64(seq+1), size)
			p.Header.Entries[0].Queue = queueOf(seq % queues)
			bt.Puts = append(bt.Puts, p)
			seq++
		}
		s.Append(bt)
		lsn++
		if lsn > 20 {
			if err := f.wait(lsn - 20); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := f.wait(lsn); err != nil {
		b.Fatal(err)
	}
}

package journal_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/journal"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// tenant is a user that keeps to what it is told of room.
type tenant struct {
	*user
	rng   *rand.Rand
	spent int64
	seq   uint64
	kept  []uint64

	mu    sync.Mutex
	cond  *sync.Cond
	limit int64
}

func (n *tenant) room(limit int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.limit = limit
	n.cond.Broadcast()
}

func (n *tenant) left() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.limit - n.spent
}

// await waits until there is room for so much more.
func (n *tenant) await(bytes int64) {
	n.t.Helper()
	const patience = 30 * time.Second
	over := time.AfterFunc(patience, func() { n.mu.Lock(); n.cond.Broadcast(); n.mu.Unlock() })
	defer over.Stop()
	end := time.Now().Add(patience)
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.limit-n.spent < bytes {
		if time.Now().After(end) {
			n.t.Fatalf("room for %d bytes after %s, want %d; %+v", n.limit-n.spent, patience, bytes, n.s.Stats())
		}
		n.cond.Wait()
	}
}

func (n *tenant) send(b *store.Batch) {
	n.spent += b.Cost()
	n.append(b)
}

// fill writes batches of all sizes, many at once, as long as the next one is
// within the limit.
func (n *tenant) fill(most int) (bytes int) {
	for bytes < most {
		b := &store.Batch{Sets: []store.Set{{Key: "numbers", Value: make([]byte, 20)}}}
		size := 1 + n.rng.IntN(1<<uint(4+n.rng.IntN(13)))
		for range 1 + n.rng.IntN(3) {
			n.seq++
			b.Puts = append(b.Puts, put(n.seq, size))
		}
		if b.Cost() > n.left() {
			n.seq -= uint64(len(b.Puts))
			return bytes
		}
		for _, p := range b.Puts {
			n.kept = append(n.kept, p.Header.Seq)
			bytes += size
		}
		n.send(b)
	}
	return bytes
}

// drop ends the oldest, some at a time.
func (n *tenant) drop(count int) {
	for count = min(count, len(n.kept)); count > 0; {
		some := min(count, 1+n.rng.IntN(40))
		b := &store.Batch{}
		for _, seq := range n.kept[:some] {
			b.Drops = append(b.Drops, store.Drop{Queue: queueA, Seq: seq})
		}
		n.kept, count = n.kept[some:], count-some
		n.send(b)
	}
}

// Who keeps to the room that is told is never refused; as messages end, or
// what else filled the disk goes, there is room again.
func TestRoomIsKept(t *testing.T) {
	const capacity, segment = 6 << 20, 256 << 10
	for _, limited := range []bool{false, true} {
		t.Run(map[bool]string{false: "disk", true: "limit"}[limited], func(t *testing.T) {
			mem := vfs.NewMem()
			var disk atomic.Int64 // capacity of mem
			resize := func(n int64) { mem.SetCapacity(n); disk.Store(n) }
			cfg := journal.Config{FS: mem, SegmentBytes: segment, Strict: true, MaxBytes: capacity}
			if !limited {
				cfg.MaxBytes = 0
				resize(capacity)
				cfg = cfg.WithFree(func() int64 { return disk.Load() - mem.Used() })
			}
			n := newTenant(t, cfg)
			for round := range 4 {
				if bytes := n.fill(1 << 30); round == 0 && bytes < capacity/2 {
					t.Errorf("full with %d bytes of %d", bytes, capacity)
				}
				n.settled()
				n.fill(1 << 30)
				n.drop(len(n.kept) / 2)
				n.drop(len(n.kept) - 20)
				n.settled()
				n.await(segment)
				if limited {
					continue
				}
				resize(mem.Used()) // somebody else takes all that is free
				n.fill(segment / 4)
				n.settled()
				n.fill(1 << 30)
				n.drop(10)
				n.settled()
				resize(capacity)
				n.await(2 * segment)
			}
			want(t, n.user, n.kept, nil)
		})
	}
}

// Where nobody knows how much is free, the next segment is asked for early,
// and its refusal tells.
func TestRoomOfAnUnknownDisk(t *testing.T) {
	mem := vfs.NewMem()
	n := newTenant(t, journal.Config{FS: mem, SegmentBytes: 1 << 20, Strict: true})
	n.fill(1 << 20)
	n.settled()
	mem.SetCapacity(mem.Used())
	for n.left() > 1<<30 {
		n.fill(4 << 10)
		n.settled()
	}
	n.fill(1 << 30)
	n.settled()
	n.drop(len(n.kept) - 5)
	n.settled()
	mem.SetCapacity(-1)
	n.await(1 << 30)
	want(t, n.user, n.kept, nil)
}

func newTenant(t *testing.T, cfg journal.Config) *tenant {
	n := &tenant{rng: rand.New(rand.NewPCG(1, 7))}
	n.cond = sync.NewCond(&n.mu)
	cfg.Room = n.room
	n.user = use(t, cfg)
	return n
}

// settled waits for all batches and checks that none was refused.
func (n *tenant) settled() {
	n.t.Helper()
	var errs []error
	for i := range n.lsn {
		errs = append(errs, n.f.wait(i+1))
	}
	if err := errors.Join(errs...); err != nil {
		n.t.Fatalf("refused: %.500v", err)
	}
}

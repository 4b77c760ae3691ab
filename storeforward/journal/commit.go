package journal

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// Limits of one group: a larger one would keep its first batch waiting for
// its last without saving much per batch.
const (
	groupOps   = 64 << 10
	groupBytes = 8 << 20
	maxLazy    = 256 // groups that are written and not yet synced
	lazyWait   = time.Second
)

// pending is one batch on its way through the committer.
type pending struct {
	batch *store.Batch
	cost  cost
	err   error
}

// cost is a batch in numbers.
type cost struct {
	ops   int
	bytes int64 // of records, at most
	grows bool  // it stores payloads; such a batch must leave the reserve alone
}

// group is what is written at once, whole or not at all.
type group struct {
	batches []pending
	queues  []*queue // of entries, marks and drops, in the order of apply
	sizes   []uint32 // of marks and drops, likewise
	sets    []setRef
	blocks  []blockMeta
	copied  map[uint64]body // payloads of puts without a Blob
	seg     *segment
	base    int64 // where the buffer began in the segment
	high    uint64
}

// setRef is where a key was written.
type setRef struct {
	block int
	cost  int64
}

// committer is the state of the goroutine that writes.
type committer struct {
	enc        *encoder
	cur        *segment
	file       vfs.File
	off        int64  // where the next group goes; 0: not even the head is there
	block      uint64 // number of the next block
	synced     uint64 // highest block known to be synced
	unsynced   int64  // bytes written since
	high       uint64 // highest Seq, unreported batches included
	lazy       []*group
	spare      []pending // capacity for the next queue
	free       []*group  // used again
	refusedOne bool
	overlay    *overlay
	queue      *queue        // asked for last in this group; nil: none
	told       int           // batches reported since the last group was taken
	took       time.Duration // by the last sync
	left       bool          // more waits than the group that was taken
	due        bool          // of what is written, something is not lazy
}

// errAfterRefused is the fate of what follows a refused batch, see Strict.
var errAfterRefused = errors.New("an earlier batch was refused; open the buffer again")

// errClosed is the fate of a batch appended after Close, and of reads.
var errClosed = errors.New("the buffer is closed")

// Append queues a batch and returns at once. The caller bounds what waits
// (see Stats.Waiting) and must not change the batch before it was reported.
func (s *Store) Append(b *store.Batch) {
	p := pending{batch: b, cost: costOf(b)}
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		s.report(&pending{batch: b, err: errClosed})
		return
	}
	s.queue = append(s.queue, p)
	first := len(s.queue) == 1
	s.waiting.Add(1)
	s.waitingBytes.Add(p.cost.bytes)
	s.queueMu.Unlock()
	if first {
		s.kick()
	}
}

// run is the committer. It ends when the store is closing and the queue is
// empty.
func (s *Store) run() {
	defer close(s.ended)
	for {
		s.gather()
		batches, closing := s.next()
		switch {
		case len(batches) > 0:
			s.commitGroup(batches)
		case closing:
			if !s.abandoned.Load() {
				s.flush()
			}
			return
		default:
			s.idle()
		}
	}
}

// How long gather goes on: so many rounds, and then at most one part in so many
// of what the last sync took, unless that is shorter than anybody needs to come
// back.
const (
	gatherRounds = 64
	gatherPart   = 16
	gatherLeast  = 50 * time.Microsecond
)

// gather lets those run who were just told the fate of their batches. They
// mostly bring more, which then travels with this group instead of waiting for
// it to end: else those that were quick would take a sync for themselves while
// all others wait, every other time. When nobody comes back it ends at once, so
// nothing waits on an idle machine, and on a fast disk; on a slow one the part
// of a sync that it costs is small beside the half that it saves.
func (s *Store) gather() {
	c := &s.commit
	told, have := c.told, 0
	c.told = 0
	for range gatherRounds {
		if have >= told {
			return
		}
		runtime.Gosched()
		now := s.queued()
		if now == have {
			break
		}
		have = now
	}
	most := c.took / gatherPart
	if have == 0 || most < gatherLeast {
		return
	}
	for begin := time.Now(); have < told && time.Since(begin) < most; have = s.queued() {
		time.Sleep(most / 4)
	}
}

func (s *Store) queued() int {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return len(s.queue)
}

// idle waits for work. Lazy groups that nothing follows are synced after a
// while, so that an idle node does not keep for ever what it handed on.
func (s *Store) idle() {
	if len(s.commit.lazy) == 0 || s.cfg.Manual {
		<-s.wake
		return
	}
	t := time.NewTimer(lazyWait)
	defer t.Stop()
	select {
	case <-s.wake:
	case <-t.C:
		s.flush()
	}
}

// next takes all that waits, up to the limits of one group.
func (s *Store) next() (batches []pending, closing bool) {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	n, ops, bytes := 0, 0, int64(0)
	limit := min(groupBytes, s.cfg.SegmentBytes/4) // a group is in one segment
	for i := range s.queue {
		ops += s.queue[i].cost.ops
		bytes += s.queue[i].cost.bytes
		if n > 0 && (ops > groupOps || bytes > limit) {
			break
		}
		n++
	}
	s.commit.left = n < len(s.queue)
	if n == len(s.queue) {
		batches, s.queue = s.queue, s.commit.spare[:0]
		s.commit.spare = nil
	} else {
		batches, s.queue = s.queue[:n:n], s.queue[n:]
	}
	return batches, s.closing
}

func (s *Store) report(p *pending) {
	s.batches.Add(1)
	if p.err != nil {
		s.refused.Add(1)
	}
	if s.cfg.Done != nil {
		s.cfg.Done(p.batch.LSN, p.err)
	}
}

// commitGroup decides the fate of every batch, or leaves that to the next
// sync: when all of them are lazy, or when more waits than fits into one group.
func (s *Store) commitGroup(batches []pending) {
	c := &s.commit
	g := c.newGroup(batches)
	s.writeGroup(g)
	for i := range g.batches {
		p := &g.batches[i]
		c.due = c.due || p.err != nil || !p.batch.Lazy
	}
	c.lazy = append(c.lazy, g)
	if c.due && !c.left || c.unsynced > max(groupBytes, s.cfg.SegmentBytes) || len(c.lazy) >= maxLazy {
		s.flush()
	}
}

func (c *committer) newGroup(batches []pending) *group {
	g := &group{}
	if n := len(c.free); n > 0 {
		g, c.free = c.free[n-1], c.free[:n-1]
	}
	g.batches = batches
	return g
}

// recycle keeps the memory of a group that is over.
func (c *committer) recycle(g *group) {
	clear(g.batches)
	if cap(g.batches) > cap(c.spare) && cap(g.batches) <= groupOps {
		c.spare = g.batches[:0]
	}
	if len(c.free) < 4 && cap(g.queues) <= groupOps {
		clear(g.queues)
		*g = group{queues: g.queues[:0], sizes: g.sizes[:0], sets: g.sets[:0], blocks: g.blocks[:0]}
		c.free = append(c.free, g)
	}
}

// flush syncs what was written, makes it visible, and reports it.
func (s *Store) flush() {
	c := &s.commit
	if len(c.lazy) == 0 {
		return
	}
	c.due = false
	cause := s.poison.Load()
	if cause == nil && c.unsynced > 0 {
		begin := time.Now()
		err := c.file.Sync()
		c.took = time.Since(begin)
		if err != nil {
			cause = s.poisoned(fmt.Errorf("sync %s: %w", c.cur.name, err))
		} else {
			c.synced, c.unsynced = c.block-1, 0
			s.commits.Add(1)
		}
	}
	if cause == nil {
		s.mu.Lock()
		for _, g := range c.lazy {
			s.book.apply(g)
		}
		s.pos = position{c.cur.num, c.off, c.block}
		s.mu.Unlock()
	}
	records, bytes := int64(0), int64(0)
	c.overlay = nil
	for _, g := range c.lazy {
		for i := range g.batches {
			p := &g.batches[i]
			if cause != nil && p.err == nil {
				p.err = *cause
			}
			records, bytes = records+int64(p.cost.ops), bytes+p.cost.bytes
			s.waiting.Add(-1)
			s.waitingBytes.Add(-p.cost.bytes)
			s.report(p)
		}
		c.told += len(g.batches)
		c.recycle(g)
	}
	clear(c.lazy)
	c.lazy = c.lazy[:0]
	s.maint.wrote(s, bytes, records)
}

// poisoned ends the store's writing life.
func (s *Store) poisoned(cause error) *error {
	cause = fmt.Errorf("%w (%s: %w)", store.ErrPoisoned, s.path, cause)
	if s.poison.CompareAndSwap(nil, &cause) {
		s.cfg.Log.Error("the buffer takes no more writes; restart the node", "dir", s.path, "err", cause)
	}
	return s.poison.Load()
}

// apply brings the book up to a group that is synced.
func (b *book) apply(g *group) {
	if g.seg == nil {
		return
	}
	for i := range g.blocks {
		m := &g.blocks[i]
		g.seg.note(g.base+int64(m.at), &m.head, m.first, m.last, m.puts)
	}
	queues, sizes, sets := g.queues, g.sizes, g.sets
	for i := range g.batches {
		if g.batches[i].err != nil {
			continue
		}
		bt := g.batches[i].batch
		for j := range bt.Puts {
			queues = b.applyPut(g.seg, bt.Puts[j].Header, queues)
		}
		for j := range bt.Marks {
			m := &bt.Marks[j]
			b.mark(g.seg, queues[j], m.Seq, m.State, sizes[j])
		}
		queues, sizes = queues[len(bt.Marks):], sizes[len(bt.Marks):]
		for j := range bt.Drops {
			b.drop(g.seg, queues[j], bt.Drops[j].Seq, sizes[j])
		}
		queues, sizes = queues[len(bt.Drops):], sizes[len(bt.Drops):]
		for j := range bt.Sets {
			b.applySet(g, &bt.Sets[j], sets[j])
		}
		sets = sets[len(bt.Sets):]
	}
	b.high = max(b.high, g.high)
}

func (b *book) applyPut(seg *segment, h *store.Header, queues []*queue) []*queue {
	need := 0
	for k := range h.Entries {
		state := h.Entries[k].State
		if state != store.Ended {
			need++
		}
		b.place(queues[k], h.Seq, h.Size, state)
	}
	b.put(seg, h.Seq, h.Size, len(h.Entries), need)
	return queues[len(h.Entries):]
}

func (b *book) applySet(g *group, st *store.Set, ref setRef) {
	v := stateValue{seg: g.seg, at: g.base + int64(g.blocks[ref.block].at), cost: ref.cost}
	del := st.Value == nil && st.Blob == nil
	n := len(st.Value)
	if st.Blob != nil {
		n += len(st.Blob.B)
	}
	if !del && b.keeps(st.Key, n) {
		v.inside = true
		v.value = append(make([]byte, 0, n), st.Value...)
		if st.Blob != nil {
			v.value = append(v.value, st.Blob.B...)
		}
	}
	b.set(st.Key, v, del)
}

package boltstore

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Limits of one batch. They keep every record readable at the next open.
const (
	maxName    = 1<<16 - 1 // MQTT strings, and with them topics and client ids
	maxKey     = 4 << 10   // bbolt allows 32 KiB
	maxPayload = 256 << 20
)

// plan gathers what a group of batches does to the file. Batches are applied
// to it in LSN order; what survives is then written once. The index is only
// read; its changes wait in deltas until the commit has succeeded.
type plan struct {
	ix      *index
	tx      *bolt.Tx
	path    string
	work    map[uint64]*work
	deltas  []delta
	sets    map[string]*store.Set
	touched []*queueIndex
	high    uint64
	arena   *arena
	scratch []byte // the body being written
}

// work is one message that the group touches.
type work struct {
	shape
	seq        uint64
	fresh      bool // put by this group
	hadPayload bool // on disk before the group
	hadMarks   bool // on disk before the group
	marked     bool // the states of slots changed
	need       int  // entries that need the payload
	freed      bool // no entry needed it for a moment: it is gone for good
	header     *store.Header
	blob       *store.Blob
}

// delta is one change of the index: size < 0 removes.
type delta struct {
	queue *queueIndex
	seq   uint64
	size  int64
}

func newPlan(ix *index, tx *bolt.Tx, path string, a *arena) *plan {
	return &plan{
		ix: ix, tx: tx, path: path, arena: a, high: ix.high,
		work: map[uint64]*work{}, sets: map[string]*store.Set{},
	}
}

func (p *plan) empty() bool { return len(p.work) == 0 && len(p.sets) == 0 && p.high == p.ix.high }

// check refuses a batch that could not be read back. It changes nothing that
// apply relies on, so that a refused batch leaves no trace.
func (p *plan) check(b *store.Batch) error {
	high := p.high
	for i := range b.Puts {
		h := b.Puts[i].Header
		if h == nil {
			return errors.New("put without a header")
		}
		if h.Seq <= high {
			return fmt.Errorf("put of message %d: the number is used, the highest is %d", h.Seq, high)
		}
		high = h.Seq
		if err := checkHeader(h); err != nil {
			return fmt.Errorf("put of message %d: %w", h.Seq, err)
		}
		if blob := b.Puts[i].Blob; blob != nil && len(blob.B) > maxPayload {
			return fmt.Errorf("put of message %d: payload of %d bytes, the most is %d", h.Seq, len(blob.B), maxPayload)
		}
	}
	for i := range b.Marks {
		if s := b.Marks[i].State; s > store.Ended {
			return fmt.Errorf("mark of message %d: no entry state %d", b.Marks[i].Seq, s)
		}
	}
	for i := range b.Sets {
		if n := len(b.Sets[i].Key); n > maxKey {
			return fmt.Errorf("state key of %d bytes, the most is %d", n, maxKey)
		}
	}
	return nil
}

func checkHeader(h *store.Header) error {
	switch {
	case h.Class >= bundle.NumClasses:
		return fmt.Errorf("no class %d", h.Class)
	case len(h.Topic) > maxName || len(h.Service) > maxName:
		return fmt.Errorf("topic or service over %d bytes", maxName)
	}
	return checkEntries(h.Entries)
}

func checkEntries(entries []store.Entry) error {
	var seen map[store.Queue]bool
	if len(entries) > 1 {
		seen = make(map[store.Queue]bool, len(entries))
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case !validKind(e.Queue.Kind):
			return fmt.Errorf("no queue kind %d", e.Queue.Kind)
		case e.Queue.Class >= bundle.NumClasses:
			return fmt.Errorf("no class %d", e.Queue.Class)
		case e.State > store.Ended:
			return fmt.Errorf("no entry state %d", e.State)
		case len(e.Queue.Name) > maxName || len(e.Frozen) > math.MaxInt32:
			return fmt.Errorf("queue name or frozen blocks too long")
		}
		if seen != nil {
			if seen[e.Queue] {
				return fmt.Errorf("two entries for one queue, %q", e.Queue.Name)
			}
			seen[e.Queue] = true
		}
	}
	return nil
}

// apply adds a checked batch, its parts in the order of the fields.
func (p *plan) apply(b *store.Batch) {
	for i := range b.Puts {
		p.put(&b.Puts[i])
	}
	for i := range b.Marks {
		p.mark(&b.Marks[i])
	}
	for i := range b.Drops {
		p.drop(&b.Drops[i])
	}
	for i := range b.Sets {
		p.sets[b.Sets[i].Key] = &b.Sets[i]
	}
}

func (p *plan) put(put *store.Put) {
	h := put.Header
	p.high = h.Seq
	if len(h.Entries) == 0 {
		return // no queue waits for it; the number stays used
	}
	w := &work{
		seq: h.Seq, fresh: true, header: h, blob: p.payload(put),
		shape: shape{size: h.Size, slots: make([]slot, len(h.Entries))},
	}
	p.work[h.Seq] = w
	for i := range h.Entries {
		e := &h.Entries[i]
		w.slots[i] = slot{p.ix.queue(e.Queue), e.State}
		p.place(w, w.slots[i])
	}
	w.settle()
}

// payload returns what a put brings, or copies it from the message it names.
// A damaged one is left behind: reading it later says so.
func (p *plan) payload(put *store.Put) *store.Blob {
	if put.Blob != nil || put.From == 0 {
		return put.Blob
	}
	if w := p.work[put.From]; w != nil && !w.keeps() {
		return nil // ended by an earlier batch of the group
	} else if w != nil && w.fresh {
		return w.blob
	}
	b, err := getValue(p.tx.Bucket(bucketPayloads), seqKey(put.From))
	if err != nil || b == nil {
		return nil
	}
	return &store.Blob{B: slices.Clone(b)}
}

// place and displace record what the index does after the commit.
func (p *plan) place(w *work, s slot) {
	p.deltas = append(p.deltas, delta{s.queue, w.seq, int64(liveSize(w.size, s.state))})
	if s.state != store.Ended {
		w.need++
	}
}

func (p *plan) displace(w *work, i int) {
	p.deltas = append(p.deltas, delta{w.slots[i].queue, w.seq, -1})
	if w.slots[i].state != store.Ended {
		w.need--
	}
	w.slots[i].state = gone
	w.marked = true
}

// settle ends one operation. How batches are grouped must not show, so the
// payload goes when its time has come, not when the group is written.
func (w *work) settle() { w.freed = w.freed || w.need == 0 }

// keeps reports whether the payload outlives the group.
func (w *work) keeps() bool { return w.need > 0 && !w.freed }

// find returns what RAM knows of a message that waits in q, without making
// it part of the group.
func (p *plan) find(q store.Queue, seq uint64) *work {
	if w := p.work[seq]; w != nil {
		return w
	}
	if s := p.ix.odd[seq]; s != nil {
		w := &work{seq: seq, shape: *s, hadPayload: s.payload, hadMarks: s.marks}
		w.slots = slices.Clone(s.slots)
		_, w.need = count(w.slots)
		return w
	}
	qi := p.ix.queues[q]
	if qi == nil {
		return nil
	}
	size, ok := qi.set.get(seq)
	if !ok {
		return nil
	}
	return &work{
		seq: seq, hadPayload: true, need: 1,
		shape: shape{size: size, payload: true, slots: []slot{{qi, store.Pending}}},
	}
}

// take makes the message part of the group and returns the slot of q in it,
// or -1 when no entry of the message waits there.
func (p *plan) take(q store.Queue, seq uint64) (*work, int) {
	w := p.find(q, seq)
	if w == nil {
		return nil, -1
	}
	for i, s := range w.slots {
		if s.state != gone && s.queue.queue == q {
			p.work[seq] = w
			return w, i
		}
	}
	return nil, -1
}

func (p *plan) drop(d *store.Drop) {
	if w, i := p.take(d.Queue, d.Seq); w != nil {
		p.displace(w, i)
		w.settle()
	}
}

// mark changes a state. Ended is final: the payload may be freed already.
func (p *plan) mark(m *store.Mark) {
	w, i := p.take(m.Queue, m.Seq)
	if w == nil || w.slots[i].state == m.State || w.slots[i].state == store.Ended {
		return
	}
	w.slots[i].state = m.State
	w.marked = true
	w.need-- // counted again by place
	p.place(w, w.slots[i])
	w.settle()
}

// commitIndex brings the index up to what was written. It must run after the
// commit and before any batch of the group is reported.
func (p *plan) commitIndex() {
	ix := p.ix
	ix.high = p.high
	for _, d := range p.deltas {
		if d.size < 0 {
			d.queue.set.remove(d.seq)
		} else {
			d.queue.set.add(d.seq, uint32(d.size))
		}
	}
	for seq, w := range p.work {
		live, _ := count(w.slots)
		now := w.keeps() && w.payload
		if now && !w.hadPayload {
			ix.bytes += int64(w.size)
		} else if !now && w.hadPayload {
			ix.bytes -= int64(w.size)
		}
		switch {
		case w.fresh && live > 0:
			ix.messages++
		case !w.fresh && live == 0:
			ix.messages--
		}
		if live == 0 {
			ix.settle(seq, nil)
			continue
		}
		w.payload = now
		s := w.shape
		ix.settle(seq, &s)
	}
	ix.peak = max(ix.peak, ix.bytes)
}

// queuesTouched lists the queues of the group, for pruning.
func (p *plan) queuesTouched() []*queueIndex {
	for _, d := range p.deltas {
		p.touched = append(p.touched, d.queue)
	}
	return p.touched
}

// seqs returns the touched messages in key order, the order in which bbolt
// writes best.
func (p *plan) seqs() []uint64 { return slices.SortedFunc(maps.Keys(p.work), cmp.Compare[uint64]) }

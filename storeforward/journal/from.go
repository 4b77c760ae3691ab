package journal

import (
	"errors"

	"github.com/farhop/farhop/storeforward/store"
)

// overlay is what batches that are encoded and not yet in the book do to
// messages. It is made when a batch first asks for it, and lives until the
// next sync.
type overlay struct {
	puts  map[uint64]pendingPut
	ops   map[uint64][]pendingOp
	group int // next group of committer.lazy to be added
	batch int // next batch of the group being encoded
}

type pendingPut struct {
	put *store.Put
	g   *group
}

// pendingOp is a mark, or a drop.
type pendingOp struct {
	queue store.Queue
	state store.EntryState
	drop  bool
}

// pendingUntil returns the overlay of all batches before batch at of g.
func (s *Store) pendingUntil(g *group, at int) *overlay {
	c := &s.commit
	o := c.overlay
	if o == nil {
		o = &overlay{puts: map[uint64]pendingPut{}, ops: map[uint64][]pendingOp{}}
		c.overlay = o
	}
	for ; o.group < len(c.lazy); o.group++ {
		done := c.lazy[o.group]
		for ; o.batch < len(done.batches); o.batch++ {
			o.add(done, o.batch)
		}
		o.batch = 0
	}
	for ; o.batch < at; o.batch++ {
		o.add(g, o.batch)
	}
	return o
}

func (o *overlay) add(g *group, at int) {
	p := &g.batches[at]
	if p.err != nil {
		return
	}
	for i := range p.batch.Puts {
		seq := p.batch.Puts[i].Header.Seq
		o.puts[seq] = pendingPut{&p.batch.Puts[i], g}
		delete(o.ops, seq) // what was dropped before it was there does not concern it
	}
	for i := range p.batch.Marks {
		m := &p.batch.Marks[i]
		o.ops[m.Seq] = append(o.ops[m.Seq], pendingOp{queue: m.Queue, state: m.State})
	}
	for i := range p.batch.Drops {
		d := &p.batch.Drops[i]
		o.ops[d.Seq] = append(o.ops[d.Seq], pendingOp{queue: d.Queue, drop: true})
	}
}

// pendingPut finds a message that batches before at, or puts of the same
// batch, brought and that is not yet in the book, and what was done to it
// since: nothing, within the batch that brings it.
func (s *Store) pendingPut(g *group, at int, seq uint64) (p pendingPut, since []pendingOp, ok bool) {
	o := s.pendingUntil(g, at)
	if p, ok := o.puts[seq]; ok {
		return p, o.ops[seq], true
	}
	puts := g.batches[at].batch.Puts
	for i := range puts {
		if puts[i].Header.Seq == seq {
			return pendingPut{&puts[i], g}, nil, true
		}
	}
	return pendingPut{}, nil, false
}

// copyOf returns the payload that a put without a Blob takes over: that of
// message From as it is after all batches before batch at.
func (s *Store) copyOf(g *group, at int, p *store.Put) body {
	if old, since, ok := s.pendingPut(g, at, p.From); ok {
		if old.put.Header.Seq >= p.Header.Seq || needed(old.put.Header.Entries, since) == 0 {
			return body{}
		}
		if old.put.Blob != nil {
			return body{b: old.put.Blob.B, has: true}
		}
		return old.g.copied[p.From]
	}
	s.mu.RLock()
	pl, err := s.locate(p.From)
	s.mu.RUnlock()
	if errors.Is(err, store.ErrNotFound) {
		return body{}
	}
	if err != nil {
		return body{lost: true}
	}
	defer s.leave(&pl)
	rec := s.record(&pl, p.From)
	if rec == nil {
		// A damaged one is left behind: reading the new one says so.
		return body{lost: !errors.Is(s.absent(p.From), store.ErrNotFound)}
	}
	h, err := pl.reader.dec.header(&rec.putFields)
	if err != nil {
		return body{lost: true}
	}
	s.mu.RLock()
	live, _ := s.entries(h)
	s.mu.RUnlock()
	if needed(live, s.pendingUntil(g, at).ops[p.From]) == 0 || !rec.hasPayload && !rec.lost() {
		return body{}
	}
	b, err := s.payload(&pl, rec)
	return body{b: b, has: err == nil, lost: err != nil}
}

// needed returns how many entries need the payload after ops.
func needed(entries []store.Entry, ops []pendingOp) (n int) {
	for i := range entries {
		state, here := entries[i].State, true
		for _, op := range ops {
			if op.queue != entries[i].Queue || !here {
				continue
			}
			switch {
			case op.drop:
				here = false
			case state != store.Ended:
				state = op.state
			}
		}
		if here && state != store.Ended {
			n++
		}
	}
	return n
}

// sizeOf returns the size of a message that is dropped or marked: what the
// batch says, or else what its header says.
func (s *Store) sizeOf(g *group, at int, q *queue, seq uint64, size uint32) uint32 {
	if size != 0 {
		return size
	}
	s.mu.RLock()
	here := q.set.Has(seq)
	s.mu.RUnlock()
	if !here {
		if p, _, ok := s.pendingPut(g, at, seq); ok {
			return p.put.Header.Size
		}
		return 0
	}
	s.mu.RLock()
	pl, err := s.locate(seq)
	s.mu.RUnlock()
	if err != nil {
		return 0
	}
	defer s.leave(&pl)
	if rec := s.record(&pl, seq); rec != nil {
		return rec.size
	}
	return 0
}

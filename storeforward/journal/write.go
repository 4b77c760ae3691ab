package journal

import (
	"errors"
	"fmt"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// writeGroup encodes and writes all batches that are sound and have room, and
// gives an error to the others. On return the group is in the file, not
// synced, or nothing of it is.
func (s *Store) writeGroup(g *group) {
	c := &s.commit
	if cause := s.poison.Load(); cause != nil {
		g.fail(*cause)
		return
	}
	if len(c.lazy) == 0 {
		s.mu.Lock()
		s.book.prune()
		c.queue = nil
		s.mu.Unlock()
	}
	if err := s.admit(g); err != nil {
		g.fail(*s.poisoned(err))
		return
	}
	err := s.attempt(g)
	if errors.Is(err, vfs.ErrFull) {
		// The file could not be extended although its blocks were reserved. Let
		// pass what frees space, refuse the rest.
		c.refusedOne = true
		g.refuse(s.fullError(), s.cfg.Strict)
		for err = s.attempt(g); errors.Is(err, vfs.ErrFull) && g.refuseLargest(s.fullError(), s.cfg.Strict); {
			err = s.attempt(g)
		}
	}
	if err != nil {
		g.fail(*s.poisoned(err))
	}
}

// fail gives an error to all batches that have none.
func (g *group) fail(err error) {
	for i := range g.batches {
		if p := &g.batches[i]; p.err == nil {
			p.err = err
		}
	}
}

// refuse gives an error to batches that grow, and if strict to all behind.
func (g *group) refuse(err error, strict bool) {
	refused := false
	for i := range g.batches {
		p := &g.batches[i]
		if p.err == nil && (p.cost.grows || refused) {
			p.err, refused = err, strict
		}
	}
}

func (s *Store) fullError() error {
	return fmt.Errorf("store in %s: %w", s.path, store.ErrFull)
}

// refuseLargest gives an error to the largest batch, and if strict to all
// behind. It reports whether there was one.
func (g *group) refuseLargest(err error, strict bool) bool {
	at := -1
	for i := range g.batches {
		p := &g.batches[i]
		if p.err == nil && (at < 0 || p.cost.bytes > g.batches[at].cost.bytes) {
			at = i
		}
	}
	if at < 0 {
		return false
	}
	g.batches[at].err = err
	for i := at + 1; strict && i < len(g.batches); i++ {
		if p := &g.batches[i]; p.err == nil {
			p.err = err
		}
	}
	return true
}

// attempt encodes what has no error, and writes it behind the last group.
func (s *Store) attempt(g *group) error {
	c := &s.commit
	g.queues, g.sizes, g.sets, g.blocks, g.seg = g.queues[:0], g.sizes[:0], g.sets[:0], g.blocks[:0], nil
	room := 0
	if c.off == 0 {
		room = segHeadLen
	}
	c.enc.reset(room)
	c.overlay, g.copied = nil, nil
	high := c.high
	for i := range g.batches {
		if g.batches[i].err == nil {
			s.encode(g, i)
		}
	}
	if len(c.enc.blocks) == 0 && c.high == high {
		return nil
	}
	// A message that no queue waits for leaves no other trace.
	if n := len(c.enc.blocks); n == 0 || c.high > high && c.enc.blocks[n-1].last != c.high {
		c.enc.high(c.high)
	}
	next := c.enc.seal(c.cur.seed(), c.block, c.synced)
	if room > 0 {
		c.cur.segHead.append(c.enc.buf[:0])
	}
	if _, err := c.file.WriteAt(c.enc.buf, c.off); err != nil {
		c.high = high
		if errors.Is(err, vfs.ErrFull) {
			return err
		}
		return fmt.Errorf("write %s at %d: %w", c.cur.name, c.off, err)
	}
	g.blocks = append(g.blocks, c.enc.blocks...)
	g.seg, g.base, g.high = c.cur, c.off, c.high
	c.off += int64(len(c.enc.buf))
	c.block = next
	c.unsynced += int64(len(c.enc.buf))
	if c.off > c.cur.size { // copied payloads may be longer than announced
		s.mu.Lock()
		s.fileBytes.Add(c.off - c.cur.size)
		c.cur.size = c.off
		s.mu.Unlock()
	}
	s.freeBytes.Store(max(0, c.cur.size-c.off))
	return nil
}

// encode writes one batch, its parts in the order of the fields, and notes
// what apply will need.
func (s *Store) encode(g *group, at int) {
	c, b := &s.commit, g.batches[at].batch
	for i := range b.Puts {
		p := &b.Puts[i]
		h := p.Header
		c.high = h.Seq
		if len(h.Entries) == 0 {
			continue // no queue waits for it; the number stays used
		}
		for k := range h.Entries {
			g.queues = append(g.queues, s.queueOf(h.Entries[k].Queue))
		}
		c.enc.putMessage(h, h.Entries, s.body(g, at, p))
	}
	for i := range b.Marks {
		m := &b.Marks[i]
		q := s.queueOf(m.Queue)
		size := s.sizeOf(g, at, q, m.Seq, m.Size)
		g.queues, g.sizes = append(g.queues, q), append(g.sizes, size)
		c.enc.mark(m, size)
	}
	for i := range b.Drops {
		d := &b.Drops[i]
		q := s.queueOf(d.Queue)
		size := s.sizeOf(g, at, q, d.Seq, d.Size)
		g.queues, g.sizes = append(g.queues, q), append(g.sizes, size)
		c.enc.drop(d.Queue, d.Seq, size)
	}
	for i := range b.Sets {
		st := &b.Sets[i]
		value := [][]byte{st.Value}
		if st.Blob != nil {
			value = append(value, st.Blob.B)
		}
		block, cost := c.enc.set(st.Key, value, st.Value == nil && st.Blob == nil)
		g.sets = append(g.sets, setRef{block, cost})
	}
}

// queueOf finds or makes a queue. Only the committer adds queues, so it reads
// without the lock.
func (s *Store) queueOf(name store.Queue) *queue {
	c := &s.commit
	if c.queue != nil && c.queue.name == name {
		return c.queue
	}
	if c.queue = s.book.queues[name]; c.queue != nil {
		return c.queue
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.queue = s.book.addQueue(name)
	return c.queue
}

// body returns the payload of a put.
func (s *Store) body(g *group, at int, p *store.Put) body {
	if p.Blob != nil {
		return body{b: p.Blob.B, has: true}
	}
	if p.From == 0 {
		return body{}
	}
	b := s.copyOf(g, at, p)
	if g.copied == nil {
		g.copied = map[uint64]body{}
	}
	g.copied[p.Header.Seq] = b
	return b
}

// check refuses a batch that could not be read back. high is the highest Seq
// used before it.
func check(b *store.Batch, high uint64) error {
	for i := range b.Puts {
		h := b.Puts[i].Header
		if h == nil {
			return errors.New("put without a header")
		}
		if h.Seq <= high || h.Seq+1 == 0 {
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
		if err := checkQueue(&b.Marks[i].Queue); err != nil || b.Marks[i].State > store.Ended {
			return fmt.Errorf("mark of message %d: state %d: %w", b.Marks[i].Seq, b.Marks[i].State, errors.Join(errValue, err))
		}
	}
	for i := range b.Drops {
		if err := checkQueue(&b.Drops[i].Queue); err != nil {
			return fmt.Errorf("drop of message %d: %w", b.Drops[i].Seq, err)
		}
	}
	for i := range b.Sets {
		st := &b.Sets[i]
		n := len(st.Value)
		if st.Blob != nil {
			n += len(st.Blob.B)
		}
		if len(st.Key) > maxKey || n > maxPayload {
			return fmt.Errorf("state key of %d bytes with a value of %d, the most is %d and %d", len(st.Key), n, maxKey, maxPayload)
		}
	}
	return nil
}

func checkQueue(q *store.Queue) error {
	switch {
	case !validKind(q.Kind):
		return fmt.Errorf("no queue kind %d", q.Kind)
	case q.Class >= bundle.NumClasses:
		return fmt.Errorf("no class %d", q.Class)
	case len(q.Name) > maxName:
		return fmt.Errorf("queue name of %d bytes, the most is %d", len(q.Name), maxName)
	}
	return nil
}

func checkHeader(h *store.Header) error {
	switch {
	case h.Class >= bundle.NumClasses:
		return fmt.Errorf("no class %d", h.Class)
	case len(h.Topic) > maxName || len(h.Service) > maxName || len(h.Charge) > maxName:
		return fmt.Errorf("topic, service or charge over %d bytes", maxName)
	}
	var seen map[store.Queue]bool
	if len(h.Entries) > 1 {
		seen = make(map[store.Queue]bool, len(h.Entries))
	}
	for i := range h.Entries {
		e := &h.Entries[i]
		if err := checkQueue(&e.Queue); err != nil {
			return err
		}
		switch {
		case e.State > store.Ended:
			return fmt.Errorf("no entry state %d", e.State)
		case len(e.Frozen) > maxFrozen:
			return fmt.Errorf("frozen blocks of %d bytes, the most is %d", len(e.Frozen), maxFrozen)
		case seen[e.Queue]:
			return fmt.Errorf("two entries for one queue, %q", e.Queue.Name)
		}
		if seen != nil {
			seen[e.Queue] = true
		}
	}
	return nil
}

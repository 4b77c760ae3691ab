package journal

import (
	"fmt"
	"slices"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// merger writes what is still needed of a run of segments into one.
type merger struct {
	s      *Store
	run    []*segment
	out    *segment
	file   vfs.File
	off    int64
	number uint64
	enc    *encoder
	oldest bool
	keys   []movedKey
	noted  int // of keys: those whose block has been written
	tombs  map[uint64]int
}

// movedKey is a key of the state that was written again.
type movedKey struct {
	key  string
	from *segment
	at   int64 // where it was
	to   int64 // where it is; until written, its block in the buffer
	cost int64
}

const mergeStep = 1 << 20

// merge replaces run by one cold segment. What waits is judged while the run
// is read; drops from then on are counted against old and new segments alike.
func (s *Store) merge(run []*segment) error {
	m := s.newMerger(run)
	temp := m.out.name + newSuffix
	_ = s.fs.Remove(temp) // of an attempt that failed
	var err error
	if m.file, err = s.fs.Create(temp); err != nil {
		return err
	}
	if err = m.write(); err == nil {
		err = s.fs.Rename(temp, m.out.name)
	} else {
		_ = s.fs.Remove(temp)
	}
	if err == nil {
		err = s.fs.SyncDir()
	}
	if err != nil {
		_ = m.file.Close()
		return err
	}
	m.publish()
	s.pool.release(m.out)
	if err := s.checkpoint(false); err != nil {
		s.cfg.Log.Warn("no checkpoint was saved after cleaning; the next start may take longer", "dir", s.path, "err", err)
	}
	return s.remove(run)
}

func (s *Store) newMerger(run []*segment) *merger {
	first, last := run[0], run[len(run)-1]
	m := &merger{s: s, run: run, enc: newEncoder(), number: 1, off: segHeadLen, tombs: map[uint64]int{}}
	m.out = &segment{
		segHead: segHead{
			identity: s.id, kind: cold, num: first.num, last: last.last, firstBlock: 1,
			prevEnd: first.prevEnd, high: first.high, nonce: newNonce(),
		},
		from: first.from, to: first.from - 1, sealed: true, changed: true,
	}
	for _, seg := range run {
		if seg.kind == cold {
			m.out.firstBlock = max(m.out.firstBlock, seg.firstBlock+1)
		}
	}
	m.out.name = m.out.fileName()
	s.mu.Lock()
	defer s.mu.Unlock()
	m.oldest = s.book.segs[0] == first
	for _, seg := range run {
		seg.next = m.out.nonce
	}
	return m
}

// write makes the whole file.
func (m *merger) write() error {
	m.enc.reset(0)
	for _, seg := range m.run {
		if err := m.read(seg); err != nil {
			return err
		}
	}
	if err := m.flush(); err != nil {
		return err
	}
	m.out.length, m.out.end, m.out.size = m.off, m.off, m.off
	if _, err := m.file.WriteAt(m.out.segHead.append(nil), 0); err != nil {
		return err
	}
	return m.file.Sync()
}

// read adds what is needed of one segment.
func (m *merger) read(seg *segment) error {
	m.s.mu.RLock()
	f, err := m.s.pool.acquire(seg)
	m.s.mu.RUnlock()
	if err != nil {
		return err
	}
	defer m.s.pool.release(seg)
	w, err := newWindow(f)
	if err != nil {
		return err
	}
	for off := int64(segHeadLen); off < seg.end; {
		h, body, ok := w.block(off, seg.seed())
		if !ok {
			m.s.alarm(seg, badSpan{off, seg.end - off}, seg.from, seg.to)
			return fmt.Errorf("%s at %d: %w", seg.name, off, store.ErrDamaged)
		}
		if err := m.block(seg, f, off, &h, body); err != nil {
			return err
		}
		off += h.size()
		if len(m.enc.buf) >= mergeStep {
			if err := m.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the blocks gathered so far.
func (m *merger) flush() error {
	m.number = m.enc.seal(m.out.seed(), m.number, m.number)
	if len(m.enc.buf) > 0 {
		if _, err := m.file.WriteAt(m.enc.buf, m.off); err != nil {
			return err
		}
	}
	for i := range m.enc.blocks {
		b := &m.enc.blocks[i]
		m.out.note(m.off+int64(b.at), &b.head, b.first, b.last, b.puts)
	}
	for ; m.noted < len(m.keys); m.noted++ {
		k := &m.keys[m.noted]
		k.to = m.off + int64(m.enc.blocks[k.to].at)
	}
	m.off += int64(len(m.enc.buf))
	m.enc.reset(0)
	return nil
}

// block adds what is needed of one block.
func (m *merger) block(seg *segment, f vfs.File, off int64, h *blockHead, body []byte) error {
	var d decoder
	d.start(body, h.tail)
	tail := &tailRef{off + blockHeadLen + int64(h.body), h.tail, h.tailSum}
	var r record
	for d.next(&r) {
		var err error
		switch r.kind {
		case recPut:
			err = m.put(seg, f, &d, &r, tail)
		case recDrop:
			if m.buries(seg, r.seq) {
				m.enc.drop(d.queues[r.queue].queue(), r.seq, r.size)
			}
		case recMark:
			m.mark(seg, &d, &r)
		case recSet:
			err = m.set(seg, f, &r, off, tail)
		}
		if err != nil {
			return err
		}
	}
	if d.err != nil {
		return fmt.Errorf("%s at %d: %w", seg.name, off, d.err)
	}
	return nil
}

// put keeps the entries of a message that wait, in their present state.
func (m *merger) put(seg *segment, f vfs.File, d *decoder, r *record, tail *tailRef) error {
	h, err := d.header(&r.putFields)
	if err != nil {
		return err
	}
	m.s.mu.RLock()
	live, need := m.s.entries(h)
	m.s.mu.RUnlock()
	if len(live) == 0 {
		return nil
	}
	p := body{b: r.payload, has: r.hasPayload, lost: r.flags1&putLost != 0}
	if need == 0 {
		p = body{}
	} else if r.tail {
		b, err := readTail(f, tail)
		if err != nil {
			m.s.alarm(seg, badSpan{tail.off, int64(tail.n)}, r.seq, r.seq)
			return fmt.Errorf("%s at %d: %w", seg.name, tail.off, store.ErrDamaged)
		}
		p.b = b
	}
	m.enc.putMessage(h, live, p)
	return nil
}

// buries reports whether a tombstone of seg still matters: what it concerns
// is in an older segment that is not part of the run.
func (m *merger) buries(seg *segment, seq uint64) bool {
	m.s.mu.RLock()
	defer m.s.mu.RUnlock()
	target := m.s.book.segmentOf(seq)
	if target == nil || target.next == m.out.nonce {
		return false
	}
	for _, t := range seg.tombs {
		if t.nonce == target.nonce {
			m.tombs[target.nonce]++
			return true
		}
	}
	return false
}

// mark keeps the state of an entry whose message is in an older segment.
func (m *merger) mark(seg *segment, d *decoder, r *record) {
	q := d.queues[r.queue].queue()
	m.s.mu.RLock()
	state, ok := m.s.book.queues[q].waits(r.seq)
	m.s.mu.RUnlock()
	if ok && state == r.state && m.buries(seg, r.seq) {
		m.enc.mark(&store.Mark{Queue: q, Seq: r.seq, State: r.state}, r.size)
	}
}

// set keeps a key whose value is this one, and a delete while an older segment
// may have a value.
func (m *merger) set(seg *segment, f vfs.File, r *record, off int64, tail *tailRef) error {
	m.s.mu.RLock()
	v, ok := m.s.book.keys.get(string(r.key))
	m.s.mu.RUnlock()
	if r.del {
		if !ok && !m.oldest {
			_, cost := m.enc.set(string(r.key), nil, true)
			m.out.keyTombs += cost
		}
		return nil
	}
	if !ok || v.seg != seg || v.at != off {
		return nil
	}
	value := r.value
	if r.tail {
		b, err := readTail(f, tail)
		if err != nil {
			m.s.alarm(seg, badSpan{tail.off, int64(tail.n)}, 0, 0)
			return fmt.Errorf("%s at %d: %w", seg.name, tail.off, store.ErrDamaged)
		}
		value = b
	}
	block, cost := m.enc.set(string(r.key), [][]byte{value}, false)
	m.keys = append(m.keys, movedKey{string(r.key), seg, off, int64(block), cost})
	return nil
}

// publish puts the new segment in the place of the run.
func (m *merger) publish() {
	s, out := m.s, m.out
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.adopt(out, m.file)
	s.fileBytes.Add(out.size)
	to := out.from - 1
	if out.puts > 0 {
		to = max(out.to, to)
	}
	out.from, out.to = m.run[0].from, to
	for _, seg := range m.run {
		out.live += seg.live
	}
	for _, k := range slices.Backward(m.keys) { // the last word of a block counts
		v, ok := s.book.keys.get(k.key)
		if !ok || v.seg != k.from || v.at != k.at {
			continue // written again meanwhile
		}
		v.seg, v.at, v.cost = out, k.to, k.cost
		s.book.keys.put(k.key, v)
		s.book.touchKey(k.key)
		out.stateBytes += k.cost
	}
	for nonce, n := range m.tombs {
		out.tombs = append(out.tombs, tombs{nonce, n})
	}
	gone := map[uint64]bool{}
	for _, seg := range m.run {
		gone[seg.nonce] = true
		s.maint.replaced = append(s.maint.replaced, seg.num)
	}
	exists := map[uint64]bool{}
	for _, seg := range s.book.segs {
		exists[seg.nonce] = !gone[seg.nonce]
	}
	out.fresh = out.useful(exists, m.oldest)
	segs := s.book.segs
	for i, seg := range segs {
		if seg == m.run[0] {
			segs[i] = out
			break
		}
	}
	s.book.drops(gone)
}

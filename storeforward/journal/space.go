package journal

import (
	"errors"
	"fmt"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// The end of a segment is kept for batches that store nothing, while no other
// segment is at hand: on a full disk drops must pass, since they end it.
const marginMax = 1 << 20

func (s *Store) margin() int64 { return min(marginMax, s.cfg.SegmentBytes/8) }

// costOf estimates a batch on the high side: every name may have to be written
// again. Small state and marks do not make a batch grow the journal: they come
// along with drops, which must pass when the disk is full.
func costOf(b *store.Batch) cost {
	c := cost{ops: len(b.Puts) + len(b.Marks) + len(b.Drops) + len(b.Sets), bytes: b.Cost()}
	values := int64(0)
	for i := range b.Sets {
		values += b.Sets[i].Cost()
	}
	c.grows = len(b.Puts) > 0 || values > 64<<10
	return c
}

// admit refuses batches that are not sound or have no room, and makes sure
// that the others fit into the current segment. An error concerns the store.
func (s *Store) admit(g *group) error {
	c := &s.commit
	high, total := c.high, cost{bytes: segHeadLen + 2*blockHeadLen}
	for i := range g.batches {
		p := &g.batches[i]
		switch err := check(p.batch, high); {
		case c.refusedOne && s.cfg.Strict:
			p.err = fmt.Errorf("store batch %d: %w", p.batch.LSN, errAfterRefused)
		case err != nil:
			p.err = fmt.Errorf("store batch %d: %w", p.batch.LSN, err)
			c.refusedOne = true
		case p.cost.bytes > maxBatch:
			p.err = fmt.Errorf("store batch %d: %d bytes, the most is %d", p.batch.LSN, p.cost.bytes, maxBatch)
			c.refusedOne = true
		default:
			if n := len(p.batch.Puts); n > 0 {
				high = p.batch.Puts[n-1].Header.Seq
			}
			total.bytes += p.cost.bytes
			total.grows = total.grows || p.cost.grows
		}
	}
	if s.fits(total) {
		return nil
	}
	err := s.roll(total)
	if errors.Is(err, vfs.ErrFull) && s.reclaim() {
		err = s.roll(total)
	}
	if errors.Is(err, vfs.ErrFull) {
		return s.squeeze(g)
	}
	return err
}

// fits reports whether so much fits into the current segment.
func (s *Store) fits(c cost) bool {
	room := s.commit.cur.size - s.commit.off
	if c.grows && !s.maint.hasNext() {
		room -= s.margin()
	}
	return c.bytes <= room
}

// squeeze refuses what grows and does not fit into what is left. What does not
// grow is tried in any case: estimates are on the high side, and the file may
// yet be extended.
func (s *Store) squeeze(g *group) error {
	used, shrink := int64(segHeadLen+2*blockHeadLen), int64(segHeadLen+2*blockHeadLen)
	for i := range g.batches {
		if p := &g.batches[i]; p.err == nil && !p.cost.grows {
			shrink += p.cost.bytes
		}
	}
	if !s.fits(cost{bytes: shrink}) {
		// The limit has a reserve for it, and a disk perhaps.
		if err := s.roll(cost{bytes: shrink}); err != nil && !errors.Is(err, vfs.ErrFull) {
			return err
		}
	}
	refused := false
	for i := range g.batches {
		p := &g.batches[i]
		if p.err != nil {
			continue
		}
		after := cost{bytes: used + p.cost.bytes, grows: p.cost.grows}
		switch {
		case refused && s.cfg.Strict:
			p.err = fmt.Errorf("store batch %d: %w", p.batch.LSN, errAfterRefused)
		case !p.cost.grows || s.fits(after):
			used = after.bytes
		default:
			p.err = fmt.Errorf("store batch %d: %w", p.batch.LSN, s.fullError())
			refused, s.commit.refusedOne = true, true
		}
	}
	return nil
}

// roll ends the current segment and begins a new one with room for a group.
// ErrFull: nothing happened.
func (s *Store) roll(c cost) error {
	need := c.bytes + segHeadLen
	if c.grows {
		need += s.margin()
	}
	if s.commit.off == 0 {
		return s.stretch(need)
	}
	file, num, size, err := s.takeNext(need, c.grows)
	if err != nil {
		return err
	}
	if err := s.finishSegment(); err != nil {
		_ = file.Close()
		return err
	}
	s.beginSegment(file, num, size, s.commit.off)
	s.maint.kick()
	return nil
}

// stretch makes room for a group in a segment that has not begun.
func (s *Store) stretch(need int64) error {
	c := &s.commit
	if s.cfg.MaxBytes > 0 && s.fileBytes.Load()-c.cur.size+need > s.cfg.MaxBytes {
		return vfs.ErrFull
	}
	if err := c.file.Allocate(need); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fileBytes.Add(need - c.cur.size)
	c.cur.size = need
	return nil
}

// finishSegment syncs what is still to be synced, and gives back space.
func (s *Store) finishSegment() error {
	c := &s.commit
	s.flush()
	if cause := s.poison.Load(); cause != nil {
		return *cause
	}
	if err := c.file.Truncate(c.off); err != nil {
		return fmt.Errorf("end %s at %d: %w", c.cur.name, c.off, err)
	}
	s.mu.Lock()
	s.fileBytes.Add(c.off - c.cur.size)
	c.cur.size, c.cur.changed = c.off, true
	s.mu.Unlock()
	s.pool.release(c.cur)
	return nil
}

// beginSegment makes a new file the current segment. Its head is written with
// its first group.
func (s *Store) beginSegment(file vfs.File, num uint64, size, prevEnd int64) {
	c := &s.commit
	seg := &segment{
		segHead: segHead{
			identity: s.id, kind: hot, num: num, last: num, firstBlock: c.block, high: c.high, nonce: newNonce(), prevEnd: prevEnd,
		},
		name: hotName(num), size: size, from: c.high + 1, to: c.high, changed: true,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.book.segs); n > 0 {
		s.book.segs[n-1].sealed = true
	}
	s.book.segs = append(s.book.segs, seg)
	s.pool.adopt(seg, file)
	c.cur, c.file, c.off, c.unsynced = seg, file, 0, 0
	s.pos = position{num, 0, c.block}
	s.room.began(size)
}

// trim gives back the reserved space of the current segment.
func (s *Store) trim() error {
	c := &s.commit
	s.dropNext()
	if c.off == 0 { // it never began
		s.pool.release(c.cur)
		if f := s.pool.retire(c.cur); f != nil {
			_ = f.Close()
		}
		return s.fs.Remove(c.cur.name)
	}
	if err := c.file.Truncate(c.off); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fileBytes.Add(c.off - c.cur.size)
	c.cur.size = c.off
	return nil
}

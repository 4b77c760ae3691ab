package journal

import (
	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// place is a message found in the table: its segment is acquired.
type place struct {
	seg  *segment
	file vfs.File
	sm   sample
	last uint64 // highest Seq that may be there

	reader *pageReader // nil until its blocks are read
}

// locate finds the blocks of a message. The caller holds the lock, and
// leaves the place. ErrNotFound: no segment can have it.
func (s *Store) locate(seq uint64) (pl place, err error) {
	seg := s.book.segmentOf(seq)
	if seg == nil {
		return pl, store.ErrNotFound
	}
	i, ok := seg.sampleOf(seq)
	if !ok {
		return pl, store.ErrNotFound
	}
	pl = place{seg: seg, sm: seg.samples[i], last: seg.to}
	if i+1 < len(seg.samples) {
		pl.last = seg.samples[i+1].first - 1
	}
	pl.file, err = s.pool.acquire(seg)
	return pl, err
}

// leave ends the use of a place, and tells of blocks in it that made no sense.
// The caller does not hold the lock.
func (s *Store) leave(pl *place) {
	if rd := pl.reader; rd != nil {
		pl.reader = nil
		for _, b := range rd.bad {
			s.alarm(pl.seg, b, pl.sm.first, pl.last)
		}
		s.cache.end(rd)
	}
	s.pool.release(pl.seg)
}

// page returns the blocks of a place. The caller releases them.
func (s *Store) page(pl *place) (*page, error) {
	if p := s.cache.get(pageKey{pl.seg.nonce, pl.sm.off}, pl.sm.n); p != nil {
		return p, nil
	}
	p := s.cache.blank(int(pl.sm.n))
	if err := p.read(pl.file, &pl.seg.segHead, pl.sm); err != nil {
		s.cache.release(p)
		s.alarm(pl.seg, badSpan{int64(pl.sm.off), int64(pl.sm.n)}, pl.sm.first, pl.last)
		return nil, err
	}
	for _, b := range p.bad {
		s.alarm(pl.seg, b, pl.sm.first, pl.last)
	}
	s.cache.put(p)
	return p, nil
}

// open reads the blocks of a place, to find seq and later ones in them; false
// when they cannot be read.
func (s *Store) open(pl *place, seq uint64) bool {
	p, err := s.page(pl)
	if err != nil {
		return false
	}
	pl.reader = s.cache.reader(p, seq)
	return true
}

// record finds a message in a place; nil when it is damaged. It is good until
// the next one is looked for, which must be a later one.
func (s *Store) record(pl *place, seq uint64) *record {
	if pl.reader == nil && !s.open(pl, seq) || !pl.reader.seek(seq) {
		return nil
	}
	return &pl.reader.rec
}

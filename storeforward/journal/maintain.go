package journal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/storeforward/vfs"
)

// maintainer is the goroutine that makes the next segment in advance, saves
// checkpoints, and cleans. With Config.Manual there is none.
type maintainer struct {
	wake chan struct{} // capacity 1
	quit chan struct{}
	done sync.WaitGroup

	bytes   atomic.Int64 // written since the last checkpoint
	records atomic.Int64
	prepare atomic.Bool  // the current segment is half full, and much is written
	busy    atomic.Int64 // bytes written since the last tick
	idle    int          // ticks since something was written; of the goroutine

	mu        sync.Mutex // held during a checkpoint, a cleaning, and what they remove
	all       bool       // the next checkpoint writes everything
	indexLost bool
	savedNum  uint64   // segment of the last checkpoint's place
	replaced  []uint64 // segments that left the table otherwise than by condemn
	last      time.Time
	took      time.Duration

	cleanAfter time.Time // of the goroutine

	nextMu   sync.Mutex // guards the rest
	next     vfs.File   // the next segment, made in advance
	nextNum  uint64
	nextSize int64
}

const (
	tickEvery     = 500 * time.Millisecond
	checkpointGap = 10 // checkpoints take at most one part in so many of the time
	checkpointMax = 8  // but one is due when so many times its measure was written
	busyBytes     = 256 << 10
	idleTicks     = 6
	cleanPause    = 30 * time.Second // after a cleaning for which the disk had no room
)

func (m *maintainer) kick() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// start begins the goroutine.
func (m *maintainer) start(s *Store) {
	s.tellRoom()
	m.done.Go(func() {
		tick := time.NewTicker(tickEvery)
		defer tick.Stop()
		for {
			ticked := false
			select {
			case <-m.quit:
				return
			case <-m.wake:
			case <-tick.C:
				ticked = true
			}
			s.maintain(ticked)
		}
	})
}

func (m *maintainer) stop() {
	close(m.quit)
	m.done.Wait()
}

// wrote is called by the committer after each sync.
func (m *maintainer) wrote(s *Store, bytes, records int64) {
	b, r := m.bytes.Add(bytes), m.records.Add(records)
	c := &s.commit
	if b >= s.cfg.CheckpointBytes || r >= checkpointRecords {
		m.kick()
	}
	if m.busy.Add(bytes) >= busyBytes && c.off > c.cur.size/2 && !m.prepare.Load() {
		m.prepare.Store(true)
		m.kick()
	}
	s.room.wrote(bytes, c.cur.size-c.off)
	s.tellRoom()
}

// maintain does what is due.
func (s *Store) maintain(ticked bool) {
	m := &s.maint
	if s.poison.Load() != nil {
		return
	}
	switch {
	case ticked && m.busy.Swap(0) > 0:
		m.idle = 0
	case ticked:
		m.idle++
	}
	switch scarce := s.scarce(); {
	case scarce:
		m.prepare.Store(true)
	case ticked && m.idle == idleTicks:
		m.prepare.Store(false)
		s.dropNext()
	}
	if m.prepare.Load() {
		s.prepareNext()
	}
	s.tellRoom()
	m.mu.Lock()
	defer m.mu.Unlock()
	b, r := m.bytes.Load(), m.records.Load()
	cb := s.cfg.CheckpointBytes
	due := (b >= cb || r >= checkpointRecords) && time.Since(m.last) >= checkpointGap*m.took ||
		b >= checkpointMax*cb || r >= checkpointMax*checkpointRecords*2
	if due || ticked && s.deadSegments() > 0 {
		if err := s.checkpoint(false); err != nil {
			s.cfg.Log.Warn("no checkpoint was saved; the next start may take longer", "dir", s.path, "err", err)
		}
	}
	if ticked && time.Now().After(m.cleanAfter) {
		err := s.cleanOne(cleanShare)
		if errors.Is(err, vfs.ErrFull) {
			m.cleanAfter = time.Now().Add(cleanPause)
		}
		if err != nil && !errors.Is(err, errNothing) {
			s.cfg.Log.Warn("a segment was not cleaned", "dir", s.path, "err", err)
		}
	}
}

// deadSegments counts the segments that the next checkpoint frees.
func (s *Store) deadSegments() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	s.book.eachDead(func(*segment) { n++ })
	return n
}

// reclaim frees space at once, if there is any to be freed; the committer
// calls it on a full disk.
func (s *Store) reclaim() bool {
	if s.deadSegments() == 0 {
		return false
	}
	s.maint.mu.Lock()
	defer s.maint.mu.Unlock()
	if err := s.checkpoint(false); err != nil {
		s.cfg.Log.Warn("no checkpoint was saved on a full disk; the next start may take longer", "dir", s.path, "err", err)
	}
	return true
}

// eachDead calls f for every segment that nothing needs. As long as the
// current segment has no head, the last one that has is kept, for what it says
// of the journal.
func (b *book) eachDead(f func(*segment)) {
	exists := map[uint64]bool{}
	last := len(b.segs) - 1
	if last >= 0 && b.segs[last].end == 0 {
		last--
	}
	oldest := true
	for i, seg := range b.segs {
		if i < last && seg.sealed && seg.dead(exists, oldest) {
			f(seg)
			continue
		}
		exists[seg.nonce], oldest = true, false
		if seg.next != 0 {
			exists[seg.next] = true
		}
	}
}

// condemn takes the dead segments out of the table, and forgets tombstones
// that no longer matter.
func (s *Store) condemn() (dead []*segment) {
	b := s.book
	b.eachDead(func(seg *segment) { dead = append(dead, seg) })
	if len(dead) == 0 {
		return nil
	}
	gone := map[uint64]bool{}
	for _, seg := range dead {
		gone[seg.nonce] = true
	}
	b.drops(gone)
	return dead
}

// drops takes segments out of the table.
func (b *book) drops(gone map[uint64]bool) {
	kept := b.segs[:0]
	for _, seg := range b.segs {
		if gone[seg.nonce] {
			continue
		}
		kept = append(kept, seg)
		tombs := seg.tombs[:0]
		for _, t := range seg.tombs {
			if !gone[t.nonce] {
				tombs = append(tombs, t)
			}
		}
		seg.changed = seg.changed || len(tombs) < len(seg.tombs)
		seg.tombs = tombs
	}
	clear(b.segs[len(kept):])
	b.segs = kept
}

// remove deletes segments that left the table, the oldest first: a tombstone
// must not go before what it buries. What may not be accounted for is kept,
// outside of the journal.
func (s *Store) remove(dead []*segment) error {
	for i, seg := range dead {
		file := s.pool.retire(seg)
		if s.isDamaged(seg) || !s.recycle(seg, file) {
			if file != nil {
				_ = file.Close()
			}
			leave := s.fs.Remove
			if seg.doubtful() {
				leave = s.setAside
			}
			if err := leave(seg.name); err != nil {
				return fmt.Errorf("remove segment: %w", err)
			}
		}
		s.fileBytes.Add(-seg.size)
		if i+1 == len(dead) || len(dead[i+1].tombs) > 0 || dead[i+1].keyTombs > 0 {
			if err := s.fs.SyncDir(); err != nil {
				return fmt.Errorf("remove segment: %w", err)
			}
		}
	}
	return nil
}

// recycle makes a dead segment the next one: its blocks are written already,
// which makes writes to them cheaper on many file systems.
func (s *Store) recycle(seg *segment, file vfs.File) bool {
	m := &s.maint
	m.nextMu.Lock()
	defer m.nextMu.Unlock()
	size := s.cfg.SegmentBytes
	if file == nil || m.next != nil || !m.prepare.Load() || s.cfg.Manual ||
		seg.kind != hot || seg.size > size || seg.size < size/2 {
		return false
	}
	if s.fs.Rename(seg.name, hotName(m.nextNum)) != nil {
		return false
	}
	if err := file.Allocate(size); err != nil {
		_ = file.Close()
		return s.fs.Remove(hotName(m.nextNum)) == nil
	}
	m.next, m.nextSize = file, size
	s.fileBytes.Add(size)
	return true
}

// prepareNext makes the next segment in advance, as long as that leaves the
// reserve alone.
func (s *Store) prepareNext() {
	spare := s.spareBytes()
	if spare < 0 {
		return
	}
	m := &s.maint
	m.nextMu.Lock()
	defer m.nextMu.Unlock()
	if m.next != nil && spare >= s.cfg.SegmentBytes {
		s.foundNoRoom(false) // the one after it will tell
	}
	if m.next != nil || !m.prepare.Load() {
		return
	}
	file, err := s.create(s.cfg.SegmentBytes, s.cfg.SegmentBytes)
	s.foundNoRoom(errors.Is(err, vfs.ErrFull))
	if err != nil {
		if !errors.Is(err, vfs.ErrFull) {
			s.cfg.Log.Warn("the next segment was not made in advance", "dir", s.path, "err", err)
		}
		return
	}
	m.next, m.nextSize = file, s.cfg.SegmentBytes
}

// hasNext reports whether a full segment is at hand.
func (m *maintainer) hasNext() bool { return m.nextBytes() > 0 }

// nextBytes is the size of the segment that is at hand, 0 when there is none.
func (m *maintainer) nextBytes() int64 {
	m.nextMu.Lock()
	defer m.nextMu.Unlock()
	return m.nextSize
}

// takeNext returns a file of at least need bytes for the next segment. One for
// messages leaves a reserve below the limit; one for ends is small while the
// reserve of the disk is touched.
func (s *Store) takeNext(need int64, grows bool) (file vfs.File, num uint64, size int64, err error) {
	m := &s.maint
	m.nextMu.Lock()
	defer m.nextMu.Unlock()
	reserve := int64(0)
	if grows {
		reserve = s.cfg.SegmentBytes
	}
	file, size = m.next, m.nextSize
	if file != nil && size < need {
		if s.overLimit(need-size, reserve) {
			return nil, 0, 0, vfs.ErrFull
		}
		if err := file.Allocate(need); err != nil {
			return nil, 0, 0, err
		}
		s.fileBytes.Add(need - size)
		size = need
	}
	if file == nil {
		size = max(need, s.cfg.SegmentBytes)
		if !grows && s.spareBytes() < 0 {
			size = max(need, 2*s.margin()) // for ends alone: see usable
		}
		file, err = s.create(size, reserve)
		if errors.Is(err, vfs.ErrFull) && size > need {
			size = need
			file, err = s.create(size, reserve)
		}
		if err != nil {
			return nil, 0, 0, err
		}
	}
	num = m.nextNum
	s.room.took(size)
	m.next, m.nextSize, m.nextNum = nil, 0, m.nextNum+1
	m.prepare.Store(false)
	return file, num, size, nil
}

func (s *Store) overLimit(more, reserve int64) bool {
	return s.cfg.MaxBytes > 0 && s.fileBytes.Load()+more > s.cfg.MaxBytes-reserve
}

// create makes the file of the next segment. The caller holds nextMu.
func (s *Store) create(size, reserve int64) (vfs.File, error) {
	if s.overLimit(size, reserve) {
		return nil, vfs.ErrFull
	}
	name := hotName(s.maint.nextNum)
	file, err := s.fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err = file.Allocate(size); err == nil {
		err = s.fs.SyncDir()
	}
	if err != nil {
		_ = file.Close()
		return nil, errors.Join(fmt.Errorf("create %s: %w", name, err), s.fs.Remove(name))
	}
	s.fileBytes.Add(size)
	return file, nil
}

// dropNext gives up a segment made in advance.
func (s *Store) dropNext() {
	m := &s.maint
	m.nextMu.Lock()
	defer m.nextMu.Unlock()
	if m.next == nil {
		return
	}
	_ = m.next.Close()
	s.fileBytes.Add(-m.nextSize)
	m.next, m.nextSize = nil, 0
	if err := s.fs.Remove(hotName(m.nextNum)); err != nil {
		s.cfg.Log.Warn("a spare segment stays", "dir", s.path, "err", err)
	}
}

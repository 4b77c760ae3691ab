package journal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// Store is the buffer. Append is for one goroutine, all else for any.
type Store struct {
	cfg   Config
	path  string // for messages
	fs    vfs.FS
	lock  *dirLock
	id    identity
	pool  *pool
	cache *cache
	index Index // nil: no checkpoints

	mu   sync.RWMutex // guards book; only the committer and the cleaner change it
	book *book
	pos  position // up to which the book is; guarded by mu

	commit committer
	maint  maintainer
	room   room

	queueMu   sync.Mutex // guards queue and closing
	queue     []pending
	closing   bool
	abandoned atomic.Bool   // by a test that plays a kill
	wake      chan struct{} // capacity 1
	ended     chan struct{} // closed by the committer
	closed    chan struct{} // closed when Close is done
	failed    error         // of Close; read after closed

	damageMu sync.Mutex
	damaged  map[damageKey]bool

	poison                atomic.Pointer[error]
	batches, refused      atomic.Uint64
	commits               atomic.Uint64
	waiting, waitingBytes atomic.Int64
	fileBytes             atomic.Int64 // of all segment files
	freeBytes             atomic.Int64 // of the current one
	damages               atomic.Int64
}

var _ store.Store = (*Store)(nil)

// Incarnation tells stores of the same node apart: 20 random bits, never 0,
// drawn when the buffer was made (see bundle.NewSequence).
func (s *Store) Incarnation() uint32 { return s.id.incarnation }

// Created returns when the buffer was made, by the clock of that day.
func (s *Store) Created() time.Time { return s.id.time() }

// Path returns the folder of the journal.
func (s *Store) Path() string { return s.path }

// Stats is a snapshot for metrics and status.
type Stats struct {
	Messages     int    // persisted and not ended
	Queues       int    // with at least one message
	Bytes        int64  // of their payload blocks, each once
	PeakBytes    int64  // highest Bytes since open
	FileBytes    int64  // of segments and index, reserved space included
	FreeBytes    int64  // of the current segment
	IndexBytes   int64  // of the index alone
	Segments     int    // files
	Damaged      int    // damaged places found since open
	Batches      uint64 // reported since open
	Refused      uint64 // of these, with an error
	Commits      uint64 // Batches / Commits is the size of a group
	Waiting      int    // batches appended and not reported
	WaitingBytes int64
	Poisoned     bool // no write succeeds until the node restarts
}

// Stats returns present figures.
func (s *Store) Stats() Stats {
	st := Stats{
		FreeBytes:    s.freeBytes.Load(),
		FileBytes:    s.fileBytes.Load(),
		Damaged:      int(s.damages.Load()),
		Batches:      s.batches.Load(),
		Refused:      s.refused.Load(),
		Commits:      s.commits.Load(),
		Waiting:      int(s.waiting.Load()),
		WaitingBytes: s.waitingBytes.Load(),
		Poisoned:     s.poison.Load() != nil,
	}
	if s.index != nil {
		st.IndexBytes = s.index.Size()
		st.FileBytes += st.IndexBytes
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	st.Segments, st.Messages = len(s.book.segs), s.book.messages
	st.Bytes, st.PeakBytes = s.book.bytes, s.book.peak
	for _, q := range s.book.queues {
		if q.set.Len() > 0 {
			st.Queues++
		}
	}
	return st
}

// Close waits for queued batches, leaves a checkpoint so that the next open
// need not read the journal, and gives up the directory.
func (s *Store) Close() error {
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		<-s.closed
		return s.failed
	}
	s.closing = true
	s.queueMu.Unlock()
	s.kick()
	<-s.ended
	s.maint.stop()
	if s.poison.Load() == nil {
		s.tidy()
	}
	if err := s.release(); err != nil {
		s.failed = fmt.Errorf("close buffer: %w", err)
	}
	close(s.closed)
	return s.failed
}

// tidy leaves the files small and the checkpoint recent. Without it the next
// open takes longer, nothing worse, so errors are only logged.
func (s *Store) tidy() {
	s.maint.mu.Lock()
	defer s.maint.mu.Unlock()
	if err := s.trim(); err != nil {
		s.cfg.Log.Warn("the last segment keeps its reserved space", "dir", s.path, "err", err)
	}
	if err := s.checkpoint(true); err != nil {
		s.cfg.Log.Warn("buffer closed without a checkpoint; the next start will read its journal", "dir", s.path, "err", err)
	}
}

// release gives up all files.
func (s *Store) release() (err error) {
	s.mu.Lock()
	s.pool.closeAll()
	s.mu.Unlock()
	if s.index != nil {
		err = s.index.Close()
	}
	s.lock.release()
	return err
}

// kick wakes the committer.
func (s *Store) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

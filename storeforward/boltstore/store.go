package boltstore

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/boltcheck"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// FileName is the name of the buffer within its directory.
const FileName = "buffer.db"

// Errors of Open and of reads, for callers that branch.
var (
	ErrInUse   = errors.New("data directory is in use")
	ErrForeign = errors.New("not a farhop buffer")
	ErrNewer   = errors.New("written by a newer farhop")
	ErrDamaged = fmt.Errorf("buffer is damaged: %w", store.ErrDamaged)
)

// minBytes is the smallest useful limit: trees, reserve and a few messages.
const minBytes = 1 << 20

// default32 limits the file where the address space is small: bbolt maps it
// whole, and maps it twice as large when it grows.
const default32 = 1 << 30

// Config says where the buffer is. Zero values mean the defaults.
type Config struct {
	// Dir is the data directory; it is made when missing.
	Dir string
	// MaxBytes limits the file, in bytes, at least 1 MiB. A sixteenth of it,
	// at most 1 MiB, is kept for drops. Default: no limit but the disk's on
	// 64-bit machines, 1 GiB on others. A file never shrinks.
	MaxBytes int64
	// LockTimeout is how long Open waits for another process to let go of
	// the directory. Default 1 s: enough for a restart, too short to hang.
	LockTimeout time.Duration
	// Done is told the fate of each batch, in LSN order, by the committer's
	// goroutine. It must not block for long: commits wait for it.
	Done store.Done
	// Incarnation is given to a buffer that is made: that of the one whose
	// place it takes. Default: drawn. One that is there keeps its own.
	Incarnation uint32
	// Strict refuses every batch after the first that was refused, until the
	// buffer is opened again: for a caller whose batches rest on each other.
	Strict bool
	// Room is told how far batches may go before the disk, or MaxBytes, is full:
	// for a caller that refuses work sooner than it breaks a promise.
	Room store.Room
	// Log takes what an operator should know. Default: nothing is logged.
	Log *slog.Logger

	// openFile replaces os.OpenFile in tests.
	openFile func(string, int, os.FileMode) (*os.File, error)
}

// Validate reports all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: missing"))
	}
	if c.MaxBytes != 0 && c.MaxBytes < minBytes {
		errs = append(errs, fmt.Errorf("maxBytes: %d, want 0 or at least %d", c.MaxBytes, minBytes))
	}
	if c.MaxBytes > math.MaxInt {
		errs = append(errs, fmt.Errorf("maxBytes: %d, this machine can map %d", c.MaxBytes, math.MaxInt))
	}
	if c.Incarnation > bundle.MaxIncarnation {
		errs = append(errs, fmt.Errorf("incarnation: %d, the most is %d", c.Incarnation, bundle.MaxIncarnation))
	}
	if c.LockTimeout < 0 {
		errs = append(errs, fmt.Errorf("lockTimeout: %v is negative", c.LockTimeout))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.MaxBytes == 0 && math.MaxInt == math.MaxInt32 {
		c.MaxBytes = default32
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = time.Second
	}
	if c.Incarnation == 0 {
		c.Incarnation = newIncarnation()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.openFile == nil {
		c.openFile = os.OpenFile
	}
	return c
}

// Store is the buffer. Append is for one goroutine, all else for any.
type Store struct {
	cfg         Config
	path        string
	incarnation uint32
	created     time.Time
	db          *bolt.DB

	// commitMu is held while the file runs ahead of the index.
	commitMu sync.Mutex
	index    *index // has its own lock

	// Of the committer alone.
	arena arena
	space space
	room  room
	stuck bool // bbolt kept its locks after a panic; see Close after ended

	mu      sync.Mutex // guards queue and closing
	queue   []*pending
	closing bool
	wake    chan struct{} // capacity 1
	ended   chan struct{} // closed by the committer

	poison                atomic.Pointer[error]
	refusedOne            bool // of the committer
	batches, refused      atomic.Uint64
	commits               atomic.Uint64
	waiting, waitingBytes atomic.Int64
	fileBytes, freeBytes  atomic.Int64
}

var _ store.Store = (*Store)(nil)

// Incarnation tells stores of the same node apart: 20 random bits, never 0,
// drawn when the file was made (see bundle.NewSequence).
func (s *Store) Incarnation() uint32 { return s.incarnation }

// Created returns when the file was made, by the clock of that day.
func (s *Store) Created() time.Time { return s.created }

// Path returns the file.
func (s *Store) Path() string { return s.path }

// Stats is a snapshot for metrics and status.
type Stats struct {
	Messages     int    // persisted and not ended
	Queues       int    // with at least one message
	Bytes        int64  // of their payload blocks, each once
	PeakBytes    int64  // highest Bytes since open
	FileBytes    int64  // of the file, free pages included
	FreeBytes    int64  // of the file, free for new messages
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
		FileBytes:    s.fileBytes.Load(),
		FreeBytes:    s.freeBytes.Load(),
		Batches:      s.batches.Load(),
		Refused:      s.refused.Load(),
		Commits:      s.commits.Load(),
		Waiting:      int(s.waiting.Load()),
		WaitingBytes: s.waitingBytes.Load(),
		Poisoned:     s.poison.Load() != nil,
	}
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	st.Messages, st.Queues = s.index.messages, len(s.index.queues)
	st.Bytes, st.PeakBytes = s.index.bytes, s.index.peak
	return st
}

// Close waits for queued batches, leaves the list of free pages in the file,
// so that the next open need not scan it, and gives up the directory.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.ended
		return nil
	}
	s.closing = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	<-s.ended
	if !s.stuck && s.poison.Load() == nil {
		s.leaveFreelist()
	}
	if s.stuck {
		return fmt.Errorf("close buffer %s: left open after damage; end the process", s.path)
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close buffer: %w", err)
	}
	return nil
}

// leaveFreelist makes one commit with the freelist in it. Without it the next
// open scans the file: slower, nothing worse, so an error is only logged.
func (s *Store) leaveFreelist() {
	var tx *bolt.Tx
	err := guard(func() (err error) {
		s.db.NoFreelistSync = false
		if tx, err = s.db.Begin(true); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		s.cfg.Log.Warn("buffer closed without its list of free pages; the next start will scan it",
			"file", s.path, "err", err)
		s.stuck = !abandon(tx)
	}
}

// guard is boltcheck.Guard with the error of this package.
func guard(f func() error) error {
	err := boltcheck.Guard(f)
	if errors.Is(err, boltcheck.ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

package boltstore

import (
	"errors"
	"fmt"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/store"
)

// Limits of one commit: a larger one would keep its first batch waiting for
// its last without saving much per batch.
const (
	groupOps   = 64 << 10
	groupBytes = 8 << 20
)

// pending is one batch on its way through the committer.
type pending struct {
	batch *store.Batch
	cost  cost
	err   error
}

// errAfterRefused is the fate of what follows a refused batch, see Strict.
var errAfterRefused = errors.New("an earlier batch was refused; open the buffer again")

// errClosed is the fate of a batch appended after Close.
var errClosed = errors.New("the buffer is closed")

// Append queues a batch and returns at once. The caller bounds what waits
// (see Stats.Waiting) and must not change the batch before it was reported.
func (s *Store) Append(b *store.Batch) {
	p := &pending{batch: b, cost: costOf(b)}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		s.report(b.LSN, errClosed)
		return
	}
	s.queue = append(s.queue, p)
	s.waiting.Add(1)
	s.waitingBytes.Add(p.cost.bytes)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the committer. It ends when the store is closing and the queue is
// empty, or at once when the store is abandoned.
func (s *Store) run() {
	defer close(s.ended)
	for {
		group, closing := s.next()
		switch {
		case len(group) > 0:
			s.commitGroup(group)
			for _, p := range group {
				s.waiting.Add(-1)
				s.waitingBytes.Add(-p.cost.bytes)
				s.report(p.batch.LSN, p.err)
				s.room.spent += p.batch.Cost()
			}
			s.tellRoom()
		case closing:
			return
		default:
			s.idle()
		}
	}
}

// next takes all that waits, up to the limits of one commit.
func (s *Store) next() (group []*pending, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ops, bytes := 0, 0, int64(0)
	for _, p := range s.queue {
		ops += p.cost.ops
		bytes += p.cost.bytes
		if n > 0 && (ops > groupOps || bytes > groupBytes) {
			break
		}
		n++
	}
	group = s.queue[:n:n]
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return group, s.closing
}

func (s *Store) report(lsn store.LSN, err error) {
	s.batches.Add(1)
	if err != nil {
		s.refused.Add(1)
	}
	if s.cfg.Done != nil {
		s.cfg.Done(lsn, err)
	}
}

// commitGroup decides the fate of every batch of the group.
func (s *Store) commitGroup(group []*pending) {
	// Held from before the commit until the index agrees with it: readers
	// that find the two apart wait here.
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if !s.attempt(group) {
		return
	}
	// bbolt ran out of space although it should have fitted. Let pass what
	// frees space, refuse the rest.
	for _, p := range group {
		if p.err == nil && p.cost.grows {
			p.err = s.fullError(p)
		}
	}
	if !s.attempt(group) {
		return
	}
	for i, p := range group {
		if p.err == nil && s.attempt(group[i:i+1]) {
			p.err = s.fullError(p)
		}
	}
}

func (s *Store) fullError(p *pending) error {
	return fmt.Errorf("store batch %d in %s: %w", p.batch.LSN, s.path, store.ErrFull)
}

// attempt commits those batches of the group that have no error yet, and
// gives an error to those it refuses. It reports true when nothing at all was
// written because the disk is full.
func (s *Store) attempt(group []*pending) (full bool) {
	if cause := s.poison.Load(); cause != nil {
		return s.fail(group, *cause)
	}
	// Nothing of a damaged page may end the process: bbolt's panics and even
	// faults of the memory map become a poisoned store.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var tx *bolt.Tx
	defer func() {
		if r := recover(); r != nil {
			s.poisoned(group, fmt.Errorf("%w: %v", ErrDamaged, r))
			s.stuck = !abandon(tx)
		}
	}()
	tx, err := s.db.Begin(true)
	if err != nil {
		return s.poisoned(group, err)
	}
	p := newPlan(s.index, tx, s.path, &s.arena)
	if err := s.admit(p, tx, group); err != nil {
		_ = tx.Rollback()
		return s.poisoned(group, err)
	}
	defer s.settle(p)
	if p.empty() {
		_ = tx.Rollback()
		return false
	}
	if err := p.write(); err != nil {
		_ = tx.Rollback()
		return s.poisoned(group, err)
	}
	if err := tx.Commit(); err != nil {
		if diskFull(err) {
			return true
		}
		return s.poisoned(group, err)
	}
	s.commits.Add(1)
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	p.commitIndex()
	return false
}

// admit applies to the plan every batch that is sound and has room. An error
// concerns the store, not a batch.
func (s *Store) admit(p *plan, tx *bolt.Tx, group []*pending) error {
	have := s.space.room(s.db, tx)
	used := cost{}
	for _, pb := range group {
		if pb.err == nil && s.refusedOne && s.cfg.Strict {
			pb.err = fmt.Errorf("store batch %d: %w", pb.batch.LSN, errAfterRefused)
		}
		if pb.err != nil {
			s.refusedOne = true
			continue
		}
		if err := p.check(pb.batch); err != nil {
			s.refusedOne = true
			pb.err = fmt.Errorf("store batch %d: %w", pb.batch.LSN, err)
			continue
		}
		after := cost{bytes: used.bytes + pb.cost.bytes}
		if pb.cost.grows {
			grown, err := s.space.fit(have, s.space.need(after))
			have += grown
			if err != nil && !errors.Is(err, store.ErrFull) {
				return err
			}
			if err != nil {
				s.refusedOne = true
				pb.err = fmt.Errorf("store batch %d: %w", pb.batch.LSN, err)
				continue
			}
		}
		used = after
		p.apply(pb.batch)
	}
	s.fileBytes.Store(s.space.size)
	s.freeBytes.Store(have)
	return nil
}

// settle ends a plan, committed or not.
func (s *Store) settle(p *plan) {
	s.arena.reset()
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	s.index.prune(p.queuesTouched())
}

// poisoned ends the store's writing life. It reports false: not a full disk.
func (s *Store) poisoned(group []*pending, cause error) bool {
	cause = fmt.Errorf("%w (%s: %w)", store.ErrPoisoned, s.path, cause)
	s.poison.CompareAndSwap(nil, &cause)
	return s.fail(group, cause)
}

func (s *Store) fail(group []*pending, err error) bool {
	for _, p := range group {
		if p.err == nil {
			p.err = err
		}
	}
	return false
}

// abandon gives up a transaction after a panic and reports whether bbolt let
// go of its locks. It must not run bbolt's full rollback, which scans the file
// in a goroutine that nobody can guard.
func abandon(tx *bolt.Tx) (ok bool) {
	defer func() { ok = recover() == nil }()
	if tx != nil {
		_ = tx.Rollback()
	}
	return true
}

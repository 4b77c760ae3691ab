package journal

import (
	"errors"
	"fmt"

	"github.com/farhop/farhop/storeforward/store"
)

// Read returns the payload block of a message.
func (s *Store) Read(seq uint64) ([]byte, error) {
	if s.isClosed() {
		return nil, fmt.Errorf("read message %d: %w", seq, errClosed)
	}
	if b, ok := s.readAhead(seq); ok {
		return b, nil
	}
	s.mu.RLock()
	pl, err := s.locate(seq)
	s.mu.RUnlock()
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("message %d: %w", seq, store.ErrNotFound)
	}
	if err != nil {
		return nil, s.readError(seq, err)
	}
	defer s.leave(&pl)
	rec := s.record(&pl, seq)
	if rec == nil {
		return nil, s.absent(seq)
	}
	s.mu.RLock()
	need := s.needed(&pl.reader.dec.nameLists, rec)
	s.mu.RUnlock()
	if need == 0 || !rec.hasPayload && !rec.lost() {
		return nil, fmt.Errorf("message %d: %w", seq, store.ErrNotFound)
	}
	b, err := s.payload(&pl, rec)
	if err != nil {
		return nil, s.readError(seq, err)
	}
	return b, nil
}

// readAhead returns a payload that Scan came past, if its message still waits
// in the queue that was scanned.
func (s *Store) readAhead(seq uint64) ([]byte, bool) {
	b, q := s.cache.ahead.take(seq)
	if q == nil {
		return nil, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	state, ok := q.waits(seq)
	return b, ok && state != store.Ended
}

func (s *Store) readError(seq uint64, err error) error {
	if errors.Is(err, errBlock) {
		err = store.ErrDamaged
	}
	return fmt.Errorf("read message %d in %s: %w", seq, s.path, err)
}

// absent tells a message that ended from one that waits and cannot be read.
func (s *Store) absent(seq uint64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, q := range s.book.queues {
		if state, ok := q.waits(seq); ok && state != store.Ended {
			return s.readError(seq, store.ErrDamaged)
		}
	}
	return fmt.Errorf("message %d: %w", seq, store.ErrNotFound)
}

// payload returns a copy of the payload of a record of a place.
func (s *Store) payload(pl *place, rec *record) ([]byte, error) {
	if rec.lost() {
		return nil, errBlock
	}
	if !rec.tail {
		return append(make([]byte, 0, len(rec.payload)), rec.payload...), nil
	}
	t := pl.reader.tail()
	b, err := readTail(pl.file, t)
	if err != nil {
		s.alarm(pl.seg, badSpan{t.off, int64(t.n)}, rec.seq, rec.seq)
	}
	return b, err
}

// needed returns how many entries of a message need its payload. The caller
// holds the lock.
func (s *Store) needed(names *nameLists, rec *record) (n int) {
	for i := range rec.entries {
		state, ok := s.book.find(&names.queues[rec.entries[i].queue]).waits(rec.seq)
		if ok && state != store.Ended {
			n++
		}
	}
	return n
}

// entries returns those entries of a message that still wait, in their
// present state, and how many of them need the payload. The caller holds the
// lock. When nothing changed it returns the very slice of the header.
func (s *Store) entries(h *store.Header) (live []store.Entry, need int) {
	changed := false
	for i := range h.Entries {
		e := &h.Entries[i]
		state, ok := s.book.queues[e.Queue].waits(h.Seq)
		if ok && state != store.Ended {
			need++
		}
		if !changed && ok && state == e.State {
			continue
		}
		if !changed {
			changed = true
			live = append(make([]store.Entry, 0, len(h.Entries)), h.Entries[:i]...)
		}
		if ok {
			now := *e
			now.State = state
			live = append(live, now)
		}
	}
	if !changed {
		return h.Entries, need
	}
	return live, need
}

// Scan returns up to n items of a queue with Seq > after, in Seq order. The
// entries of their headers are those that still wait.
func (s *Store) Scan(q store.Queue, after uint64, n int) ([]store.Item, error) {
	if s.isClosed() {
		return nil, fmt.Errorf("scan: %w", errClosed)
	}
	s.mu.RLock()
	var seqs []uint64
	if qu := s.book.queues[q]; qu != nil && n > 0 {
		seqs = qu.set.After(after, min(n, qu.set.Len()), nil)
	}
	s.mu.RUnlock()
	if len(seqs) == 0 {
		return nil, nil
	}
	items := make([]store.Item, 0, len(seqs))
	for len(seqs) > 0 {
		var err error
		if items, seqs, err = s.scanPage(q, seqs, items); err != nil {
			return nil, fmt.Errorf("scan in %s: %w", s.path, err)
		}
	}
	return items, nil
}

// scanPage adds the items of the page that holds the first of seqs, and
// returns what is left.
func (s *Store) scanPage(q store.Queue, seqs []uint64, items []store.Item) ([]store.Item, []uint64, error) {
	s.mu.RLock()
	pl, err := s.locate(seqs[0])
	s.mu.RUnlock()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nil, err
	}
	readable := false // if not, all that waits there is damaged
	if err == nil {
		defer s.leave(&pl)
		readable = s.open(&pl, seqs[0])
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	qu := s.book.queues[q]
	for n, seq := range seqs {
		var rec *record
		if readable && seq <= pl.last {
			rec = s.record(&pl, seq)
		}
		if rec == nil && n > 0 {
			return items, seqs[n:], nil // another page
		}
		state, ok := qu.waits(seq)
		if !ok {
			continue // dropped meanwhile
		}
		if rec == nil {
			items = append(items, store.Item{
				Header: &store.Header{Seq: seq}, Entry: store.Entry{Queue: q, State: state}, Damaged: true,
			})
			continue
		}
		items = append(items, s.item(q, &pl.reader.dec.nameLists, rec, items))
		if rec.hasPayload && !rec.tail && !rec.lost() && state != store.Ended {
			s.cache.ahead.keep(qu, seq, rec.payload)
		}
	}
	return items, nil, nil
}

// item makes an item of a record whose entry in q waits. It shares strings
// with the item before.
func (s *Store) item(q store.Queue, names *nameLists, rec *record, before []store.Item) store.Item {
	like := &store.Header{}
	if n := len(before); n > 0 {
		like = before[n-1].Header
	}
	h, err := names.headerLike(&rec.putFields, like)
	if err == nil {
		h.Entries, _ = s.entries(h)
		for i := range h.Entries {
			if h.Entries[i].Queue == q {
				return store.Item{Header: h, Entry: h.Entries[i]}
			}
		}
	}
	return store.Item{Header: &store.Header{Seq: rec.seq}, Entry: store.Entry{Queue: q}, Damaged: true}
}

// Summary describes the persisted queues, by kind, name and class.
func (s *Store) Summary() (store.Summary, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.book.summary(), nil
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

package boltstore

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/store"
)

// stateChunk bounds what one read transaction of State gathers: a long one
// would keep the file from growing and dropped pages from being used again.
const (
	stateChunkKeys  = 512
	stateChunkBytes = 1 << 20
)

// view runs f in a read transaction. f must not call the store: a nested
// transaction can deadlock with a commit that grows the file.
func (s *Store) view(f func(tx *bolt.Tx) error) error {
	if err := guard(func() error { return s.db.View(f) }); err != nil {
		return fmt.Errorf("read buffer %s: %w", s.path, err)
	}
	return nil
}

// Read returns a copy of the payload block of a message.
func (s *Store) Read(seq uint64) (payload []byte, err error) {
	key := seqKey(seq)
	err = s.view(func(tx *bolt.Tx) error {
		body, err := getValue(tx.Bucket(bucketPayloads), key)
		if err != nil {
			return damagedRecord(s.path, bucketPayloads, key, err)
		}
		if body == nil {
			return s.missing(tx, seq)
		}
		payload = append(make([]byte, 0, len(body)), body...)
		return nil
	})
	return payload, err
}

// missing tells a payload that ended from one that was lost.
func (s *Store) missing(tx *bolt.Tx, seq uint64) error {
	h, payload, err := s.header(tx, seq)
	if err != nil {
		return err
	}
	if h == nil || !payload {
		return fmt.Errorf("message %d: %w", seq, store.ErrNotFound)
	}
	for _, e := range h.Entries {
		if e.State != store.Ended {
			return damagedRecord(s.path, bucketPayloads, seqKey(seq), store.ErrNotFound)
		}
	}
	return fmt.Errorf("message %d: %w", seq, store.ErrNotFound)
}

// header reads a message as of tx with its live entries in their present
// states; nil when there is none.
func (s *Store) header(tx *bolt.Tx, seq uint64) (h *store.Header, payload bool, err error) {
	key := seqKey(seq)
	body, err := getValue(tx.Bucket(bucketMessages), key)
	if err == nil && body == nil {
		return nil, false, nil
	}
	if err == nil {
		h, payload, err = decodeHeader(seq, body)
	}
	if err != nil {
		return nil, false, damagedRecord(s.path, bucketMessages, key, err)
	}
	mark, err := getValue(tx.Bucket(bucketMarks), key)
	if err == nil && mark == nil {
		return h, payload, nil
	}
	var states []store.EntryState
	if err == nil {
		states, err = decodeMarks(mark, len(h.Entries))
	}
	if err != nil {
		return nil, false, damagedRecord(s.path, bucketMarks, key, err)
	}
	live := h.Entries[:0]
	for i, e := range h.Entries {
		if e.State = states[i]; e.State != gone {
			live = append(live, e)
		}
	}
	clear(h.Entries[len(live):])
	h.Entries = live
	return h, payload, nil
}

// Scan returns up to n items of a queue with Seq > after, in Seq order. The
// entries of their headers are those that still wait.
func (s *Store) Scan(q store.Queue, after uint64, n int) ([]store.Item, error) {
	items, lost, err := s.scan(q, after, n)
	if err == nil && lost != 0 {
		// The file is ahead of the index: a commit is being made. Wait for it.
		s.commitMu.Lock()
		defer s.commitMu.Unlock()
		items, lost, err = s.scan(q, after, n)
		if err == nil && lost != 0 && s.poison.Load() == nil {
			return nil, s.damaged(damagedRecord(s.path, bucketMessages, seqKey(lost), store.ErrNotFound))
		}
	}
	return items, err
}

// scan also returns one Seq that the index has and the file has not, or 0.
func (s *Store) scan(q store.Queue, after uint64, n int) (items []store.Item, lost uint64, err error) {
	s.index.mu.RLock()
	var seqs []uint64
	if qi := s.index.queues[q]; qi != nil {
		seqs = qi.set.after(after, n)
	}
	s.index.mu.RUnlock()
	if len(seqs) == 0 {
		return nil, 0, nil
	}
	items = make([]store.Item, 0, len(seqs))
	err = s.view(func(tx *bolt.Tx) error {
		for _, seq := range seqs {
			h, _, err := s.header(tx, seq)
			if err != nil {
				return err
			}
			if e := entryOf(h, q); e != nil {
				items = append(items, store.Item{Header: h, Entry: *e})
			} else {
				lost = seq
			}
		}
		return nil
	})
	return items, lost, err
}

func entryOf(h *store.Header, q store.Queue) *store.Entry {
	if h == nil {
		return nil
	}
	for i := range h.Entries {
		if h.Entries[i].Queue == q {
			return &h.Entries[i]
		}
	}
	return nil
}

// State calls f for every key with the prefix, in key order. f gets copies
// and may call the store. Writes made meanwhile may or may not be seen.
func (s *Store) State(prefix string, f func(key string, value []byte) error) error {
	low := statePrefix(prefix)
	for next, more := low, true; more; more = next != nil {
		var keys []string
		var values [][]byte
		err := s.view(func(tx *bolt.Tx) (err error) {
			keys, values, next, err = s.stateChunk(tx, low, next)
			return err
		})
		if err != nil {
			return err
		}
		for i, key := range keys {
			if err := f(key, values[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// stateChunk copies some of the state from base key next on. It returns where
// to go on, nil at the end of the prefix low.
func (s *Store) stateChunk(tx *bolt.Tx, low, next []byte) (keys []string, values [][]byte, _ []byte, err error) {
	w := walk(tx.Bucket(bucketState), next)
	for size := 0; w.key != nil && bytes.HasPrefix(w.key, low); {
		if len(keys) == stateChunkKeys || size > stateChunkBytes {
			return keys, values, bytes.Clone(w.key), nil
		}
		base, body, err := w.next()
		var key string
		if err == nil {
			key, err = parseStateKey(base)
		}
		if err != nil {
			return nil, nil, nil, damagedRecord(s.path, bucketState, base, err)
		}
		keys = append(keys, key)
		values = append(values, append(make([]byte, 0, len(body)), body...))
		size += len(body)
	}
	return keys, values, nil, nil
}

// Summary describes the persisted queues, by kind, name and class.
func (s *Store) Summary() (store.Summary, error) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return s.index.summary(), nil
}

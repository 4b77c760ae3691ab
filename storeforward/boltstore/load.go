package boltstore

import (
	"bytes"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/store"
)

// damagedRecord names the record that cannot be trusted.
func damagedRecord(path string, bucket, key []byte, err error) error {
	return fmt.Errorf("%w: %s: bucket %s, key %x: %w", ErrDamaged, path, bucket, key, err)
}

// load builds the index from headers and marks; payloads are not read.
func (ix *index) load(tx *bolt.Tx, path string) error {
	if err := ix.loadHigh(tx, path); err != nil {
		return err
	}
	// Both buckets are in arrival order: walk them side by side.
	marks, messages := walk(tx.Bucket(bucketMarks), nil), walk(tx.Bucket(bucketMessages), nil)
	mkey, mark, err := marks.next()
	for err == nil {
		key, body, err := messages.next()
		if err != nil {
			return damagedRecord(path, bucketMessages, key, err)
		}
		if mkey != nil && (key == nil || bytes.Compare(mkey, key) < 0) {
			return damagedRecord(path, bucketMarks, mkey, store.ErrNotFound)
		}
		if key == nil {
			break
		}
		marked := bytes.Equal(mkey, key)
		if err := ix.loadMessage(key, body, mark, marked); err != nil {
			return damagedRecord(path, bucketMessages, key, err)
		}
		if marked {
			if mkey, mark, err = marks.next(); err != nil {
				return damagedRecord(path, bucketMarks, mkey, err)
			}
		}
	}
	if err != nil {
		return damagedRecord(path, bucketMarks, mkey, err)
	}
	ix.peak = ix.bytes
	return nil
}

func (ix *index) loadHigh(tx *bolt.Tx, path string) error {
	body, err := getValue(tx.Bucket(bucketFile), keySeq)
	if err == nil && body == nil {
		return nil // nothing was ever stored
	}
	if err == nil {
		r := reader{b: body}
		ix.high = r.uvarint(math.MaxUint64 - 1)
		err = r.end()
	}
	if err != nil {
		return damagedRecord(path, bucketFile, keySeq, err)
	}
	return nil
}

func (ix *index) loadMessage(key, body, mark []byte, marked bool) error {
	seq, err := parseSeqKey(key)
	if err != nil {
		return err
	}
	if seq > ix.high || seq == 0 {
		return fmt.Errorf("number above %d, the highest used", ix.high)
	}
	var h store.Header
	r := reader{b: body}
	payload, n := r.head(&h)
	s := shape{size: h.Size, marks: marked, slots: make([]slot, 0, n)}
	for range n {
		if e := r.entry(); r.err == nil {
			s.slots = append(s.slots, slot{ix.rawQueue(&e), store.EntryState(e.state)})
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	if marked {
		if err := s.overlay(mark); err != nil {
			return err
		}
	}
	live, need := count(s.slots)
	if live == 0 {
		return fmt.Errorf("no entry left: %w", errValue)
	}
	s.payload = payload && need > 0
	for _, sl := range s.slots {
		if sl.state != gone {
			sl.queue.set.add(seq, liveSize(s.size, sl.state))
		}
	}
	ix.messages++
	if s.payload {
		ix.bytes += int64(s.size)
	}
	ix.settle(seq, &s)
	return nil
}

// overlay sets the states of a marks record.
func (s *shape) overlay(mark []byte) error {
	states, err := decodeMarks(mark, len(s.slots))
	if err != nil {
		return err
	}
	for i, st := range states {
		s.slots[i].state = st
	}
	return nil
}

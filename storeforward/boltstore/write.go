package boltstore

import (
	"encoding/binary"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/storeforward/store"
)

// The buckets, and the keys of the first.
var (
	bucketFile     = []byte("farhop")
	bucketMessages = []byte("messages")
	bucketMarks    = []byte("marks")
	bucketPayloads = []byte("payloads")
	bucketState    = []byte("state")

	keyFile = []byte("file")
	keySeq  = []byte("seq")
)

// write puts the survivors of the group into the transaction.
func (p *plan) write() error {
	messages, payloads, marks := p.tx.Bucket(bucketMessages), p.tx.Bucket(bucketPayloads), p.tx.Bucket(bucketMarks)
	// Keys only ever arrive at the right edge: pages are left full.
	messages.FillPercent, payloads.FillPercent = 1, 1
	for _, seq := range p.seqs() {
		if err := p.writeWork(p.work[seq], messages, payloads, marks); err != nil {
			return err
		}
	}
	state := p.tx.Bucket(bucketState)
	for _, key := range slices.Sorted(maps.Keys(p.sets)) {
		if err := p.writeSet(state, p.sets[key]); err != nil {
			return err
		}
	}
	if p.high == p.ix.high {
		return nil
	}
	p.scratch = binary.AppendUvarint(p.scratch[:0], p.high)
	return putValue(p.tx.Bucket(bucketFile), p.arena, keySeq, p.scratch, false)
}

func (p *plan) writeWork(w *work, messages, payloads, marks *bolt.Bucket) error {
	live, _ := count(w.slots)
	if w.fresh && live == 0 {
		return nil // stored and dropped within one commit
	}
	key := seqKey(w.seq)
	if w.fresh && w.keeps() && w.blob != nil {
		w.payload = true
		if err := putValue(payloads, p.arena, key, w.blob.B, true); err != nil {
			return err
		}
	}
	if w.hadPayload && !w.keeps() {
		w.payload = false
		if err := deleteValue(payloads, key); err != nil {
			return err
		}
	}
	if w.hadMarks && live == 0 {
		w.marks = false
		if err := deleteValue(marks, key); err != nil {
			return err
		}
	}
	switch {
	case live == 0:
		return deleteValue(messages, key)
	case w.fresh:
		p.scratch = appendHeader(p.scratch[:0], w.header, w.header.Entries, w.slots, w.payload)
		w.slots = slices.DeleteFunc(w.slots, func(s slot) bool { return s.state == gone })
		return putValue(messages, p.arena, key, p.scratch, true)
	case w.marked:
		w.marks = true
		p.scratch = appendMarks(p.scratch[:0], w.slots)
		return putValue(marks, p.arena, key, p.scratch, !w.hadMarks)
	}
	return nil
}

func (p *plan) writeSet(state *bolt.Bucket, s *store.Set) error {
	key := stateKey(s.Key)
	if s.Value == nil && s.Blob == nil {
		return deleteValue(state, key)
	}
	body := s.Value
	if s.Blob != nil {
		p.scratch = append(append(p.scratch[:0], s.Value...), s.Blob.B...)
		body = p.scratch
	}
	return putValue(state, p.arena, key, body, false)
}

// headerRoom bounds the body of a header record.
func headerRoom(h *store.Header, entries []store.Entry) int {
	n := 4 + 9*binary.MaxVarintLen64 + 3*64 + len(h.Topic) + len(h.Service)
	for i := range entries {
		n += 4 + 4*binary.MaxVarintLen64 + len(entries[i].Queue.Name) + len(entries[i].Frozen)
	}
	return n
}

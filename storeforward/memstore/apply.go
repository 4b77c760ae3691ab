package memstore

import (
	"slices"

	"github.com/farhop/farhop/storeforward/store"
)

// queue is the messages of one queue, by Seq.
type queue struct {
	waiting []*message
	bytes   int64
}

func (q *queue) find(seq uint64) (int, bool) {
	// Most questions are about the head or the end of a queue.
	n := len(q.waiting)
	if n == 0 || seq > q.waiting[n-1].header.Seq {
		return n, false
	}
	if seq <= q.waiting[0].header.Seq {
		return 0, seq == q.waiting[0].header.Seq
	}
	return slices.BinarySearchFunc(q.waiting, seq, func(m *message, seq uint64) int {
		switch {
		case m.header.Seq < seq:
			return -1
		case m.header.Seq > seq:
			return 1
		}
		return 0
	})
}

func (q *queue) after(seq uint64) []*message {
	i, found := q.find(seq)
	if found {
		i++
	}
	return q.waiting[i:]
}

func (q *queue) insert(m *message) {
	i, _ := q.find(m.header.Seq)
	q.waiting = slices.Insert(q.waiting, i, m)
}

// remove shifts the shorter side: acknowledgements come near the head.
func (q *queue) remove(seq uint64) {
	i, found := q.find(seq)
	if !found {
		return
	}
	if i < len(q.waiting)/2 {
		copy(q.waiting[1:i+1], q.waiting[:i])
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		return
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
}

// find returns the entry of q, or -1.
func (m *message) find(q store.Queue) int {
	for i := range m.entries {
		if m.entries[i].Queue == q {
			return i
		}
	}
	return -1
}

// own makes the entries ours to change: the header's are shared.
func (m *message) own() {
	m.changed = true
	if !m.owned {
		m.entries, m.owned = slices.Clone(m.entries), true
	}
}

// view returns the header with the entries that still wait.
func (m *message) view() *store.Header {
	if !m.changed {
		return m.header
	}
	h := *m.header
	h.Entries = slices.Clone(m.entries)
	return &h
}

// liveSize is what an entry adds to the bytes of its queue: an ended one
// needs no payload.
func (m *message) liveSize(e *store.Entry) int64 {
	if e.State == store.Ended {
		return 0
	}
	return int64(m.header.Size)
}

// apply makes a checked batch durable, its parts in the order of the fields.
func (s *Store) apply(b *store.Batch) {
	for i := range b.Puts {
		s.put(&b.Puts[i])
	}
	for i := range b.Marks {
		s.mark(&b.Marks[i])
	}
	for i := range b.Drops {
		s.drop(&b.Drops[i])
	}
	for i := range b.Sets {
		s.set(&b.Sets[i])
	}
}

func (s *Store) put(p *store.Put) {
	s.high = p.Header.Seq
	if len(p.Header.Entries) == 0 {
		return // no queue waits for it; the number stays used
	}
	m := &message{header: p.Header, blob: p.Blob, entries: p.Header.Entries}
	if old := s.messages[p.From]; m.blob == nil && old != nil {
		m.blob = old.blob
		if s.damaged[p.From] {
			s.Damage(m.header.Seq) // the copy is of what the disk gives back
		}
	}
	s.messages[m.header.Seq] = m
	if m.blob != nil {
		s.bytes += int64(m.header.Size)
	}
	for i := range m.entries {
		s.place(m, &m.entries[i])
	}
	s.settle(m)
}

func (s *Store) place(m *message, e *store.Entry) {
	q := s.queues[e.Queue]
	if q == nil {
		q = &queue{}
		s.queues[e.Queue] = q
	}
	q.insert(m)
	q.bytes += m.liveSize(e)
}

// displace takes entry i out of its queue and out of the message.
func (s *Store) displace(m *message, i int) {
	e := &m.entries[i]
	q := s.queues[e.Queue]
	q.remove(m.header.Seq)
	q.bytes -= m.liveSize(e)
	if len(q.waiting) == 0 {
		delete(s.queues, e.Queue)
	}
	m.changed = true
	if i == 0 { // the common case copies nothing
		m.entries = m.entries[1:]
		return
	}
	m.own()
	m.entries = slices.Delete(m.entries, i, i+1)
}

// settle frees what no entry needs any more.
func (s *Store) settle(m *message) {
	if m.blob != nil && !slices.ContainsFunc(m.entries, func(e store.Entry) bool { return e.State != store.Ended }) {
		m.blob = nil
		s.bytes -= int64(m.header.Size)
	}
	if len(m.entries) == 0 {
		delete(s.messages, m.header.Seq)
	}
}

// take finds an entry; -1 when it is no longer there.
func (s *Store) take(q store.Queue, seq uint64) (*message, int) {
	m := s.messages[seq]
	if m == nil {
		return nil, -1
	}
	return m, m.find(q)
}

func (s *Store) drop(d *store.Drop) {
	if m, i := s.take(d.Queue, d.Seq); i >= 0 {
		s.displace(m, i)
		s.settle(m)
	}
}

// mark changes a state. Ended is final: the payload may be freed already.
func (s *Store) mark(mk *store.Mark) {
	m, i := s.take(mk.Queue, mk.Seq)
	if i < 0 || m.entries[i].State == store.Ended {
		return
	}
	m.own()
	e := &m.entries[i]
	q := s.queues[e.Queue]
	q.bytes -= m.liveSize(e)
	e.State = mk.State
	q.bytes += m.liveSize(e)
	s.settle(m)
}

func (s *Store) set(st *store.Set) {
	if st.Value == nil && st.Blob == nil {
		delete(s.state, st.Key)
		return
	}
	s.state[st.Key] = value{b: slices.Clone(st.Value), blob: st.Blob}
}

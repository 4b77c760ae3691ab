package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/storeforward/journal/index"
	"github.com/farhop/farhop/storeforward/store"
)

// A checkpoint is the book, and the place in the journal from which on it has
// to be brought up to date. Its keys, with numbers in big endian:
//
//	A                 identity, place, totals
//	g number          a segment: what is fixed once it is sealed
//	l number          a segment: what of it is needed
//	q queue           kind, class, name, bytes
//	s base queue      a container of the set of a queue
//	e base queue      states of entries of a queue, but for pending
//	m base            messages of more than one entry
//	k key             a key of the state
//
// All changes since the checkpoint before go into one transaction; any earlier
// checkpoint is as good as long as every segment it knows is still there.
const (
	keyAbout    = "A"
	keySegment  = "g"
	keyLive     = "l"
	keyQueue    = "q"
	keySet      = "s"
	keyStates   = "e"
	keySeverals = "m"
	keyState    = "k"

	checkpointVersion = 1
)

func numKey(prefix string, n uint64) string {
	return string(binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), prefix...), n))
}

// baseKey has the base first: new messages are at the right edge of the tree.
func baseKey(prefix string, base uint64, id uint32) string {
	b := binary.BigEndian.AppendUint64(append(make([]byte, 0, 13), prefix...), base)
	return string(binary.BigEndian.AppendUint32(b, id))
}

func queueKey(id uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte(keyQueue), id))
}

// Checkpoint saves the book, so that the next Open reads only the journal
// written from now on, and removes segments that nothing needs any more.
func (s *Store) Checkpoint() error {
	s.maint.mu.Lock()
	defer s.maint.mu.Unlock()
	return s.checkpoint(false)
}

// checkpoint is Checkpoint for who holds maint.mu.
func (s *Store) checkpoint(last bool) error {
	if cause := s.poison.Load(); cause != nil {
		return *cause
	}
	began := time.Now()
	s.maint.bytes.Store(0)
	s.maint.records.Store(0)
	sn, dead := s.snapshot()
	var err error
	if s.index != nil && !s.maint.indexLost {
		if err = s.index.Apply(sn.finish(), last); err != nil {
			// What was to be saved is not known to be dirty any more.
			s.maint.all = true
			err = fmt.Errorf("save checkpoint: %w", err)
		} else {
			s.maint.all, s.maint.savedNum = false, sn.num
			if cerr := s.index.MaybeCompact(); cerr != nil && !last {
				s.cfg.Log.Warn("the index was not compacted", "dir", s.path, "err", cerr)
			}
		}
	}
	s.maint.last, s.maint.took = time.Now(), time.Since(began)
	// Without a checkpoint that knows of it, the next start reads the whole
	// journal once these are gone; a full disk needs their space all the same.
	return errors.Join(err, s.remove(dead))
}

// snapshot takes a consistent cut of what changed, and takes segments that
// nothing needs out of the table. The committer waits meanwhile, so it only
// touches what is dirty.
func (s *Store) snapshot() (*snapshot, []*segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dead := s.condemn()
	sn := &snapshot{b: s.book, all: s.maint.all}
	if s.maint.all && s.index != nil {
		sn.old = s.indexKeys()
	}
	sn.about(s)
	for _, seg := range dead {
		s.maint.replaced = append(s.maint.replaced, seg.num)
	}
	for _, num := range s.maint.replaced {
		sn.delete(numKey(keySegment, num))
		sn.delete(numKey(keyLive, num))
	}
	sn.num = s.pos.num
	s.maint.replaced = s.maint.replaced[:0]
	for _, seg := range s.book.segs {
		sn.segment(seg)
	}
	sn.queues()
	sn.severals()
	sn.keys()
	return sn, dead
}

// indexKeys returns the keys of the index, to delete what is not written again.
func (s *Store) indexKeys() map[string]bool {
	old := map[string]bool{}
	if err := s.index.Each("", func(key string, _ []byte) error { old[key] = true; return nil }); err != nil {
		// What cannot be read is better begun anew.
		if err := s.index.Reset(); err != nil {
			s.maint.indexLost = true
			s.cfg.Log.Error("the index is lost; every start will read the whole journal", "dir", s.path, "err", err)
		}
		return nil
	}
	return old
}

// snapshot gathers changes.
type snapshot struct {
	b       *book
	num     uint64          // segment of its place
	all     bool            // everything is dirty
	old     map[string]bool // keys that have to go unless they are written
	changes []index.Change
	arena   []byte
}

// set takes what is appended to b's arena since start as the value of key.
func (sn *snapshot) set(key string, value []byte) {
	sn.changes = append(sn.changes, index.Change{Key: key, Value: value})
}

func (sn *snapshot) delete(key string) {
	sn.changes = append(sn.changes, index.Change{Key: key})
}

func (sn *snapshot) finish() []index.Change {
	if len(sn.old) > 0 {
		for _, c := range sn.changes {
			delete(sn.old, c.Key)
		}
		for key := range sn.old {
			sn.delete(key)
		}
	}
	slices.SortStableFunc(sn.changes, func(a, b index.Change) int { return strings.Compare(a.Key, b.Key) })
	// The last word on a key counts.
	out := sn.changes[:0]
	for i, c := range sn.changes {
		if i+1 == len(sn.changes) || sn.changes[i+1].Key != c.Key {
			out = append(out, c)
		}
	}
	return out
}

// value runs f on the arena and returns what it appended.
func (sn *snapshot) value(f func(b []byte) []byte) []byte {
	if cap(sn.arena)-len(sn.arena) < 4<<10 {
		sn.arena = make([]byte, 0, 256<<10)
	}
	b := f(sn.arena[len(sn.arena):])
	if len(b) <= cap(sn.arena)-len(sn.arena) {
		sn.arena = sn.arena[:len(sn.arena)+len(b)]
	}
	return slices.Clip(b)
}

func (sn *snapshot) about(s *Store) {
	pos := s.pos
	sn.set(keyAbout, sn.value(func(b []byte) []byte {
		b = append(b, checkpointVersion)
		b = append(b, s.id.id[:]...)
		return appendUints(b, uint64(s.id.incarnation), uint64(s.id.created), pos.num, uint64(pos.off), pos.next,
			sn.b.high, uint64(sn.b.messages), uint64(sn.b.bytes), uint64(sn.b.nextQueue))
	}))
}

func appendUints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (sn *snapshot) segment(seg *segment) {
	if seg.end == 0 || !seg.changed && !sn.all {
		return // has not begun, or is as it was
	}
	if !seg.sealed || !seg.saved || sn.all {
		sn.set(numKey(keySegment, seg.num), sn.value(seg.appendFixed))
		seg.saved = seg.sealed
	}
	sn.set(numKey(keyLive, seg.num), sn.value(seg.appendLive))
	seg.changed = false
}

func (seg *segment) appendFixed(b []byte) []byte {
	b = append(b, seg.kind)
	b = appendUints(b, seg.nonce, seg.last, seg.firstBlock, uint64(seg.prevEnd), seg.high, uint64(seg.length),
		uint64(seg.end), seg.from, seg.to, uint64(seg.puts), uint64(seg.putBytes), uint64(len(seg.samples)))
	var first, off uint64
	for _, sm := range seg.samples {
		b = appendUints(b, sm.first-first, uint64(sm.off)-off, uint64(sm.n))
		first, off = sm.first, uint64(sm.off)
	}
	return b
}

func (seg *segment) appendLive(b []byte) []byte {
	b = appendUints(b, uint64(seg.live), uint64(seg.stateBytes), uint64(seg.keyTombs), uint64(seg.fresh), uint64(len(seg.tombs)))
	for _, t := range seg.tombs {
		b = appendUints(b, t.nonce, uint64(t.n))
	}
	return b
}

func (sn *snapshot) queues() {
	list := sn.b.dirtyQueues
	if sn.all {
		list = slices.Collect(maps.Values(sn.b.queues))
	}
	for _, q := range list {
		sn.queue(q)
		q.dirty = false
	}
	sn.b.dirtyQueues = sn.b.dirtyQueues[:0]
}

func (sn *snapshot) queue(q *queue) {
	for _, base := range q.set.Vanished() {
		sn.delete(baseKey(keySet, base, q.id))
	}
	q.set.ClearVanished()
	q.set.Containers(func(base uint64, dirty bool) {
		if dirty || sn.all {
			sn.set(baseKey(keySet, base, q.id), sn.value(func(b []byte) []byte { return q.set.AppendContainer(b, base) }))
			q.set.Clean(base)
		}
	})
	q.states.save(sn, func(base uint64) string { return baseKey(keyStates, base, q.id) },
		func(b []byte, off uint64, st store.EntryState) []byte { return append(appendUints(b, off), byte(st)) })
	if q.set.Len() == 0 {
		if q.saved || sn.all {
			sn.delete(queueKey(q.id))
		}
		q.saved = false
		return
	}
	q.saved = true
	sn.set(queueKey(q.id), sn.value(func(b []byte) []byte {
		b = append(b, byte(q.name.Kind), byte(q.name.Class))
		b = appendUints(b, uint64(q.bytes))
		return append(b, q.name.Name...)
	}))
}

// save writes the parts of a map that changed.
func (c *chunked[T]) save(sn *snapshot, key func(base uint64) string, value func(b []byte, off uint64, v T) []byte) {
	if sn.all {
		for base := range c.parts {
			c.dirty[base] = true
		}
	}
	for base := range c.dirty {
		part := c.parts[base]
		if len(part) == 0 {
			sn.delete(key(base))
			continue
		}
		sn.set(key(base), sn.value(func(b []byte) []byte {
			for _, seq := range slices.Sorted(maps.Keys(part)) {
				b = value(b, seq%chunk, part[seq])
			}
			return b
		}))
	}
	clear(c.dirty)
}

func (sn *snapshot) severals() {
	sn.b.severals.save(sn, func(base uint64) string { return numKey(keySeverals, base) },
		func(b []byte, off uint64, m several) []byte {
			return appendUints(b, off, uint64(m.live), uint64(m.need))
		})
}

func (sn *snapshot) keys() {
	if sn.all {
		sn.changes = slices.Grow(sn.changes, sn.b.keys.count)
		sn.b.keys.each("", func(e *keyEntry) bool { sn.key(e.key, sn.b.keys.value(e)); return true })
		sn.b.dirtyKeys = nil
	}
	for key := range sn.b.dirtyKeys {
		if v, ok := sn.b.keys.get(key); ok {
			sn.key(key, v)
		} else {
			sn.delete(keyState + key)
		}
	}
	sn.b.dirtyKeys = map[string]bool{} // a cleared one would keep its size
}

func (sn *snapshot) key(key string, v stateValue) {
	sn.set(keyState+key, sn.value(func(b []byte) []byte {
		b = appendUints(b, v.seg.num, uint64(v.at), uint64(v.cost))
		if !v.inside {
			return append(b, 0)
		}
		return append(append(b, 1), v.value...)
	}))
}

package journal

import (
	"cmp"
	"slices"
	"strings"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/seqset"
	"github.com/farhop/farhop/storeforward/store"
)

// chunk is how many neighbouring Seqs share one value of a checkpoint, for
// what is kept outside of sets.
const chunk = 1 << 16

// queue is one queue in RAM.
type queue struct {
	id     uint32
	name   store.Queue
	set    seqset.Set
	bytes  int64 // of payloads
	states chunked[store.EntryState]
	dirty  bool // in book.dirtyQueues
	saved  bool // in a checkpoint
}

// chunked is a map by Seq that remembers which parts changed.
type chunked[T any] struct {
	parts map[uint64]map[uint64]T // by Seq / chunk
	dirty map[uint64]bool
}

func (c *chunked[T]) get(seq uint64) (v T, ok bool) {
	v, ok = c.parts[seq/chunk][seq]
	return v, ok
}

func (c *chunked[T]) set(seq uint64, v T) {
	p := c.parts[seq/chunk]
	if p == nil {
		if c.parts == nil {
			c.parts, c.dirty = map[uint64]map[uint64]T{}, map[uint64]bool{}
		}
		p = map[uint64]T{}
		c.parts[seq/chunk] = p
	}
	p[seq] = v
	c.dirty[seq/chunk] = true
}

func (c *chunked[T]) delete(seq uint64) {
	p := c.parts[seq/chunk]
	if _, ok := p[seq]; !ok {
		return
	}
	delete(p, seq)
	if len(p) == 0 {
		delete(c.parts, seq/chunk)
	}
	c.dirty[seq/chunk] = true
}

// several is a message that was put into more than one queue.
type several struct {
	live uint32 // entries
	need uint32 // of these, that need the payload
}

// keyLimit is the largest value of a key that is kept in RAM, unless its key
// is one of Config.Bulk.
const keyLimit = 1 << 10

// book is what RAM knows: which message waits in which queue, and which
// segment holds what. Only what is persisted is in it. The owner of a book
// locks it: see Store.mu.
type book struct {
	queues      map[store.Queue]*queue
	nextQueue   uint32
	dirtyQueues []*queue
	severals    chunked[several]
	keys        keyTable
	bulk        []string        // prefixes of keys whose values are not kept in RAM
	dirtyKeys   map[string]bool // nil: all, until the next checkpoint
	high        uint64          // highest Seq ever used
	messages    int
	bytes       int64 // of payloads, each message once
	peak        int64 // highest bytes since open
	segs        []*segment
	empty       int // queues without a message, at most
}

func newBook() *book {
	return &book{queues: map[store.Queue]*queue{}, dirtyKeys: map[string]bool{}}
}

// keeps reports whether a value of n bytes is kept in RAM.
func (b *book) keeps(key string, n int) bool {
	return n <= keyLimit && !slices.ContainsFunc(b.bulk, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

func (b *book) addQueue(name store.Queue) *queue {
	b.nextQueue++
	q := &queue{id: b.nextQueue, name: name}
	b.queues[name] = q
	return q
}

// find returns the queue of a name that aliases a block; nil when there is
// none.
func (b *book) find(n *queueName) *queue {
	return b.queues[store.Queue{Kind: store.Kind(n.kind), Name: string(n.name), Class: bundle.Class(n.class)}]
}

// rawQueue is queue for a name that aliases a block.
func (b *book) rawQueue(n *queueName) *queue {
	if n.q == nil {
		if n.q = b.find(n); n.q == nil {
			n.q = b.addQueue(n.queue())
		}
	}
	return n.q
}

func (b *book) touchKey(key string) {
	if b.dirtyKeys != nil {
		b.dirtyKeys[key] = true
	}
}

func (b *book) touch(q *queue) {
	if !q.dirty {
		q.dirty = true
		b.dirtyQueues = append(b.dirtyQueues, q)
	}
}

// place adds an entry to its queue.
func (b *book) place(q *queue, seq uint64, size uint32, state store.EntryState) {
	b.touch(q)
	q.set.Add(seq)
	if state != store.Pending {
		q.states.set(seq, state)
	}
	if state != store.Ended {
		q.bytes += int64(size)
	}
}

// put ends the arrival of a message that was placed into n queues, of which
// need need its payload.
func (b *book) put(seg *segment, seq uint64, size uint32, n, need int) {
	b.high = max(b.high, seq)
	if n == 0 {
		return
	}
	b.messages++
	if need > 0 {
		b.bytes += int64(size)
		b.peak = max(b.peak, b.bytes)
	}
	if n > 1 {
		b.severals.set(seq, several{uint32(n), uint32(need)})
	}
	seg.live += n
	seg.changed = true
}

// mark changes the state of an entry that is there; Ended is final. cur is
// the segment that says so.
func (b *book) mark(cur *segment, q *queue, seq uint64, state store.EntryState, size uint32) {
	if !q.set.Has(seq) {
		return
	}
	old, _ := q.states.get(seq)
	if old == state || old == store.Ended {
		return
	}
	b.touch(q)
	if state == store.Pending {
		q.states.delete(seq)
	} else {
		q.states.set(seq, state)
	}
	if state == store.Ended {
		q.bytes -= int64(size)
		b.unneed(seq, size)
	}
	cur.tombstone(b.segmentOf(seq))
}

// drop removes an entry if it is there.
func (b *book) drop(cur *segment, q *queue, seq uint64, size uint32) {
	if !q.set.Remove(seq) {
		return
	}
	b.touch(q)
	state, odd := q.states.get(seq)
	if odd {
		q.states.delete(seq)
	}
	if state != store.Ended {
		q.bytes -= int64(size)
		b.unneed(seq, size)
	}
	if q.set.Len() == 0 {
		q.bytes = 0
		b.empty++
	}
	if m, ok := b.severals.get(seq); !ok {
		b.messages--
	} else if m.live--; m.live == 0 {
		b.severals.delete(seq)
		b.messages--
	} else {
		b.severals.set(seq, m)
	}
	if b.messages == 0 {
		b.bytes = 0 // what is dropped without being readable says no size
	}
	if seg := b.segmentOf(seq); seg != nil {
		seg.live--
		seg.changed = true
		cur.tombstone(seg)
	}
}

// unneed says that one entry less needs the payload.
func (b *book) unneed(seq uint64, size uint32) {
	if m, ok := b.severals.get(seq); ok {
		m.need--
		b.severals.set(seq, m)
		if m.need > 0 {
			return
		}
	}
	b.bytes -= int64(size)
}

// set changes a key. A nil value with del deletes it.
func (b *book) set(key string, v stateValue, del bool) {
	old, had := b.keys.get(key)
	if had {
		old.seg.stateBytes -= old.cost
		old.seg.changed = true
	}
	b.touchKey(key)
	v.seg.changed = true
	if del {
		b.keys.delete(key)
		if had {
			v.seg.keyTombs += v.cost
		}
		return
	}
	v.seg.stateBytes += v.cost
	b.keys.put(key, v)
}

// waits reports whether an entry is there, and its state.
func (q *queue) waits(seq uint64) (store.EntryState, bool) {
	if q == nil || !q.set.Has(seq) {
		return 0, false
	}
	state, _ := q.states.get(seq)
	return state, true
}

// prune forgets queues that are empty and in no checkpoint. Nobody may hold
// one of them.
func (b *book) prune() {
	if b.empty < 1024 && b.empty*2 < len(b.queues) || b.empty == 0 {
		return
	}
	b.empty = 0
	for name, q := range b.queues {
		if q.set.Len() == 0 && !q.dirty && !q.saved {
			delete(b.queues, name)
		}
	}
}

// summary lists the queues by kind, name and class.
func (b *book) summary() store.Summary {
	sum := store.Summary{NextSeq: b.high + 1}
	for _, q := range b.queues {
		if first, ok := q.set.First(); ok {
			sum.Queues = append(sum.Queues, store.QueueSummary{Queue: q.name, Count: q.set.Len(), Bytes: q.bytes, First: first})
		}
	}
	slices.SortFunc(sum.Queues, func(a, b store.QueueSummary) int { return compareQueues(a.Queue, b.Queue) })
	return sum
}

func compareQueues(a, b store.Queue) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class))
}

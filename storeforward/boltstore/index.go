package boltstore

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// gone is the state of a slot whose entry was dropped or moved away. It
// shares the two bits of a marks record with the states of package store.
const gone store.EntryState = 3

// queueIndex is one queue in RAM.
type queueIndex struct {
	queue store.Queue
	set   seqSet
}

// slot is one entry of a header record: same position, present state.
type slot struct {
	queue *queueIndex
	state store.EntryState
}

// shape is what RAM knows of a message beyond its place in one queue. The
// common message, one pending entry and a payload, has none: its place says
// it all.
type shape struct {
	size    uint32
	payload bool // a payload record exists
	marks   bool // a marks record exists
	slots   []slot
}

// index says which message waits in which queue, as persisted. The committer
// alone changes it, under mu; it reads without, all others read under mu.
type index struct {
	mu       sync.RWMutex
	queues   map[store.Queue]*queueIndex
	odd      map[uint64]*shape // messages that are not of the common shape
	high     uint64            // highest Seq ever stored
	messages int
	bytes    int64 // payload bytes, each message once
	peak     int64 // highest bytes since open
}

func newIndex() *index {
	return &index{queues: map[store.Queue]*queueIndex{}, odd: map[uint64]*shape{}}
}

// queue finds or makes a queue. A new one enters the map at once, still
// empty, and is pruned if its commit fails.
func (ix *index) queue(q store.Queue) *queueIndex {
	qi := ix.queues[q]
	if qi == nil {
		qi = &queueIndex{queue: q}
		ix.mu.Lock()
		ix.queues[q] = qi
		ix.mu.Unlock()
	}
	return qi
}

// rawQueue is queue for a name that aliases a record.
func (ix *index) rawQueue(e *rawEntry) *queueIndex {
	if qi := ix.queues[store.Queue{Kind: store.Kind(e.kind), Name: string(e.name), Class: bundle.Class(e.class)}]; qi != nil {
		return qi
	}
	return ix.queue(store.Queue{Kind: store.Kind(e.kind), Name: string(e.name), Class: bundle.Class(e.class)})
}

// settle records the persisted shape of a message: nothing for a message
// that is over or of the common shape.
func (ix *index) settle(seq uint64, s *shape) {
	if s == nil || len(s.slots) == 1 && s.slots[0].state == store.Pending && s.payload && !s.marks {
		delete(ix.odd, seq)
		return
	}
	ix.odd[seq] = s
}

// prune forgets queues that are empty.
func (ix *index) prune(touched []*queueIndex) {
	for _, qi := range touched {
		if qi.set.count == 0 && ix.queues[qi.queue] == qi {
			delete(ix.queues, qi.queue)
		}
	}
}

// summary lists the queues by kind, name and class.
func (ix *index) summary() store.Summary {
	sum := store.Summary{NextSeq: ix.high + 1}
	for _, qi := range ix.queues {
		if qi.set.count == 0 {
			continue // made by a commit that is still running
		}
		sum.Queues = append(sum.Queues, store.QueueSummary{
			Queue: qi.queue, Count: qi.set.count, Bytes: qi.set.bytes, First: qi.set.first(),
		})
	}
	slices.SortFunc(sum.Queues, func(a, b store.QueueSummary) int {
		return cmp.Or(cmp.Compare(a.Queue.Kind, b.Queue.Kind),
			strings.Compare(a.Queue.Name, b.Queue.Name), cmp.Compare(a.Queue.Class, b.Queue.Class))
	})
	return sum
}

// liveSize is what an entry adds to the bytes of its queue: an ended one
// needs no payload.
func liveSize(size uint32, state store.EntryState) uint32 {
	if state == store.Ended || state == gone {
		return 0
	}
	return size
}

// count returns the live slots and those of them that need the payload.
func count(slots []slot) (live, need int) {
	for _, s := range slots {
		if s.state != gone {
			live++
			if s.state != store.Ended {
				need++
			}
		}
	}
	return live, need
}

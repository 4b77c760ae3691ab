package core

import (
	"container/heap"
	"hash/maphash"
	"unique"

	"github.com/farhop/farhop/routing/addr"
)

// holding is what this node knows of the retained message of one topic. The
// message itself is in the state of the store. There may be a million of them,
// of a few nodes, and few that end: it has 48 bytes, and the text of the topic
// is the one that the store has.
type holding struct {
	topic   string
	stamp   Stamp
	drew    unique.Handle[addr.Node] // see node
	size    uint32                   // bytes of topic and payload block; of a deletion 0
	at      int32                    // in topicIndex.list
	heapAt  int32                    // in retained.due, -1: it never ends
	state   KeptState
	doubted bool // see retained_away.go
}

// node is the one that drew the stamp, where the message entered the mesh.
func (k *holding) node() addr.Node { return k.drew.Value() }

// topicIndex finds holdings by their topic: slots has where they are in the
// list, the next free one behind the place that the hash names. The hash
// differs from run to run, so that nobody can choose topics that collide; no
// order comes of it.
type topicIndex struct {
	list  []*holding // in an order that two equal runs share
	slots []int32    // plus one; 0: free. Their number is a power of two
	seed  maphash.Seed
}

func newTopicIndex() topicIndex { return topicIndex{seed: maphash.MakeSeed()} }

// home is the slot that a topic has if it is free.
func (x *topicIndex) home(topic string) int {
	return int(maphash.String(x.seed, topic) & uint64(len(x.slots)-1))
}

func (x *topicIndex) after(slot int) int { return (slot + 1) & (len(x.slots) - 1) }

// get returns nil for a topic that is not known.
func (x *topicIndex) get(topic string) *holding {
	if len(x.slots) == 0 {
		return nil
	}
	for s := x.home(topic); x.slots[s] != 0; s = x.after(s) {
		if k := x.list[x.slots[s]-1]; k.topic == topic {
			return k
		}
	}
	return nil
}

// add takes in a topic that is not known.
func (x *topicIndex) add(k *holding) {
	if 4*(len(x.list)+1) > 3*len(x.slots) {
		x.slots = make([]int32, max(16, 2*len(x.slots)))
		for _, k := range x.list {
			x.point(k)
		}
	}
	k.at = int32(len(x.list))
	x.list = append(x.list, k)
	x.point(k)
}

func (x *topicIndex) point(k *holding) {
	s := x.home(k.topic)
	for x.slots[s] != 0 {
		s = x.after(s)
	}
	x.slots[s] = k.at + 1
}

// slotOf returns the slot of a holding that is in the list.
func (x *topicIndex) slotOf(k *holding) int {
	s := x.home(k.topic)
	for x.slots[s] != k.at+1 {
		s = x.after(s)
	}
	return s
}

// remove forgets a topic. The last of the list takes its place.
func (x *topicIndex) remove(k *holding) {
	x.free(x.slotOf(k))
	last := x.list[len(x.list)-1]
	if last != k {
		x.slots[x.slotOf(last)] = k.at + 1
		last.at = k.at
		x.list[k.at] = last
	}
	x.list[len(x.list)-1] = nil
	x.list = x.list[:len(x.list)-1]
}

// free empties a slot, and moves up those behind it that had to give way.
func (x *topicIndex) free(hole int) {
	for s := x.after(hole); x.slots[s] != 0; s = x.after(s) {
		home := x.home(x.list[x.slots[s]-1].topic)
		if away := (s - home) & (len(x.slots) - 1); away >= (s-hole)&(len(x.slots)-1) {
			x.slots[hole], hole = x.slots[s], s
		}
	}
	x.slots[hole] = 0
}

// ending is a holding with an end.
type ending struct {
	ends int64 // ms: a message expires, a deletion is forgotten
	k    *holding
}

// dueHeap has what ends first in front.
type dueHeap []ending

// set says when a holding ends; 0: never.
func (h *dueHeap) set(k *holding, ends int64) {
	switch {
	case ends != 0 && k.heapAt < 0:
		heap.Push(h, ending{ends, k})
	case ends != 0:
		(*h)[k.heapAt].ends = ends
		heap.Fix(h, int(k.heapAt))
	case k.heapAt >= 0:
		heap.Remove(h, int(k.heapAt))
	}
}

// Len implements heap.Interface.
func (h dueHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h dueHeap) Less(i, j int) bool { return h[i].ends < h[j].ends }

// Swap implements heap.Interface.
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].k.heapAt, h[j].k.heapAt = int32(i), int32(j)
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	e := x.(ending)
	e.k.heapAt = int32(len(*h))
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = ending{}
	*h = (*h)[:last]
	e.k.heapAt = -1
	return e
}

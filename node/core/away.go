package core

import (
	"cmp"
	"container/heap"
)

// awayHeap has sessions that end at some time: those that are offline, or
// stubs. What ends first is in front; what ends at the same time does so by
// name, whether the node was started again or not. A session is in one of them
// at most.
type awayHeap []*session

// Len implements heap.Interface.
func (h awayHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h awayHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].due(), h[j].due()), cmp.Compare(h[i].id, h[j].id)) < 0
}

// Swap implements heap.Interface.
func (h awayHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].awayAt, h[j].awayAt = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (h *awayHeap) Push(x any) {
	s := x.(*session)
	*h = append(*h, s)
	s.awayAt = int32(len(*h))
}

// Pop implements heap.Interface.
func (h *awayHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.awayAt = 0
	return s
}

// due is when a session ends that is away: ms.
func (s *session) due() int64 {
	if s.moved() {
		return s.trip.until
	}
	return s.ends
}

// add takes in a session, or its new end. That must not change else until the
// session is removed.
func (h *awayHeap) add(s *session) {
	if s.awayAt > 0 {
		heap.Fix(h, int(s.awayAt-1))
		return
	}
	heap.Push(h, s)
}

// remove takes a session out, if it is there.
func (h *awayHeap) remove(s *session) {
	if s.awayAt > 0 {
		heap.Remove(h, int(s.awayAt-1))
	}
}

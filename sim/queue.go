package sim

import (
	"container/heap"
	"time"
)

// event is something that happens at a virtual time. Events of one time run
// in the order they were made.
type event struct {
	at  time.Duration
	seq uint64
	run func()
}

// queue holds what is to happen.
type queue struct {
	heap eventHeap
	made uint64
}

func (q *queue) push(at time.Duration, run func()) {
	q.made++
	heap.Push(&q.heap, event{at, q.made, run})
}

func (q *queue) pop() event { return heap.Pop(&q.heap).(event) }

func (q *queue) len() int { return len(q.heap) }

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(a, b int) bool {
	return h[a].at < h[b].at || h[a].at == h[b].at && h[a].seq < h[b].seq
}
func (h eventHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *eventHeap) Push(e any)   { *h = append(*h, e.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

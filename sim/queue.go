package sim

import "time"

// event is something that happens at a virtual time. Events of one time run
// in the order they were made.
type event struct {
	at  time.Duration
	seq uint64
	run func()
}

// queue holds what is to happen: a heap with four children per node, which
// moves less than one with two.
type queue struct {
	heap []event
	made uint64
}

func (q *queue) len() int { return len(q.heap) }

func (q *queue) push(at time.Duration, run func()) {
	q.made++
	e := event{at, q.made, run}
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = e
}

func (q *queue) pop() event {
	top := q.heap[0]
	n := len(q.heap) - 1
	e := q.heap[n]
	q.heap[n] = event{}
	q.heap = q.heap[:n]
	for i := 0; n > 0; {
		least := 4*i + 1
		if least >= n {
			q.heap[i] = e
			break
		}
		for c := least + 1; c < min(4*i+5, n); c++ {
			if q.heap[c].before(&q.heap[least]) {
				least = c
			}
		}
		if !q.heap[least].before(&e) {
			q.heap[i] = e
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	return top
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

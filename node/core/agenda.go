package core

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"
)

// agenda has sessions that wait for something else until some time. What waits
// least is in front, of two equal ones that which came first. Every step costs
// as much as the logarithm of how many there are.
type agenda struct {
	all      []appointment
	at       map[*session]int
	n        uint64
	compared func() // nil, or told of each comparison
}

// appointment is until when a session waits.
type appointment struct {
	session *session
	until   int64  // ms
	n       uint64 // in the order they came
}

func newAgenda() agenda { return agenda{at: map[*session]int{}} }

// Len implements heap.Interface.
func (a *agenda) Len() int { return len(a.all) }

// Less implements heap.Interface.
func (a *agenda) Less(i, j int) bool {
	if a.compared != nil {
		a.compared()
	}
	return cmp.Or(cmp.Compare(a.all[i].until, a.all[j].until), cmp.Compare(a.all[i].n, a.all[j].n)) < 0
}

// Swap implements heap.Interface.
func (a *agenda) Swap(i, j int) {
	a.all[i], a.all[j] = a.all[j], a.all[i]
	a.at[a.all[i].session], a.at[a.all[j].session] = i, j
}

// Push implements heap.Interface.
func (a *agenda) Push(x any) {
	p := x.(appointment)
	a.at[p.session] = len(a.all)
	a.all = append(a.all, p)
}

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	last := len(a.all) - 1
	p := a.all[last]
	a.all[last] = appointment{}
	a.all = a.all[:last]
	delete(a.at, p.session)
	return p
}

// put has a session wait until a time, behind those that wait as long.
func (a *agenda) put(s *session, until int64) {
	a.drop(s)
	a.n++
	heap.Push(a, appointment{s, until, a.n})
}

// drop takes a session out, if it is there.
func (a *agenda) drop(s *session) {
	if at, ok := a.at[s]; ok {
		heap.Remove(a, at)
	}
}

// due returns the sessions whose time has come; each has to be taken out, or
// put off, before the next.
func (a *agenda) due(now int64) iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for len(a.all) > 0 && a.all[0].until <= now {
			if !yield(a.all[0].session) {
				return
			}
		}
	}
}

// wake has the core look when the first one is due.
func (a *agenda) wake(w *wake) {
	if len(a.all) > 0 {
		w.min(a.all[0].until)
	}
}

// waiter is a CONNECT that waits for the nodes that are near.
type waiter struct {
	session *session
	conn    uint64
	token   uint64
	epoch   Stamp // of its claim
	left    int   // nodes that have not answered
}

// await puts a waiter on the list of a node, in the order of epochs. They hardly
// ever come in another.
func (p *partnerNode) await(w *waiter, done func(*waiter) bool) {
	for len(p.waiters) > 0 && done(p.waiters[0]) {
		p.waiters = p.waiters[1:]
	}
	at := len(p.waiters)
	for at > 0 && p.waiters[at-1].epoch > w.epoch {
		at--
	}
	p.waiters = slices.Insert(p.waiters, at, w)
}

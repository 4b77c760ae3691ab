package storeforward

import (
	"cmp"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
)

// line is the order in which a queue with little credit offers what waits. A
// far end without room still takes what it waits for most, so each leg (the
// bundles of one origin, whose DSeq is contiguous) goes by its numbers and not
// by its arrival here: after changes of path they differ. Legs keep each
// other's places, but those whose first item was refused go last: else one
// leg would hide what the far end waits for of another.
//
// It spans the window: what is beyond is not known.
type line struct {
	items []*Item              // what is left of it; those that wait no more are passed over
	aside map[bundle.ID]uint64 // by leg: the lowest DSeq that was refused
}

// legOf names the leg of an item within its queue.
func legOf(i *Item) bundle.ID {
	return bundle.ID{Node: i.Header.Origin, Seq: bundle.NewSequence(i.Entry.Bundle.Incarnation(), i.Header.Class, 0)}
}

// Refused notes that the far end of its queue had no room for an item: as long
// as the queue has little credit, other legs go before that of the item.
func (m *Machine) Refused(i *Item) {
	l := &i.queue.line
	if l.aside == nil {
		l.aside = map[bundle.ID]uint64{}
	}
	leg := legOf(i)
	if d, ok := l.aside[leg]; !ok || i.Entry.DSeq < d {
		l.aside[leg] = i.Entry.DSeq
	}
}

// next returns the item that is offered next, nil when none waits.
func (q *Queue) next() *Item {
	if q.credit == 0 || q.cursor == nil {
		return q.cursor
	}
	l := &q.line
	for len(l.items) > 0 && l.items[0].State != Waiting {
		l.items = l.items[1:]
	}
	if len(l.items) == 0 {
		l.items = q.align()
	}
	return l.items[0]
}

// align puts in order what waits in the window.
func (q *Queue) align() []*Item {
	var all []*Item
	legs := map[bundle.ID][]*Item{}
	for i := q.cursor; i != nil; i = i.nextWaiting() {
		all = append(all, i)
		legs[legOf(i)] = append(legs[legOf(i)], i)
	}
	for _, items := range legs {
		slices.SortStableFunc(items, func(a, b *Item) int { return cmp.Compare(a.Entry.DSeq, b.Entry.DSeq) })
	}
	last := q.line.behind(legs)
	front, back := make([]*Item, 0, len(all)), []*Item(nil)
	for _, i := range all {
		leg := legOf(i)
		i, legs[leg] = legs[leg][0], legs[leg][1:]
		if last[leg] {
			back = append(back, i)
		} else {
			front = append(front, i)
		}
	}
	return append(front, back...)
}

// behind returns the legs that go last: none when all would. It forgets those
// of which nothing waits.
func (l *line) behind(legs map[bundle.ID][]*Item) map[bundle.ID]bool {
	last := map[bundle.ID]bool{}
	for leg, refused := range l.aside {
		switch items := legs[leg]; {
		case len(items) == 0:
			delete(l.aside, leg)
		case items[0].Entry.DSeq >= refused:
			last[leg] = true
		}
	}
	if len(last) == len(legs) {
		clear(last)
		clear(l.aside)
	}
	return last
}

package routing

import (
	"maps"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// ways are the paths of one class. A link that bars a class is to it what a
// link is to all when it is down. All nodes reckon with the same links for a
// class, so its paths are as free of loops as if there were no other.
type ways struct {
	class bundle.Class
	paths map[addr.Node]Path // nil: to be computed
	alt   alternates
}

// count notes the links of an advert that bar a class.
func (t *Table) count(a *Advert, n int) {
	for _, nb := range a.Neighbors {
		if nb.Barred == 0 {
			continue
		}
		for class := range t.bars {
			if nb.Barred.Has(bundle.Class(class)) {
				t.bars[class] += n
			}
		}
	}
}

// of returns the ways of a class. Those that no link bars go the ways of
// control, which none does.
func (t *Table) of(class bundle.Class) *ways {
	w := &t.ways[class]
	if w.class = class; t.bars[class] == 0 && w.alt.patched == nil {
		return &t.ways[bundle.Control]
	}
	return w
}

// each visits the ways that differ, by class.
func (t *Table) each(visit func(*ways)) {
	for class := range t.ways {
		if w := t.of(bundle.Class(class)); w.class == bundle.Class(class) {
			visit(w)
		}
	}
}

// Apart reports whether a class has ways of its own; control does.
func (t *Table) Apart(class bundle.Class) bool { return t.of(class) == &t.ways[class] }

func (t *Table) computed(class bundle.Class) *ways {
	w := t.of(class)
	if w.paths == nil {
		t.compute(w)
	}
	return w
}

// apart gives a class ways of its own, which are those of control until now.
func (t *Table) apart(class bundle.Class) *ways {
	w, from := &t.ways[class], t.of(class)
	if from != w {
		*w = ways{class: class, paths: maps.Clone(from.paths), alt: alternates{ways: maps.Clone(from.alt.ways)}}
	}
	return w
}

// compute finds the cheapest path to every node: Dijkstra over the links as
// their near ends advertise them, ties broken by hops and then by name, so
// that equal tables give equal paths.
func (t *Table) compute(w *ways) {
	w.paths = make(map[addr.Node]Path, len(t.nodes))
	done := map[addr.Node]bool{t.self: true}
	var q heap[step]
	extend := func(from addr.Node, base Path) {
		a := t.adverts[from]
		if a == nil {
			return
		}
		for _, n := range a.Neighbors {
			if done[n.Node] {
				continue
			}
			p := Path{Hop: base.Hop, Cost: base.Cost + n.weight(w.class), Hops: base.Hops + 1}
			if from == t.self {
				p.Hop = n.Node
			}
			q.push(step{n.Node, p})
		}
	}
	extend(t.self, Path{})
	for len(q) > 0 {
		s := q.pop()
		if done[s.to] {
			continue
		}
		done[s.to] = true
		w.paths[s.to] = s.path
		extend(s.to, s.path)
	}
	maps.Copy(w.paths, w.alt.patched)
}

// step is a candidate path.
type step struct {
	to   addr.Node
	path Path
}

func (s step) less(o step) bool {
	if s.path.Cost != o.path.Cost {
		return s.path.Cost < o.path.Cost
	}
	if s.path.Hops != o.path.Hops {
		return s.path.Hops < o.path.Hops
	}
	if c := s.path.Hop.Compare(o.path.Hop); c != 0 {
		return c < 0
	}
	return s.to.Compare(o.to) < 0
}

func (w *ways) forget() { w.paths, w.alt = nil, alternates{} }

// forgetPaths has all paths computed anew.
func (t *Table) forgetPaths() {
	for class := range t.ways {
		t.ways[class].forget()
	}
}

// moved takes in that an advert has other neighbours. News of nothing but the
// links that FailOver knows to be silent leaves its ways in force.
func (t *Table) moved(old, a *Advert) {
	for class := range t.ways {
		w := &t.ways[class]
		w.class = bundle.Class(class)
		w.moved(t.self, old, a)
	}
}

func (w *ways) moved(self addr.Node, old, a *Advert) {
	switch {
	case w.alt.patched == nil || old.Region != a.Region:
		w.forget()
	case a.Node == self && w.onlyDown(old.Neighbors, a.Neighbors, func(n addr.Node) bool { return w.alt.silent[n] }):
		if w.alt.bare {
			w.paths, w.alt.ways = nil, nil // compute keeps what is patched
		}
	case w.alt.silent[a.Node] && w.onlyDown(old.Neighbors, a.Neighbors, func(n addr.Node) bool { return n == self }):
	default:
		w.forget()
	}
}

// onlyDown reports whether neighbours differ, for the class, in nothing but
// that links to some do not carry it now.
func (w *ways) onlyDown(old, now []Neighbor, some func(addr.Node) bool) bool {
	return slices.EqualFunc(old, now, func(o, n Neighbor) bool {
		return o.Node == n.Node &&
			(o.weight(w.class) == n.weight(w.class) || o.Carries(w.class) && !n.Carries(w.class) && some(n.Node))
	})
}

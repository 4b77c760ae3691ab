package routing

import (
	"cmp"
	"math"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// The search for alternates looks from each neighbour over the whole mesh.
// Of many neighbours the nearest are looked at, fewer the larger the mesh is,
// so that it stays some tens of milliseconds of a small processor.
const (
	maxAlternates  = 8
	alternateNodes = 20_000 // nodes looked at, over all neighbours; at least two are
)

// alternates are the ways around each next hop, and what was made of them
// since a next hop fell silent.
type alternates struct {
	ways    map[addr.Node]Path // by destination; nil: not prepared
	patched map[addr.Node]Path // destinations that go another way until Converge
	silent  map[addr.Node]bool // next hops they went by
	bare    bool               // some destination had no other way
}

// Prepared reports whether the alternates follow from the adverts of now.
func (t *Table) Prepared() bool {
	yes := true
	t.each(func(w *ways) { yes = yes && w.paths != nil && w.alt.ways != nil })
	return yes
}

// Alternate returns the way of a class to a node that does not begin with the
// next hop of ClassPath, as the last Prepare found it; its Hop is zero when there is none. No
// node on it sends anything back here, although none knows yet that the next
// hop fell silent: it is a loop-free alternate (RFC 5286, 3.1). One that does
// not pass the silent neighbour itself is preferred (3.2), then the cheapest.
func (t *Table) Alternate(class bundle.Class, to addr.Node) Path { return t.of(class).alt.ways[to] }

// Prepare finds the alternates. It takes a search of the mesh for each
// neighbour and each class that some link bars: call it when there is time.
func (t *Table) Prepare() { t.each(t.prepare) }

func (t *Table) prepare(w *ways) {
	if w.paths == nil {
		t.compute(w)
	}
	w.alt.ways = map[addr.Node]Path{}
	g := t.graph(w.class)
	from := t.candidates(w.class)
	trees := make([][]label, len(from))
	for i, n := range from {
		trees[i] = g.search(g.index[n.Node])
	}
	self := g.index[t.self]
	for to, p := range w.paths {
		var primary []label // from the next hop
		if i := slices.IndexFunc(from, func(n Neighbor) bool { return n.Node == p.Hop }); i >= 0 {
			primary = trees[i]
		}
		at, best, guards := g.index[to], Path{}, false
		for i, n := range from {
			d := trees[i]
			cost := d[at].plus(uint64(max(n.Cost, 1)))
			if n.Node == p.Hop || cost >= DownCost || d[at].cost >= d[self].plus(p.Cost) {
				continue
			}
			around := primary != nil && d[at].cost < d[g.index[p.Hop]].plus(primary[at].cost)
			way := Path{Hop: n.Node, Cost: cost, Hops: d[at].hops + 1}
			if best.Hop.IsZero() || around && !guards || around == guards && way.Cost < best.Cost {
				best, guards = way, around
			}
		}
		if !best.Hop.IsZero() {
			w.alt.ways[to] = best
		}
	}
}

// candidates are the neighbours that alternates may go by: those whose link
// carries the class, nearest first.
func (t *Table) candidates(class bundle.Class) []Neighbor {
	a := t.adverts[t.self]
	if a == nil {
		return nil
	}
	from := slices.DeleteFunc(slices.Clone(a.Neighbors), func(n Neighbor) bool { return !n.Carries(class) || n.Node == t.self })
	slices.SortFunc(from, func(a, b Neighbor) int { return cmp.Or(cmp.Compare(a.Cost, b.Cost), a.Node.Compare(b.Node)) })
	most := min(max(alternateNodes/max(len(t.nodes), 1), 2), maxAlternates)
	return from[:min(len(from), most)]
}

// FailOver sends what went by a next hop the alternate way from now on, in
// classes that it does not carry any more, until Converge or until the mesh
// tells otherwise. What has no alternate takes the cheapest path once the advert
// of this node says that the link is down.
func (t *Table) FailOver(hop addr.Node, classes bundle.Classes) {
	if !t.Prepared() {
		return
	}
	for class := range bundle.Class(bundle.NumClasses) {
		switch {
		case !classes.Has(class):
		case classes == bundle.AllClasses: // those that go together stay together
			if w := t.of(class); w.class == class {
				w.failOver(hop)
			}
		default:
			t.apart(class).failOver(hop)
		}
	}
}

func (w *ways) failOver(hop addr.Node) {
	if w.alt.patched == nil {
		w.alt.patched, w.alt.silent = map[addr.Node]Path{}, map[addr.Node]bool{}
	}
	w.alt.silent[hop] = true
	for to, p := range w.paths {
		if p.Hop != hop {
			continue
		}
		if way, ok := w.alt.ways[to]; ok && !w.alt.silent[way.Hop] {
			w.alt.patched[to] = way
			w.paths[to] = way
		} else {
			delete(w.alt.patched, to)
			w.alt.bare = true
		}
	}
}

// Converge ends what FailOver began: every path is the cheapest again. By then
// the others should know of the link, or what they send may come back.
func (t *Table) Converge() {
	for class := range t.ways {
		if w := &t.ways[class]; w.alt.patched != nil {
			w.forget()
		}
	}
}

// graph is the mesh with numbers for nodes.
type graph struct {
	index map[addr.Node]int
	edges [][]edge
}

type edge struct {
	to   int
	cost uint64
}

// label is how far a node is; unreachable when there is no path.
type label struct {
	cost uint64
	hops int
	node int // in a heap
}

const unreachable = math.MaxUint64

func (l label) less(o label) bool { return l.cost < o.cost }

func (l label) plus(cost uint64) uint64 {
	if l.cost == unreachable || cost == unreachable {
		return unreachable
	}
	return l.cost + cost
}

func (t *Table) graph(class bundle.Class) *graph {
	g := &graph{index: make(map[addr.Node]int, len(t.nodes)+1)}
	number := func(n addr.Node) int {
		i, ok := g.index[n]
		if !ok {
			i = len(g.edges)
			g.index[n], g.edges = i, append(g.edges, nil)
		}
		return i
	}
	number(t.self)
	for _, n := range t.nodes {
		from := number(n)
		for _, nb := range t.adverts[n].Neighbors {
			to := number(nb.Node)
			g.edges[from] = append(g.edges[from], edge{to, nb.weight(class)})
		}
	}
	return g
}

// search is Dijkstra from one node to all.
func (g *graph) search(from int) []label {
	out := make([]label, len(g.edges))
	for i := range out {
		out[i].cost = unreachable
	}
	out[from] = label{}
	h := heap[label]{{node: from}}
	for len(h) > 0 {
		l := h.pop()
		if l.cost > out[l.node].cost {
			continue
		}
		for _, e := range g.edges[l.node] {
			if next := (label{l.cost + e.cost, l.hops + 1, e.to}); next.cost < out[e.to].cost {
				out[e.to] = next
				h.push(next)
			}
		}
	}
	return out
}

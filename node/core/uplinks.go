package core

import (
	"cmp"
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Several links may lead to one neighbour, each under a name of its own: those
// of a ship over a cellular network and over a satellite. Each is a session,
// watched and acknowledged by itself; the mesh sees one adjacency. What a link
// carries is decided when a bundle is dequeued:
//
//   - Control goes by any link. Other classes go by links that carry them.
//   - A link that names a class goes before those that carry all.
//   - Then the cheaper goes. Those of one cost share: each bundle goes by the
//     one with the fewest bytes in flight.
//   - A link that is silent, or closed by its plan, is none: what was in flight
//     on it goes by the next one, and the other node drops what comes twice.
//   - The adjacency bars what none of them carries: it goes another way.

// carries reports whether a class may go by a link.
func (l *Link) carries(class bundle.Class) bool {
	return l.Classes == 0 || l.Classes.Has(class) || class == bundle.Control
}

// before compares two links for a class: negative when l is preferred.
func (l *link) before(o *link, class bundle.Class) int {
	names := func(l *link) int {
		if l.Classes != 0 && l.Classes.Has(class) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(names(l), names(o)), cmp.Compare(l.Cost, o.Cost))
}

// bind adds a link to those of its neighbour, the cheapest first.
func (c *Core) bind(l *link) {
	all := append(c.byNode[l.Node], l)
	slices.SortFunc(all, func(a, b *link) int {
		return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(a.Uplink, b.Uplink))
	})
	c.byNode[l.Node] = all
}

// unbind removes a link.
func (c *Core) unbind(l *link) {
	all := slices.DeleteFunc(c.byNode[l.Node], func(o *link) bool { return o == l })
	if c.byNode[l.Node] = all; len(all) == 0 {
		delete(c.byNode, l.Node)
	}
}

// uplink returns the link of a name, nil when there is none.
func (c *Core) uplink(n addr.Node, name string) *link {
	for _, l := range c.byNode[n] {
		if l.Uplink == name {
			return l
		}
	}
	return nil
}

// linkTo returns the cheapest link to a neighbour that is usable, nil when none
// is.
func (c *Core) linkTo(n addr.Node) *link {
	for _, l := range c.byNode[n] {
		if l.usable() {
			return l
		}
	}
	return nil
}

// linkFor returns the link that a class goes by, nil when none is usable.
func (c *Core) linkFor(n addr.Node, class bundle.Class) (best *link) {
	for _, l := range c.byNode[n] {
		if l.usable() && l.carries(class) && (best == nil || l.before(best, class) < 0) {
			best = l
		}
	}
	return best
}

// barred returns the classes that no usable link to a neighbour carries.
func (c *Core) barred(n addr.Node) (of bundle.Classes) {
	for class := range bundle.Class(bundle.NumClasses) {
		if c.linkFor(n, class) == nil {
			of = of.With(class)
		}
	}
	return of
}

// bars returns the classes that an adjacency was barred to when it was last
// looked at.
func (c *Core) bars(n addr.Node) bundle.Classes {
	if at, ok := c.edge(n); ok {
		return c.advert.Neighbors[at].Barred
	}
	return 0
}

// classesOf returns the classes that go by a link while the others are as they are.
func (c *Core) classesOf(l *link) (of bundle.Classes) {
	if l.Classes == 0 && len(c.byNode[l.Node]) == 1 {
		return bundle.AllClasses
	}
	for class := range bundle.Class(bundle.NumClasses) {
		if best := c.linkFor(l.Node, class); best != nil && l.carries(class) && l.before(best, class) == 0 {
			of = of.With(class)
		}
	}
	return of
}

// serveNode offers what waits for a neighbour, as far as its links take it, and
// reports whether something waits for the store alone.
func (c *Core) serveNode(o *storeforward.Outlet, n addr.Node) (storing bool) {
	var some [4]*link
	ready := some[:0]
	for _, l := range c.byNode[n] {
		if l.usable() {
			ready = append(ready, l)
		}
	}
	switch len(ready) {
	case 0:
		for _, l := range c.byNode[n] {
			if l.silent {
				l.waited = l.waited || !o.Empty()
			}
		}
		return false
	case 1:
		_, storing = c.serveLink(o, ready[0], c.classesOf(ready[0]), 0)
		return storing
	}
	for len(ready) > 0 {
		at := 0
		for i, l := range ready {
			if l.bytes < ready[at].bytes {
				at = i
			}
		}
		n, waits := c.serveLink(o, ready[at], c.classesOf(ready[at]), 1)
		if storing = storing || waits; n == 0 {
			ready = slices.Delete(ready, at, at+1)
		}
	}
	return storing
}

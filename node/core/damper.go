package core

import (
	"slices"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// A link that comes and goes costs every node of the mesh an advert each time.
// So each fall of an adjacency adds to a penalty that halves in a time of the
// link's, and from some falls in a row on the mesh is told that the adjacency is
// back only when the penalty is low again (in the manner of RFC 2439). This
// node uses the link meanwhile: what goes this way without being told to cannot
// loop, since all others reckon with more, never with less, than there is. Bad
// news is never held back.
const (
	fallPenalty = 1000
	holdPenalty = 2000 // beyond it, good news waits: from the third fall in a row on
	freePenalty = 1000 // until it is no more than that
	mostPenalty = 8000 // so it waits for three half-lives at most
	halfTrips   = 20   // round trips of a half-life, or Probing.Stuck
)

// flap is the penalty of one adjacency. Times are ms.
type flap struct {
	penalty int64 // at the time
	at      int64
	half    int64 // its half-life
	pause   int64 // the link's own: the only way to a node is held back no longer
	rose    int64 // when the news that is held back was made
	until   int64 // then it is told; 0: nothing is held back
}

// now is the penalty that is left.
func (f *flap) now(now int64) int64 {
	n, rest := (now-f.at)/f.half, (now-f.at)%f.half
	if n > 20 {
		return 0
	}
	p := f.penalty >> n
	return p - p*rest/(2*f.half)
}

// fell notes that an adjacency got worse. A link with a plan comes and goes by
// that.
func (c *Core) fell(l *link) {
	if !l.Schedule.Always() {
		return
	}
	f := c.flaps[l.Node]
	if f == nil {
		c.forgetFlaps()
		f = &flap{at: c.now, half: 1}
		c.flaps[l.Node] = f
	}
	p := min(f.now(c.now)+fallPenalty, mostPenalty)
	*f = flap{penalty: p, at: c.now, half: max(l.floors.stuck, halfTrips*l.rtt), pause: max(l.floors.muted, 2*l.rtt)}
}

// rises notes that an adjacency got better, and holds the news back if it fell
// too often.
func (c *Core) rises(n addr.Node) {
	f := c.flaps[n]
	if f == nil || f.now(c.now) <= holdPenalty {
		return
	}
	f.rose, f.until = c.now, c.now
	for p := f.now(c.now); p > freePenalty; p /= 2 {
		f.until += f.half
	}
	c.watching.Damped++
	c.spareOnlyWays()
}

// spareOnlyWays has news told soon without which a node could not be reached.
func (c *Core) spareOnlyWays() {
	for n, f := range c.flaps { // in any order: each by itself
		if f.until > f.rose+f.pause && c.onlyWay(n) {
			f.until = f.rose + f.pause
		}
	}
}

// onlyWay reports whether some class has no other way to a neighbour: of those
// that its links carry, while the mesh may think that they do not.
func (c *Core) onlyWay(n addr.Node) bool {
	at, ok := c.edge(n)
	for class := range bundle.Class(bundle.NumClasses) {
		if ok && c.table.Apart(class) && c.advert.Neighbors[at].Carries(class) && !c.table.Around(class, n) {
			return true
		}
	}
	return false
}

// damped reports whether what got better about an adjacency waits.
func (c *Core) damped(n addr.Node) bool {
	f := c.flaps[n]
	return f != nil && f.until > c.now
}

// damp returns the neighbours as the mesh is told of them.
func (c *Core) damp(now []routing.Neighbor) []routing.Neighbor {
	if len(c.flaps) == 0 || c.told == nil {
		return now
	}
	out := slices.Clone(now)
	for i, e := range out {
		at, ok := slices.BinarySearchFunc(c.told.Neighbors, e.Node, func(o routing.Neighbor, n addr.Node) int { return o.Node.Compare(n) })
		if ok && c.damped(e.Node) && better(e, c.told.Neighbors[at]) {
			out[i] = c.told.Neighbors[at]
		}
	}
	return out
}

// better reports whether an adjacency is better than it was.
func better(now, was routing.Neighbor) bool {
	if now.Up != was.Up {
		return now.Up
	}
	if now.Barred != was.Barred {
		return now.Barred&^was.Barred == 0
	}
	return now.Cost < was.Cost
}

// releaseFlaps has told what was held back for long enough.
func (c *Core) releaseFlaps() {
	for _, f := range c.flaps {
		if f.until != 0 && f.until <= c.now {
			f.until = 0
			c.advertDirty = true
		}
	}
}

// forgetFlaps drops the penalties that are gone.
func (c *Core) forgetFlaps() {
	for n, f := range c.flaps {
		if f.until == 0 && f.now(c.now) == 0 {
			delete(c.flaps, n)
		}
	}
}

func (c *Core) wakeFlaps(w *wake) {
	for _, f := range c.flaps {
		if f.until != 0 {
			w.min(max(f.until, c.now+1))
		}
	}
}

package core

import (
	"encoding/json"
	"slices"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// adjacent notes the state of an adjacency, and reports whether it is another
// one. It stays advertised when it is down: a link that was is where bundles
// wait nearest to their destination.
func (c *Core) adjacent(l *link) bool {
	n, used := l.Node, c.linkTo(l.Node)
	up := used != nil
	if !up {
		used = l
	}
	nb := routing.Neighbor{Node: n, Cost: max(used.cost(), 1), Up: up}
	if up {
		nb.Barred = c.barred(n)
	}
	at, found := c.edge(n)
	switch {
	case !found && len(c.advert.Neighbors) >= routing.MaxNeighbors:
		return false
	case !found:
		c.advert.Neighbors = slices.Insert(slices.Clone(c.advert.Neighbors), at, nb)
	case c.advert.Neighbors[at].Up == up && c.advert.Neighbors[at].Barred == nb.Barred && (!up || c.edges[n] == used.Uplink):
		return false
	default:
		was := c.advert.Neighbors[at]
		c.advert.Neighbors = slices.Clone(c.advert.Neighbors)
		c.advert.Neighbors[at] = nb
		switch {
		case better(was, nb):
			c.fell(l)
		case better(nb, was):
			c.rises(n)
		}
	}
	c.edges[n] = used.Uplink
	c.advertDirty = true
	return true
}

// edge finds a neighbour among those that are advertised.
func (c *Core) edge(n addr.Node) (at int, ok bool) {
	return slices.BinarySearchFunc(c.advert.Neighbors, n, func(e routing.Neighbor, n addr.Node) int { return e.Node.Compare(n) })
}

// regained notes that a link carries: whatever was sent around takes the
// cheapest path again.
func (c *Core) regained(l *link) {
	if c.adjacent(l) && c.converge != 0 && l.usable() {
		c.converge = 0
		c.table.Converge()
	}
}

// interestWatch says when this node's filters are summed up again. That takes
// time in proportion to their number, up to as many as an advert takes, so with
// many of them changes are gathered: ten thousand devices that connect one after the other must not
// cost ten thousand sums of thousands.
type interestWatch struct {
	dirty bool
	after int64 // ms
	spent int64 // ms of pace that adverts took in advance
	since int64 // ms: spent was right
}

// How often a node tells the mesh of other filters: some times at once, and
// then, while they come and go, at a pace that their number slows down. What a
// wider filter covers is no news.
const (
	interestBurst = 16
	interestPace  = 1000 // ms
)

// told notes that an advert with other filters left, so many.
func (w *interestWatch) told(now int64, filters int) {
	pace := int64(interestPace + filters/2)
	w.spent = max(0, w.spent-(now-w.since)) + pace
	w.since = now
	if over := w.spent - (interestBurst-1)*pace; over > 0 {
		w.after = max(w.after, now+over)
	}
}

// filtersPerMS is how many filters put off the next sum by a millisecond:
// some tenths of what a small processor sums up in that time.
const filtersPerMS = 50

func (c *Core) wakeInterest(w *wake) {
	if c.interest.dirty {
		w.min(max(c.interest.after, c.now+1))
	}
}

// refreshAdvert publishes what changed about this node. It waits until the
// number of this boot is durable: only then is a later boot sure to be newer.
func (c *Core) refreshAdvert() {
	c.releaseFlaps()
	filters := c.interest.dirty && c.now >= c.interest.after
	if !c.advertDirty && !c.groupsDirty && !filters || c.gate.persisted < c.bootLSN {
		return
	}
	a, old := c.advert, c.table.Advert(c.cfg.Self)
	if old == nil {
		old = &routing.Advert{}
	}
	a.Interest, a.Groups = old.Interest, c.tellGroups(old.Groups)
	if filters {
		a.Interest = summarize(&c.subs)
		c.interest.dirty, c.interest.after = false, c.now+int64(min(c.subs.Len(), routing.MaxFilters)/filtersPerMS)
		if !slices.Equal(a.Interest, old.Interest) {
			c.interest.told(c.now, len(a.Interest))
		}
	}
	c.advertDirty, c.groupsDirty = false, false
	if filters {
		defer c.advertised()
		defer c.tellSettled()
	}
	here := old.Seq == 0 || !sameAdvert(old, &a)
	told := a
	told.Neighbors = c.damp(a.Neighbors)
	there := c.told == nil || !sameAdvert(c.told, &told)
	if !here && !there {
		return
	}
	c.advert.Seq++
	a.Seq, told.Seq = c.advert.Seq, c.advert.Seq
	c.table.Apply(&a)
	if here {
		c.wanted(old, &a)
		c.pathsDirty, c.cur.Changed = true, true
	}
	if !there {
		return // what a damped link is, is this node's business alone
	}
	c.told = &told
	for _, l := range c.linkOrder {
		c.send(l, c.told)
	}
}

// summarize makes filters short enough for an advert, by number and bytes:
// wider filters stand for many. Topics that begin with '$' stay at this node.
func summarize(filters *interest.Trie[*subscription]) []string {
	for limit := routing.MaxFilters; limit > 0; limit /= 2 {
		out := filters.Summary(limit)
		size := 0
		for _, f := range out {
			size += len(f)
		}
		if size <= maxInterest {
			return out
		}
	}
	return []string{"#"}
}

func sameAdvert(a, b *routing.Advert) bool {
	return slices.Equal(a.Neighbors, b.Neighbors) && slices.Equal(a.Interest, b.Interest) &&
		slices.Equal(a.Services, b.Services) && slices.Equal(a.Groups, b.Groups) && a.Fleet == b.Fleet && a.Region == b.Region &&
		a.Keeps == b.Keeps && a.Sessions == b.Sessions
}

// learn takes in what another node told of itself, keeps it on disk and
// passes it on. News of this node itself comes back after its store was lost:
// then it must speak with a higher number than before.
func (c *Core) learn(a *routing.Advert, from *link) {
	if a.Node == c.cfg.Self {
		if a.Seq > c.advert.Seq && a.Seq < maxAdvert {
			c.advert.Seq = a.Seq
			c.table.Forget(c.cfg.Self)
			c.told = nil
			c.advertDirty = true
		}
		return
	}
	old := c.table.Advert(a.Node)
	if a.Seq >= maxAdvert || old == nil && len(c.table.Nodes()) >= maxNodes {
		return
	}
	newer, interested := c.table.Apply(a)
	if !newer {
		return
	}
	// On a full disk it is known until the next start.
	if b, err := json.Marshal(a); err == nil && c.hasRoom(bundle.Control, int64(len(b))) {
		c.setLarge(store.Set{Key: advertPrefix + a.Node.String(), Value: b})
	}
	c.cur.Changed = true
	if old == nil || !slices.Equal(old.Neighbors, a.Neighbors) || old.Region != a.Region {
		c.pathsDirty = true
	}
	if interested {
		c.heldDirty = true
		c.groupsLearned(a)
	}
	c.newKeeper(old, a)
	c.roamLearned(old, a)
	for _, l := range c.linkOrder {
		if l.Node != from.Node && l.Node != a.Node {
			c.send(l, a)
		}
	}
}

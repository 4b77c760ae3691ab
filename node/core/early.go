package core

import (
	"slices"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Early asks, while a known peer is dialled, for copies of what waits for it,
// at most max bytes of payload. The answer comes as an EarlyOffer: at once, or
// when the store has read it; with nothing when the link is up before. Nothing is under way by it: the items are offered
// again as Transfers when the link is up, and the peer knows them then.
func (c *Core) Early(now time.Time, token uint64, l Link, most int64) {
	c.at(now)
	if c.m.Stats().Messages == 0 {
		c.cur.Early = append(c.cur.Early, EarlyOffer{Token: token})
		return
	}
	c.endEarly(l.Node)
	c.early = append(c.early, earlyAsk{token, l, most, c.tableWith(&l)})
}

// endEarly answers what was asked for a peer before, with nothing.
func (c *Core) endEarly(peer addr.Node) {
	c.early = slices.DeleteFunc(c.early, func(a earlyAsk) bool {
		if a.link.Node == peer {
			c.cur.Early = append(c.cur.Early, EarlyOffer{Token: a.token})
		}
		return a.link.Node == peer
	})
}

// earlyAsk is a call of Early that has no answer yet.
type earlyAsk struct {
	token uint64
	link  Link
	most  int64
	table *routing.Table // as it is when the peer is linked
}

// tableWith is what will be known of the mesh when a link is up. After a
// start the neighbours are known to be that only then, and the mesh is not told
// of a link before it is there.
func (c *Core) tableWith(l *Link) *routing.Table {
	t := routing.NewTable(c.cfg.Self)
	for _, n := range c.table.Nodes() {
		if n != c.cfg.Self {
			t.Apply(c.table.Advert(n))
		}
	}
	own := c.advert
	own.Seq = max(own.Seq, 1)
	peer := routing.Neighbor{Node: l.Node, Cost: uint32(max(l.Delay.Milliseconds(), 1)), Up: true}
	for class := range bundle.Class(bundle.NumClasses) {
		if !l.carries(class) && c.linkFor(l.Node, class) == nil {
			peer.Barred = peer.Barred.With(class)
		}
	}
	own.Neighbors = append(slices.DeleteFunc(slices.Clone(own.Neighbors), func(b routing.Neighbor) bool { return b.Node == l.Node }), peer)
	slices.SortFunc(own.Neighbors, func(a, b routing.Neighbor) int { return a.Node.Compare(b.Node) })
	t.Apply(&own)
	return t
}

// goes reports whether what is in a queue would go to the peer.
func (a *earlyAsk) goes(c *Core, q store.Queue) bool {
	if !a.link.carries(q.Class) {
		return false
	}
	switch q.Kind {
	case store.ToNode:
		n, err := addr.ParseNode(q.Name)
		return err == nil && a.table.ClassPath(q.Class, n).Hop == a.link.Node
	case store.ToRegion:
		r, err := addr.ParseRegion(q.Name)
		if err != nil || r.Contains(c.cfg.Region) {
			return false
		}
		_, p := a.table.RegionPath(q.Class, r)
		return p.Hop == a.link.Node
	case store.ToSession, store.ToService, store.ToOrder: // not looked at
	}
	return false
}

// EarlyOffer answers Early. The Transfers have no XID.
type EarlyOffer struct {
	Token     uint64
	Transfers []*Transfer
}

// maxEarly bounds what is offered by number.
const maxEarly = 64

// offerEarly answers what was asked, but for what the store has still to read.
func (c *Core) offerEarly() {
	var later []earlyAsk
	for _, a := range c.early {
		items, loading := c.m.Preview(func(q store.Queue) bool { return a.goes(c, q) }, a.most)
		if loading {
			later = append(later, a)
			continue
		}
		offer := EarlyOffer{Token: a.token}
		for _, i := range items[:min(len(items), maxEarly)] {
			if i.Header.Expires <= c.now || i.Header.Hops > freeHops {
				continue
			}
			offer.Transfers = append(offer.Transfers, &Transfer{
				Class: i.Header.Class, Header: i.Header, Entry: i.Entry, Blob: i.Blob, Life: i.Header.Expires - c.now,
			})
		}
		c.cur.Early = append(c.cur.Early, offer)
	}
	c.early = later
}

// ReceiveEarly takes in bundles that came before a session with their sender
// stands. Custody stays with the sender, and nothing is answered: what is taken
// here is a duplicate when it is offered again. So what is refused here, is
// refused then; and a flight that somebody recorded and plays again has no
// effect. rtt is of the link, as far as it is known.
func (c *Core) ReceiveEarly(now time.Time, from addr.Node, rtt time.Duration, in []*Incoming) {
	c.at(now)
	if c.halted {
		return
	}
	for _, b := range in {
		if b.Bad != bundle.OK || b.Volatile || b.Ended {
			continue
		}
		c.stats.Early++
		if c.takeCustody(from, rtt.Milliseconds(), b) == bundle.Duplicate {
			c.stats.Duplicates++
		}
	}
}

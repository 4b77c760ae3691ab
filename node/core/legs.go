package core

import (
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// leg is the stream of bundles of one origin and class to this node. Their
// DSeq is contiguous, so the leg knows what is missing, restores the order in
// which the origin sent them, and drops every repeat.
//
//	next-1 and below: passed on (seen) or given up and still missing
//	next:             due
//	above:            held back on disk until what is due arrives
type leg struct {
	key     originKey
	next    uint64
	seen    storeforward.Window
	waiting map[uint64]*storeforward.Item // held back, by DSeq; nil: only its obituary came
	since   int64                         // ms, when the oldest gap opened
	loading bool                          // held messages of before a restart are not all back
}

// maxHeld bounds what one leg holds back. Beyond it custody is refused, and
// the sender keeps the bundles.
const maxHeld = 4096

// queue names where messages wait that came too early.
func (g *leg) queue() store.Queue {
	return store.Queue{Kind: store.ToOrder, Name: originName(g.key), Class: g.key.class}
}

// consume takes in a bundle for this node.
func (c *Core) consume(h *store.Header, in *Incoming) bundle.Reason {
	if in.DSeq == 0 {
		return bundle.Malformed
	}
	g := c.leg(originKey{in.Origin, in.Bundle.Incarnation(), in.Class}, in.DSeq)
	if g.seen.Seen(in.DSeq) {
		return bundle.Duplicate
	}
	if reason := c.m.Room(in.Size, 1); reason != bundle.OK {
		return reason
	}
	early := in.DSeq > g.next
	if early && len(g.waiting) >= maxHeld {
		return bundle.QuotaExceeded
	}
	g.seen.Add(in.DSeq)
	c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})
	if early {
		c.holdBack(g, h, in)
		return bundle.OK
	}
	if in.DSeq < g.next {
		c.stats.OutOfOrder++ // it was given up, and came after all
	} else {
		g.next++
	}
	if in.Ended {
		c.stats.Ended[bundle.Expired]++
	} else {
		c.arrive(h, in.Blob)
	}
	c.drain(g)
	return bundle.OK
}

// leg returns the leg of a key. One that is unknown begins at the first DSeq
// seen: what came before that was for another life of this node's store.
func (c *Core) leg(key originKey, first uint64) *leg {
	g := c.legs[key]
	if g == nil {
		g = &leg{key: key, next: first, waiting: map[uint64]*storeforward.Item{}}
		c.legs[key] = g
	}
	return g
}

// arrive hands a message that is due to its recipients here.
func (c *Core) arrive(h *store.Header, b *store.Blob) {
	if h.Service != ServiceMQTT {
		c.deliver(h, recipients{entries: []store.Entry{{Queue: store.Queue{Kind: store.ToService, Name: h.Service, Class: h.Class}}}}, b)
		return
	}
	if h.Message.Node != h.Origin && !c.firstSight(h.Message) {
		c.stats.Duplicates++ // a region handed it on twice
		return
	}
	var r recipients
	c.matchLocal(h, "", &r)
	c.deliver(h, r, b)
}

// holdBack keeps a message until what was sent before it has come.
func (c *Core) holdBack(g *leg, h *store.Header, in *Incoming) {
	if len(g.waiting) == 0 {
		g.since = c.now
		c.held = append(c.held, g)
	}
	if in.Ended {
		g.waiting[in.DSeq] = nil
		return
	}
	c.put(h, []store.Entry{{Queue: g.queue(), Bundle: in.Bundle, DSeq: in.DSeq, QoS: in.QoS}}, in.Blob)
	if i := c.m.Lookup(g.queue()).Tail(); i != nil && i.Header == h {
		g.waiting[in.DSeq] = i
	} // else it lies behind what is still being read back, and comes with that
	c.stats.HeldBack++
}

// drain passes on what is due now.
func (c *Core) drain(g *leg) {
	for {
		i, ok := g.waiting[g.next]
		if !ok {
			break
		}
		delete(g.waiting, g.next)
		g.next++
		g.since = c.now
		if i != nil {
			c.moveOn(i)
		}
	}
	c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})
}

// moveOn hands a stored message that waited here to its recipients. Live
// subscribers get it by way of a service queue: its payload may be on disk.
func (c *Core) moveOn(i *storeforward.Item) {
	h := *i.Header
	var r recipients
	switch {
	case h.Service != ServiceMQTT:
		r.entries = []store.Entry{{Queue: store.Queue{Kind: store.ToService, Name: h.Service, Class: h.Class}}}
	case h.Message.Node != h.Origin && !c.firstSight(h.Message):
		c.stats.Duplicates++
	default:
		c.matchLocal(&h, "", &r)
	}
	c.requeue(i, h, r)
}

// requeue gives a stored message its recipients, or ends it when it has none.
func (c *Core) requeue(i *storeforward.Item, h store.Header, r recipients) {
	if r.live {
		r.entries = append(r.entries, store.Entry{Queue: store.Queue{Kind: store.ToService, Name: ServiceLive, Class: h.Class}})
	}
	if len(r.entries) == 0 {
		c.end(i, bundle.NoSubscriber)
		return
	}
	h.Entries = r.entries
	c.m.Requeue(i, h)
	c.stats.Arrived++
}

// tickLegs gives up gaps that were waited for long enough.
func (c *Core) tickLegs() {
	keep := c.held[:0]
	for _, g := range c.held {
		for len(g.waiting) > 0 && !g.loading && c.now >= g.since+c.settings.OrderWait.Milliseconds() {
			first := ^uint64(0)
			for d := range g.waiting {
				first = min(first, d)
			}
			c.stats.GapsGivenUp += first - g.next
			g.next = first
			c.drain(g)
		}
		if len(g.waiting) > 0 {
			keep = append(keep, g)
		}
	}
	clear(c.held[len(keep):])
	c.held = keep
}

func (c *Core) wakeLegs(w *wake) {
	for _, g := range c.held {
		if len(g.waiting) > 0 && !g.loading {
			w.min(g.since + c.settings.OrderWait.Milliseconds())
		}
	}
}

// restoreHeld takes back messages that were held before a restart.
func (c *Core) restoreHeld(q store.Queue) {
	key, ok := parseOrigin(q.Name, q.Class)
	if !ok {
		return
	}
	g := c.leg(key, 1)
	if len(g.waiting) == 0 {
		g.since = c.now
		c.held = append(c.held, g)
	}
	sq := c.m.Lookup(q)
	for i := sq.Head(); i != nil; i = i.Next() {
		if i.Entry.DSeq >= g.next {
			g.waiting[i.Entry.DSeq] = i
		}
	}
	g.loading = sq.Windowed() < sq.Count
	for i := sq.Head(); i != nil; {
		next := i.Next()
		if i.Entry.DSeq < g.next {
			c.moveOn(i)
		}
		i = next
	}
	c.drain(g)
}

package core

import (
	"cmp"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// link is one session with a neighbour.
type link struct {
	Link
	out   [bundle.NumClasses]outgoing
	in    [bundle.NumClasses]incomingState
	bytes int64 // in flight
	life
	floors floors
	open   bool                     // within a contact
	paused [bundle.NumClasses]int64 // ms: the peer refused for want of room; nothing of the class until then
	acking bool
}

// outgoing is what is in flight in one class. XIDs are contiguous, so the
// flight of an XID is found by its distance from the first.
type outgoing struct {
	next    uint64 // XID of the next transfer
	flights []*storeforward.Item
	first   uint64 // XID of flights[0]
}

type incomingState struct {
	next uint64 // XID due
	acks []gatedAck
}

func classOf(i int) bundle.Class { return bundle.Class(i) }

// usable reports whether transfers may be sent now.
func (l *link) usable() bool { return l.open && !l.silent }

// LinkUp begins a session. An older session with the same node, of the same
// Uplink, ends.
func (c *Core) LinkUp(now time.Time, l Link) {
	c.at(now)
	if old := c.uplink(l.Node, l.Uplink); old != nil {
		c.drop(old)
		c.cur.Close = append(c.cur.Close, CloseLink{old.ID, "replaced by a newer session"})
	}
	c.endEarly(l.Node)
	l.Window = cmp.Or(l.Window, DefaultWindow)
	n := &link{Link: l, life: newLife(c.now, 2*l.Delay.Milliseconds()), floors: l.Probing.floors(), open: l.Schedule.Open(now)}
	for i := range n.out {
		n.out[i].next, n.out[i].first, n.in[i].next = 1, 1, 1
	}
	c.notePlan(l.Node, l.Schedule)
	c.links[l.ID] = n
	c.bind(n)
	at, _ := slices.BinarySearchFunc(c.linkOrder, l.ID, func(l *link, id uint64) int { return cmp.Compare(l.ID, id) })
	c.linkOrder = slices.Insert(c.linkOrder, at, n)
	for _, node := range c.table.Nodes() {
		// Its own advert too: a node that lost its store learns from it which
		// number it has to speak with to be believed.
		if a := c.table.Advert(node); node != c.cfg.Self {
			c.send(n, a)
		}
	}
	if c.told != nil {
		c.send(n, c.told)
	}
	c.regained(n)
	c.m.Hot(c.outlet(l.Node))
}

// LinkDown ends a session. What was in flight waits again.
func (c *Core) LinkDown(now time.Time, id uint64) {
	c.at(now)
	if l := c.links[id]; l != nil {
		c.drop(l)
	}
}

func (c *Core) drop(l *link) {
	delete(c.links, l.ID)
	c.unbind(l)
	c.linkOrder = slices.DeleteFunc(c.linkOrder, func(o *link) bool { return o == l })
	for class := range l.out {
		for _, i := range l.out[class].flights {
			if i != nil {
				c.giveBack(i)
			}
		}
	}
	c.failOver(l)
}

func (c *Core) close(l *link, reason string) {
	c.drop(l)
	c.cur.Close = append(c.cur.Close, CloseLink{l.ID, reason})
}

func (c *Core) send(l *link, f Frame) {
	c.cur.Sends = append(c.cur.Sends, Send{l.ID, f})
}

func (c *Core) ackLater(l *link, class bundle.Class, xid uint64) {
	in := &l.in[class]
	lsn := c.await()
	if n := len(in.acks); n > 0 && in.acks[n-1].lsn == lsn {
		in.acks[n-1].xid = xid
	} else {
		in.acks = append(in.acks, gatedAck{lsn, xid})
	}
	if !l.acking {
		l.acking = true
		c.gate.ackers = append(c.gate.ackers, l)
	}
}

// serveLink offers what waits for a neighbour in some classes, as far as the
// link takes it, and at most so many bundles, 0 for any number. It returns how
// many, and whether something waits for the store alone.
func (c *Core) serveLink(o *storeforward.Outlet, l *link, some bundle.Classes, most int) (n int, storing bool) {
	for {
		var of bundle.Classes
		for class := range bundle.Class(bundle.NumClasses) {
			// Control never waits behind data.
			if some.Has(class) && l.paused[class] == 0 && len(l.out[class].flights) < maxFlights && (class == bundle.Control || l.bytes < l.Window) {
				of = of.With(class)
			}
		}
		i, storing := c.m.Next(o, of)
		if i == nil {
			return n, storing
		}
		c.transfer(l, i)
		if n++; n == most {
			return n, false
		}
	}
}

func (c *Core) transfer(l *link, i *storeforward.Item) {
	if i.Header.Expires <= c.now && i.Entry.State != store.Ended {
		c.m.Return(i)
		c.expireItem(i)
		return
	}
	if until := i.Header.Received + lull(i.Header.Hops); until > c.now {
		c.m.Return(i)
		c.restQueue(i.Queue(), until)
		return
	}
	out := &l.out[i.Header.Class]
	if len(out.flights) == 0 {
		out.first = out.next
	}
	out.flights = append(out.flights, i)
	l.sends(c.now)
	l.bytes += int64(i.Header.Size)
	c.send(l, &Transfer{
		XID: out.next, Class: i.Header.Class, Header: i.Header, Entry: i.Entry, Blob: i.Blob, Life: i.Header.Expires - c.now,
	})
	out.next++
	c.stats.Transfers++
}

func (c *Core) acked(l *link, a Ack) {
	if int(a.Class) >= len(l.out) {
		return
	}
	out := &l.out[a.Class]
	if a.XID >= out.next {
		c.close(l, "acknowledged a transfer that was never sent")
		return
	}
	n := 0
	for ; n < len(out.flights) && out.first+uint64(n) <= a.XID; n++ {
		if i := out.flights[n]; i != nil {
			l.bytes -= int64(i.Header.Size)
			c.m.Taken(i.Queue())
			c.m.Release(i)
			c.stats.HandedOn++
			if i.Entry.State != store.Ended {
				c.sight(SightHandedOn, i.Header, i.Entry.Queue, l.Node, bundle.OK)
			}
		}
	}
	if n > 0 {
		if len(c.roam.blocked) > 0 {
			c.unblock()
		}
		out.flights = shift(out.flights, n)
		out.first += uint64(n)
		c.m.Hot(c.outlet(l.Node))
	}
}

// refused takes a bundle back. Where the peer has no room its class and those
// below rest for a few round trips; where it has none for the destination or
// for us, the queue does, and then goes by the order of those who sent. For any
// other reason its life ends here, with an obituary.
func (c *Core) refused(l *link, r Refuse) {
	if int(r.Class) >= len(l.out) {
		return
	}
	out := &l.out[r.Class]
	if r.XID < out.first || r.XID-out.first >= uint64(len(out.flights)) || out.flights[r.XID-out.first] == nil {
		return
	}
	i := out.flights[r.XID-out.first]
	out.flights[r.XID-out.first] = nil
	l.bytes -= int64(i.Header.Size)
	switch r.Reason {
	case bundle.Malformed, bundle.TooLarge, bundle.NotAllowed:
		c.m.Return(i)
		if i.Entry.State == store.Ended {
			c.m.Release(i) // not even its obituary is wanted
		} else {
			c.end(i, r.Reason)
		}
	case bundle.StoreFull:
		c.giveBack(i)
		c.m.Refused(i)
		for class := r.Class; class < bundle.NumClasses; class++ {
			l.paused[class] = c.now + l.rest()
		}
		c.restQueue(i.Queue(), c.now+l.rest())
	case bundle.HopLimit: // only its destination takes it now
		c.giveBack(i)
		c.restQueue(i.Queue(), c.now+max(l.rest(), lull(MaxHops)))
	default:
		c.giveBack(i)
		c.m.Refused(i)
		c.restQueue(i.Queue(), c.now+l.rest())
	}
}

// lull is how long a bundle stays at a node, in ms, before it is handed on
// after so many hops. While links flap, paths change faster than bundles
// travel, and a bundle may be handed round and round; so it is slowed down,
// and reaches the limit of hops in no less than five days.
func lull(hops uint8) int64 {
	over := int64(hops) - freeHops
	if over <= 0 {
		return 0
	}
	return 100 * over * over
}

// rest is how long a peer without room is left alone: a few round trips, in
// which it may hand on what it has.
func (l *link) rest() int64 { return max(4*l.rtt, l.floors.rest) }

// giveBack makes an unacknowledged item wait again, unless its life is over.
func (c *Core) giveBack(i *storeforward.Item) {
	c.m.Return(i)
	if i.Header.Expires <= c.now && i.Entry.State == store.Pending && !c.begun(i, 0) && i.State == storeforward.Waiting {
		c.expireItem(i)
	}
}

// moveFlights takes back what is in flight on links that fell silent, when
// another way is up. The far side drops what then arrives twice.
func (c *Core) moveFlights() {
	for _, l := range c.linkOrder {
		if l.usable() {
			continue
		}
		for class := range l.out {
			for n, i := range l.out[class].flights {
				if i == nil {
					continue
				}
				if o := c.outletOf(i.Entry.Queue); o != nil && c.upNow(o, i.Header.Class) {
					l.out[class].flights[n] = nil
					l.bytes -= int64(i.Header.Size)
					c.giveBack(i)
				}
			}
		}
	}
}

func (c *Core) upNow(o *storeforward.Outlet, class bundle.Class) bool {
	n, ok := o.Owner.(addr.Node)
	return ok && c.linkFor(n, class) != nil
}

package core

import (
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// hopKey names the bundles of one origin that arrived after the same number
// of hops. Custody of one copy passes a node at most once with one hop count,
// so a repeat within a key is a second copy and may be dropped, while a
// bundle that comes back on another way is not mistaken for one.
type hopKey struct {
	node  addr.Node
	inc   uint32
	class bundle.Class
	hops  uint8
}

// originKey names the bundles, or the messages, of one origin and class.
type originKey struct {
	node  addr.Node
	inc   uint32
	class bundle.Class
}

// Receive takes in frames of one link, in the order they were sent.
func (c *Core) Receive(now time.Time, linkID uint64, frames []Frame) {
	c.at(now)
	l := c.links[linkID]
	if l == nil || c.halted {
		return
	}
	c.lives(l, slices.ContainsFunc(frames, proves))
	for _, f := range frames {
		switch f := f.(type) {
		case *Incoming:
			c.incoming(l, f)
		case Ack:
			c.acked(l, f)
		case Refuse:
			c.refused(l, f)
		case *routing.Advert:
			c.learn(f, l)
		case Ping:
			c.send(l, Pong(f))
		case Pong:
			c.pong(l, f)
		}
		if c.links[linkID] != l {
			return // closed for what it sent
		}
	}
}

func (c *Core) incoming(l *link, in *Incoming) {
	if in.Volatile {
		c.incomingVolatile(in)
		return
	}
	r := &l.in[in.Class]
	if in.XID != r.next {
		c.close(l, fmt.Sprintf("transfer %d of class %s where %d was due", in.XID, in.Class, r.next))
		return
	}
	r.next++
	reason := in.Bad
	if reason == bundle.OK {
		reason = c.takeCustody(l.Node, l.rtt, in)
	}
	switch reason {
	case bundle.OK, bundle.Duplicate:
		if reason == bundle.Duplicate {
			c.stats.Duplicates++
		}
	default:
		c.stats.Refused[reason]++
		c.send(l, Refuse{in.Class, in.XID, reason})
	}
	// The cumulative ack passes over what was refused: the Refuse was sent
	// before it, and links keep their order.
	c.ackLater(l, in.Class, in.XID)
}

// takeCustody stores a bundle of a neighbour unless it is here already or not
// welcome. rtt is that of the way it came, ms.
func (c *Core) takeCustody(from addr.Node, rtt int64, in *Incoming) bundle.Reason {
	if in.Hops >= MaxHops && in.Node != c.cfg.Self {
		return bundle.HopLimit
	}
	h := &store.Header{
		Message: in.Message, Origin: in.Origin, Prev: from, Class: in.Class, Hops: in.Hops + 1, QoS: in.QoS,
		Retain: in.Retain, Topic: in.Topic, Service: in.Service,
		Received: c.now, Size: uint32(in.Size), Count: in.Count,
		// Its age was right when it was sent: since then it was under way.
		Expires: c.now + in.Life - rtt/2,
	}
	if in.Ended {
		h.Expires = c.now + c.settings.TTL.Milliseconds()
	}
	if in.Node == c.cfg.Self {
		if _, err := parseDuty([]byte(in.Groups)); err != nil {
			return bundle.Malformed
		}
		return c.consume(h, in)
	}
	key := hopKey{in.Origin, in.Bundle.Incarnation(), in.Class, in.Hops}
	w := c.hops[key]
	if w == nil {
		w = &storeforward.Window{}
		c.hops[key] = w
	}
	if w.Seen(in.Bundle.Count()) {
		return bundle.Duplicate
	}
	if in.Ended {
		to := store.Queue{Kind: store.ToNode, Name: in.Node.String(), Class: in.Class}
		if q := c.m.Lookup(to); q != nil && q.Ended() >= maxObituaries {
			return bundle.OK // the consumer waits the gap out
		}
	}
	if !c.hasRoom(h.Class, c.incomingCost(h, in)) {
		return bundle.StoreFull
	}
	if reason := c.roomFor(h, in); reason != bundle.OK {
		return reason
	}
	w.Add(in.Bundle.Count())
	c.dirty.add(dirtyKey{kind: dirtyHops, hop: key})
	if !in.Region.IsZero() && in.Region.Contains(c.cfg.Region) {
		c.enterRegion(h, in)
		return bundle.OK
	}
	q := store.Queue{Kind: store.ToNode, Name: in.Node.String(), Class: in.Class}
	if !in.Region.IsZero() {
		q = store.Queue{Kind: store.ToRegion, Name: in.Region.String(), Class: in.Class}
	}
	e := store.Entry{Queue: q, Bundle: in.Bundle, DSeq: in.DSeq, QoS: in.QoS, Frozen: in.Frozen}
	if in.Ended {
		e.State = store.Ended
	}
	c.put(h, []store.Entry{e}, in.Blob)
	c.stats.Relayed++
	return bundle.OK
}

func (c *Core) put(h *store.Header, entries []store.Entry, b *store.Blob) {
	h.Seq, h.Entries = c.m.NextSeq(), entries
	c.m.Put(h, b)
}

// enterRegion takes in a bundle addressed to a region this node is in: it
// goes to the region's subscribers, or is held here until there is one.
func (c *Core) enterRegion(h *store.Header, in *Incoming) {
	if in.Ended {
		return // there is no order to keep in a region
	}
	c.keepIncoming(h, in)
	each(h, in, func(h *store.Header, b *store.Blob) {
		if !h.Message.IsZero() && !c.firstSight(h.Message) {
			c.stats.Duplicates++
			return
		}
		d, _ := parseDuty([]byte(in.Groups))
		r := c.resolveAs(h, "", in.Region, true, asking(d.share, c.leaver(h)))
		if d.share > 0 {
			r.share, r.gate = d.share, in.Region
		}
		if r.empty() {
			r.entries = []store.Entry{{Queue: store.Queue{Kind: store.ToRegion, Name: in.Region.String(), Class: in.Class}}}
		}
		c.deliver(h, r, b)
	})
}

// deliver puts a message for its recipients here and hands it to the live.
func (c *Core) deliver(h *store.Header, r recipients, b *store.Blob) {
	if r.share > 0 {
		c.sealOut(h, &r)
	}
	if e, ok := r.liveEntry(h.Class); ok {
		if q := c.m.Lookup(e.Queue); q != nil && q.Count > 0 {
			r.live, r.members = false, nil // behind those that wait there, to keep the order
			r.entries = append(r.entries, e)
		}
	}
	if r.share > 0 {
		c.divide(h, &r)
	}
	if len(r.entries) > 0 {
		c.put(h, r.entries, b)
	}
	if len(r.batched) > 0 {
		c.join(h, b, r.batched, nil, true)
	}
	c.liveTo(h, &r, b)
	if r.empty() {
		c.stats.Ended[bundle.NoSubscriber]++
		c.sightArrival(h, &r, b, bundle.NoSubscriber)
	} else {
		c.stats.Arrived++
		c.sightArrival(h, &r, b, bundle.OK)
	}
}

// liveTo hands a message to the live subscribers it is for.
func (c *Core) liveTo(h *store.Header, r *recipients, b *store.Blob) {
	if r.live || len(r.members) > 0 {
		from := h.Message.Node
		if from.IsZero() {
			from = h.Origin
		}
		c.live(Live{Message: h.Message, From: from, Own: r.own, Topic: h.Topic, Life: h.Expires - c.now, Retained: h.Service == ServiceRetained, Blob: b, Members: r.members, Only: !r.live})
	}
}

// firstSight reports whether a message was never seen here, and remembers it.
func (c *Core) firstSight(id bundle.ID) bool {
	key := originKey{id.Node, id.Seq.Incarnation(), id.Seq.Class()}
	w := c.messages[key]
	if w == nil {
		w = &storeforward.Window{}
		c.messages[key] = w
	}
	if w.Seen(id.Seq.Count()) {
		return false
	}
	w.Add(id.Seq.Count())
	c.dirty.add(dirtyKey{kind: dirtyMessages, origin: key})
	return true
}

func (c *Core) incomingVolatile(in *Incoming) {
	h := &store.Header{
		Origin: in.Origin, Class: in.Class, Hops: in.Hops + 1, Topic: in.Topic, Service: in.Service,
		Received: c.now, Expires: c.now + in.Life, Size: uint32(in.Size),
	}
	switch {
	case in.Life <= 0 || in.Hops >= MaxHops || in.Bad != bundle.OK:
		c.stats.Ended[bundle.Expired]++
	case in.Node == c.cfg.Self:
		c.keepIncoming(h, in)
		r := recipients{live: true}
		if d, err := parseDuty([]byte(in.Groups)); err == nil && !d.none() {
			c.share(h, d.filters, asked{}, false, &r)
		}
		c.liveTo(h, &r, in.Blob)
		c.sightArrival(h, &r, in.Blob, bundle.OK)
	default:
		e := store.Entry{Queue: store.Queue{Kind: store.ToNode, Name: in.Node.String(), Class: in.Class}, Bundle: in.Bundle, Frozen: in.Frozen}
		c.passOn(in.Node, &Volatile{Header: h, Entry: e, Blob: in.Blob, Life: in.Life})
	}
}

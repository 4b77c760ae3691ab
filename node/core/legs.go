package core

import (
	"maps"
	"slices"

	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// leg is the stream of bundles of one origin and class to this node. Their
// DSeq is contiguous, so the leg knows what is missing, restores the order in
// which the origin sent them, and drops every repeat, however late.
//
//	below next: passed on, or given up and still missing
//	next:       due
//	above:      held back on disk until what is due arrives
type leg struct {
	key     originKey
	next    uint64
	high    uint64                          // number of the newest message that was passed on, of those the origin itself took in
	missing spans                           // given up; passed on when they come after all
	waiting map[uint64][]*storeforward.Item // held back, by DSeq; of a batch, all of it
	since   int64                           // ms: nothing of waiting arrived before
	watched bool                            // in Core.held
	loading bool                            // held messages of before a restart are not all back
}

// maxHeld bounds what one leg holds back. Beyond it custody is refused, and
// the sender keeps the bundles.
const maxHeld = storeforward.OrderWindow

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
	c.touched(in.Origin)
	late := in.DSeq < g.next
	if late && !g.missing.has(in.DSeq) || len(g.waiting[in.DSeq]) > 0 {
		return bundle.Duplicate
	}
	if !c.hasRoomFor(g, h, in) {
		return bundle.StoreFull
	}
	if reason := c.roomFor(h, in); reason != bundle.OK {
		// What others wait for may have the room that the classes leave to each
		// other. What the very next one waits for is always taken: no room
		// would ever come of what is held back.
		due := in.DSeq == g.next && len(g.waiting[in.DSeq+1]) > 0
		if in.DSeq > g.next || !due && (len(g.waiting) == 0 || c.m.Room(bundle.Control, in.Size, 1) != bundle.OK) {
			return reason
		}
	}
	if in.DSeq > g.next {
		// What comes early may not fill the store: what it waits for has to
		// find room.
		if !c.m.HalfFree(in.Size) {
			return bundle.StoreFull
		}
		if q := c.m.Lookup(g.queue()); q != nil && q.Count+max(len(in.Parts), 1) > maxHeld {
			return bundle.QuotaExceeded
		}
		c.takeTold(h, in)
		c.keepIncoming(h, in)
		c.holdBack(g, h, in)
		return bundle.OK
	}
	c.takeTold(h, in)
	c.keepIncoming(h, in)
	c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})
	if late {
		g.missing.remove(in.DSeq)
		c.stats.OutOfOrder++
	} else {
		g.next++
	}
	if in.Ended {
		c.stats.Ended[bundle.Expired]++
		c.missing(in.Origin)
	} else {
		g.saw(h, in)
		c.roam.belated = late
		c.arriveEach(h, in)
		c.roam.belated = false
	}
	c.drain(g)
	return bundle.OK
}

// takeTold takes in what a bundle tells of messages that entered here, as soon
// as it is in custody: it does not matter in which order.
func (c *Core) takeTold(h *store.Header, in *Incoming) {
	switch {
	case in.Ended:
		c.noteGap(in)
	case h.Service == ServiceReports:
		c.takeReports(in.Origin, &in.Reports)
	case isEcho(h.Service):
		c.takeEcho(h, in)
	}
}

// saw notes what was passed on, of what came here because it was wanted here:
// not what was handed on to a member of a group, or follows a session.
func (g *leg) saw(h *store.Header, in *Incoming) {
	id := h.Message
	if h.Service != ServiceMQTT || in.Groups != "" && in.Groups[0]&dutyOnly != 0 {
		return
	}
	if n := len(in.Parts); n > 0 {
		id = in.Parts[n-1].Message
	}
	if id.Node == g.key.node && id.Seq.Incarnation() == g.key.inc {
		g.high = max(g.high, id.Seq.Count())
	}
}

// leg returns the leg of a key. An unknown one begins at 1, so that order
// holds from the first message on; but a number that no new leg can have
// reached tells that this node lost its store, and begins there.
func (c *Core) leg(key originKey, first uint64) *leg {
	g := c.legs[key]
	if g == nil {
		if first <= maxHeld {
			first = 1
		}
		g = &leg{key: key, next: first, waiting: map[uint64][]*storeforward.Item{}}
		g.missing.add(1, first) // a repeat is better than a loss
		c.legs[key] = g
	}
	return g
}

// arriveEach hands what is in a bundle to its recipients here.
func (c *Core) arriveEach(h *store.Header, in *Incoming) {
	if in.Service == ServiceSessions && isVisit(in.Groups) {
		d, _ := parseDuty([]byte(in.Groups))
		c.fenced(h.Origin, d.visit)
		return
	}
	if in.Groups == "" || h.Service != ServiceMQTT {
		each(h, in, c.arrive)
		return
	}
	d, _ := parseDuty([]byte(in.Groups)) // takeCustody looked
	each(h, in, func(h *store.Header, b *store.Blob) { c.arriveShared(h, b, d) })
}

// arrive hands a message that is due to its recipients here.
func (c *Core) arrive(h *store.Header, b *store.Blob) {
	if h.Service == ServiceReports || isEcho(h.Service) {
		return // takeTold
	}
	if h.Service != ServiceMQTT {
		c.deliver(h, recipients{entries: []store.Entry{{Queue: store.Queue{Kind: store.ToService, Name: h.Service, Class: h.Class}}}}, b)
		return
	}
	if h.Message.Node != h.Origin && !c.firstSight(h.Message) {
		c.stats.Duplicates++ // a region handed it on twice
		return
	}
	var r recipients
	c.matchArrived(h, &r)
	c.deliver(h, r, b)
}

// holdBack keeps a message, or the obituary of one, until what was sent before
// it has come.
func (c *Core) holdBack(g *leg, h *store.Header, in *Incoming) {
	c.watch(g, h.Received)
	e := store.Entry{Queue: g.queue(), Bundle: in.Bundle, DSeq: in.DSeq, QoS: in.QoS}
	if in.Groups != "" {
		e.Frozen = []byte(in.Groups)
	}
	if in.Ended {
		e.State = store.Ended
	}
	each(h, in, func(h *store.Header, b *store.Blob) {
		c.put(h, []store.Entry{e}, b)
		if i := c.m.Lookup(g.queue()).Tail(); i != nil && i.Header == h {
			g.waiting[in.DSeq] = append(g.waiting[in.DSeq], i)
		} // else it lies behind what is still being read back, and comes with that
		c.stats.HeldBack++
	})
}

// each calls f for the message of a bundle, or for each of its batch.
func each(h *store.Header, in *Incoming, f func(*store.Header, *store.Blob)) {
	if len(in.Parts) == 0 {
		f(h, in.Blob)
		return
	}
	for i := range in.Parts {
		p, one := &in.Parts[i], *h
		one.Message, one.QoS, one.Retain, one.Topic = p.Message, p.QoS, p.Retain, p.Topic
		one.Size, one.Count = uint32(len(p.Blob.B)), 0
		f(&one, p.Blob)
	}
}

// roomFor reports whether there is room for a bundle that arrived, in the store
// and in the quotas of the neighbour that hands it over.
func (c *Core) roomFor(h *store.Header, in *Incoming) bundle.Reason {
	if c.settings.Quotas.Empty() {
		return c.m.Room(h.Class, in.Size, 1)
	}
	to := recipients{batched: []joining{{Queue: store.Queue{Kind: store.ToNode, Name: in.Node.String(), Class: in.Class}}}}
	if !in.Region.IsZero() {
		to.batched[0].Queue = store.Queue{Kind: store.ToRegion, Name: in.Region.String(), Class: in.Class}
	}
	reason, _ := c.fits(h, c.charges(h, "", &to), 1, &storeforward.Freed{})
	return reason
}

// watch begins to wait for a gap to fill, before a message that arrived at a
// time.
func (c *Core) watch(g *leg, arrived int64) {
	if len(g.waiting) == 0 || arrived < g.since {
		g.since = arrived
	}
	if !g.watched {
		g.watched = true
		c.held = append(c.held, g)
	}
}

// drain passes on what is due now.
func (c *Core) drain(g *leg) {
	for {
		items := g.waiting[g.next]
		if len(items) == 0 {
			return
		}
		if !c.mayMove(items) {
			return // Room goes on
		}
		delete(g.waiting, g.next)
		g.next++
		c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})
		for _, i := range items {
			g.saw(i.Header, &Incoming{Groups: string(i.Entry.Frozen)})
			c.moveOn(i)
		}
	}
}

// moveOn hands a stored message that waited here to its recipients. Live
// subscribers get it by way of a service queue: its payload may be on disk.
func (c *Core) moveOn(i *storeforward.Item) {
	h := *i.Header
	var r recipients
	switch {
	case i.Entry.State == store.Ended:
		c.stats.Ended[bundle.Expired]++
		c.m.Release(i)
		return
	case h.Service == ServiceReports || isEcho(h.Service): // takeTold
		c.m.Release(i)
		return
	case h.Service == ServiceSessions && len(i.Entry.Frozen) > 0:
		if d, err := parseDuty(i.Entry.Frozen); err == nil && d.visit != nil {
			c.fenced(h.Origin, d.visit)
		}
		c.m.Release(i)
		return
	case h.Service != ServiceMQTT:
		r.entries = []store.Entry{{Queue: store.Queue{Kind: store.ToService, Name: h.Service, Class: h.Class}}}
	case len(i.Entry.Frozen) > 0:
		d, _ := parseDuty(i.Entry.Frozen)
		r, _ = c.sharedHere(&h, d)
	case h.Message.Node != h.Origin && !c.firstSight(h.Message):
		c.stats.Duplicates++
	default:
		c.matchArrived(&h, &r)
	}
	c.requeue(i, h, r)
}

// requeue gives a stored message its recipients, or ends it when it has none.
func (c *Core) requeue(i *storeforward.Item, h store.Header, r recipients) {
	if e, ok := r.liveEntry(h.Class); ok {
		r.entries = append(r.entries, e)
	}
	if r.share > 0 {
		c.sealOut(&h, &r)
		c.divide(&h, &r)
	}
	if len(r.entries) == 0 {
		c.stats.Ended[bundle.NoSubscriber]++
		c.m.Release(i)
		return
	}
	h.Entries = r.entries
	c.m.Requeue(i, h)
	c.stats.Arrived++
}

// tickLegs gives up every gap before a message that waited long enough.
func (c *Core) tickLegs() {
	keep := c.held[:0]
	wait := c.settings.OrderWait.Milliseconds()
	for _, g := range c.held {
		if g.gapped() && c.now >= g.since+wait {
			c.giveUp(g, c.now-wait)
		}
		if g.watched = len(g.waiting) > 0; g.watched {
			keep = append(keep, g)
		}
	}
	clear(c.held[len(keep):])
	c.held = keep
}

// gapped reports whether something waits for what came before it, and not for
// room or for the disk.
func (g *leg) gapped() bool {
	return len(g.waiting) > 0 && len(g.waiting[g.next]) == 0 && !g.loading
}

// giveUp stops waiting for what comes before any message that arrived by then.
func (c *Core) giveUp(g *leg, by int64) {
	places := slices.Sorted(maps.Keys(g.waiting))
	last := uint64(0)
	for _, d := range places {
		if g.waiting[d][0].Header.Received <= by {
			last = d
		}
	}
	for _, d := range places {
		if d > last || len(g.waiting[g.next]) > 0 { // there is no room to go on
			break
		}
		if d < g.next {
			continue // drained with the one before
		}
		c.stats.GapsGivenUp += d - g.next
		c.missing(g.key.node)
		g.missing.add(g.next, d)
		g.next = d
		c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})
		c.drain(g)
	}
	g.since = c.now
	for _, items := range g.waiting {
		g.since = min(g.since, items[0].Header.Received)
	}
}

func (c *Core) wakeLegs(w *wake) {
	for _, g := range c.held {
		if g.gapped() {
			w.min(g.since + c.settings.OrderWait.Milliseconds())
		}
	}
}

// restoreHeld takes back messages that were held before a restart. One may be
// there twice: while they are read back a repeat is not noticed.
func (c *Core) restoreHeld(q store.Queue) {
	key, ok := parseOrigin(q.Name, q.Class)
	if !ok {
		return
	}
	g := c.leg(key, 1)
	sq := c.m.Lookup(q)
	late := uint64(0)
	for i := sq.Head(); i != nil; {
		next := i.Next()
		c.watch(g, i.Header.Received)
		same := func(o *storeforward.Item) bool { return o.Header.Message == i.Header.Message }
		switch d := i.Entry.DSeq; {
		case slices.Contains(g.waiting[d], i):
		case slices.ContainsFunc(g.waiting[d], same) || d < g.next && !g.missing.has(d) && late != d:
			c.stats.Duplicates++
			c.m.Release(i)
		case d >= g.next:
			g.waiting[d] = append(g.waiting[d], i)
		default:
			late = d // what follows of its batch comes with it
			g.missing.remove(d)
			c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})
			c.stats.OutOfOrder++
			c.moveOn(i)
		}
		i = next
	}
	g.loading = sq.Windowed() < sq.Count
	c.drain(g)
}

// spans is a set of numbers as ranges [lo, hi), oldest first.
type spans []span

type span struct{ lo, hi uint64 }

// maxSpans bounds what a leg remembers to be missing, 4096 gaps that were all
// waited for in vain; beyond it the oldest is forgotten, and what still comes
// of it is taken for a repeat.
const maxSpans = 4096

func (s spans) has(n uint64) bool {
	for _, r := range s {
		if n >= r.lo && n < r.hi {
			return true
		}
	}
	return false
}

func (s *spans) add(lo, hi uint64) {
	if lo >= hi {
		return
	}
	if n := len(*s); n > 0 && (*s)[n-1].hi == lo {
		(*s)[n-1].hi = hi
		return
	}
	if len(*s) >= maxSpans {
		*s = slices.Delete(*s, 0, 1)
	}
	*s = append(*s, span{lo, hi})
}

func (s *spans) remove(n uint64) {
	for i, r := range *s {
		if n < r.lo || n >= r.hi {
			continue
		}
		var rest []span
		if r.lo < n {
			rest = append(rest, span{r.lo, n})
		}
		if n+1 < r.hi {
			rest = append(rest, span{n + 1, r.hi})
		}
		*s = slices.Replace(*s, i, i+1, rest...)
		return
	}
}

package core

import (
	"slices"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// What does not differ between links, in ms. All else follows from the measured
// round trip of each link, and its Probing (docs/adr/0019).
const (
	wakeSlack   = 2      // a wake-up that comes so much later is on time
	veryLate    = 25     // who is woken so late looks once more before it judges anyone
	baseMemory  = 60_000 // the fastest answer is forgotten after two of it
	peakMemory  = 30_000 // the slowest answer of late is forgotten in that time
	settleFloor = 500    // until the mesh knows of a silent link
	scoutPace   = 100    // until alternates are looked for, after paths changed
	scoutNodes  = 10     // of the mesh that put that off by a ms
	longerWay   = 3      // answers in a row that show that a way became longer
	coolness    = 8      // a link that is used no more is probed at so many parts of the time since
	never       = int64(^uint64(0) >> 1)
)

// life is what a link knows of its peer. Times are ms.
type life struct {
	rtt    int64 // smoothed round trip, at least 1 (RFC 6298, 2)
	smooth int64 // the same, times 8
	dev    int64 // its mean deviation, times 4
	peak   int64 // the slowest answer of late
	peaked int64 // when that was measured
	least  int64 // the fastest answer of this stretch of baseMemory, and
	before int64 // of the one before
	since  int64 // when this stretch began

	heard  int64 // last frame of any kind
	proof  int64 // last frame that shows that both directions work, or that the session began
	asked  int64 // first Ping since the last proof
	from   int64 // silence counts from here; later than asked by what this node was late itself
	pinged int64 // last Ping sent; 0: none is unanswered
	probed int64 // last Ping sent
	gauge  int64 // the Ping whose answer is measured next; 0: none is under way
	spoke  int64 // last volatile bundle sent, which nobody acknowledges
	used   int64 // last bundle sent

	silent bool  // no proof for longer than the link explains
	mute   int64 // since when silent
	back   int64 // when it was heard again after a silence, until it is known how long the way is; 0: it is
	lag    int64 // until then: how long the last answer took
	slow   int64 // the fastest of those that were asked for since and say that the way is longer
	slows  int   // how many there were
	opened int64 // when a contact opened and the peer is not heard since; 0 else
	waited bool  // something waits for the peer that fell silent
	anew   anew  // what was asked for since it fell silent
}

func newLife(now, rtt int64) life {
	l := life{heard: now, proof: now, since: now}
	l.reset(max(rtt, 1))
	return l
}

// reset believes a round trip.
func (l *life) reset(rtt int64) {
	l.rtt, l.smooth, l.dev, l.peak = rtt, 8*rtt, 0, rtt
	l.least, l.before = rtt, rtt
}

// measure takes in the time of an answer (RFC 6298, 2.3). The mean deviation
// forgets within a few answers, which come every probeFloor while the link is
// watched closely; so the slowest one is remembered for longer.
func (l *life) measure(now, d int64) {
	l.peak = max(d, l.slowest(now))
	l.peaked = now
	if now >= l.since+baseMemory {
		l.before, l.least, l.since = l.least, d, now
	}
	l.least = min(l.least, max(d, 1))
	l.dev += max(d-l.smooth/8, l.smooth/8-d) - l.dev/4
	l.smooth += d - l.smooth/8
	l.rtt = max(l.smooth/8, 1)
}

// slowest is the slowest answer of late, which fades.
func (l *life) slowest(now int64) int64 {
	over := max(l.peak-l.rtt, 0)
	return l.rtt + over - over*min(now-l.peaked, peakMemory)/peakMemory
}

// cost is the one-way delay that others choose paths by: of the fastest answer,
// for how busy the ends are now says little of the next minutes.
func (l *life) cost() uint32 { return uint32(max(min(l.least, l.before)/2, 1)) }

// patience is how long silence is explained by the link itself: the time of
// three probes, and that of an answer: three round trips, or as many as their
// deviation explains (RFC 6298, 2.3), or what the slowest one took: where
// machines are busy, remembering that one for long costs less time for as few
// false alarms than multiplying it. A link that is not used is in no hurry.
func (l *link) patience(now int64) int64 {
	p := 3*max(l.rtt, l.floors.probe) + max(3*l.rtt, l.rtt+l.dev, l.slowest(now), l.lag)
	if !l.owes() && now-l.used > l.floors.idle {
		return max(p, min(4*p, l.floors.idle))
	}
	return p
}

// overdue reports whether an answer is owed for longer than that.
func (l *link) overdue(now int64) bool {
	return !l.silent && l.open && l.pinged != 0 && now >= max(l.proof, l.from)+l.patience(now)
}

// owes reports whether the peer has something to answer: custody of what was
// sent, or a sign that what is volatile arrives.
func (l *link) owes() bool { return l.bytes > 0 || l.spoke >= l.proof }

// sends notes that a bundle is sent: a probe that was under way while nobody was
// in a hurry may take as long from now on as any.
func (l *link) sends(now int64) {
	if !l.owes() {
		l.from = now
	}
	l.used = now
}

// interval is the time between probes, derived from the round trip: short
// while the peer owes an answer, longer the longer a link is not used, and
// longer and longer on one that fell silent.
func (l *link) interval(now int64) int64 {
	switch {
	case l.silent:
		return max(l.rtt, min(max((now-l.mute)/4, l.floors.mute), l.floors.muted))
	case l.owes():
		return max(l.rtt, l.floors.probe)
	}
	return max(2*l.rtt, min(max((now-l.used)/coolness, l.floors.probe), l.floors.idle))
}

// late takes in that this node was woken too late: it could not hear, so what
// it did not hear says nothing of the others. Who was very late looks once
// more before it judges anyone.
func (c *Core) late(by int64) {
	c.watching.LateWakes++
	for _, l := range c.linkOrder {
		l.from = min(max(l.from, l.proof)+by, c.now)
		if by >= veryLate {
			l.from = max(l.from, c.now+l.floors.probe-l.patience(c.now))
		}
	}
}

// lives notes a frame of a peer. Only what a peer sent counts, never what we
// sent. A Ping or an advert shows that we hear the peer, all else also that it
// hears us: it answers, or hands on what it would keep if we were silent.
func (c *Core) lives(l *link, proof bool) {
	before := l.heard
	l.heard, l.opened = c.now, 0
	switch {
	case proof:
		l.proof, l.waited = c.now, false
		if l.silent {
			l.silent, l.back, l.lag, l.slows, l.gauge = false, c.now, 0, 0, 0
			c.revived(l)
			c.probe(l) // its answer says how long the way is now
			c.regained(l)
			c.m.Hot(c.outlet(l.Node))
			c.cur.Silences = append(c.cur.Silences, Silence{Link: l.ID, Node: l.Node, For: c.now - l.mute, Over: true})
		}
	case l.silent:
		l.hears(c.now, before)
		if c.now >= l.pinged+l.rtt {
			c.probe(l) // the way back works: ask at once
		}
	}
}

// proves reports whether a frame shows that the peer hears us.
func proves(f Frame) bool {
	switch f.(type) {
	case Pong, Ack, Refuse, *Incoming:
		return true
	}
	return false
}

func (c *Core) pong(l *link, p Pong) {
	sent := int64(p.Stamp)
	if sent > c.now || sent <= 0 {
		return
	}
	d := c.now - sent
	switch {
	case l.back != 0 && sent < l.back:
		// The link was cut, and the transport repeated what it lost. Or the way
		// became longer: until it is known, an answer may take that long.
		l.lag = d
	case l.back != 0:
		c.again(l, d)
	case sent == l.gauge: // one at a time: what the others asked may have waited for it
		l.gauge = 0
		l.measure(c.now, d)
		c.cheaper(l)
	}
	if sent >= l.asked {
		l.pinged = 0
	}
}

// again takes in an answer that was asked for since a silence ended. Several in
// a row that take much longer than any before say that the way is another one; a
// single one may have waited until the transport had repeated what it lost.
func (c *Core) again(l *link, d int64) {
	if d > 2*l.slowest(c.now) {
		if l.slows == 0 {
			l.slow = d
		}
		l.slow, l.slows, l.lag = min(l.slow, d), l.slows+1, d
		if l.slows < longerWay {
			l.back = c.now
			c.probe(l)
			return
		}
		l.reset(l.slow)
	} else {
		l.measure(c.now, d)
	}
	l.back, l.lag, l.slows, l.gauge = 0, 0, 0, 0
	c.cheaper(l)
}

// cheaper tells the mesh of a link that is much faster than it was when it
// came up.
func (c *Core) cheaper(l *link) {
	if at, ok := c.edge(l.Node); ok && c.linkTo(l.Node) == l && 2*l.cost() <= c.advert.Neighbors[at].Cost {
		c.advert.Neighbors = slices.Clone(c.advert.Neighbors)
		c.advert.Neighbors[at].Cost = l.cost()
		c.advertDirty = true
	}
}

// tickLinks probes, notices silence, and follows the contact plans.
func (c *Core) tickLinks() {
	now := time.UnixMilli(c.now)
	for _, l := range slices.Clone(c.linkOrder) {
		if c.now >= l.stuck(c.now) {
			c.close(l, "no answer from the peer")
			continue
		}
		if open := l.Schedule.Open(now); open != l.open {
			l.open = open
			l.heard, l.proof, l.pinged, l.asked, l.from, l.gauge = c.now, c.now, 0, 0, 0, 0
			c.regained(l)
			if l.opened = 0; open {
				l.opened = c.now
				c.probe(l) // wakes a transport that backed off
				c.m.Hot(c.outlet(l.Node))
			}
		}
		c.endPauses(l)
		c.tickRenewal(l)
		if c.now >= c.nextProbe(l) {
			c.probe(l)
		}
		if l.overdue(c.now) {
			l.silent, l.mute = true, c.now
			c.watching.Silences++
			c.cur.Silences = append(c.cur.Silences, Silence{Link: l.ID, Node: l.Node, For: c.now - l.proof, RTT: l.rtt, Slowest: l.slowest(c.now)})
			c.failOver(l)
		}
	}
	c.tickPaths()
}

// failOver has what went by a link go another way, at once where an alternate
// is known: the others need not hear of it first.
func (c *Core) failOver(l *link) {
	c.pathsDirty = true
	lost := bundle.AllClasses
	if c.linkTo(l.Node) != nil { // by another link to the same node
		c.m.Hot(c.outlet(l.Node))
		if lost = c.barred(l.Node) &^ c.bars(l.Node); lost == 0 {
			c.adjacent(l)
			return
		}
	}
	c.table.FailOver(l.Node, lost)
	c.converge = c.now + settleFloor
	for _, o := range c.linkOrder {
		if o.usable() {
			c.converge = max(c.converge, c.now+2*o.rtt)
		}
	}
	c.adjacent(l)
}

// tickPaths goes back to the cheapest paths when the mesh knows what happened,
// and looks for alternates when paths have been at rest for a moment.
func (c *Core) tickPaths() {
	if c.converge != 0 && c.now >= c.converge {
		c.converge = 0
		c.table.Converge()
		c.pathsDirty = true
	}
	if c.scout != 0 && c.now >= c.scout {
		if c.scout = 0; !c.table.Prepared() {
			c.table.Prepare()
		}
	}
}

// stuck returns when a session is given up, and made anew, because its
// transport backed off too far: soon after a contact opened and stayed
// unanswered, and later when a peer fell silent while it owes custody.
func (l *link) stuck(now int64) int64 {
	switch {
	case l.opened != 0 && l.open:
		return l.opened + 2*l.rtt + l.floors.opened
	case l.silent && (l.bytes > 0 || l.waited):
		return l.mute + l.giveUp(now)
	}
	return never
}

func (c *Core) probe(l *link) {
	if l.pinged == 0 || l.asked < l.proof {
		l.asked, l.from = c.now, c.now
	}
	l.pinged, l.probed = c.now, c.now
	if l.gauge == 0 && !l.silent {
		l.gauge = c.now
	}
	c.send(l, Ping{uint64(c.now)})
	c.watching.Probes++
}

// nextProbe returns when a probe is due: once per interval without proof of
// life, and now and then while much is heard, for what is heard does not say
// how long the way is. A scheduled link is only probed while it owes an answer.
func (c *Core) nextProbe(l *link) int64 {
	if !l.open || (!l.Schedule.Always() && l.bytes == 0 && l.pinged == 0) {
		return never
	}
	next := max(l.proof, l.pinged) + l.interval(c.now)
	if l.owes() && l.Schedule.Always() {
		next = min(next, l.probed+max(2*l.rtt, l.floors.gauge))
	}
	return next
}

func (c *Core) wakeLinks(w *wake) {
	now := time.UnixMilli(c.now)
	for _, l := range c.linkOrder {
		if next := l.Schedule.Next(now); !next.IsZero() {
			w.min(next.UnixMilli())
		}
		for _, until := range l.paused {
			if until != 0 {
				w.min(until)
			}
		}
		if next := min(c.nextProbe(l), l.stuck(c.now), l.besideAt(c.now)); next != never {
			w.min(next)
		}
		if !l.silent && l.open && l.pinged != 0 {
			w.min(max(l.proof, l.from) + l.patience(c.now))
		}
	}
	for _, at := range []int64{c.converge, c.scout} {
		if at != 0 {
			w.min(at)
		}
	}
}

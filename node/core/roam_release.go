package core

import (
	"slices"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// refusedClaim waits for room.
type refusedClaim struct {
	from  addr.Node
	claim claimLine
}

// maxRefused bounds the claims that wait for room. Beyond it one is lost until
// its node claims again.
const maxRefused = 4096

// headBatch gathers what one bundle of claims asks for.
type headBatch struct {
	heads   []head
	cost    int64
	counter []claimLine // of sessions that this node owns
	seq     uint64      // number of the claiming node's advert
}

// lateAnswer is said again once an advert is known.
type lateAnswer struct {
	upTo Stamp
	seq  uint64
}

// claimed takes in the claims of another node, and answers when the heads of
// all sessions it gets are on their way.
func (c *Core) claimed(from addr.Node, m *roamMessage) {
	b := headBatch{seq: m.seq}
	for _, l := range m.claims {
		c.claimOne(from, l, &b)
	}
	c.sendHeads(from, &b)
	a := c.table.Advert(from)
	behind := a == nil || a.Seq < m.seq
	if behind {
		c.roam.late[from] = lateAnswer{m.upTo, m.seq}
	}
	c.sayTo(from, bundle.Interactive, &roamMessage{kind: roamAnswer, upTo: m.upTo, behind: behind})
}

// owner is who has a session as far as this node knows.
func (c *Core) owner(s *session) addr.Node {
	if s.moved() {
		return s.trip.to
	}
	return c.cfg.Self
}

func (c *Core) claimOne(from addr.Node, l claimLine, b *headBatch) {
	s := c.sessions[l.client]
	if c.observe(l.epoch); s == nil {
		return
	}
	if l.settled {
		c.settled(s, from, l.epoch, b.seq)
		return
	}
	switch mine := !s.moved(); {
	case !later(l.epoch, from, s.last(), c.owner(s)):
		if mine {
			s.epoch, s.touched = s.last(), 0
			c.keep(s)
			b.counter = append(b.counter, claimLine{client: s.id, epoch: s.epoch, clean: s.began == s.epoch})
		}
	case l.clean || mine && !s.durable():
		c.takenOver(s)
		c.landFlights(s)
		c.endSession(s)
	case !mine:
		s.trip.to, s.epoch, s.trip.seq = from, l.epoch, 0
		c.keep(s)
		c.rouse(s)
	case !c.hasRoom(bundle.Interactive, b.cost+c.headCost(s, from)):
		if len(c.roam.refused) < maxRefused {
			c.roam.refused = append(c.roam.refused, refusedClaim{from, l})
		}
	default:
		b.cost += c.headCost(s, from)
		b.heads = append(b.heads, c.giveAway(s, from, l.epoch))
	}
}

// takenOver ends the connection of a client that is at another node now, and
// its will, unsaid: the client is not lost.
func (c *Core) takenOver(s *session) {
	c.notLost(s.id)
	c.cur.TakenOver = append(c.cur.TakenOver, TakenOver{Client: s.id, Conn: s.conn})
	s.conn = 0
	if w := c.roam.waiters[s]; w != nil {
		c.answerWaiter(w) // refused: conn is not its own
	}
}

// headCost is what the head of a session costs at most, in the store.
func (c *Core) headCost(s *session, to addr.Node) int64 {
	n := int64(len(s.id)) + 128 + 3*int64(len(s.inbound)) + store.PutBytes + entryCost(to.String()) + frozenBytes
	for _, sub := range s.subs {
		n += int64(len(sub.Filter)) + 16
	}
	if o := s.overlap(); o != nil {
		n += min(int64(len(o.notes)+len(o.before))*(addr.MaxName+noteBytes), maxNoteBytes)
	}
	return n + int64(len(c.legs)+len(c.messages)+8)*(addr.MaxName+16)
}

// giveAway hands a session to another node: what is left is a stub, which sends on what
// waits and what still comes.
func (c *Core) giveAway(s *session, to addr.Node, epoch Stamp) head {
	c.takenOver(s)
	c.landFlights(s)
	h := head{
		client: s.id, epoch: epoch, since: s.began,
		last: c.dest(store.Queue{Kind: store.ToSession, Name: s.id}).last,
	}
	state := c.stateOfSession(s)
	h.inbound = state.Inbound
	size := 0
	for _, sub := range state.Subscriptions {
		if size += len(sub.Filter) + 16; size > maxSubs {
			c.stats.RoamCut++
			break
		}
		h.subs = append(h.subs, sub)
	}
	t := &trip{to: to, until: c.now + c.settings.TTL.Milliseconds(), upTo: c.m.LastSeq()}
	for class := range bundle.Class(bundle.NumClasses) {
		if q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: s.id, Class: class}); q != nil && q.Count > 0 {
			t.tails = t.tails.With(class)
		}
	}
	h.await = t.tails
	if o := s.overlap(); o != nil {
		h.floor, h.partly = o.floor, true
		var cut bool
		if h.notes, cut = o.had(); cut {
			c.stats.RoamCut++
		}
	}
	h.blank = c.isBlank(s, c.seenBy())
	h.partly = h.partly || h.blank || s.trip != nil && len(s.trip.pending) > 0
	c.leaveRoaming(s)
	c.away.remove(s)
	s.trip, s.epoch, s.touched = t, epoch, 0
	s.inbound, s.untold, s.ends, s.expiry, s.since = nil, false, 0, NeverExpires, c.now
	c.seek(s)
	c.onlyPlain(s)
	c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})
	c.keep(s)
	c.addStub(s)
	c.rouse(s)
	c.stats.Released++
	return h
}

// onlyPlain leaves a stub the filters that are of use to it: members of groups
// are elsewhere now, and of topics that begin with $ nothing follows but words
// to the client alone, for which it keeps them in mind.
func (c *Core) onlyPlain(s *session) {
	var others []string
	for _, sub := range s.subs {
		if sub.Filter[0] == '$' {
			others = append(others, sub.Filter)
			if !sub.shared() {
				s.trip.pending = append(s.trip.pending, sub.Subscription)
			}
		}
	}
	if len(others) > 0 {
		c.unsubscribe(s, others)
	}
}

func (c *Core) addStub(s *session) {
	r := &c.roam
	if len(r.stubs) >= maxStubs {
		c.stats.StubsEnded++
		c.endSession(r.stubs[0])
	}
	r.stubs.add(s)
}

// sendHeads sends what was gathered, in bundles of some size.
func (c *Core) sendHeads(to addr.Node, b *headBatch) {
	if len(b.counter) > 0 {
		m := roamMessage{kind: roamClaims, claims: b.counter, upTo: b.counter[len(b.counter)-1].epoch}
		c.sayTo(to, bundle.Interactive, &m)
	}
	if len(b.heads) == 0 {
		return
	}
	floor := c.floor()
	for len(b.heads) > 0 {
		n, size := 0, 0
		for n < len(b.heads) && (n == 0 || size+b.heads[n].size() <= maxHeads && b.heads[n].partly == b.heads[0].partly) {
			size += b.heads[n].size()
			n++
		}
		m := roamMessage{kind: roamHeads, heads: b.heads[:n]}
		if !b.heads[0].partly {
			m.floor = floor
		}
		c.put1(to, bundle.Interactive, m.encode()) // claimOne looked for room
		b.heads = b.heads[n:]
	}
}

// moveOut sends on what waits for a session that was released. It stops while
// many of its messages, or of others, wait for the way there.
func (c *Core) moveOut(s *session) (storing bool) {
	for {
		of := c.ahead(s.trip.to)
		i, storing := c.m.Next(s.outlet, of)
		switch {
		case i == nil:
			if of != bundle.AllClasses && c.waiting(s) && !slices.Contains(c.roam.blocked[s.trip.to], s) {
				c.roam.blocked[s.trip.to] = append(c.roam.blocked[s.trip.to], s)
			}
			c.endTails(s)
			return storing
		case i.Header.Expires <= c.now && i.Entry.State == store.Pending && !c.begun(i, 1):
			c.m.Return(i)
			c.expireItem(i)
		case !c.hasRoom(bundle.Control, headerCost(i.Header)+int64(i.Header.Size)+joinCost(i.Header, int64(len(i.Entry.Frozen)), s.trip.to.String())):
			c.m.Return(i)
			c.roam.stuck = append(c.roam.stuck, s)
			return false
		default:
			c.moveOne(s, i)
		}
	}
}

// ahead returns the classes in which a node may have more moved messages wait.
func (c *Core) ahead(to addr.Node) (of bundle.Classes) {
	for class := range bundle.Class(bundle.NumClasses) {
		if q := c.m.Lookup(store.Queue{Kind: store.ToNode, Name: to.String(), Class: class}); q == nil || q.Count < moveAhead {
			of = of.With(class)
		}
	}
	return of
}

// unblock goes on with stubs that waited for bundles to leave.
func (c *Core) unblock() {
	for to, all := range c.roam.blocked {
		if c.ahead(to) == bundle.AllClasses {
			delete(c.roam.blocked, to)
			for _, s := range all {
				c.rouse(s)
			}
		}
	}
}

// moveOne sends a message on to where its session is.
func (c *Core) moveOne(s *session, i *storeforward.Item) {
	h := *i.Header
	h.Entries = nil
	d, _ := parseDuty(i.Entry.Frozen)
	v := visit{
		client: s.id, epoch: s.epoch, qos: i.Entry.QoS, received: i.Entry.State == store.Received,
		retained: h.Service == ServiceRetained,
	}
	if d.visit != nil {
		v.packet = d.visit.packet
	}
	if v.packet == 0 && (v.received || i.Sent > 1 || i.Header.Seq <= c.bootSeq) {
		v.packet = packetID(i.Entry)
	}
	if v.qos == 2 && v.packet != 0 { // the device has it, or may, and has to hear the rest
		h.Expires = max(h.Expires, c.now+c.settings.TTL.Milliseconds())
	}
	on := duty{only: d.only || len(d.filters) == 0, filters: d.filters, visit: &v} // not only: a filter of its own matched, too
	if d.share > 0 {                                                               // the other node reports a copy of its own in the place of this share
		on.share = wholeShare
		c.tellOf(h.Message, Report{kind: reportMoved, share: d.share, nodes: []addr.Node{s.trip.to}})
	}
	h.Service = ServiceMQTT
	to := store.Queue{Kind: store.ToNode, Name: s.trip.to.String(), Class: h.Class}
	h.Entries = []store.Entry{c.outbound(&h, to, string(on.encode()))}
	c.m.Requeue(i, h)
	c.stats.Moved++
}

// endTails tells of each class that all is sent that waited when the session
// was released.
func (c *Core) endTails(s *session) {
	t := s.trip
	for class := range bundle.Class(bundle.NumClasses) {
		if !t.tails.Has(class) {
			continue
		}
		q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: s.id, Class: class})
		if q != nil && q.Count > 0 && (q.Head() == nil || q.Head().Header.Seq <= t.upTo) {
			continue
		}
		if !c.sayTo(t.to, class, &roamMessage{kind: roamTail, client: s.id, epoch: s.epoch, classes: bundle.Classes(0).With(class)}) {
			c.roam.stuck = append(c.roam.stuck, s)
			return
		}
		t.tails &^= bundle.Classes(0).With(class)
		c.keep(s)
	}
}

// settled has a stub attract nothing any more, once this node knows the advert
// with which its owner does.
func (c *Core) settled(s *session, from addr.Node, epoch Stamp, seq uint64) {
	switch a := c.table.Advert(from); {
	case !s.moved() || s.trip.to != from || s.epoch != epoch || s.trip.quiet != 0:
	case a == nil || a.Seq < seq:
		s.trip.seq = seq
	default:
		c.goQuiet(s)
	}
}

// maySilence looks for stubs that waited for an advert.
func (c *Core) maySilence(a *routing.Advert) {
	l, waits := c.roam.late[a.Node]
	if !waits || a.Seq < l.seq {
		return
	}
	delete(c.roam.late, a.Node)
	for _, s := range c.roam.stubs {
		if t := s.trip; t.to == a.Node && t.seq != 0 && t.quiet == 0 && a.Seq >= t.seq {
			c.goQuiet(s)
		}
	}
	c.sayTo(a.Node, bundle.Interactive, &roamMessage{kind: roamAnswer, upTo: l.upTo})
}

func (c *Core) goQuiet(s *session) {
	for _, sub := range s.subs {
		c.subs.Remove(sub.Filter, sub)
		c.roam.quiet.Add(sub.Filter, sub)
	}
	s.trip.quiet, c.roam.mute = c.drawEpoch(0), true
	c.interest.dirty = true // still sought: it may get what others send here
	c.keep(s)
}

// silence ends what is left of a quiet stub's filters.
func (c *Core) silence(s *session) {
	if s.trip == nil || s.trip.quiet == 0 {
		return
	}
	for _, sub := range s.subs {
		c.gone(sub)
		c.roam.quiet.Remove(sub.Filter, sub)
	}
	s.subs = nil
}

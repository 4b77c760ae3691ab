package core

import (
	"iter"
	"slices"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// A session follows its client (docs/adr/0016-roaming-sessions.md):
//
//	new node                      old node
//	connect: session, epoch
//	claim            ->           older epoch: release, in one write:
//	                              the connection ends, a stub leads to the new node
//	                 <- head      filters, packet ids, numbers
//	adopt            <- messages  of the queue, one by one, in order, by class
//	                 <- tail      of each class that had any
//	filters in force
//	settled          ->           its advert is known here: the stub attracts
//	                              nothing any more; what still comes follows
//
// roam_claims.go finds old nodes, roam_release.go is the old one's side,
// roam_adopt.go the new one's, roam_overlap.go sees to it that what came to
// both is delivered once.

// ServiceSessions is where nodes tell each other of sessions that move. The
// payload of its bundles is a roamMessage; docs/wire.md has the table.
const ServiceSessions = "sessions"

// Times and limits of roaming.
const (
	RoamTTL     = 30 * 24 * time.Hour    // life of a bundle of ServiceSessions
	nearDelay   = 150                    // ms one way: nodes that a CONNECT waits for
	waitLeast   = 500                    // ms that a CONNECT waits for them, beside six times the delay
	nearPause   = 20                     // ms between bundles of claims to a near node
	farPause    = 1000                   // to any other, at least
	storedPause = 60_000                 // to one whose way is down: bundles wait there for a contact
	unknownAge  = int64(time.Hour) / 1e6 // ms: how much older than its first advert of sessions a node's sessions may be
	overlapTail = 24 * 3600 * 1000       // ms that repeats are watched for after all stubs went quiet
	maxClaims   = 2048                   // in one bundle
	maxPending  = 16384                  // claims that wait for one node; beyond it all sessions are looked through
	maxOverlaps = 16384                  // sessions whose repeats are watched for
	maxStubs    = 100_000
	moveAhead   = 4096     // moved messages of a class that wait for one node
	maxHeads    = 48 << 10 // bytes of heads in a bundle, beyond the first
	maxSubs     = 3 << 20  // bytes of the filters of one session that move
)

// trip is what a session has of its moves: nil for most.
type trip struct {
	// Of a stub: a session that was released.
	to    addr.Node      // who has it now; zero when it is here
	until int64          // ms: the stub ends
	upTo  uint64         // Seq of the newest item when it was released
	tails bundle.Classes // classes whose end was not told yet
	quiet Stamp          // it attracts nothing since then; 0: it does
	seq   uint64         // it may go quiet once this advert of its owner is known; 0: not told yet

	// Of one that came from elsewhere.
	from    addr.Node      // who released it last
	pending []Subscription // not in force yet; of a stub, those that it heeds for words to the client
	await   bundle.Classes // classes that the rest of its queue comes in
	blank   bool           // what it was elsewhere is not known yet
	overlap *overlap
}

// moved reports whether a session is a stub.
func (s *session) moved() bool { return s.trip != nil && !s.trip.to.IsZero() }

func (s *session) travel() *trip {
	if s.trip == nil {
		s.trip = &trip{}
	}
	return s.trip
}

// ended forgets a trip that is over.
func (s *session) home() {
	t := s.trip
	if t != nil && t.to.IsZero() && t.overlap == nil && len(t.pending) == 0 && t.await == 0 && !t.blank {
		s.trip = nil
	}
}

// roaming is what a node knows of sessions that move.
type roaming struct {
	partners map[addr.Node]*partnerNode
	order    []*partnerNode // by node
	next     int64          // ms, when claims are due; 0: look
	waiters  map[*session]*waiter
	waits    agenda                       // of the waiters
	quiet    interest.Trie[*subscription] // of stubs that attract nothing
	stubs    awayHeap
	blocked  map[addr.Node][]*session // stubs that wait for bundles to leave
	stuck    []*session               // stubs that wait for room
	arriving agenda                   // with filters not in force yet
	overlaps []*session               // in the order they began
	settling []claimLine              // told once the advert is out
	refused  []refusedClaim           // claims that found no room
	late     map[addr.Node]lateAnswer // who hears once stubs are quiet

	fence      Stamp // fences are wanted for stubs that were quiet by then
	fenceNext  int64 // ms
	belated    bool  // what is taken in was given up: fences may have overtaken it
	mute       bool  // a stub went quiet, and the advert does not show it yet
	fences     map[addr.Node]*fences
	lateFences map[addr.Node]lateAnswer // who gets a fence once its advert is known

	cursors map[addr.Node]Stamp // as read back
}

func newRoaming() roaming {
	return roaming{
		partners: map[addr.Node]*partnerNode{}, blocked: map[addr.Node][]*session{},
		late: map[addr.Node]lateAnswer{}, cursors: map[addr.Node]Stamp{},
		waiters: map[*session]*waiter{}, waits: newAgenda(), arriving: newAgenda(),
		fences: map[addr.Node]*fences{}, lateFences: map[addr.Node]lateAnswer{},
	}
}

// TakenOver tells that the client of a session is at another node now. Conn is
// 0 when it was not connected here.
type TakenOver struct {
	Client string
	Conn   uint64
}

// drawEpoch returns the epoch of a client that connects now: later than any
// that is known of it.
func (c *Core) drawEpoch(known Stamp) Stamp {
	r := &c.retained
	s := max(r.clock+1, stampAt(c.now))
	r.follow(s)
	if len(c.table.Nodes()) > 1 {
		r.drawn = true
		if !c.cfg.Clock { // no time brings the next boot past what is said of this epoch
			c.reserveStamps()
		}
	}
	return min(max(s, known+1), MaxStamp-1)
}

// last is the newest epoch of a session: of its last claim, or connection.
func (s *session) last() Stamp { return max(s.epoch, s.touched) }

// enter takes in a client that connects: it draws the epoch of the session and
// claims it. owned tells that the session was here already.
func (c *Core) enter(s *session, o *SessionOpen, owned bool, known Stamp) {
	if o.Assigned && s.epoch == 0 {
		return // no other node can have it: it is older than anything
	}
	epoch := c.drawEpoch(known)
	if owned && !o.Clean {
		s.touched = epoch // durable only when another node has to know
		return
	}
	s.epoch, s.touched = epoch, 0
	if o.Clean {
		s.began = epoch
	}
	if owned || len(c.roam.order) == 0 {
		return
	}
	if !o.Clean {
		s.travel().blank = true
		if o.Expiry > 0 {
			c.leap(s)
		}
		c.beginOverlap(s, nil, c.now+c.settings.OrderWait.Milliseconds())
	}
	c.claim(claimLine{client: s.id, epoch: epoch, clean: o.Clean})
}

// leap has deliveries go on under numbers, and so packet ids, that the session
// hardly uses elsewhere: before its nodes hear of each other its client may
// have some from both.
func (c *Core) leap(s *session) {
	const few = 1 << 10 // the next ids, here or there, and those before
	d := c.dest(store.Queue{Kind: store.ToSession, Name: s.id})
	d.last += few + (uint64(s.epoch)*0x9E3779B97F4A7C15>>32)%(maxPackets-2*few) // Fibonacci hashing
	c.nextDSeq(d)
}

// reclaim makes a stub a session again: its client is back, or was never gone
// as far as it knows. What the other node has of it comes back. Until then the
// filters it had are in force: nobody else may get what comes for them.
func (c *Core) reclaim(s *session) {
	subs := slices.Clone(s.subs)
	c.silence(s)
	c.unsubscribe(s, nil)
	for _, sub := range subs {
		sub.Moved, sub.Guessed = true, true
		c.attach(s, sub.Subscription)
	}
	c.roam.stubs.remove(s)
	s.trip = &trip{from: s.trip.from}
	s.inbound = nil
	c.interest.dirty, c.heldDirty = true, true
	c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})
	s.home()
}

// awaitNear lets a CONNECT wait for the nodes that may have its session, as
// long as they are near. It reports whether there are any.
func (c *Core) awaitNear(s *session, o *SessionOpen) bool {
	if w := c.roam.waiters[s]; w != nil { // of an older connection
		c.answerWaiter(w)
	}
	w := &waiter{session: s, conn: o.Conn, token: o.Token, epoch: s.epoch}
	longest := uint64(0)
	for _, p := range c.roam.order {
		path := c.table.Path(p.node)
		if p.answered < s.epoch && path.Up() && path.Delay() <= nearDelay {
			p.await(w, func(o *waiter) bool { return c.roam.waiters[o.session] != o })
			w.left++
			longest = max(longest, path.Delay())
		}
	}
	if w.left == 0 {
		return false
	}
	s.untold = true
	c.roam.waiters[s] = w
	c.roam.waits.put(s, c.now+waitLeast+6*int64(longest))
	return true
}

// answerWaiter answers a CONNECT with what is known of its session now.
func (c *Core) answerWaiter(w *waiter) {
	s := w.session
	delete(c.roam.waiters, s)
	c.roam.waits.drop(s)
	if c.sessions[s.id] != s || s.conn != w.conn || s.moved() {
		c.reply(Reply{Token: w.token, Reason: bundle.SessionEnded})
		return
	}
	s.untold = false
	state := SessionState{Present: s.trip != nil && !s.trip.from.IsZero()}
	if state.Present {
		state = c.stateOfSession(s)
		s.resumed = true
		c.seek(s)
		c.keep(s)
	}
	c.rouse(s)
	c.reply(Reply{Token: w.token, Session: &state})
}

// stateOfSession is what a device finds of its session.
func (c *Core) stateOfSession(s *session) SessionState {
	state := SessionState{Present: true, Subscriptions: slices.Collect(s.filters())}
	for p := range s.inbound {
		state.Inbound = append(state.Inbound, p)
	}
	slices.Sort(state.Inbound)
	return state
}

// filters are those of a session, in force or not yet.
func (s *session) filters() iter.Seq[Subscription] {
	return func(yield func(Subscription) bool) {
		for _, sub := range s.subs {
			if !yield(sub.Subscription) {
				return
			}
		}
		if s.trip == nil {
			return
		}
		for _, sub := range s.trip.pending {
			if !yield(sub) {
				return
			}
		}
	}
}

// tickRoaming lets time pass for what waits.
func (c *Core) tickRoaming() {
	r := &c.roam
	for s := range r.waits.due(c.now) {
		c.answerWaiter(r.waiters[s])
	}
	for s := range r.arriving.due(c.now) {
		c.settleIn(s)
	}
	for len(r.stubs) > 0 && r.stubs[0].trip.until <= c.now {
		s := r.stubs[0]
		if c.waiting(s) { // its rest is on its way
			s.trip.until = c.now + c.settings.OrderWait.Milliseconds()
			r.stubs.add(s)
			continue
		}
		c.endSession(s)
	}
	for len(r.overlaps) > 0 && r.overlaps[0].overlapEnds() <= c.now {
		c.endOverlap(r.overlaps[0])
	}
}

func (c *Core) wakeRoaming(w *wake) {
	r := &c.roam
	r.waits.wake(w)
	r.arriving.wake(w)
	if len(r.stubs) > 0 {
		w.min(r.stubs[0].trip.until)
	}
	if len(r.overlaps) > 0 {
		w.min(r.overlaps[0].overlapEnds())
	}
	c.wakeClaims(w)
	if c.roam.fenceNext != never && c.roam.fence != 0 {
		w.min(max(c.roam.fenceNext, c.now))
	}
}

// waiting reports whether anything waits for a session.
func (c *Core) waiting(s *session) bool {
	for class := range bundle.Class(bundle.NumClasses) {
		if q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: s.id, Class: class}); q != nil && q.Count > 0 {
			return true
		}
	}
	return false
}

// sayTo sends a roamMessage, with custody, and reports whether there was room.
func (c *Core) sayTo(to addr.Node, class bundle.Class, m *roamMessage) bool {
	data := m.encode()
	if !c.hasRoom(class, int64(len(data))+store.PutBytes+entryCost(to.String())+frozenBytes) {
		return false
	}
	c.put1(to, class, data)
	return true
}

// put1 takes custody of a word to another node, whatever the quotas that it
// counts on: others wait for it.
func (c *Core) put1(to addr.Node, class bundle.Class, data []byte) { c.putWord(to, class, data, "") }

func (c *Core) putWord(to addr.Node, class bundle.Class, data []byte, groups string) {
	b := &store.Blob{B: bundle.AppendPayload(nil, data)}
	h := &store.Header{
		Class: class, QoS: 1, Service: ServiceSessions, Received: c.now, Expires: c.now + RoamTTL.Milliseconds(),
		Size: uint32(len(b.B)), Message: c.nextMessage(class),
	}
	q := store.Queue{Kind: store.ToNode, Name: to.String(), Class: class}
	c.charges(h, "", &recipients{batched: []joining{{Queue: q}}})
	c.put(h, []store.Entry{c.outbound(h, q, groups)}, b)
	c.stats.RoamMessages++
}

// Roam takes in the data of a bundle of ServiceSessions, as often as it comes.
func (c *Core) Roam(now time.Time, from addr.Node, data []byte) error {
	c.at(now)
	m, err := parseRoam(data)
	if err != nil {
		return err
	}
	if c.halted || from == c.cfg.Self {
		return nil
	}
	switch m.kind {
	case roamClaims:
		c.claimed(from, &m)
	case roamAnswer:
		c.answeredBy(from, m.upTo, m.behind)
	case roamHeads:
		c.adopt(from, &m)
	case roamTail:
		c.tailed(from, &m)
	case roamFence:
		c.fenceFor(from, m.upTo, m.seq)
	}
	return nil
}

// roamLearned takes note of what another node told of itself.
func (c *Core) roamLearned(old, a *routing.Advert) {
	if a.Sessions && (old == nil || !old.Sessions) {
		c.newPartner(a.Node, old != nil)
	}
	c.maySilence(a)
	if l, ok := c.roam.lateFences[a.Node]; ok {
		c.fenceFor(a.Node, l.upTo, l.seq)
	}
}

// roamRerouted looks for ways that broke while sessions arrive by them.
func (c *Core) roamRerouted() {
	for _, p := range slices.Clone(c.roam.arriving.all) {
		if s := p.session; s.trip == nil || !c.table.Path(s.trip.from).Up() {
			c.settleIn(s)
		}
	}
	c.roam.next, c.roam.fenceNext = 0, 0
}

// roomForRoaming goes on with what waited for room.
func (c *Core) roomForRoaming() {
	stuck, refused := c.roam.stuck, c.roam.refused
	c.roam.stuck, c.roam.refused = nil, nil
	for _, s := range stuck {
		c.rouse(s)
	}
	for _, r := range refused {
		var b headBatch
		c.claimOne(r.from, r.claim, &b)
		c.sendHeads(r.from, &b)
	}
}

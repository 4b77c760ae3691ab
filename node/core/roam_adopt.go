package core

import (
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// adopt takes in what another node had of sessions that this node claimed. It
// may come more than once.
func (c *Core) adopt(from addr.Node, m *roamMessage) {
	for i := range m.heads {
		h := &m.heads[i]
		s := c.sessions[h.client]
		switch {
		case s == nil || h.epoch < s.began || !s.durable() && !s.untold:
			c.stats.RoamLate++ // it ended meanwhile, or began anew
		case s.moved():
			on := *h
			on.epoch, on.floor = s.epoch, mergeFloors(h.floor, m.floor)
			pass := roamMessage{kind: roamHeads, heads: []head{on}}
			c.put1(s.trip.to, bundle.Interactive, pass.encode())
		default:
			c.adoptOne(s, from, h, mergeFloors(h.floor, m.floor))
		}
	}
}

func (c *Core) adoptOne(s *session, from addr.Node, h *head, floor []mark) {
	numbers := c.dest(store.Queue{Kind: store.ToSession, Name: s.id})
	if h.last > numbers.last {
		numbers.last = h.last - 1
		c.nextDSeq(numbers)
	}
	s.began = max(s.began, h.since)
	t := s.travel()
	t.from = from
	t.await |= h.await
	c.beginOverlap(s, floor, c.now+c.settings.TTL.Milliseconds())
	c.hadBefore(s, h.notes)
	if s.untold {
		s.resumed = true
		c.seek(s)
		for _, p := range h.inbound {
			if s.inbound == nil {
				s.inbound = map[uint16]bool{}
			}
			s.inbound[p] = true
		}
		c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})
	}
	if !h.blank {
		t.blank = false
		c.dropGuesses(s, h)
	}
	for _, sub := range h.subs {
		c.adoptFilter(s, sub)
	}
	c.stats.Adopted++
	c.holdsSessions()
	if t.await == 0 || !c.table.Path(from).Up() {
		c.settleIn(s)
	} else {
		c.roam.arriving.put(s, c.now+c.settings.OrderWait.Milliseconds())
		c.keep(s)
	}
	if w := c.roam.waiters[s]; w != nil {
		c.answerWaiter(w)
	}
}

// dropGuesses removes filters that the session has no more.
func (c *Core) dropGuesses(s *session, h *head) {
	var gone []string
	for _, sub := range s.subs {
		has := slices.ContainsFunc(h.subs, func(o Subscription) bool { return o.Filter == sub.Filter })
		if sub.Guessed && !has {
			gone = append(gone, sub.Filter)
		}
		sub.Guessed = false
	}
	if len(gone) > 0 {
		c.unsubscribe(s, gone)
	}
}

// adoptFilter takes a filter over, to be in force when the queue has come. The
// client's own word at this node is newer.
func (c *Core) adoptFilter(s *session, sub Subscription) {
	sub.Moved = true
	same := func(o Subscription) bool { return o.Filter == sub.Filter }
	if at := slices.IndexFunc(s.subs, func(o *subscription) bool { return o.Filter == sub.Filter }); at >= 0 {
		s.subs[at].Moved = true
		return
	}
	if !c.mayJoin(sub.Filter) {
		c.stats.RoamCut++
		return
	}
	if !slices.ContainsFunc(s.trip.pending, same) {
		s.trip.pending = append(s.trip.pending, sub)
	}
}

// settleIn puts the filters of a session in force, and has the mesh told.
func (c *Core) settleIn(s *session) {
	c.roam.arriving.drop(s)
	t := s.trip
	if t == nil || s.moved() {
		return
	}
	pending := t.pending
	t.pending, t.await = nil, 0
	for _, sub := range pending {
		if c.mayJoin(sub.Filter) {
			c.attach(s, sub)
		}
	}
	c.interest.dirty, c.heldDirty = true, true
	if !t.blank { // else those who attract for it go on
		c.roam.settling = append(c.roam.settling, claimLine{client: s.id, epoch: s.epoch, settled: true})
	}
	c.noteConn(s)
	c.keep(s)
	c.rouse(s)
}

// tailed notes that all of a class came that waited for a session.
func (c *Core) tailed(from addr.Node, m *roamMessage) {
	s := c.sessions[m.client]
	if s == nil || s.moved() || s.trip == nil || s.trip.from != from || s.trip.await == 0 || m.epoch != s.epoch {
		return
	}
	if s.trip.await &^= m.classes; s.trip.await == 0 {
		c.settleIn(s)
		return
	}
	c.keep(s)
}

// tellSettled tells those who hold stubs that this node's advert has the
// filters of sessions that came.
func (c *Core) tellSettled() {
	if len(c.roam.settling) == 0 {
		return
	}
	for _, l := range c.roam.settling {
		if s := c.sessions[l.client]; s != nil && s.overlap() != nil && !s.moved() {
			s.trip.overlap.settled = c.drawEpoch(0)
		}
		c.claim(l)
	}
	c.roam.settling = nil
}

// pendingSubscribe replaces the options of a filter that is not in force yet.
func (s *session) pendingSubscribe(sub Subscription) bool {
	if s.trip == nil {
		return false
	}
	for i := range s.trip.pending {
		if s.trip.pending[i].Filter == sub.Filter {
			sub.Moved = true
			s.trip.pending[i] = sub
			return true
		}
	}
	return false
}

// pendingUnsubscribe removes filters that are not in force yet.
func (s *session) pendingUnsubscribe(filters []string) {
	if s.trip != nil {
		s.trip.pending = slices.DeleteFunc(s.trip.pending, func(p Subscription) bool {
			return filters == nil || slices.Contains(filters, p.Filter)
		})
	}
}

// movedHere finds the place of a message of a session that was released by
// another node.
func (c *Core) movedHere(h *store.Header, d duty) (r recipients, ok bool) {
	v := d.visit
	s := c.sessions[v.client]
	if s == nil || v.epoch < s.began || !s.durable() && !s.untold {
		if len(d.filters) > 0 && (v.qos < 2 || v.packet == 0) { // another member of its groups may have it, see mayLeave
			r.share = d.share
			c.reshare(h, duty{filters: d.filters, share: d.share}, asked{remote: h.Topic != "" && h.Topic[0] != '$'}, &r)
			return r, true
		}
		c.stats.Ended[bundle.SessionEnded]++
		c.noteVisit(h, d, Report{reason: bundle.SessionEnded, count: 1})
		return r, false
	}
	if !s.moved() && !c.noteOnce(s, h.Message) {
		c.stats.Duplicates++
		c.noteVisit(h, d, Report{}) // what came first is reported
		return r, false
	}
	e := store.Entry{
		Queue: store.Queue{Kind: store.ToSession, Name: s.id, Class: h.Class}, QoS: v.qos,
		DSeq: c.nextDSeq(c.dest(store.Queue{Kind: store.ToSession, Name: s.id})),
	}
	if v.received {
		e.State = store.Received
	}
	if v.retained {
		h.Service = ServiceRetained
	}
	if v.packet != 0 || len(d.filters) > 0 {
		keep := duty{only: d.only && len(d.filters) > 0, filters: d.filters}
		if v.packet != 0 {
			keep.visit = &visit{packet: v.packet}
		}
		e.Frozen = keep.encode()
	}
	r.entries, r.share = []store.Entry{e}, d.share
	return r, true
}

// noteVisit tells of a copy of a message that followed a session in vain.
func (c *Core) noteVisit(h *store.Header, d duty, r Report) {
	if r.share = d.share; r.share > 0 {
		c.tellOf(h.Message, r)
	}
}

// leaveRoaming takes a session out of everything that waits for it.
func (c *Core) leaveRoaming(s *session) {
	if s.trip == nil {
		return
	}
	r := &c.roam
	is := func(o *session) bool { return o == s }
	if s.moved() {
		c.silence(s)
		r.stubs.remove(s)
		for to, all := range r.blocked {
			r.blocked[to] = slices.DeleteFunc(all, is)
		}
	} else {
		r.arriving.drop(s)
		if o := s.trip.overlap; o != nil && o.settled == 0 && !s.trip.from.IsZero() {
			c.claim(claimLine{client: s.id, epoch: s.epoch, settled: true})
		}
		c.endOverlap(s)
	}
}

package core

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// NeverExpires is the session expiry interval of MQTT 5, 3.1.2.11.2.
const NeverExpires = 0xFFFFFFFF

// ServiceRetained marks a Submission to one Session as a retained message.
const ServiceRetained = "retained"

// Subscription is one filter of a session with its MQTT 5 options.
type Subscription struct {
	Filter            string `json:"f"`
	QoS               uint8  `json:"q"`
	NoLocal           bool   `json:"nl,omitempty"`
	RetainAsPublished bool   `json:"rap,omitempty"`
	ID                int    `json:"id,omitempty"`
	Moved             bool   `json:"m,omitempty"` // it came with its session from another node
	Guessed           bool   `json:"g,omitempty"` // the session had it before it was at another node
}

// SessionOpen is a device that connected. Conn tells its connections apart.
type SessionOpen struct {
	Token      uint64
	Client     string
	Conn       uint64
	Clean      bool   // end an older session first
	Expiry     uint32 // seconds it outlives the connection; 0: not at all
	ReceiveMax uint16 // deliveries in flight
	Will       *Will  // nil: none
	Assigned   bool   // the broker made up the client id: no other node has its session
}

// SessionState is what a device finds of its older session.
type SessionState struct {
	Present       bool
	Subscriptions []Subscription
	Inbound       []uint16 // QoS 2 packet ids that await PUBREL
}

// session is an MQTT client of this node. A durable one is the last hop of
// its messages: they stay in the store until the device acknowledged them.
type session struct {
	id       string
	conn     uint64 // 0: offline
	ends     int64  // ms, when offline; 0: never
	since    int64  // ms: connected, or away, since then; of one that was away at the start, since the start
	purgedTo uint64 // items up to this Seq belonged to an earlier session
	subs     []*subscription
	inbound  map[uint16]bool
	outlet   *storeforward.Outlet // nil as long as nothing ever waited for it
	out      *deliveries          // nil as long as nothing was ever offered to it
	sentTo   uint64               // newest item that was sent
	sentOld  uint64               // of items of an earlier boot, the newest that may have been sent
	from     store.LSN            // nothing is offered before this is durable
	expiry   uint32
	window   uint16
	resumed  bool  // goes on from an earlier connection, even with expiry 0
	lent     bool  // it gets messages of groups out of the store, whether it outlives its connection or not
	stored   bool  // its durable form was written once
	seeks    bool  // its filters are in Sought
	untold   bool  // its CONNECT is not answered: what was elsewhere may still be as if here
	awayAt   int32 // its place in away, or among the stubs, from 1; 0: in neither

	epoch   Stamp // who has the later one owns it
	touched Stamp // when the client connected last, if it is owned since longer
	began   Stamp // clean, then: what is older is not its
	trip    *trip // nil for most
}

// served returns the outlet of the session's queues.
func (s *session) served() *storeforward.Outlet {
	if s.outlet == nil {
		s.outlet = storeforward.NewOutlet(s)
	}
	return s.outlet
}

// rouse has the core look whether there is something to do for a session. One
// that moves has to tell so, also when nothing waits for it.
func (c *Core) rouse(s *session) {
	if s.outlet != nil || s.moved() {
		c.m.Hot(s.served())
	}
}

type subscription struct {
	Subscription
	session *session
}

// matches is the filter without $share/GROUP/.
func (s *subscription) matches() string {
	if _, rest, ok := interest.ParseShare(s.Filter); ok {
		return rest
	}
	return s.Filter
}

func (s *session) durable() bool { return s.expiry > 0 || s.resumed }

// OpenSession takes in a device. The Reply comes when the session and the will
// are durable, or when there is no room for the will; with a Session it says
// what near nodes had of it.
func (c *Core) OpenSession(now time.Time, o SessionOpen) SessionState {
	c.at(now)
	if reason := c.admitWill(&o); reason != bundle.OK {
		c.stats.WillsRefused++
		c.reply(Reply{Token: o.Token, Reason: reason})
		return SessionState{}
	}
	s := c.sessions[o.Client]
	c.connected(&o, s)
	owned, known := false, Stamp(0)
	if s != nil {
		owned, known = !s.moved(), s.last()
	}
	if s != nil && o.Clean {
		c.landFlights(s)
		c.endSession(s)
		s = nil
	}
	var state SessionState
	switch {
	case s == nil:
		s = &session{id: o.Client, purgedTo: c.lastSeq(o.Client)}
		c.sessions[o.Client] = s
		for class := range bundle.Class(bundle.NumClasses) {
			c.m.RerouteOne(store.Queue{Kind: store.ToSession, Name: s.id, Class: class})
		}
	case !owned:
		c.reclaim(s)
	case s.untold: // its last CONNECT was not answered
		c.landFlights(s)
	default:
		state = c.stateOfSession(s)
		c.landFlights(s)
	}
	s.resumed = state.Present && s.durable()
	same := s.stored && s.expiry == o.Expiry && o.Expiry > 0 && owned
	c.enter(s, &o, owned, known)
	c.away.remove(s)
	s.conn, s.expiry, s.ends, s.since = o.Conn, o.Expiry, 0, c.now
	s.window = o.ReceiveMax
	if s.out != nil {
		s.out.flying, s.out.packets = nil, nil
	}
	c.seek(s)
	if !same {
		c.keep(s)
	}
	c.groupsMoved(s)
	c.noteConn(s)
	c.keepWill(&o)
	c.rouse(s)
	if s.durable() {
		c.holdsSessions()
	}
	if !state.Present && !o.Clean && !o.Assigned && c.awaitNear(s, &o) {
		return state
	}
	s.untold = false
	c.reply(Reply{Token: o.Token})
	return state
}

// lastSeq returns the newest Seq that may still wait for an ended session of
// this name.
func (c *Core) lastSeq(client string) uint64 {
	for class := range bundle.Class(bundle.NumClasses) {
		if q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: client, Class: class}); q != nil && q.Count > 0 {
			return c.m.LastSeq()
		}
	}
	return 0
}

// CloseSession tells that a device's connection ended. expiry replaces what
// it asked for when it connected (MQTT 5, 3.14.2.2.2). Unless ForgetWill came
// before, the device is lost: its will fires now, or after its delay.
func (c *Core) CloseSession(now time.Time, client string, conn uint64, expiry uint32) {
	c.at(now)
	c.disconnected(client, conn, expiry)
	c.lostConnection(client, conn, expiry) // after the session: it may end with it
}

func (c *Core) disconnected(client string, conn uint64, expiry uint32) {
	s := c.sessions[client]
	if s == nil || s.conn != conn || s.moved() {
		return // an older connection of a session that was taken over
	}
	c.landFlights(s)
	s.conn, s.since = 0, c.now
	same := s.stored && s.expiry == expiry
	if s.expiry = expiry; expiry == 0 {
		c.endSession(s)
		return
	}
	c.seek(s)
	c.groupsMoved(s)
	c.noteConn(s)
	if expiry != NeverExpires {
		s.ends = c.now + int64(expiry)*1000
		c.away.add(s)
	}
	if !same {
		c.keep(s)
	}
}

// keep has the durable form of a session written, or removed, where that
// changes what is on disk: a device that connects again and again, as one does
// that is refused on a full disk, must not fill it.
func (c *Core) keep(s *session) {
	if s.durable() || s.lent || s.stored {
		c.dirty.add(dirtyKey{kind: dirtySession, name: s.id})
	}
}

// landFlights makes unacknowledged deliveries wait for the next connection.
func (c *Core) landFlights(s *session) {
	if s.out == nil {
		return
	}
	for _, seq := range slices.Sorted(maps.Keys(s.out.flying)) {
		c.giveBack(s.out.flying[seq])
	}
	clear(s.out.flying)
	clear(s.out.packets)
}

// EndSession ends a session and what waits for it, when there is one.
func (c *Core) EndSession(now time.Time, token uint64, client string) {
	c.at(now)
	if s := c.sessions[client]; s != nil {
		c.landFlights(s)
		c.endSession(s)
	}
	c.reply(Reply{Token: token})
}

func (c *Core) endSession(s *session) {
	c.sentOld[s.id] = max(s.sentOld, c.sentOld[s.id])
	c.leaveRoaming(s)
	c.unsubscribe(s, nil)
	delete(c.sessions, s.id)
	c.away.remove(s)
	for class := range bundle.Class(bundle.NumClasses) {
		q := store.Queue{Kind: store.ToSession, Name: s.id, Class: class}
		c.m.RerouteOne(q)
		c.purge(q)
	}
	if c.lastSeq(s.id) == 0 {
		delete(c.sentOld, s.id)
	}
	numbers := store.Queue{Kind: store.ToSession, Name: s.id}
	if d := c.dests[numbers]; d != nil {
		d.last = 0
		c.nextDSeq(d)
		d.last = 0 // encodeDirty drops it
	}
	if s.stored {
		c.dirty.add(dirtyKey{kind: dirtySession, name: s.id})
		c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})
	}
	c.endedSession(s.id)
}

// purge ends what an ended session left in a queue, as far as it is windowed;
// the rest follows as it is loaded. What was for a group goes on to another
// member.
func (c *Core) purge(name store.Queue) {
	q := c.m.Lookup(name)
	if q == nil {
		return
	}
	upTo := ^uint64(0)
	if s := c.sessions[name.Name]; s != nil {
		upTo = s.purgedTo
	}
	sentOld, known := c.sentOld[name.Name]
	if !known { // it ended in an earlier boot
		sentOld = c.bootSeq
	}
	for i := q.Head(); i != nil && i.Header.Seq <= upTo; {
		next := i.Next()
		if !c.handOn(i, sentOld) {
			c.stats.Ended[bundle.SessionEnded]++
			c.sight(SightEnded, i.Header, name, addr.Node{}, bundle.SessionEnded)
			c.noteEnd(i, bundle.SessionEnded)
			c.m.Release(i)
		}
		i = next
	}
	if upTo == ^uint64(0) {
		if c.lastSeq(name.Name) == 0 {
			delete(c.sentOld, name.Name)
		}
		c.m.Retire(name)
	}
}

// Subscribe adds or replaces filters of a session. The Reply comes when they
// are durable and told to the mesh.
func (c *Core) Subscribe(now time.Time, token uint64, client string, subs []Subscription) {
	c.at(now)
	s := c.sessions[client]
	if s == nil || s.moved() {
		c.reply(Reply{Token: token, Reason: bundle.SessionEnded})
		return
	}
	for _, sub := range subs {
		if !c.mayJoin(sub.Filter) {
			c.reply(Reply{Token: token, Reason: bundle.QuotaExceeded})
			return
		}
	}
	find := s.finder(len(subs))
	for _, sub := range subs {
		if at := find(sub.Filter); at >= 0 {
			sub.Moved = s.subs[at].Moved
			s.subs[at].Subscription = sub
			continue
		}
		if !s.pendingSubscribe(sub) {
			c.attach(s, sub)
		}
	}
	c.subscribed(s, token)
}

// Unsubscribe removes filters of a session.
func (c *Core) Unsubscribe(now time.Time, token uint64, client string, filters []string) {
	c.at(now)
	if s := c.sessions[client]; s != nil && !s.moved() {
		s.pendingUnsubscribe(filters)
		c.unsubscribe(s, filters)
		c.subscribed(s, token)
		return
	}
	c.reply(Reply{Token: token})
}

// attach adds a filter to a session.
func (c *Core) attach(s *session, sub Subscription) {
	n := &subscription{sub, s}
	s.subs = append(s.subs, n)
	c.came(n)
	if n.shared() {
		c.joinGroup(n, n.matches())
	} else {
		c.subs.Add(sub.Filter, n)
	}
}

func (c *Core) subscribed(s *session, token uint64) {
	c.interest.dirty, c.heldDirty = true, true
	c.keep(s)
	c.reply(Reply{Token: token})
}

// unsubscribe removes the named filters, all when filters is nil.
func (c *Core) unsubscribe(s *session, filters []string) {
	before, is := len(s.subs), named(filters)
	s.subs = slices.DeleteFunc(s.subs, func(sub *subscription) bool {
		if filters != nil && !is(sub.Filter) {
			return false
		}
		c.gone(sub)
		if sub.shared() {
			c.leaveGroup(sub)
		} else {
			c.subs.Remove(sub.Filter, sub)
		}
		return true
	})
	if len(s.subs) == before {
		return // one client that connects after the other must not have all filters summed up
	}
	c.interest.dirty = true
}

func (c *Core) tickSessions() {
	for len(c.away) > 0 && c.away[0].ends <= c.now {
		c.endSession(c.away[0]) // removes it from away
	}
}

func (c *Core) wakeSessions(w *wake) {
	if len(c.away) > 0 {
		w.min(c.away[0].ends)
	}
}

// savedSession is the durable form of a session.
type savedSession struct {
	Expiry   uint32         `json:"expiry"`
	PurgedTo uint64         `json:"purged,omitempty"`
	Subs     []Subscription `json:"subs,omitempty"`

	// Of a member of groups: what it may have been sent when this was written,
	// and how many more since, in each class; 0: it was away.
	Sent   uint64 `json:"sent,omitempty"`
	Window int    `json:"window,omitempty"`

	Epoch Stamp      `json:"epoch,omitempty"`
	Since Stamp      `json:"since,omitempty"`
	Trip  *savedTrip `json:"trip,omitempty"`
}

func (s *session) save() []byte {
	saved := savedSession{Expiry: s.expiry, PurgedTo: s.purgedTo, Epoch: s.epoch, Since: s.began, Trip: s.saveTrip()}
	if s.member() {
		saved.Sent = s.sentTo
		if s.conn != 0 {
			saved.Window = int(s.window)
		}
	}
	for _, sub := range s.subs {
		if s.durable() {
			saved.Subs = append(saved.Subs, sub.Subscription)
		}
	}
	b, _ := json.Marshal(saved) // plain fields cannot fail
	return b
}

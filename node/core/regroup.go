package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// heldFor is where messages of a group wait that has nobody in reach. Nothing
// serves this queue.
func heldFor(key string, class bundle.Class) store.Queue {
	return store.Queue{Kind: store.ToService, Name: key, Class: class}
}

func isHeldFor(q store.Queue) bool {
	return q.Kind == store.ToService && strings.HasPrefix(q.Name, "$share/")
}

// groupMoved notes that a group may find a member now that it did not find
// before, and that the mesh may have to hear of it.
func (c *Core) groupMoved(key string) {
	c.moved[key], c.groupsDirty = true, true
}

// groupsMoved is groupMoved for the groups a session is a member of.
func (c *Core) groupsMoved(s *session) {
	for _, sub := range s.subs {
		if sub.shared() {
			c.groupMoved(sub.Filter)
		}
	}
}

// groupsLearned notes what another node told anew of groups that matter here.
func (c *Core) groupsLearned(a *routing.Advert) {
	for _, g := range a.Groups {
		if c.groups[g.Filter] != nil || c.holding[g.Filter] {
			c.moved[g.Filter] = true
		}
	}
}

// moveGroups hands on what waits here for a group, or with a member that is
// away, when others are in reach.
func (c *Core) moveGroups() {
	if len(c.moved) == 0 {
		return
	}
	keys := slices.Sorted(maps.Keys(c.moved))
	clear(c.moved)
	for _, key := range keys {
		c.moveHeld(key)
		c.moveAway(key)
	}
}

// moveHeld gives what waits for a group to whoever is there now.
func (c *Core) moveHeld(key string) {
	if !c.holding[key] {
		return
	}
	left := 0
	for class := range bundle.Class(bundle.NumClasses) {
		name := heldFor(key, class)
		q := c.m.Lookup(name)
		if q == nil {
			continue
		}
		for i := q.Head(); i != nil; {
			next := i.Next()
			c.regroup(i, false)
			i = next
		}
		if left += q.Count; q.Count == 0 {
			c.m.Retire(name)
		}
	}
	if left == 0 {
		delete(c.holding, key)
	}
}

// moveAway gives what waits with members that are away to one that is
// connected.
func (c *Core) moveAway(key string) {
	g := c.groups[key]
	if g == nil || !g.online() && c.nearest(&store.Header{}, key, true, asked{remote: true}).IsZero() {
		return
	}
	for _, s := range slices.Clone(g.members) {
		if s.session.conn != 0 {
			continue
		}
		for class := range bundle.Class(bundle.NumClasses) {
			q := c.m.Lookup(store.Queue{Kind: store.ToSession, Name: s.session.id, Class: class})
			if q == nil {
				continue
			}
			for i := q.Head(); i != nil; {
				next := i.Next()
				if c.mayLeave(i, s.session.sentOld) {
					c.regroup(i, false)
				}
				i = next
			}
		}
	}
}

// mayLeave reports whether a message that waits for a session is one of a
// group, and may go to another member. What was sent at QoS 2 stays with its
// session, which may have it (MQTT-4.8.2-4, MQTT-4.8.2-5); sentOld tells what
// an earlier boot may have sent.
func (c *Core) mayLeave(i *storeforward.Item, sentOld uint64) bool {
	if len(i.Entry.Frozen) == 0 || i.Entry.State != store.Pending {
		return false
	}
	return i.Entry.QoS < 2 || i.Sent == 0 && i.Header.Seq > min(sentOld, c.bootSeq) && carried(i.Entry) == 0
}

// noteConn has it written whether a member of groups is connected, and what it
// was sent, so that what it was not can go to others after a restart, too.
// Nothing is sent before that.
func (c *Core) noteConn(s *session) {
	if s.member() && s.durable() {
		c.keep(s)
		s.from = c.await()
	}
}

// outlives reports whether a group has members at other nodes, or one here
// whose session outlives its connection.
func (c *Core) outlives(key string) bool {
	if c.table.Group(key) != nil {
		return true
	}
	g := c.groups[key]
	return g != nil && slices.ContainsFunc(g.members, func(s *subscription) bool { return s.session.durable() })
}

// lends reports whether what a member gets, whose session ends with its
// connection, stays on disk until it took it: when others of the group may get
// it else. It goes on while there is such a message, for the order of them.
func (c *Core) lends(s *subscription) bool {
	ses := s.session
	if !c.outlives(s.Filter) && !(ses.lent && c.lastSeq(ses.id) > 0) {
		return false
	}
	if !ses.lent {
		ses.lent = true
		c.seek(ses)
		c.keep(ses)
	}
	return true
}

// endLent ends the sessions that ended with their node. What they were lent
// goes to others; of that what they may have been sent was just found out.
func (c *Core) endLent() {
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		if s := c.sessions[id]; s.expiry == 0 && !s.moved() {
			c.endSession(s)
		}
	}
}

// restoreSent finds out what members of groups may have been sent before a
// crash: as much as their windows took, from the head of each queue.
func (c *Core) restoreSent(p Persistent) error {
	for _, s := range c.sessions {
		if s.window == 0 {
			continue
		}
		for class := range bundle.Class(bundle.NumClasses) {
			items, err := p.Scan(store.Queue{Kind: store.ToSession, Name: s.id, Class: class}, 0, int(s.window))
			if err != nil {
				return fmt.Errorf("find what was sent to client %q: %w", s.id, err)
			}
			if n := len(items); n > 0 {
				s.sentOld = max(s.sentOld, items[n-1].Header.Seq)
				s.sentTo = max(s.sentTo, s.sentOld)
			}
		}
	}
	return nil
}

// member reports whether a session is a member of a group.
func (s *session) member() bool {
	return slices.ContainsFunc(s.subs, func(sub *subscription) bool { return sub.shared() })
}

// regroup moves a stored message on to members of its groups, and reports
// whether it did: as a rule only to one that is connected, or to anyone when
// it waits for the group itself; when its session ended, in any case.
func (c *Core) regroup(i *storeforward.Item, ended bool) bool {
	d, err := parseDuty(i.Entry.Frozen)
	if err != nil || len(d.filters) == 0 || i.Header.Expires <= c.now || !ended && !d.only {
		return false
	}
	h := *i.Header
	h.Entries = nil
	a := asked{remote: h.Topic != "" && h.Topic[0] != '$', passed: d.passed}
	held := isHeldFor(i.Entry.Queue)
	if !ended && !slices.ContainsFunc(d.filters, func(key string) bool { return c.better(&h, key, a, held) }) {
		return false
	}
	if !c.hasRoom(bundle.Control, headerCost(&h)+int64(h.Size)+c.groupCost(&h, d.filters)) {
		c.room.groups = true // Room looks again
		if ended && !slices.Contains(c.room.ended, i.Entry.Queue) {
			c.room.ended = append(c.room.ended, i.Entry.Queue)
		}
		return false
	}
	var r recipients
	c.reshare(&h, d, a, &r)
	if e, ok := r.liveEntry(h.Class); ok {
		r.entries = append(r.entries, e)
	}
	if d.share > 0 {
		r.share = d.share
		c.sealOut(&h, &r)
		c.divide(&h, &r)
	}
	h.Entries = r.entries
	c.m.Requeue(i, h)
	c.stats.Regrouped++
	return true
}

// handOn gives a message of an ended session to other members of its group, or
// leaves it where it is until there is room for that. It reports whether it
// was one.
func (c *Core) handOn(i *storeforward.Item, sentOld uint64) bool {
	return c.mayLeave(i, sentOld) && (c.regroup(i, true) || slices.Contains(c.room.ended, i.Entry.Queue))
}

// roomForGroups goes on with what waited for room.
func (c *Core) roomForGroups() {
	if !c.room.groups {
		return
	}
	ended := c.room.ended
	c.room.groups, c.room.ended = false, nil
	for _, q := range ended {
		c.purge(q)
	}
	c.allGroupsMoved()
}

func (c *Core) allGroupsMoved() {
	for key := range c.groups {
		c.moved[key] = true
	}
	for key := range c.holding {
		c.moved[key] = true
	}
}

// better reports whether a message that waits has somewhere to go.
func (c *Core) better(h *store.Header, key string, a asked, held bool) bool {
	s := c.seat(h, key, a)
	if held {
		return s.member != nil || !s.node.IsZero()
	}
	return s.member != nil && s.member.session.conn != 0 ||
		!s.node.IsZero() && s.node == c.nearest(h, key, true, a)
}

// reshare finds members for a message that had one, or was on its way to one.
// Another node is told that it gets it for the group alone, and who passed it.
func (c *Core) reshare(h *store.Header, d duty, a asked, r *recipients) {
	nodes := c.share(h, d.filters, a, true, r)
	if len(nodes) == 0 {
		return
	}
	seq := c.advert.Seq
	if c.advertDirty || c.groupsDirty {
		seq++ // what it tells next is what it knows now
	}
	on := d.withPass(c.cfg.Self, seq)
	c.sendTo(h, nodes, duty{only: true, passed: on.passed}, asking(d.share, c.outbound), r)
}

// arriveShared takes in a message of a group: for whoever else wants it here,
// and for a member of each group this node was chosen for. What has no member
// any more goes on to the next node, or waits for one.
func (c *Core) arriveShared(h *store.Header, b *store.Blob, d duty) {
	if r, ok := c.sharedHere(h, d); ok {
		c.deliver(h, r, b)
	}
}

func (c *Core) sharedHere(h *store.Header, d duty) (r recipients, ok bool) {
	if d.visit != nil {
		return c.movedHere(h, d)
	}
	if !d.only {
		if h.Message.Node != h.Origin && !c.firstSight(h.Message) {
			c.stats.Duplicates++
			return r, false
		}
		c.matchArrived(h, &r)
	}
	r.share = d.share
	if d.all {
		c.share(h, c.groupsOf(h.Topic, asked{}), asked{}, false, &r)
		return r, true
	}
	c.reshare(h, d, asked{remote: true, passed: d.passed}, &r)
	return r, true
}

// liveEntry is the place of a message among those that wait for the live.
func (r *recipients) liveEntry(class bundle.Class) (e store.Entry, ok bool) {
	e.Queue = store.Queue{Kind: store.ToService, Name: ServiceLive, Class: class}
	if len(r.members) > 0 {
		d := duty{only: !r.live, members: r.members}
		e.Frozen = d.encode()
	}
	return e, r.live || len(r.members) > 0
}

// groupCost is what a message costs at most that goes to members of groups.
func (c *Core) groupCost(h *store.Header, keys []string) (n int64) {
	for _, key := range keys {
		longest := addr.MaxName
		if g := c.groups[key]; g != nil {
			for _, s := range g.members {
				longest = max(longest, len(s.session.id))
			}
		}
		n += joinCost(h, 0, strings.Repeat("x", longest)) + 2*int64(len(key)) + maxPassed*(addr.MaxName+10)
	}
	return n
}

func (s *subscription) shared() bool {
	_, _, ok := interest.ParseShare(s.Filter)
	return ok
}

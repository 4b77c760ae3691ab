package broker

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// turns returns one member of each group of a message: the one whose turn it
// is. A persistent session has its turn at QoS 0 only: else the node gives it.
func (d *directory) turns(m *Message) (into []*liveSub) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if len(d.groups) == 0 {
		return into
	}
	d.turn.Lock()
	defer d.turn.Unlock()
	d.shared.Match(m.Topic, func(g *group) {
		for range g.members { // a member whose connection ends is passed over
			s := g.members[g.next%len(g.members)]
			g.next++
			if !s.c.closing.Load() && (m.QoS == 0 || !s.c.persistent) {
				into = append(into, s)
				break
			}
		}
	})
	return into
}

// chosen returns the subscriptions of members that the node chose, and the
// filters of those that are gone.
func (d *directory) chosen(members []Member) (found []*liveSub, gone []string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, m := range members {
		name, filter := Subscription{Filter: m.Filter}.Share()
		at := -1
		g := d.groups[[2]string{name, filter}]
		if g != nil {
			at = slices.IndexFunc(g.members, func(s *liveSub) bool { return s.c.client == m.Client && !s.c.closing.Load() })
		}
		if at < 0 {
			gone = append(gone, m.Filter)
			continue
		}
		found = append(found, g.members[at])
	}
	return found, gone
}

// route delivers a message that the node took to the live sessions here and
// returns how many took it.
func (b *Broker) route(m *Message, v *Verdict) int {
	if !v.Shared {
		took, _ := b.routeLive(m)
		return took
	}
	return b.routeChosen(m, v.Members, false)
}

// routeChosen delivers a message to members that the node chose for shared
// subscriptions and, unless it is for them only, to the other subscribers.
func (b *Broker) routeChosen(m *Message, members []Member, only bool) int {
	n := 0
	if !only {
		n = b.give(m, b.live.plain(m.Topic))
	}
	if len(members) > 0 {
		found, gone := b.live.chosen(members)
		if len(gone) > 0 && m.QoS > 0 {
			b.node.Regroup(m, gone)
		}
		n += b.giveEach(m, found)
	}
	return n
}

// regroup gives the node back what a client got for shared subscriptions and
// cannot take any more.
func (c *conn) regroup(d delivery) {
	if _, alive := d.m.remaining(time.Now()); len(d.groups) > 0 && d.qos > 0 && alive && !c.persistent {
		c.b.node.Regroup(d.m, d.groups)
	}
}

// keep remembers what was sent for shared subscriptions at QoS 1, until it is
// acknowledged, and what the node waits for. What was sent at QoS 2 nobody else
// may get (MQTT-4.8.2-5).
func (w *liveWindow) keep(d *delivery) {
	if d.seq > 0 {
		if w.lent == nil {
			w.lent = make(map[uint16]uint64)
		}
		w.lent[d.id] = d.seq
	}
	if len(d.groups) == 0 || d.qos != 1 {
		return
	}
	if w.groups == nil {
		w.groups = make(map[uint16]delivery)
	}
	w.groups[d.id] = *d
}

// unfinished takes what a live session that ends has not finished of shared
// subscriptions, oldest first. The caller holds mu.
func (c *conn) unfinished() (out []delivery) {
	if c.persistent {
		return nil
	}
	// Ids are given in turn: those above the last one given are older.
	ids := slices.SortedFunc(maps.Keys(c.live.groups), func(a, b uint16) int { return cmp.Compare(a-c.live.last-1, b-c.live.last-1) })
	for _, id := range ids {
		out = append(out, c.live.groups[id])
	}
	c.live.groups, c.live.lent = nil, nil
	for c.queue.len() > 0 {
		d := c.queue.pop()
		switch {
		case d.seq > 0 && d.qos == 2: // the node has it, and has to know that nobody else does
			c.b.node.Settle(Settlement{Client: c.client, Conn: c.num, Seq: d.seq, What: Unsent})
		case len(d.groups) > 0:
			out = append(out, d)
		}
	}
	return out
}

// took ends a delivery to a live session: its packet id is free, and the node
// hears of what it keeps. The caller holds mu.
func (c *conn) took(id uint16, lost bundle.Reason) {
	seq, lent := c.live.lent[id]
	qos2 := c.live.used[id] > awaitsPuback
	c.live.release(id)
	if !lent {
		return
	}
	s := Settlement{Client: c.client, Conn: c.num, Seq: seq, PacketID: id, Lost: lost}
	if qos2 {
		s.What = Completed
	}
	c.b.node.Settle(s)
}

package core

import (
	"slices"
	"time"

	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// maxPackets is how many packet ids MQTT has (1 to 65535).
const maxPackets = 65535

// deliveries are what a session was offered and has not ended.
type deliveries struct {
	flying   map[uint64]*storeforward.Item // by Seq
	packets  map[uint16]bool               // in use by flying
	settled  []gatedCount                  // acknowledged by the device, not yet durable
	unstable int                           // sum of settled
}

// flying returns what the device has under this Seq, nil for nothing.
func (s *session) flying(seq uint64) *storeforward.Item {
	if s.out == nil {
		return nil
	}
	return s.out.flying[seq]
}

// landed notes that an item is no longer with the device.
func (s *session) landed(i *storeforward.Item) {
	if s.out != nil {
		delete(s.out.flying, i.Header.Seq)
		delete(s.out.packets, packetID(i.Entry))
	}
}

// packetID derives the packet id of a delivery from its place in the session,
// so that a message keeps its id across restarts without storing it.
// What another node began to deliver goes on under the id it had there.
func packetID(e store.Entry) uint16 {
	if p := carried(e); p != 0 {
		return p
	}
	return uint16((e.DSeq-1)%maxPackets) + 1
}

// carried is the packet id under which a device may know a delivery from
// another node, 0 for none.
func carried(e store.Entry) uint16 {
	if len(e.Frozen) == 0 {
		return 0
	}
	if d, err := parseDuty(e.Frozen); err == nil && d.visit != nil {
		return d.visit.packet
	}
	return 0
}

// serveSession offers a device what waits for it, as far as its window goes.
func (c *Core) serveSession(s *session) (storing bool) {
	if s.moved() {
		return c.moveOut(s)
	}
	if s.conn == 0 || s.untold {
		return false
	}
	if s.from > c.gate.persisted {
		return true
	}
	if s.out == nil {
		s.out = new(deliveries)
	}
	// A delivery counts until its end is durable: this bounds what a device
	// may get again after a crash.
	for len(s.out.settled) > 0 && s.out.settled[0].lsn <= c.gate.persisted {
		s.out.unstable -= s.out.settled[0].n
		s.out.settled = shift(s.out.settled, 1)
	}
	for len(s.out.flying)+s.out.unstable < int(s.window) {
		i, storing := c.m.Next(s.outlet, bundle.AllClasses)
		if i == nil {
			return storing
		}
		if i.Header.Expires <= c.now && i.Entry.State == store.Pending && !c.begun(i, 1) {
			c.m.Return(i)
			c.expireItem(i)
			continue
		}
		id := packetID(i.Entry)
		if s.out.packets[id] {
			c.m.Return(i) // 65,535 younger deliveries overtook it
			return false
		}
		if s.out.flying == nil {
			s.out.flying, s.out.packets = map[uint64]*storeforward.Item{}, map[uint16]bool{}
		}
		s.out.flying[i.Header.Seq], s.out.packets[id] = i, true
		s.sentTo = max(s.sentTo, i.Header.Seq)
		if i.Entry.State == store.Received {
			c.cur.Deliver = append(c.cur.Deliver, s.release(i))
			continue
		}
		c.cur.Deliver = append(c.cur.Deliver, Delivery{
			Session: s.id, Conn: s.conn, Header: i.Header, Entry: i.Entry, PacketID: id,
			Dup: i.Sent > 1 || i.Header.Seq <= c.bootSeq || carried(i.Entry) != 0, SubIDs: s.subIDs(i.Header.Topic, i.Entry.Frozen),
			Retain: s.keepsRetain(i.Header), Blob: i.Blob, Life: i.Header.Expires - c.now,
		})
	}
	return s.out.unstable > 0
}

// Settle takes in what devices and services said of their deliveries.
func (c *Core) Settle(now time.Time, all []Settlement) {
	c.at(now)
	for _, t := range all {
		if t.Service != "" {
			c.settleService(t)
			continue
		}
		s := c.sessions[t.Session]
		if t.Outcome == Inbound {
			c.settleInbound(s, t)
			continue
		}
		if s == nil {
			continue
		}
		i := s.flying(t.Seq)
		if i == nil || s.conn != t.Conn {
			continue // answered by a connection that was taken over
		}
		if t.Outcome == Received {
			c.received(s, i)
			continue
		}
		if t.Outcome == Unsent {
			i.Sent = 0 // it stays in flight: the connection ends
			continue
		}
		s.landed(i)
		c.over(i, t)
		s.out.settle(c.await())
		c.rouse(s)
	}
}

// settle counts a delivery whose end is in the batch of lsn.
func (s *deliveries) settle(lsn store.LSN) {
	s.unstable++
	if n := len(s.settled); n > 0 && s.settled[n-1].lsn == lsn {
		s.settled[n-1].n++
		return
	}
	s.settled = append(s.settled, gatedCount{lsn, 1})
}

// settleInbound frees the packet id of an inbound QoS 2 publish.
func (c *Core) settleInbound(s *session, t Settlement) {
	if s != nil && s.moved() { // its client asks again where the id is now
		if t.Token != 0 {
			c.reply(Reply{Token: t.Token, Reason: bundle.SessionEnded})
		}
		return
	}
	if s != nil && s.inbound[t.Packet] {
		delete(s.inbound, t.Packet)
		c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})
	}
	if t.Token != 0 {
		c.reply(Reply{Token: t.Token})
	}
}

// received keeps it durable that a device has a QoS 2 message; then PUBREL.
func (c *Core) received(s *session, i *storeforward.Item) {
	if i.Entry.State != store.Received {
		c.m.MarkReceived(i)
	}
	c.gate.releases = append(c.gate.releases, gatedRelease{c.await(), s.release(i)})
}

// release is a PUBREL. It leaves only when it is durable that the device has
// the message: then its packet id may be used again.
func (s *session) release(i *storeforward.Item) Delivery {
	return Delivery{Session: s.id, Conn: s.conn, Header: i.Header, Entry: i.Entry, PacketID: packetID(i.Entry), Release: true}
}

// forgetDelivery frees the packet id of an item that ends.
func (c *Core) forgetDelivery(i *storeforward.Item) {
	if s := c.sessions[i.Entry.Queue.Name]; s != nil && s.flying(i.Header.Seq) == i {
		s.landed(i)
	}
}

// inbound reports whether a QoS 2 publish was taken in before (MQTT 5, 4.3.3).
func (c *Core) inbound(p *Submission) bool {
	s := c.sessions[p.Client]
	return s != nil && s.inbound[p.Packet]
}

func (c *Core) noteInbound(p *Submission) {
	if s := c.sessions[p.Client]; s != nil && p.Packet != 0 {
		if s.inbound == nil {
			s.inbound = map[uint16]bool{}
		}
		s.inbound[p.Packet] = true
		c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})
	}
}

// subIDs returns the subscription identifiers of the filters that match, and
// of the groups in whose turn the session got it.
func (s *session) subIDs(topic string, groups []byte) (ids []int) {
	d, _ := parseDuty(groups)
	for sub := range s.filters() {
		if sub.ID != 0 && (!d.only && interest.Match(sub.Filter, topic) || slices.Contains(d.filters, sub.Filter)) {
			ids = append(ids, sub.ID)
		}
	}
	return ids
}

// keepsRetain reports whether a delivery shows the retain flag it was
// published with (MQTT 5, 3.3.1.3).
func (s *session) keepsRetain(h *store.Header) bool {
	if !h.Retain || h.Service == ServiceRetained {
		return h.Retain
	}
	for sub := range s.filters() {
		if sub.RetainAsPublished && interest.Match(sub.Filter, h.Topic) {
			return true
		}
	}
	return false
}

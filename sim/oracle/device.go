package oracle

import (
	"slices"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// session is what the oracle knows of a session of a node.
type session struct {
	filters []filter
	firm    bool   // its subscriptions are durable
	endedAt uint64 // what came up to this Seq belonged to an earlier session
	online  bool
	away    int64 // ms of the node's clock, when offline
	expiry  int64 // ms; 0: it never ends
}

type filter struct {
	filter string
	qos    uint8
	since  int64 // ms of the node's clock
}

// gone reports whether a session has outlived its expiry interval.
func (s *session) gone(now int64) bool { return !s.online && s.expiry > 0 && now >= s.away+s.expiry }

// lost is a crash of the node: what was not firm is no more, nor what had
// ended before.
func (s *session) lost(now int64) {
	if !s.firm || s.gone(now) {
		s.filters, s.firm = nil, false
	}
	s.online = false
}

// SessionOpened tells that a device connected. present: the node found its
// session. expiry is how long it outlives the connection, 0 for ever.
func (n *Node) SessionOpened(client string, present bool, expiry time.Duration) {
	s := n.sessions[client]
	if s == nil {
		s = &session{}
		n.sessions[client] = s
	}
	if !present {
		s.filters, s.firm, s.endedAt = nil, false, n.lastSeq
	}
	s.online, s.expiry = true, expiry.Milliseconds()
}

// SessionClosed tells that a device went away.
func (n *Node) SessionClosed(client string) {
	if s := n.sessions[client]; s != nil {
		s.online, s.away = false, n.cfg.Clock()
	}
}

// SessionEnded tells that a session ended with its connection.
func (n *Node) SessionEnded(client string) {
	if s := n.sessions[client]; s != nil {
		s.filters, s.firm, s.endedAt = nil, false, n.lastSeq
	}
}

// Subscribed tells that a device asked for a filter; SubscribedFirm that the
// node answered.
func (n *Node) Subscribed(client, f string, qos uint8) {
	if s := n.sessions[client]; s != nil {
		s.filters = append(s.filters, filter{f, qos, n.cfg.Clock()})
	}
}

// SubscribedFirm tells that the subscriptions of a session are durable.
func (n *Node) SubscribedFirm(client string) {
	if s := n.sessions[client]; s != nil {
		s.firm = true
	}
}

// Offered tells that the node offered a message to a device or a service.
func (n *Node) Offered(d core.Delivery) {
	m := n.o.message(d.Header.Message)
	p := n.find(d.Entry.Queue, d.Header.Seq)
	n.unpurged(spot{d.Entry.Queue, d.Header.Seq})
	switch {
	case p == nil:
		n.o.blame(Offer, n, m, "delivered before it was durable, or after it was dropped")
	case d.Release && p.state != store.Received:
		n.o.blame(Offer, n, m, "PUBREL before it was durable that the device has it")
	case !d.Release && d.Session != "" && d.Life <= 0 && p.state == store.Pending:
		n.o.blame(Age, n, m, "delivered with %d ms to live", d.Life)
	}
}

// Settled tells what a device or a service said of an offer.
func (n *Node) Settled(t core.Settlement) {
	if t.Outcome != core.Done {
		return
	}
	for _, p := range n.places[t.Seq] {
		if t.Session != "" && p.queue.Kind == store.ToSession && p.queue.Name == t.Session ||
			t.Service != "" && p.queue.Kind == store.ToService && p.queue.Name == t.Service {
			n.settled[spot{p.queue, t.Seq}] = true
		}
	}
}

// Gaps tells the node's count of messages it no longer waits for, in this
// life. It may give up only when something waited long enough.
func (n *Node) Gaps(count uint64) {
	if count == n.gapsSeen-min(n.gapsSeen, n.gapsPast) {
		return
	}
	n.gapsSeen = n.gapsPast + count
	now := n.cfg.Clock()
	for _, all := range n.places {
		for _, p := range all {
			if p.queue.Kind == store.ToOrder && now-p.since >= n.cfg.OrderWait.Milliseconds()*9/10 {
				return
			}
		}
	}
	n.o.broken(Order, n, "-", "a gap was given up although nothing had waited %s for it", n.cfg.OrderWait)
}

// Device is a subscriber as the oracle sees it.
type Device struct {
	o      *Oracle
	node   *Node
	client string
	filter string
	qos    uint8
	static bool
	reach  func(topic string) bool
	last   []uint64 // highest number had of each publisher
}

// Device adds a subscriber. static: its session lasts for the whole world and
// everyone knows of it, so that every acknowledged message that matches is
// due. reach tells whether the routes let a topic come to it.
func (n *Node) Device(client, filter string, qos uint8, static bool, reach func(topic string) bool) *Device {
	d := &Device{o: n.o, node: n, client: client, filter: filter, qos: qos, static: static, reach: reach}
	n.o.devices = append(n.o.devices, d)
	return d
}

func (d *Device) due(p *publication) bool {
	return d.static && p.qos > 0 && d.qos > 0 && interest.Match(d.filter, p.topic) && d.reach(p.topic)
}

// Took tells that the application of a device was given a message. dup: it
// was told that this may be a repeat.
func (d *Device) Took(k Publication, dup bool) (first bool) {
	o := d.o
	p := o.publication(k)
	name := func() *message {
		if len(p.ids) > 0 {
			return p.ids[0]
		}
		return &message{pub: p}
	}
	if slices.Contains(p.got, d) {
		if dup || p.resent && p.qos < 2 && !p.keyed {
			o.Tally.Redelivered++
		} else {
			o.Tally.Duplicates++
			o.blame(OnceDevice, d.node, name(), "client %s got it twice", d.client)
		}
		return false
	}
	p.got = append(p.got, d)
	o.Tally.First++
	o.Tally.Latency += o.cfg.Now() - time.Duration(p.at)
	if p.refused && !p.resent {
		o.blame(Refusal, d.node, name(), "refused, and delivered to %s", d.client)
	}
	for len(d.last) <= k.Publisher {
		d.last = append(d.last, 0)
	}
	if k.Number < d.last[k.Publisher] && !p.loose && p.qos > 0 {
		d.late(p, name(), d.last[k.Publisher])
	}
	d.last[k.Publisher] = max(d.last[k.Publisher], k.Number)
	return true
}

// late judges a message that came after a younger one: the gap it left must
// have been given up. A gap is one bundle, and all that is in it.
func (d *Device) late(p *publication, m *message, after uint64) {
	n := d.node
	excused := false
	for _, m := range p.ids {
		for _, c := range m.copies {
			if n.here(c.dest) && c.dest.Kind == store.ToNode && (c.late || n.lateSeen < n.gaps()) {
				if !c.late {
					c.late = true
					n.lateSeen++
				}
				excused = true
			}
		}
	}
	if excused {
		d.o.Tally.Late++
		return
	}
	d.o.Tally.OutOfOrder++
	d.o.blame(Order, n, m, "client %s got it after number %d of the same publisher", d.client, after)
}

// gaps counts the bundles the node no longer waits for, in all its lives.
func (n *Node) gaps() uint64 {
	if n.cfg.Stats == nil {
		return n.gapsPast
	}
	return n.gapsPast + n.cfg.Stats().GapsGivenUp
}

// reasonAt returns why a message ended on its way to a device, OK when it did
// not.
func (m *message) reasonAt(d *Device) bundle.Reason {
	for _, e := range m.ends {
		if leads(e.queue, e.where, d) {
			return e.reason
		}
	}
	return bundle.OK
}

// Waits reports whether something waits here for what came before it.
func (n *Node) Waits() bool { return n.orders > 0 }

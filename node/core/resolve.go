package core

import (
	"slices"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// ServiceMQTT is the destination service of MQTT publications.
const ServiceMQTT = "mqtt"

// recipients are the entries and the live subscribers of one message.
type recipients struct {
	entries   []store.Entry
	batched   []joining // of other nodes and regions, where the message joins a batch
	members   []Member  // of groups: clients here that do not wait in a session's queue
	live      bool      // some live subscriber here
	own       string    // the live client that gets it alone
	elsewhere bool      // a route leads away from here
	hoarders  []*session

	// What the publisher wants to hear of it; share is 0 when nothing.
	share uint64
	nodes []addr.Node // elsewhere, which report for themselves
	gate  addr.Region // set where a copy for the region enters it
	home  bool        // it entered the mesh here
	again bool        // nodes may be told of twice, by others that have a copy
	had   bool        // a session here had it, or gets it from the node where it was
}

// joining is a place in a batch for a destination, which was chosen for groups.
type joining struct {
	store.Queue
	groups string
}

// leaving makes the entry of a message that leaves for another node or region,
// which was chosen for groups.
type leaving func(h *store.Header, q store.Queue, groups string) store.Entry

// asking is how a message leaves whose publisher wants to hear of it: sealOut
// makes its bundles.
func asking(share uint64, otherwise leaving) leaving {
	if share > 0 {
		return joiner
	}
	return otherwise
}

// empty reports whether nobody wants the message.
func (r *recipients) empty() bool {
	return len(r.entries)+len(r.batched)+len(r.members) == 0 && !r.live
}

// add adds an entry; one without a bundle joins a batch.
func (r *recipients) add(e store.Entry, groups string) {
	if e.Frozen == nil {
		r.batched = append(r.batched, joining{e.Queue, groups})
		return
	}
	r.entries = append(r.entries, e)
}

// resolveAs finds who gets a publication: other nodes with a subscriber (only
// those of region in, when set), the subscribers of this node, and one member
// of each group.
func (c *Core) resolveAs(h *store.Header, client string, in addr.Region, remote bool, outbound leaving) recipients {
	var r recipients
	a := asked{in: in, remote: remote}
	keys := c.groupsOf(h.Topic, a)
	if len(keys) > 0 {
		c.resolveShared(h, client, keys, a, outbound, &r)
		return r
	}
	if remote {
		c.wanting(h.Topic, in, func(n addr.Node) {
			r.add(outbound(h, store.Queue{Kind: store.ToNode, Name: n.String(), Class: h.Class}, ""), "")
		})
	}
	c.matchLocal(h, client, &r)
	return r
}

// wanting calls visit for every other node with a subscriber, by name; only
// for those of a region when that is set.
func (c *Core) wanting(topic string, in addr.Region, visit func(addr.Node)) {
	c.table.Wants(topic, func(n addr.Node) {
		if in.IsZero() || in.Contains(c.table.Advert(n).Region) {
			visit(n)
		}
	})
}

// matchLocal adds the subscribers of this node. A session gets one entry
// however many of its filters match, with their highest QoS (MQTT 5, 3.3.4).
func (c *Core) matchLocal(h *store.Header, client string, r *recipients) {
	c.match(h, client, false, r)
}

// matchArrived is matchLocal for what another node sent to this one: stubs that
// are quiet get it, too.
func (c *Core) matchArrived(h *store.Header, r *recipients) {
	c.match(h, "", c.roam.quiet.Len() > 0, r)
}

func (c *Core) match(h *store.Header, client string, quiet bool, r *recipients) {
	var some [8]*subscription
	matched := some[:0]
	c.subs.Match(h.Topic, func(s *subscription) { matched = append(matched, s) })
	if quiet {
		matched = c.matchQuiet(h, matched)
	}
	if len(c.roam.overlaps) > 0 {
		n := len(matched)
		matched = c.once(h, matched)
		r.had = len(matched) < n
	}
	first, known := len(r.entries), newEntryOf(len(matched))
	for _, s := range matched {
		if s.NoLocal && client != "" && s.session.id == client {
			continue
		}
		qos := min(s.QoS, h.QoS)
		if qos == 0 && s.session.moved() {
			continue // it does not wait for anyone
		}
		if qos == 0 || !s.session.durable() {
			r.live = true
			continue
		}
		name := store.Queue{Kind: store.ToSession, Name: s.session.id, Class: h.Class}
		if i := known.find(r, first, s.session, name); i >= 0 {
			r.entries[i].QoS = max(r.entries[i].QoS, qos)
			continue
		}
		if client != "" && c.hoards(s.session, h.Class) {
			r.passOver(s.session)
			continue
		}
		known.note(s.session, len(r.entries))
		r.entries = append(r.entries, store.Entry{Queue: name, QoS: qos})
	}
	// Numbers are drawn last, one per session, in a fixed order of matching.
	for i := first; i < len(r.entries); i++ {
		r.entries[i].DSeq = c.nextDSeq(c.dest(store.Queue{Kind: store.ToSession, Name: r.entries[i].Queue.Name}))
	}
}

// toSession adds the session of one client.
func (c *Core) toSession(h *store.Header, client string, qos uint8, r *recipients) {
	numbers := store.Queue{Kind: store.ToSession, Name: client}
	r.entries = append(r.entries, store.Entry{
		Queue: store.Queue{Kind: store.ToSession, Name: client, Class: h.Class}, QoS: qos, DSeq: c.nextDSeq(c.dest(numbers)),
	})
}

// answer adds the node that a request came from to those that get the
// response: what it subscribes to may not be known here yet.
func (c *Core) answer(h *store.Header, s *Submission, out leaving, r *recipients) {
	if s.Answers.IsZero() || s.Answers == c.cfg.Self || s.Topic[0] == '$' || c.table.Advert(s.Answers) == nil {
		return
	}
	q := store.Queue{Kind: store.ToNode, Name: s.Answers.String(), Class: h.Class}
	if !slices.ContainsFunc(r.entries, func(e store.Entry) bool { return e.Queue == q }) &&
		!slices.ContainsFunc(r.batched, func(j joining) bool { return j.Queue == q }) {
		r.add(out(h, q, ""), "")
	}
}

// dest is what this node keeps of a destination it numbers bundles for, per
// class; of a session, for all classes together.
type dest struct {
	queue   store.Queue
	last    uint64 // DSeq
	changed bool   // last is not in a batch yet
	node    addr.Node
	region  addr.Region
	mqtt    addr.EID
}

func (c *Core) dest(q store.Queue) *dest {
	d := c.dests[q]
	if d == nil {
		d = &dest{queue: q}
		switch q.Kind {
		case store.ToNode:
			d.node, _ = addr.ParseNode(q.Name)
			d.mqtt = addr.NodeEID(d.node, ServiceMQTT)
		case store.ToRegion:
			d.region, _ = addr.ParseRegion(q.Name)
			d.mqtt = addr.RegionEID(d.region, ServiceMQTT)
		case store.ToSession, store.ToService, store.ToOrder:
		}
		c.dests[q] = d
	}
	return d
}

// eid is the endpoint of a service there.
func (d *dest) eid(service string) addr.EID {
	switch {
	case service == ServiceMQTT:
		return d.mqtt
	case d.queue.Kind == store.ToRegion:
		return addr.RegionEID(d.region, service)
	}
	return addr.NodeEID(d.node, service)
}

// outbound makes the entry of a bundle that starts here: it draws its
// sequence numbers and encodes what will never change about it.
func (c *Core) outbound(h *store.Header, q store.Queue, groups string) store.Entry {
	if b := c.batches[q]; b != nil {
		c.closeBatch(b) // what is in it was sent before
	}
	d := c.dest(q)
	return c.freeze(h, d, c.nextDSeq(d), groups)
}

// unordered makes the entry of a bundle that is never repeated, ordered or
// missed.
func (c *Core) unordered(h *store.Header, q store.Queue, groups string) store.Entry {
	return c.freeze(h, c.dest(q), 0, groups)
}

func (c *Core) freeze(h *store.Header, d *dest, dseq uint64, groups string) store.Entry {
	c.bundles[h.Class]++
	c.drawn = true
	e := store.Entry{Queue: d.queue, QoS: h.QoS, DSeq: dseq, Bundle: bundle.NewSequence(c.cfg.Incarnation, h.Class, c.bundles[h.Class])}
	source := c.source
	if h.Service != ServiceMQTT {
		source = addr.NodeEID(c.cfg.Self, h.Service)
	}
	p := bundle.Primary{
		Dest: d.eid(h.Service), Source: source, ReportTo: addr.None,
		Created:  bundle.Timestamp{Seq: uint64(e.Bundle)},
		Lifetime: uint64(max(h.Expires-c.now, 0)),
	}
	if c.cfg.Clock {
		p.Created.Time = bundle.DTNTime(c.now)
	}
	if cap(c.arena)-len(c.arena) < 512 {
		c.arena = make([]byte, 0, 16<<10)
	}
	start := len(c.arena)
	c.arena = bundle.AppendFrozen(c.arena, &p, bundle.MeshInfo{DSeq: e.DSeq, Message: h.Message, QoS: h.QoS, Count: h.Count, Groups: groups})
	e.Frozen = c.arena[start:len(c.arena):len(c.arena)]
	return e
}

// undraw takes back the numbers drawn for entries that are refused after all,
// so that no consumer waits for them.
func (c *Core) undraw(entries []store.Entry) {
	for _, e := range entries {
		if e.DSeq > 0 {
			q := e.Queue
			if q.Kind == store.ToSession {
				q.Class = 0
			}
			c.dest(q).last--
		}
	}
}

func (c *Core) nextDSeq(d *dest) uint64 {
	d.last++
	if !d.changed {
		d.changed = true
		c.changed = append(c.changed, d)
	}
	return d.last
}

package core

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// ServiceMQTT is the destination service of MQTT publications.
const ServiceMQTT = "mqtt"

// recipients are the entries and the live subscribers of one message.
type recipients struct {
	entries   []store.Entry
	batched   []store.Queue // of other nodes and regions, where the message joins a batch
	live      bool          // some live subscriber here
	elsewhere bool          // a route leads away from here
}

// empty reports whether nobody wants the message.
func (r *recipients) empty() bool { return len(r.entries)+len(r.batched) == 0 && !r.live }

// add adds an entry; one without a bundle joins a batch.
func (r *recipients) add(e store.Entry) {
	if e.Frozen == nil {
		r.batched = append(r.batched, e.Queue)
		return
	}
	r.entries = append(r.entries, e)
}

// resolve finds who gets a publication: other nodes with a subscriber (only
// those of region in, when set), and the subscribers of this node.
func (c *Core) resolve(h *store.Header, client string, in addr.Region, remote bool) recipients {
	return c.resolveAs(h, client, in, remote, c.outbound)
}

func (c *Core) resolveAs(h *store.Header, client string, in addr.Region, remote bool, outbound func(*store.Header, store.Queue) store.Entry) recipients {
	var r recipients
	if remote {
		c.table.Wants(h.Topic, func(n addr.Node) {
			if in.IsZero() || in.Contains(c.table.Advert(n).Region) {
				r.add(outbound(h, store.Queue{Kind: store.ToNode, Name: n.String(), Class: h.Class}))
			}
		})
	}
	c.matchLocal(h, client, &r)
	return r
}

// matchLocal adds the subscribers of this node. A session gets one entry
// however many of its filters match, with their highest QoS (MQTT 5, 3.3.4).
func (c *Core) matchLocal(h *store.Header, client string, r *recipients) {
	var some [8]*subscription
	matched := some[:0]
	c.subs.Match(h.Topic, func(s *subscription) { matched = append(matched, s) })
	first := len(r.entries)
	for _, s := range matched {
		if s.NoLocal && client != "" && s.session.id == client {
			continue
		}
		qos := min(s.QoS, h.QoS)
		if qos == 0 || !s.session.durable() {
			r.live = true
			continue
		}
		name := store.Queue{Kind: store.ToSession, Name: s.session.id, Class: h.Class}
		dup := false
		for i := first; i < len(r.entries); i++ {
			if r.entries[i].Queue == name {
				r.entries[i].QoS = max(r.entries[i].QoS, qos)
				dup = true
			}
		}
		if !dup {
			r.entries = append(r.entries, store.Entry{Queue: name, QoS: qos})
		}
	}
	// Numbers are drawn last, one per session, in a fixed order of matching.
	for i := first; i < len(r.entries); i++ {
		r.entries[i].DSeq = c.nextDSeq(c.dest(store.Queue{Kind: store.ToSession, Name: r.entries[i].Queue.Name}))
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
func (c *Core) outbound(h *store.Header, q store.Queue) store.Entry {
	if b := c.batches[q]; b != nil {
		c.closeBatch(b) // what is in it was sent before
	}
	d := c.dest(q)
	return c.freeze(h, d, c.nextDSeq(d))
}

// unordered makes the entry of a bundle that is never repeated, ordered or
// missed.
func (c *Core) unordered(h *store.Header, q store.Queue) store.Entry {
	return c.freeze(h, c.dest(q), 0)
}

func (c *Core) freeze(h *store.Header, d *dest, dseq uint64) store.Entry {
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
	c.arena = bundle.AppendFrozen(c.arena, &p, bundle.MeshInfo{DSeq: e.DSeq, Message: h.Message, QoS: h.QoS, Count: h.Count})
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

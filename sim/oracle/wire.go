package oracle

import (
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// end is one end of a link session.
type end struct {
	out [bundle.NumClasses]struct {
		next    uint64
		flights []flight
	}
	in [bundle.NumClasses][]pending
}

// flight is a transfer that was sent and is not answered.
type flight struct {
	xid uint64
	at  spot
}

// pending is a transfer that was received and is not acknowledged.
type pending struct {
	xid     uint64
	m       *message
	c       *custody // nil: not traced
	id      bundle.ID
	hops    uint8
	at      int64 // node's clock, ms
	trivial bool  // refused, an obituary, or unreadable
}

// arrivalInfo is what a copy on its way in came with.
type arrivalInfo struct {
	at      int64 // node's clock, ms
	expires int64 // of the one that lives longest, when several came
	n       int   // not answered yet
}

// arrived forgets one arrival that was answered.
func (n *Node) arrived(key *custody) {
	a, ok := n.arriving[key]
	if !ok {
		return
	}
	if a.n--; a.n > 0 {
		n.arriving[key] = a
	} else {
		delete(n.arriving, key)
	}
}

// LinkUp begins one end of a session.
func (n *Node) LinkUp(id uint64) { n.ends[id] = &end{} }

// LinkDown ends one end of a session. What came in over it may still become
// durable.
func (n *Node) LinkDown(id uint64) { delete(n.ends, id) }

// Closed tells that a core ended a session, and why. expected: the world
// broke the protocol itself.
func (n *Node) Closed(reason string, breach, expected bool) {
	if breach && !expected {
		n.o.broken(Wire, n, "-", "the session was closed: %s", reason)
	}
}

// Sent tells that a node gave a frame to a link. now is the node's clock.
func (n *Node) Sent(id uint64, f core.Frame) {
	e := n.ends[id]
	if e == nil {
		return
	}
	switch f := f.(type) {
	case *core.Transfer:
		n.sentTransfer(e, f)
	case core.Ack:
		n.sentAck(e, f)
	case core.Refuse:
		n.o.Tally.Refusals[f.Reason]++
		for i := range e.in[f.Class] {
			if p := &e.in[f.Class][i]; p.xid == f.XID {
				p.trivial = true
			}
		}
	}
}

func (n *Node) sentTransfer(e *end, f *core.Transfer) {
	out := &e.out[f.Class]
	out.next++
	if f.XID != out.next {
		n.o.broken(Wire, n, f.Header.Message.String(), "transfer %d where %d is due", f.XID, out.next)
		out.next = f.XID
	}
	out.flights = append(out.flights, flight{f.XID, n.offers(f)})
}

// SentEarly tells that a node gave a copy of a bundle to a first flight.
func (n *Node) SentEarly(f *core.Transfer) { n.offers(f) }

// offers judges a bundle that is given to a neighbour.
func (n *Node) offers(f *core.Transfer) spot {
	at := spot{f.Entry.Queue, f.Header.Seq}
	p := n.find(at.queue, at.seq)
	if f.Entry.State != store.Ended {
		n.unpurged(at)
	}
	switch {
	case p == nil:
		n.o.blame(Offer, n, n.o.message(f.Header.Message), "sent before it was durable, or after it was dropped")
	case f.Entry.State == store.Ended:
	case f.Life <= 0:
		n.o.blame(Age, n, p.m, "sent with %d ms to live", f.Life)
	case f.Life > p.expires-n.cfg.Clock()+1:
		n.o.blame(Age, n, p.m, "sent with %d ms to live, it has %d", f.Life, p.expires-n.cfg.Clock())
	}
	return at
}

// sentAck judges an acknowledgement of custody as it leaves.
func (n *Node) sentAck(e *end, a core.Ack) {
	all := e.in[a.Class]
	k := 0
	for ; k < len(all) && all[k].xid <= a.XID; k++ {
		n.owns(&all[k])
		n.arrived(all[k].c)
	}
	e.in[a.Class] = all[k:]
}

// owns judges whether custody of what came in is really here.
func (n *Node) owns(p *pending) {
	c := p.c
	if p.trivial || c == nil || c.over() || n.holds[c] > 0 || n.took[hop{p.id, p.hops}] {
		return
	}
	here := n.here(c.dest)
	if here && p.m.takenBy(n) {
		c.arrived = true // a repeat of what came on another way
		return
	}
	if here && !n.stages(p.m.id) && (c.idle || !n.wanting(p.m, p.at)) {
		c.arrived = true // for the live alone, or for nobody
		n.end(&place{m: p.m, c: c}, bundle.NoSubscriber)
		return
	}
	n.o.blame(Custody, n, p.m, "custody of bundle %s for %s acknowledged before it was durable", p.id, core.QueueText(c.dest))
}

// here reports whether a node is at the end of a way.
func (n *Node) here(dest store.Queue) bool {
	if dest.Kind == store.ToRegion {
		r, err := addr.ParseRegion(dest.Name)
		return err == nil && r.Contains(n.cfg.Region)
	}
	return dest.Kind == store.ToNode && dest.Name == n.cfg.Name.String()
}

// Received tells that a frame of a link reached a node.
func (n *Node) Received(id uint64, f core.Frame) {
	e := n.ends[id]
	if e == nil {
		return
	}
	switch f := f.(type) {
	case *core.Incoming:
		if !f.Volatile {
			n.receivedTransfer(e, f)
		}
	case core.Ack:
		out := &e.out[f.Class]
		k := 0
		for ; k < len(out.flights) && out.flights[k].xid <= f.XID; k++ {
			n.released[out.flights[k].at] = true
		}
		out.flights = out.flights[k:]
	case core.Refuse:
		out := &e.out[f.Class]
		for i, fl := range out.flights {
			if fl.xid == f.XID {
				out.flights = append(out.flights[:i:i], out.flights[i+1:]...)
				switch f.Reason {
				case bundle.Malformed, bundle.TooLarge, bundle.HopLimit, bundle.NotAllowed:
					n.denied[fl.at] = f.Reason
				default:
				}
				break
			}
		}
	}
}

// ReceivedEarly tells that a bundle reached a node before a session did.
func (n *Node) ReceivedEarly(f *core.Incoming) { n.arrives(f) }

func (n *Node) receivedTransfer(e *end, f *core.Incoming) {
	e.in[f.Class] = append(e.in[f.Class], n.arrives(f))
}

// arrives notes a bundle that was received.
func (n *Node) arrives(f *core.Incoming) pending {
	now := n.cfg.Clock()
	p := pending{xid: f.XID, at: now, trivial: f.Ended || f.Bad != bundle.OK}
	if m := n.o.message(f.Message); m != nil && !p.trivial {
		if m.topic == "" {
			m.topic, m.qos = f.Topic, f.QoS
		}
		dest := store.Queue{Kind: store.ToNode, Name: f.Node.String(), Class: f.Class}
		if !f.Region.IsZero() {
			dest = store.Queue{Kind: store.ToRegion, Name: f.Region.String(), Class: f.Class}
		}
		p.m, p.c = m, m.copyTo(f.Origin, dest)
		p.id, p.hops = bundle.ID{Node: f.Origin, Seq: f.Bundle}, f.Hops+1
		if n.took[hop{p.id, p.hops}] || p.c.arrived {
			n.o.Tally.WireCopies++
		}
		p.c.idle = p.c.idle || n.here(dest) && !n.wanting(m, now+1)
		a := n.arriving[p.c]
		n.arriving[p.c] = arrivalInfo{at: now, expires: max(a.expires, now+f.Life), n: a.n + 1}
	}
	return p
}

package oracle

import (
	"slices"
	"strings"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Submitted tells that a publication entered the mesh at this node. loose: it
// goes to regions, where order is not promised. again: it was published
// before and not acknowledged.
func (n *Node) Submitted(token uint64, k Publication, s *core.Submission, loose, again bool) {
	p := n.o.publication(k)
	p.topic, p.qos, p.retain = s.Topic, s.QoS, s.Retain
	p.loose, p.resent, p.keyed = p.loose || loose, p.resent || again, !s.Key.IsZero()
	n.tokens[token] = &attempt{pub: p, at: n.cfg.Clock()}
	n.books.asking = n.tokens[token]
}

// Replied tells that the node answered a submission.
func (n *Node) Replied(r core.Reply) {
	a := n.tokens[r.Token]
	if a == nil {
		return
	}
	delete(n.tokens, r.Token)
	p := a.pub
	switch r.Reason {
	case bundle.OK:
	case bundle.DiskFailed: // not answered
		return
	case bundle.Duplicate, bundle.NoSubscriber: // it is here since before, and this is the answer; nothing to keep
		if r.Reason == bundle.Duplicate && p.keyed {
			n.o.Tally.Repeats++
		}
		if p.qos > 0 {
			n.o.acknowledge(p)
		}
		return
	default:
		p.refused = true
		n.o.Tally.Refusals[r.Reason]++
		if a.displaced > 0 {
			n.o.broken(Reasons, n, r.Message.String(), "%d older messages made room for it, and it was refused as %s", a.displaced, r.Reason)
		}
		if m := n.o.messages[r.Message]; m != nil && m.takenBy(n) {
			n.o.blame(Refusal, n, m, "refused as %s, and kept", r.Reason)
		}
		return
	}
	if p.qos == 0 {
		return
	}
	if !r.Message.IsZero() {
		m := n.o.message(r.Message)
		m.pub, m.topic, m.qos, m.acked = p, p.topic, p.qos, true
		if !m.takenBy(n) && (n.stages(m.id) || n.wanting(m, a.at)) {
			n.o.blame(Reply, n, m, "acknowledged before it was durable")
		}
		if k := n.retained[p.topic]; p.retain && (k == Publication{} || k.Publisher == p.key.Publisher && k.Number < p.key.Number) {
			n.o.blame(Reply, n, m, "acknowledged before it was durable as the retained message of its topic")
		}
	}
	n.o.acknowledge(p)
}

// stages reports whether a message waits in a batch that is not durable.
func (n *Node) stages(id bundle.ID) bool {
	for _, b := range n.staged {
		for i := range b.Puts {
			if slices.ContainsFunc(n.members(&b.Puts[i]), func(m Member) bool { return m.ID == id }) {
				return true
			}
		}
	}
	return false
}

// members returns the messages of a put.
func (n *Node) members(p *store.Put) []Member {
	h := p.Header
	if h.Count > 1 && p.Blob != nil && n.o.cfg.Unfold != nil {
		return n.o.cfg.Unfold(h.Message, p.Blob.B)
	}
	one := Member{ID: h.Message}
	if p.Blob != nil {
		one.Pub, _ = n.o.cfg.Identify(p.Blob.B)
	}
	return []Member{one}
}

// acknowledge makes deliveries due.
func (o *Oracle) acknowledge(p *publication) {
	if p.acked {
		return
	}
	p.acked = true
	for _, d := range o.devices {
		if d.due(p) {
			p.due = append(p.due, d)
			o.Tally.Expected++
		}
	}
}

// Staged tells that a batch was given to the store.
func (n *Node) Staged(b *store.Batch) {
	n.staged = append(n.staged, b)
	for i := range b.Puts {
		p := &b.Puts[i]
		n.lastSeq = max(n.lastSeq, p.Header.Seq)
		if !p.Header.Prev.IsZero() || p.Blob == nil || p.From != 0 {
			continue
		}
		if p.Header.Service != core.ServiceMQTT {
			continue
		}
		for _, one := range n.members(p) {
			n.begins(one, p.Header)
		}
	}
	n.enter(b) // when it is known whose the messages are
	// The cause must be there when the decision is taken, not when it becomes
	// durable, perhaps much later.
	for i := range b.Drops {
		d := &b.Drops[i]
		p := n.find(d.Queue, d.Seq)
		if p != nil && p.c != nil && d.Queue.Kind != store.ToOrder && p.state != store.Ended {
			n.caused(b, p, spot{d.Queue, d.Seq})
		}
	}
}

// begins binds a message to its publication, as it is first written.
func (n *Node) begins(one Member, h *store.Header) {
	m := n.o.message(one.ID)
	if m == nil || m.pub != nil && slices.Contains(m.pub.ids, m) || one.Pub.Number == 0 {
		return // it only moves
	}
	m.pub = n.o.publication(one.Pub)
	m.topic, m.qos = m.pub.topic, h.QoS
	m.pub.ids = append(m.pub.ids, m)
	switch {
	case m.pub.refused && !m.pub.resent:
		n.o.blame(Refusal, n, m, "refused before, and kept")
	case m.pub.acked && !m.pub.resent:
		n.o.blame(Reply, n, m, "acknowledged before it was written")
	}
}

// Refused tells that the store could not make the oldest staged batch durable.
func (n *Node) Refused() {
	if len(n.staged) == 0 {
		return
	}
	for i := range n.staged[0].Puts {
		n.undo(&n.staged[0].Puts[i])
	}
	n.staged = n.staged[1:]
}

// Persisted tells that the oldest staged batch is durable.
func (n *Node) Persisted() {
	if len(n.staged) == 0 {
		return
	}
	b := n.staged[0]
	n.staged[0] = nil
	n.staged = n.staged[1:]
	now := n.cfg.Clock()
	grew, waits := false, n.orders > 0 // what others wait for is taken even into a full store
	for i := range b.Puts {
		grew = n.put(b, &b.Puts[i], now) || grew
	}
	for i := range b.Marks {
		n.mark(&b.Marks[i], now)
	}
	for i := range b.Drops {
		n.drop(b, &b.Drops[i], now)
	}
	for i := range b.Sets {
		if topic, ok := strings.CutPrefix(b.Sets[i].Key, core.RetainedPrefix); ok && b.Sets[i].Blob != nil {
			n.retained[topic], _ = n.o.cfg.Identify(b.Sets[i].Blob.B)
		}
	}
	if grew && n.cfg.MaxBytes > 0 && n.cfg.Bytes() > n.cfg.MaxBytes && !waits {
		n.o.broken(Bounded, n, "-", "%d bytes stored, the quota is %d", n.cfg.Bytes(), n.cfg.MaxBytes)
	}
}

// put takes in a durable message. It reports whether it is new at this node.
func (n *Node) put(b *store.Batch, p *store.Put, now int64) (fresh bool) {
	h := p.Header
	m := n.o.message(h.Message)
	if m == nil {
		return false
	}
	if m.topic == "" {
		m.topic, m.qos = h.Topic, h.QoS
	}
	from := n.movedFrom(b, m)
	var in *custody
	switch {
	case from != nil:
		if h.Expires > from.expires {
			n.o.blame(Age, n, m, "its life grew by %d ms when it moved to another queue", h.Expires-from.expires)
		}
		if from.c != nil && from.queue.Kind == store.ToOrder {
			from.c.arrived = true
		}
	case !h.Prev.IsZero():
		if in = n.cameFor(m, h); in == nil {
			break
		}
		a := n.arriving[in]
		if h.Expires > a.expires && h.Entries[0].State != store.Ended {
			n.o.blame(Age, n, m, "it arrived with %d ms to live and is kept for %d ms", a.expires-a.at, h.Expires-a.at)
		}
	}
	for i := range h.Entries {
		n.place(m, p, &h.Entries[i], in, now)
	}
	if in != nil && n.holds[in] == 0 {
		in.arrived = true
	}
	for _, one := range n.members(p) {
		if m := n.o.message(one.ID); m != nil && !m.takenBy(n) {
			m.taken = append(m.taken, n)
		}
	}
	return from == nil
}

// cameFor returns the copy that came in and is put here: one that is on its
// way to elsewhere, or one that is at its destination.
func (n *Node) cameFor(m *message, h *store.Header) *custody {
	if len(h.Entries) == 0 {
		return nil
	}
	e := &h.Entries[0]
	if e.Frozen != nil {
		if v, err := bundle.ParseFrozen(e.Frozen); err == nil && v.Primary.ID().Node == h.Origin {
			c := m.copyTo(h.Origin, e.Queue)
			if _, ok := n.arriving[c]; ok {
				return c
			}
			return nil
		}
	}
	for _, c := range m.copies {
		if _, ok := n.arriving[c]; ok && c.origin == h.Origin && n.here(c.dest) {
			return c
		}
	}
	return nil
}

// movedFrom returns the place that a batch empties by moving its message.
func (n *Node) movedFrom(b *store.Batch, m *message) *place {
	for i := range b.Drops {
		if p := n.find(b.Drops[i].Queue, b.Drops[i].Seq); p != nil && p.m == m {
			return p
		}
	}
	return nil
}

func (n *Node) place(m *message, put *store.Put, e *store.Entry, in *custody, now int64) {
	h := put.Header
	p := place{m: m, queue: e.Queue, expires: h.Expires, since: now, size: int64(h.Size), state: e.State, h: h}
	n.bytes += p.bytes()
	switch e.Queue.Kind {
	case store.ToNode, store.ToRegion:
		if e.Frozen == nil {
			break // held for a subscriber of this region
		}
		origin := n.cfg.Name
		id := bundle.ID{Node: origin, Seq: e.Bundle}
		if !h.Prev.IsZero() {
			v, err := bundle.ParseFrozen(e.Frozen)
			if err != nil {
				break
			}
			id = v.Primary.ID()
			origin = id.Node
		}
		p.c = m.copyTo(origin, e.Queue)
		if h.Count > 1 && p.c.batch == nil {
			n.board(p.c, put)
		}
		if in != nil && in == p.c {
			key := hop{id, h.Hops}
			if n.took[key] {
				n.o.blame(OnceHop, n, m, "custody of bundle %s taken twice after %d hops", id, h.Hops)
			}
			n.took[key] = true
		}
	case store.ToOrder:
		p.c = m.copyTo(h.Origin, store.Queue{Kind: store.ToNode, Name: n.cfg.Name.String(), Class: e.Queue.Class})
		n.orders++
	case store.ToSession:
		key := visit{e.Queue.Name, m.id}
		if n.queued[key] {
			n.o.blame(OnceSession, n, m, "queued twice for session %s", e.Queue.Name)
		}
		n.queued[key] = true
	case store.ToService:
	}
	if p.c != nil && p.state != store.Ended {
		p.c.holders++
		n.holds[p.c]++
	}
	n.places[h.Seq] = append(n.places[h.Seq], p)
	n.counts[e.Queue]++
}

// board notes which messages travel in a copy.
func (n *Node) board(c *custody, put *store.Put) {
	for _, one := range n.members(put) {
		m := n.o.message(one.ID)
		c.batch = append(c.batch, m)
		if !slices.Contains(m.copies, c) {
			m.copies = append(m.copies, c)
		}
	}
}

// unhold takes a place off its copy's holders.
func (n *Node) unhold(p *place) {
	n.bytes -= p.bytes()
	if p.queue.Kind == store.ToOrder {
		n.orders--
	}
	if p.c == nil || p.state == store.Ended {
		return
	}
	p.c.holders--
	if n.holds[p.c]--; n.holds[p.c] == 0 {
		delete(n.holds, p.c)
	}
}

func (n *Node) mark(mk *store.Mark, now int64) {
	p := n.find(mk.Queue, mk.Seq)
	if p == nil || p.state == store.Ended {
		return
	}
	if mk.State == store.Ended {
		n.bytes -= p.bytes()
		n.expired(p, mk.Seq, now)
		if p.c != nil {
			p.c.holders--
			if n.holds[p.c]--; n.holds[p.c] == 0 {
				delete(n.holds, p.c)
			}
		}
	}
	p.state = mk.State
}

// expired judges the end of a life, or a refusal that is final.
func (n *Node) expired(p *place, seq uint64, now int64) {
	reason := bundle.Expired
	if why := n.books.why[spot{p.queue, seq}]; why != bundle.OK {
		reason = why
	} else if denied := n.denied[spot{p.queue, seq}]; denied != bundle.OK {
		reason = denied
	} else if now < p.expires {
		n.o.blame(Age, n, p.m, "it ended in %s with %d ms left to live", core.QueueText(p.queue), p.expires-now)
	}
	n.end(p, reason)
}

// end notes why a place of a message is no more, when it did not move on.
func (n *Node) end(p *place, reason bundle.Reason) {
	e := ended{where: n, queue: p.queue, reason: reason}
	if p.c != nil {
		e.queue, p.c.reason = p.c.dest, reason
	}
	for _, m := range p.carried() {
		m.ends = append(m.ends, e)
	}
}

// carried returns the messages that are lost with a place. Where a batch was
// taken apart, each has a place of its own.
func (p *place) carried() []*message {
	if p.c != nil && p.queue.Kind != store.ToOrder {
		return p.c.carried()
	}
	return []*message{p.m}
}

func (n *Node) drop(b *store.Batch, d *store.Drop, now int64) {
	p := n.find(d.Queue, d.Seq)
	if p == nil {
		return
	}
	m, at := p.m, spot{d.Queue, d.Seq}
	if p.state != store.Ended {
		n.explain(b, p, at, now)
	}
	c := p.c
	n.remove(d.Queue, d.Seq, m)
	delete(n.released, at)
	delete(n.denied, at)
	delete(n.settled, at)
	delete(n.books.why, at)
	if c != nil && c.holders == 0 && !c.over() {
		n.o.blame(Holder, n, m, "the copy for %s has no durable holder left", core.QueueText(c.dest))
	}
}

// caused judges the end of custody of a copy on its way to elsewhere.
func (n *Node) caused(b *store.Batch, p *place, at spot) {
	moved := slices.ContainsFunc(b.Puts, func(put store.Put) bool { return put.Header.Message == p.m.id })
	ended := slices.ContainsFunc(b.Marks, func(m store.Mark) bool { return m.Queue == at.queue && m.Seq == at.seq })
	if !moved && !ended && n.books.why[at] == bundle.OK && !n.released[at] && n.denied[at] == bundle.OK && n.cfg.Clock() < p.expires {
		n.o.blame(Release, n, p.m, "given up in %s without a cause", core.QueueText(p.queue))
	}
}

// explain finds the cause of a drop.
func (n *Node) explain(b *store.Batch, p *place, at spot, now int64) {
	moved := slices.ContainsFunc(b.Puts, func(put store.Put) bool { return put.Header.Message == p.m.id })
	why := n.books.why[at]
	switch {
	case why != bundle.OK:
		n.end(p, why)
		return
	case moved:
		return
	case p.queue.Kind == store.ToNode || p.queue.Kind == store.ToRegion && p.c != nil:
		if n.released[at] {
			return
		}
		if denied := n.denied[at]; denied != bundle.OK {
			n.end(p, denied)
			return
		}
	case p.queue.Kind == store.ToSession:
		if n.settled[at] {
			return
		}
		if s := n.sessions[p.queue.Name]; s != nil && (at.seq <= s.endedAt || s.gone(now)) {
			n.end(p, bundle.SessionEnded)
			return
		}
	case p.queue.Kind == store.ToService:
		if n.settled[at] {
			return
		}
	case p.queue.Kind == store.ToOrder:
		if p.c.arrived || slices.ContainsFunc(p.m.copies, func(c *custody) bool { return c.arrived && n.here(c.dest) }) {
			p.c.arrived = true // a repeat, of what a region handed on twice
			return
		}
		if !n.wanting(p.m, p.since) {
			n.end(p, bundle.NoSubscriber)
			return
		}
	}
	if now >= p.expires {
		n.end(p, bundle.Expired)
		return
	}
	n.o.blame(Release, n, p.m, "dropped from %s without a cause, %d ms before the end of its life", core.QueueText(p.queue), p.expires-now)
	n.end(p, bundle.Purged)
}

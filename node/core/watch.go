package core

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// SightKind says what was seen of a message.
type SightKind uint8

// The kinds.
const (
	SightArrived      SightKind = iota // from another node, for recipients here; or this node says it
	SightBatched                       // it is a batch that was made here, of Members
	SightHandedOn                      // the neighbour Node has it
	SightAcknowledged                  // the device of Queue acknowledged it
	SightEnded                         // other than by delivery, for Reason
)

// Sight is something that happened to a message while somebody watches. It is
// told at once, before it is durable.
type Sight struct {
	Kind   SightKind
	Header *store.Header // not to be changed
	Queue  store.Queue   // in which the message waited
	To     []store.Queue // of one that arrived: where it waits now
	Node   addr.Node
	Reason bundle.Reason
	Blob   *store.Blob // payload block of what arrived; nil: it is not at hand

	Members []*store.Header // of a batch, as far as they were seen
}

// Watch says whether somebody wants to see what happens to messages. Nobody
// costs nothing.
func (c *Core) Watch(on bool) { c.watched = on }

// sight tells of the fate of a message.
func (c *Core) sight(kind SightKind, h *store.Header, q store.Queue, n addr.Node, reason bundle.Reason) {
	if c.watched {
		c.cur.Sights = append(c.cur.Sights, Sight{Kind: kind, Header: h, Queue: q, Node: n, Reason: reason})
	}
}

// sightBatch tells which messages are in a batch.
func (c *Core) sightBatch(h *store.Header, b *openBatch) {
	if len(b.watched) > 0 {
		own := *h
		c.cur.Sights = append(c.cur.Sights, Sight{Kind: SightBatched, Header: &own, Queue: b.queue.Queue, Members: b.watched})
	}
}

// sightArrival tells of a message of another node, or of this one itself.
func (c *Core) sightArrival(h *store.Header, r *recipients, blob *store.Blob, reason bundle.Reason) {
	if c.watched {
		from := h.Origin
		if from.IsZero() {
			from = c.cfg.Self
		}
		c.cur.Sights = append(c.cur.Sights, Sight{Kind: SightArrived, Header: h, To: r.queues(), Node: from, Reason: reason, Blob: blob})
	}
}

// sightReply completes a reply for those who watch. The broker does not know
// what this node says itself.
func (c *Core) sightReply(reply *Reply, h *store.Header, s *Submission, r *recipients) {
	switch {
	case !c.watched:
	case s.Client == "":
		c.sightArrival(h, r, s.Blob, reply.Reason)
	default:
		reply.To, reply.Class = r.queues(), h.Class
	}
}

// queues lists where a message goes.
func (r *recipients) queues() (out []store.Queue) {
	for _, e := range r.entries {
		out = append(out, e.Queue)
	}
	for _, q := range r.batched {
		out = append(out, q.Queue)
	}
	return out
}

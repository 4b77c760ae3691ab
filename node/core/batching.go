package core

import (
	"strings"

	"github.com/farhop/farhop/storeforward/batch"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// openBatch collects small messages for one destination. What is in it is not
// in custody yet: its replies wait until the batch is closed and durable.
type openBatch struct {
	queue   joining
	ttl     int64 // ms, the same for all
	first   store.Header
	blob    *store.Blob // of the first
	packer  batch.Packer
	replies []Reply
	due     int64           // ms
	bytes   int64           // of payload blocks
	cost    int64           // in Core.room
	watched []*store.Header // of those that joined while somebody watched
}

// maxOpen is how many batches are open at a time, at most.
const maxOpen = 1024

// leaver returns how a message leaves for other nodes: in a batch when it is
// small and its kind allows it, else in a bundle of its own.
func (c *Core) leaver(h *store.Header) leaving {
	if c.settings.Batch.Max == 0 || h.Service != ServiceMQTT || int(h.Size) > min(batch.MaxMessage, c.settings.Batch.Max/4) {
		return c.outbound
	}
	return joiner
}

// joiner makes the entry of a message that joins a batch.
func joiner(_ *store.Header, q store.Queue, _ string) store.Entry { return store.Entry{Queue: q} }

// join adds a message to the batches of its destinations. The reply, if there
// is one, leaves when the last of them is durable; alone closes them now.
func (c *Core) join(h *store.Header, blob *store.Blob, queues []joining, reply *Reply, alone bool) {
	for n, q := range queues {
		b := c.batchFor(h, q)
		data, err := bundle.PayloadData(blob.B)
		if err != nil {
			data = nil // made by this node: cannot be
		}
		if b.packer.Count() == 0 {
			b.first, b.blob, b.ttl = *h, blob, h.Expires-h.Received
		}
		b.packer.Add(h.Message.Seq.Count()-b.first.Message.Seq.Count()+1, data)
		b.first.QoS = max(b.first.QoS, h.QoS)
		b.bytes += int64(h.Size)
		if c.watched {
			b.watched = append(b.watched, h)
		}
		c.joinAccounts(h.Charge, int64(h.Size), 1)
		cost := joinCost(h, int64(h.Size), q.Name)
		b.cost += cost
		c.room.joined += cost
		if alone || h.QoS == 2 || len(queues) > 1 {
			// What else this write says of the message must not be durable
			// without it: an acknowledgement to a peer, a packet id, a Key.
			b.due = c.now
		}
		if reply != nil && n == len(queues)-1 {
			b.replies = append(b.replies, *reply)
		}
	}
}

// batchFor returns the open batch of a queue that a message may join. One it
// may not join is closed: order is kept.
func (c *Core) batchFor(h *store.Header, q joining) *openBatch {
	if b := c.batches[q.Queue]; b != nil {
		next := h.Message.Seq.Count() > b.first.Message.Seq.Count() && h.Message.Node == b.first.Message.Node &&
			h.Message.Seq.Incarnation() == b.first.Message.Seq.Incarnation() && h.Message.Seq.Class() == b.first.Message.Seq.Class()
		if next && b.queue.groups == q.groups && b.ttl == h.Expires-h.Received && b.first.Charge == h.Charge && b.first.Yields == h.Yields && b.packer.Fits(int(h.Size)) &&
			b.packer.Size()+int(h.Size) <= c.settings.Batch.Max {
			return b
		}
		c.closeBatch(b)
	}
	if len(c.openOrder) >= maxOpen {
		c.closeBatch(c.openOrder[0])
	}
	b := &openBatch{}
	if n := len(c.pool); n > 0 {
		b, c.pool = c.pool[n-1], c.pool[:n-1]
	}
	b.queue, b.due = q, c.now+c.settings.Batch.Wait[q.Class].Milliseconds()
	c.batches[q.Queue] = b
	c.openOrder = append(c.openOrder, b)
	return b
}

// closeDue closes the batches that waited long enough.
func (c *Core) closeDue() {
	for n := 0; n < len(c.openOrder); {
		if b := c.openOrder[n]; b.due <= c.now {
			c.closeBatch(b)
		} else {
			n++
		}
	}
}

func (c *Core) wakeBatches(w *wake) {
	for _, b := range c.openOrder {
		w.min(b.due)
	}
}

// closeBatch takes custody of what a batch holds, as one bundle.
func (c *Core) closeBatch(b *openBatch) {
	delete(c.batches, b.queue.Queue)
	for n, o := range c.openOrder {
		if o == b {
			c.openOrder = append(c.openOrder[:n], c.openOrder[n+1:]...)
			break
		}
	}
	c.room.joined -= b.cost
	c.joinAccounts(b.first.Charge, -b.bytes, -b.packer.Count())
	h, blob := b.first, b.blob
	if n := b.packer.Count(); n > 1 {
		data := b.packer.Append(nil)
		blob = &store.Blob{B: bundle.AppendPayload(make([]byte, 0, len(data)+bundle.PayloadOverhead), data)}
		h.Topic, h.Retain = "", false
		h.Count, h.Size = uint16(n), uint32(len(blob.B))
		c.sightBatch(&h, b)
	}
	c.put(&h, []store.Entry{c.outbound(&h, b.queue.Queue, b.queue.groups)}, blob)
	for _, r := range b.replies {
		c.reply(r)
	}
	clear(b.replies)
	replies := b.replies[:0]
	b.packer.Reset()
	*b = openBatch{packer: b.packer, replies: replies}
	c.pool = append(c.pool, b)
}

// joinAccounts counts what waits in open batches on its quotas, or takes it
// out again.
func (c *Core) joinAccounts(charge string, bytes int64, count int) {
	if charge == "" {
		return
	}
	for key := range strings.SplitSeq(charge, "\n") {
		u := c.joined[key]
		u.Bytes += bytes
		if u.Count += count; u.Count == 0 {
			delete(c.joined, key)
		} else {
			c.joined[key] = u
		}
	}
}

package broker

import (
	"time"
)

const (
	flushBytes = 64 << 10 // one write gathers up to this, and one message more
	flushItems = 256
)

// delivery is one PUBLISH on its way to one client.
type delivery struct {
	m      *Message
	seq    uint64 // the node's number, persistent sessions only
	id     uint16 // persistent: given by the node; live: given when written
	qos    byte
	dup    bool
	retain bool
	subIDs []int
}

// kick starts the writer if there is none. The caller holds mu. A writer lives
// as long as it finds something to write, so an idle client costs no stack.
func (c *conn) kick() {
	if len(c.control) > maxControlOut && !c.closing.Load() {
		c.disconnectLocked(noDisconnectMessage, "unread-acknowledgements")
		return
	}
	if c.writing || c.sealed {
		return
	}
	c.writing = true
	go c.writeLoop() // seal waits for its end
}

// push queues a delivery; the caller holds mu and has checked the limits.
func (c *conn) push(d delivery) {
	c.queue.push(d)
	c.queueBytes += d.m.Size()
	if c.open {
		c.kick()
	}
}

// writeLoop writes until nothing is left, one socket write per batch.
func (c *conn) writeLoop() {
	box := c.b.buffers.Get().(*batch)
	defer c.b.buffers.Put(box)
	for {
		c.mu.Lock()
		box.reset()
		box.buf = append(box.buf, c.control...)
		if c.control = c.control[:0]; cap(c.control) > 4<<10 {
			c.control = nil
		}
		now := time.Now()
		c.take(box, now)
		if len(box.buf) == 0 && len(box.items) == 0 {
			c.writing = false
			c.room.Broadcast()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.encode(box, now)
		if !c.flush(box.buf) {
			return
		}
	}
}

// batch is what one socket write carries.
type batch struct {
	buf   []byte
	items []delivery
}

// reset empties the batch and lets go of an unusual buffer.
func (b *batch) reset() {
	clear(b.items)
	b.items = b.items[:0]
	if b.buf = b.buf[:0]; cap(b.buf) > 4*flushBytes {
		b.buf = nil
	}
}

// take moves deliveries that may be written now into the batch. The caller
// holds mu.
func (c *conn) take(box *batch, now time.Time) {
	if !c.open || c.closing.Load() {
		return
	}
	for n := len(box.buf); n < flushBytes && len(box.items) < flushItems; {
		if c.queue.len() == 0 && !c.fromBacklog() {
			return
		}
		d := c.queue.front()
		_, alive := d.m.remaining(now)
		if !c.persistent && alive && d.qos > 0 {
			id, ok := c.live.take(c.window, d.qos)
			if !ok {
				return // order: what waits behind it waits too
			}
			d.id = id
		}
		item := c.queue.pop()
		c.queueBytes -= item.m.Size()
		if !alive && (!c.persistent || item.qos == 0) {
			c.b.metrics.dropped.WithLabelValues("expired").Inc()
			continue
		}
		n += item.m.Size()
		box.items = append(box.items, item)
	}
}

// encode turns the batch's items into bytes. A packet that is larger than the
// client takes counts as delivered (MQTT 5, 3.1.2.11.4).
func (c *conn) encode(box *batch, now time.Time) {
	for i := range box.items {
		d := &box.items[i]
		start := len(box.buf)
		box.buf = appendPublish(box.buf, c.version, d, now)
		if c.maxSend == 0 || len(box.buf)-start <= c.maxSend {
			c.b.metrics.byQoSOut[d.qos].Inc()
			continue
		}
		box.buf = box.buf[:start]
		c.b.metrics.dropped.WithLabelValues("client-maximum-packet-size").Inc()
		c.skip(d)
	}
}

// skip ends a delivery that will never be written.
func (c *conn) skip(d *delivery) {
	if d.qos == 0 {
		return
	}
	c.mu.Lock()
	delete(c.out, d.id)
	c.live.release(d.id)
	c.mu.Unlock()
	if c.persistent {
		what := Acked
		if d.qos == 2 {
			what = Completed
		}
		c.b.node.Settle(Settlement{Client: c.client, Conn: c.num, Seq: d.seq, PacketID: d.id, What: what})
	}
}

// flush writes and reports whether the connection still lives.
func (c *conn) flush(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	stall := writeStall
	if c.keepAlive > 0 {
		stall = 3 * c.keepAlive
	}
	c.mu.Lock()
	if c.closing.Load() {
		stall = flushTimeout
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(stall))
	c.mu.Unlock()
	if _, err := c.Conn.Write(p); err != nil {
		c.disconnect(noDisconnectMessage, "connection-lost")
		c.mu.Lock()
		c.control, c.said, c.writing, c.sealed = nil, false, false, true
		c.room.Broadcast()
		c.mu.Unlock()
		return false
	}
	return true
}

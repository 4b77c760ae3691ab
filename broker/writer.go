package broker

import (
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

const (
	flushBytes  = 64 << 10 // one write gathers up to this, and one message more
	flushItems  = 256
	minAliased  = 4  // bytes of a topic for which an alias, three bytes, is worth while
	mostAliases = 64 // a client gets, whatever it can take
)

// delivery is one PUBLISH on its way to one client.
type delivery struct {
	m      *Message
	seq    uint64 // the node's number, of what it keeps
	id     uint16 // persistent: given by the node; live: given when written
	qos    byte
	dup    bool
	retain bool
	subIDs []int
	groups []string // shared subscriptions it is for, as subscribed
}

// kick has the driver write what waits. The caller holds mu.
func (c *conn) kick() {
	if len(c.control) > maxControlOut && !c.closing.Load() {
		c.disconnectLocked(noDisconnectMessage, "unread-acknowledgements")
		return
	}
	c.driver.kick()
}

// push queues a delivery; the caller holds mu and has checked the limits.
func (c *conn) push(d delivery) {
	c.queue.push(d)
	c.queueBytes += d.m.Size()
	if c.open {
		c.kick()
	}
}

// gather moves what may be written now into the batch, as far as one write
// takes it, and encodes it. It reports false when there is nothing.
func (c *conn) gather(box *batch, now time.Time) bool {
	c.mu.Lock()
	box.reset()
	box.buf = append(box.buf, c.control...)
	if c.control = c.control[:0]; cap(c.control) > 512 {
		c.control = nil
	}
	c.take(box, now)
	c.mu.Unlock()
	c.encode(box, now)
	c.b.sys.bytesOut.Add(uint64(len(box.buf)))
	return len(box.buf) > 0
}

// idleLocked reports whether gather would find nothing. The caller holds mu.
func (c *conn) idleLocked() bool {
	if len(c.control) > 0 {
		return false
	}
	if !c.open || c.closing.Load() || c.queue.len() == 0 && len(c.backlog) == 0 {
		return true
	}
	return !c.persistent && c.queue.len() > 0 && c.queue.front().qos > 0 && c.live.full(c.window)
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
		if c.queue.len() == 0 && !c.fromBacklog(now) {
			return
		}
		d := c.queue.front()
		_, alive := d.m.remaining(now)
		if alive = alive || d.seq > 0 && d.qos > 0; !c.persistent && alive && d.qos > 0 { // the node lets its own expire
			id, ok := c.live.take(c.window, d.qos)
			if !ok {
				return // order: what waits behind it waits too
			}
			d.id = id
			c.live.keep(d)
		}
		item := c.queue.pop()
		c.queueBytes -= item.m.Size()
		if !alive {
			c.b.lose(c.client, item.m, "expired")
			continue
		}
		n += item.m.Size()
		box.items = append(box.items, item)
	}
}

// encode turns the batch's items into bytes. A packet that is larger than the
// client takes counts as delivered (MQTT 5, 3.1.2.11.4).
func (c *conn) encode(box *batch, now time.Time) {
	w := c.b.watcher.Load()
	for i := range box.items {
		d := &box.items[i]
		start := len(box.buf)
		alias, known := c.aliasOf(d.m.Topic)
		box.buf = appendPublish(box.buf, c.version, d, now, alias, known)
		if c.maxSend > 0 && len(box.buf)-start > c.maxSend && alias > 0 && !known { // it may fit without
			alias = 0
			box.buf = appendPublish(box.buf[:start], c.version, d, now, 0, false)
		}
		if c.maxSend == 0 || len(box.buf)-start <= c.maxSend {
			if alias > 0 && !known {
				c.toldAliases[d.m.Topic] = alias
			}
			c.b.metrics.byQoSOut[d.qos].Inc()
			if w != nil {
				(*w).Written(c.client, d.m, d.qos)
			}
			continue
		}
		box.buf = box.buf[:start]
		c.b.lose(c.client, d.m, "client-maximum-packet-size")
		c.skip(d)
	}
}

// aliasOf returns the alias that stands for topic on this connection, and
// whether the client knows it already (MQTT 5, 3.3.2.3.4). The first topics get
// one, the others none: 0.
func (c *conn) aliasOf(topic string) (alias uint16, known bool) {
	if c.aliasMax == 0 {
		return 0, false
	}
	if alias, known = c.toldAliases[topic]; known {
		return alias, true
	}
	if len(c.toldAliases) >= int(c.aliasMax) || len(topic) < minAliased {
		return 0, false
	}
	if c.toldAliases == nil {
		c.toldAliases = make(map[string]uint16)
	}
	return uint16(len(c.toldAliases) + 1), false
}

// skip ends a delivery that will never be written.
func (c *conn) skip(d *delivery) {
	if d.qos == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.out, d.id)
	c.took(d.id, bundle.TooLarge)
	if c.persistent {
		what := Acked
		if d.qos == 2 {
			what = Completed
		}
		c.b.node.Settle(Settlement{Client: c.client, Conn: c.num, Seq: d.seq, PacketID: d.id, What: what, Lost: bundle.TooLarge})
	}
}

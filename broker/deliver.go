package broker

import (
	"github.com/farhop/farhop/broker/packet"
	"github.com/farhop/farhop/storeforward/bundle"
)

// outbound is a persistent delivery the client has not finished.
type outbound struct {
	seq uint64
	qos byte
}

// Deliver writes one step of a persistent session to its client. The node
// calls it from one goroutine; it never blocks. A delivery for a connection
// that is gone is dropped: the node hears of that by CloseSession and delivers
// again on the next connection. More than the session's window of QoS 1 and 2
// deliveries is a fault of the node and ends the connection.
func (b *Broker) Deliver(d Delivery) {
	b.mu.Lock()
	c := b.sessions[d.Client]
	b.mu.Unlock()
	if c == nil || c.num != d.Conn {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		return
	}
	if !d.Release && !c.mayReceive(d.Message.Topic, c.partly) {
		b.lose(d.Client, d.Message, "not-allowed")
		if d.QoS > 0 {
			what := Acked
			if d.QoS == 2 {
				what = Completed
			}
			b.node.Settle(Settlement{Client: c.client, Conn: c.num, Seq: d.Seq, PacketID: d.PacketID, What: what, Lost: bundle.NotAllowed})
		}
		return
	}
	if live := c.open && !c.persistent; !live && (d.QoS > 0 || d.Release) { // before it is open it has no group yet
		if c.out == nil {
			c.out = make(map[uint16]outbound)
		}
		if _, again := c.out[d.PacketID]; !again && len(c.out) >= c.window {
			b.cfg.Log.Error("node delivers beyond the session's window", "client", c.client, "window", c.window)
			c.disconnectLocked(codeImplementation, "window-exceeded")
			return
		}
		c.out[d.PacketID] = outbound{seq: d.Seq, qos: max(d.QoS, 1)}
	}
	if d.Release {
		c.out[d.PacketID] = outbound{seq: d.Seq, qos: 2}
		if !c.open {
			r := c.rarely()
			r.early = appendAck(r.early, c.version, packet.TypePubrel, d.PacketID, codeSuccess, "", "")
			return
		}
		c.control = appendAck(c.control, c.version, packet.TypePubrel, d.PacketID, codeSuccess, "", "")
		c.kick()
		return
	}
	full := c.queue.len() >= b.cfg.MaxQueue || c.queue.len() > 0 && c.queueBytes+d.Message.Size() > b.pressure.allows(b.cfg.MaxQueueBytes)
	if d.QoS == 0 && full {
		b.lose(d.Client, d.Message, "queue-full")
		return
	}
	c.push(delivery{m: d.Message, seq: d.Seq, id: d.PacketID, qos: d.QoS, dup: d.Dup, retain: d.Retain, subIDs: d.SubIDs})
}

// DeliverLive delivers a message from elsewhere to the live sessions of this
// broker: to the members that the node chose for shared subscriptions and,
// unless only they get it, to the other subscribers. It never blocks. Messages
// this broker published itself must not come back this way. It does not touch
// the retained store: see SetRetained.
func (b *Broker) DeliverLive(m *Message, members []Member, only bool) {
	b.routeChosen(m, members, only)
}

// DeliverOwn delivers a message to one client alone, if its live session
// subscribed to the topic: what only that client is to know. It never blocks.
func (b *Broker) DeliverOwn(client string, m *Message) {
	var own []*liveSub
	for _, s := range b.live.plain(m.Topic) {
		if s.c.client == client {
			own = append(own, s)
		}
	}
	b.give(m, own)
}

// DeliverRetained delivers what was kept of a topic, as such, to the live
// sessions that subscribed before this node had it: not to members of groups,
// and not to those that want none (MQTT 5, 3.3.1.3). It never blocks.
func (b *Broker) DeliverRetained(m *Message) {
	for _, s := range b.live.plain(m.Topic) {
		if s.opt.RetainHandling == 2 || s.c.persistent || !s.c.mayReceive(m.Topic, s.partly) {
			continue
		}
		d := delivery{m: m, qos: min(s.opt.QoS, m.QoS), retain: true}
		if s.opt.ID != 0 {
			d.subIDs = []int{s.opt.ID}
		}
		s.c.enqueueLive(d)
	}
}

// TakenOver ends a connection whose client is now at another node (DISCONNECT
// 0x8E) without its will. A newer connection than conn is left alone.
func (b *Broker) TakenOver(client string, conn uint64) {
	b.mu.Lock()
	c := b.sessions[client]
	b.mu.Unlock()
	if c != nil && c.num == conn {
		c.elsewhere.Store(true)
		c.disconnect(codeTakenOver, cause(codeTakenOver))
	}
}

// onAck handles a PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *conn) onAck(typ byte, id uint16, code byte) error {
	if typ == packet.TypePubrel {
		return c.onPubrel(id)
	}
	if c.persistent {
		return c.settle(typ, id, code)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.live.used[id]
	switch {
	case typ == packet.TypePuback && state == awaitsPuback,
		typ == packet.TypePubcomp && state == awaitsPubcomp,
		typ == packet.TypePubrec && state == awaitsPubrec && code >= codeUnspecified:
		c.took(id, bundle.OK)
	case typ == packet.TypePubrec && (state == awaitsPubrec || state == awaitsPubcomp):
		c.live.used[id] = awaitsPubcomp
		c.control = appendAck(c.control, c.version, packet.TypePubrel, id, codeSuccess, "", "")
	case typ == packet.TypePubrec && state == 0 && code < codeUnspecified:
		c.control = appendAck(c.control, c.version, packet.TypePubrel, id, codeSuccess, "", "")
	case state != 0:
		c.disconnectLocked(codeProtocol, cause(codeProtocol)) // of the wrong kind: its memory is not ours
		return errGone
	default:
		return nil // of an earlier connection, or of nothing: harmless
	}
	if len(c.control) > 0 || c.queue.len() > 0 || len(c.backlog) > 0 {
		c.kick()
	}
	return nil
}

// settle reports a persistent session's acknowledgement to the node.
func (c *conn) settle(typ byte, id uint16, code byte) error {
	s := Settlement{Client: c.client, Conn: c.num, PacketID: id}
	c.mu.Lock()
	o, known := c.out[id]
	s.Seq = o.seq
	switch {
	case typ == packet.TypePuback && known && o.qos == 1:
		s.What = Acked
		delete(c.out, id)
	case typ == packet.TypePubcomp && known && o.qos == 2,
		typ == packet.TypePubrec && known && o.qos == 2 && code >= codeUnspecified:
		s.What = Completed
		delete(c.out, id)
	case typ == packet.TypePubrec && known && o.qos == 2:
		s.What = Received
	default:
		defer c.mu.Unlock()
		if known {
			c.disconnectLocked(codeProtocol, cause(codeProtocol)) // of the wrong kind: its memory is not ours
			return errGone
		}
		if typ == packet.TypePubrec && code < codeUnspecified {
			c.control = appendAck(c.control, c.version, packet.TypePubrel, id, codeSuccess, "", "")
			c.kick()
		}
		return nil
	}
	c.mu.Unlock()
	c.b.node.Settle(s)
	return nil
}

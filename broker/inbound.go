package broker

import (
	"slices"
	"time"

	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// pending is one publish of a client from the PUBLISH to its acknowledgement.
// They leave in the order they came (MQTT 5, 4.6), whatever order the node
// finishes them in.
type pending struct {
	m       *Message
	id      uint16
	ack     byte // typePuback, typePubrec, or 0 for none
	local   bool // the node was not asked
	kept    bool // room in the retained store is reserved
	done    bool
	verdict Verdict
}

// inboundID is a QoS 2 packet id of the client between PUBLISH and PUBCOMP.
type inboundID struct {
	pending   bool   // the PUBREC is not out yet
	counted   bool   // it counts in unacked
	releasing bool   // the PUBREL is with the node
	identity  string // asked for with IDProperty: clients read it off the PUBCOMP
}

// onPublish takes a PUBLISH from the reader. It blocks only while this client
// has too many publishes open already.
func (c *conn) onPublish(m *Message, id uint16, alias uint16, hasAlias bool) error {
	if m.QoS > 0 && id == 0 {
		return c.fail(codeProtocol, "PUBLISH without packet id")
	}
	topic, err := c.topicOf(m.Topic, alias, hasAlias)
	if err != nil {
		return err
	}
	if m.ResponseTopic != "" && interest.ValidTopic(m.ResponseTopic) != nil {
		return c.fail(codeProtocol, "bad response topic")
	}
	c.b.metrics.byQoSIn[m.QoS].Inc()
	m.Topic, m.Client, m.Received = topic, c.client, time.Now()
	p := &pending{m: m, id: id}
	switch m.QoS {
	case 1:
		p.ack = typePuback
	case 2:
		p.ack = typePubrec
		if c.persistent {
			m.PacketID = id
		}
	}
	fresh, err := c.admit(p)
	if err != nil || !fresh {
		return err
	}
	c.submit(p)
	return nil
}

// admit waits for room and queues p. fresh is false for a QoS 2 PUBLISH that
// was here before.
func (c *conn) admit(p *pending) (fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inbound[p.id]; p.m.QoS == 2 && in != nil {
		if !in.counted {
			in.counted = true
			c.unacked++
		}
		if !in.pending && !in.releasing { // MQTT 5, 4.3.3: answer again, do not publish again
			c.control = appendAck(c.control, c.version, typePubrec, p.id, codeSuccess, "", "")
			c.kick()
		}
		return false, nil
	}
	if p.m.QoS > 0 {
		if c.version >= 5 && c.unacked >= c.b.cfg.ReceiveMax {
			c.disconnectLocked(codeReceiveMax, cause(codeReceiveMax))
			return false, &fault{codeReceiveMax, "more publishes open than Receive Maximum"}
		}
		c.unacked++
	}
	for !c.closing.Load() && (c.pending.len() >= c.b.cfg.MaxPending || c.pendBytes > c.b.cfg.MaxPendingBytes) {
		c.room.Wait()
	}
	if c.closing.Load() {
		return false, errGone
	}
	if p.m.QoS == 2 {
		if c.inbound == nil {
			c.inbound = make(map[uint16]*inboundID)
		}
		c.inbound[p.id] = &inboundID{pending: true, counted: true}
	}
	c.pending.push(p)
	c.pendBytes += p.m.Size()
	return true, nil
}

// submit decides where a queued publish goes.
func (c *conn) submit(p *pending) {
	m, b := p.m, c.b
	if m.Topic[0] == '$' || b.cfg.Allow != nil && !b.cfg.Allow(c.client, c.user, m.Topic, true) {
		c.complete(p, Verdict{Reason: bundle.NotAllowed})
		return
	}
	if m.Retain {
		if p.kept = b.retained.reserve(m); !p.kept {
			c.complete(p, Verdict{Reason: bundle.QuotaExceeded})
			return
		}
	}
	if m.Retain || m.PacketID != 0 || b.node.Wanted(m.Topic) {
		b.node.Publish(m, func(v Verdict) { c.complete(p, v) })
		return
	}
	p.local = true
	c.complete(p, Verdict{Reason: bundle.OK})
}

// complete records the node's answer and sends what is ready. Any goroutine.
func (c *conn) complete(p *pending, v Verdict) {
	if p.kept {
		c.b.retained.settle(p.m, v.Reason == bundle.OK || v.Reason == bundle.NoSubscriber)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.done, p.verdict = true, v
	if c.draining {
		return
	}
	c.draining = true // one goroutine at a time keeps the order
	for c.pending.len() > 0 && (*c.pending.front()).done {
		p := c.pending.pop()
		c.pendBytes -= p.m.Size()
		c.mu.Unlock()
		c.finish(p) // without mu: it locks subscribers, and this client may be one
		c.mu.Lock()
	}
	c.draining = false
	c.room.Broadcast()
}

// finish delivers an accepted publish to live sessions and answers the client.
func (c *conn) finish(p *pending) {
	r := p.verdict.Reason
	if (r == bundle.OK || r == bundle.NoSubscriber) && !p.verdict.Elsewhere {
		n := c.b.routeLive(p.m)
		if p.local || r == bundle.NoSubscriber {
			if r = bundle.OK; n == 0 {
				r = bundle.NoSubscriber
			}
		}
	}
	if p.local && p.m.QoS > 0 {
		c.b.node.Kept(r)
	}
	v := answer(r, c.version)
	if v.code >= codeUnspecified {
		c.b.metrics.refused.WithLabelValues(r.String()).Inc()
	}
	if p.ack == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		return
	}
	if v.close {
		c.disconnectLocked(v.code, "publish-"+r.String())
		return
	}
	if refused := v.code >= codeUnspecified; p.ack == typePuback || refused {
		c.unacked--
		if p.ack == typePubrec {
			delete(c.inbound, p.id)
		}
	} else if in := c.inbound[p.id]; in != nil {
		in.pending, in.identity = false, p.identity()
	}
	reason := ""
	if v.code >= codeUnspecified && !c.noProblem {
		reason = r.String()
	}
	c.control = appendAck(c.control, c.version, p.ack, p.id, v.code, reason, p.identity())
	c.kick()
}

// identity returns what the client asked to be told of the message, "" for
// nothing.
func (p *pending) identity() string {
	if slices.ContainsFunc(p.m.UserProperties, func(kv KV) bool { return kv.Key == IDProperty }) {
		return p.verdict.Message.String()
	}
	return ""
}

// onPubrel ends an inbound QoS 2 handshake.
func (c *conn) onPubrel(id uint16) error {
	c.mu.Lock()
	in := c.inbound[id]
	switch {
	case in == nil || in.pending:
		c.control = appendAck(c.control, c.version, typePubcomp, id, codeIDNotFound, "", "")
		c.kick()
	case !c.persistent:
		c.released(id)
	case !in.releasing:
		in.releasing = true
		c.mu.Unlock()
		c.b.node.Settle(Settlement{Client: c.client, Conn: c.num, PacketID: id, What: Released, Done: func() {
			c.mu.Lock()
			c.released(id)
			c.mu.Unlock()
		}})
		return nil
	}
	c.mu.Unlock()
	return nil
}

// released frees an inbound QoS 2 id. The caller holds mu.
func (c *conn) released(id uint16) {
	in := c.inbound[id]
	if in == nil {
		return
	}
	if in.counted {
		c.unacked--
	}
	delete(c.inbound, id)
	if c.closing.Load() {
		return
	}
	c.control = appendAck(c.control, c.version, typePubcomp, id, codeSuccess, "", in.identity)
	c.kick()
}

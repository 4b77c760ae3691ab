package broker

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/broker/packet"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
)

// pending is one publish of a client from the PUBLISH to its acknowledgement.
// They leave in the order they came (MQTT 5, 4.6), whatever order the node
// finishes them in.
type pending struct {
	m       *Message
	id      uint16
	ack     byte  // packet.TypePuback, packet.TypePubrec, or 0 for none
	local   bool  // the node was not asked
	kept    *room // reserved in the retained store, nil for none
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

// onPublish takes a PUBLISH.
func (c *conn) onPublish(in *packet.Publish, now time.Time) error {
	topic, err := c.topicOf(in.Topic, in.Alias)
	if err != nil {
		return err
	}
	m := &Message{
		Topic: topic, Payload: bytes.Clone(in.Payload), QoS: in.QoS, Retain: in.Retain, Client: c.client, Received: now,
	}
	if in.HasProps {
		if err := c.properties(m, in); err != nil {
			return err
		}
	}
	c.b.metrics.byQoSIn[m.QoS].Inc()
	c.slowDown(now)
	if m.QoS < 2 && !m.Retain && in.Users == 0 && c.shortcut(m, in.ID) {
		return nil
	}
	p := &pending{m: m, id: in.ID}
	switch m.QoS {
	case 1:
		p.ack = packet.TypePuback
	case 2:
		p.ack = packet.TypePubrec
		if c.persistent {
			m.PacketID = in.ID
		}
	}
	fresh, err := c.admit(p)
	if err != nil || !fresh {
		return err
	}
	c.submit(p)
	return nil
}

// shortcut passes a publish on at once when nobody but live sessions here
// wants it and none of the client's waits before it: there is no fact to wait
// for. It reports false when the publish must take the long way.
func (c *conn) shortcut(m *Message, id uint16) bool {
	if reserved(m.Topic) || !c.mayPublish(m.Topic) || c.b.node.Wanted(m.Topic) || c.follows() {
		return false
	}
	c.mu.Lock()
	waits := c.pending.len() > 0 || c.draining
	c.mu.Unlock()
	if waits {
		return false
	}
	n, tried := c.b.routeLive(m)
	c.work -= tried
	r := bundle.OK
	if n == 0 {
		r = bundle.NoSubscriber
	}
	if w := c.b.watcher.Load(); w != nil {
		(*w).Published(m, Verdict{Reason: r}, n)
	}
	if m.QoS == 0 {
		return true
	}
	c.b.node.Kept(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = appendAck(c.control, c.version, packet.TypePuback, id, answer(r, c.version).code, "", "")
	c.kick()
	return true
}

// properties copies those of a PUBLISH (MQTT 5, 3.3.2.3).
func (c *conn) properties(m *Message, in *packet.Publish) error {
	if in.HasFormat {
		m.PayloadFormat = FormatBytes + Format(in.PayloadFormat)
	}
	m.HasContentType, m.ContentType, m.Expiry = in.HasContentType, string(in.ContentType), in.Expiry
	if in.HasCorrelation {
		m.CorrelationData = append([]byte{}, in.CorrelationData...)
	}
	if m.ResponseTopic = string(in.ResponseTopic); m.ResponseTopic != "" && interest.ValidTopic(m.ResponseTopic) != nil {
		return c.fail(codeProtocol, "bad response topic") // MQTT 5, [MQTT-3.3.2-14]
	}
	if in.Users > 0 {
		m.UserProperties = make([]KV, 0, in.Users)
		in.EachUser(func(key, value []byte) {
			m.UserProperties = append(m.UserProperties, KV{string(key), string(value)})
		})
	}
	return nil
}

// admit queues p. fresh is false for a QoS 2 PUBLISH that was here before. A
// client with too many publishes open is read no further until some are done.
func (c *conn) admit(p *pending) (fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.inbound[p.id]; p.m.QoS == 2 && in != nil {
		if !in.counted {
			in.counted = true
			c.unacked++
		}
		if !in.pending && !in.releasing { // MQTT 5, 4.3.3: answer again, do not publish again
			c.control = appendAck(c.control, c.version, packet.TypePubrec, p.id, codeSuccess, "", "")
			c.kick()
		}
		return false, nil
	}
	if p.m.QoS > 0 {
		if c.version >= 5 && c.unacked >= c.b.cfg.ReceiveMax {
			c.disconnectLocked(codeReceiveMax, cause(codeReceiveMax))
			return false, errGone
		}
		if p.m.QoS == 2 && len(c.inbound) >= c.b.cfg.MaxUnreleased {
			c.unreleased()
			return false, errGone
		}
		c.unacked++
	}
	if p.m.QoS == 2 {
		if c.inbound == nil {
			c.inbound = make(map[uint16]*inboundID)
		}
		c.inbound[p.id] = &inboundID{pending: true, counted: true}
	}
	c.pending.push(p)
	c.pendBytes += p.m.Size()
	if !c.full && c.crowded() {
		c.full = true
		c.b.metrics.limit(limitPending)
		c.holds.Add(1)
	}
	return true, nil
}

// crowded reports whether as many publishes wait for the node as may. The
// caller holds mu.
func (c *conn) crowded() bool {
	return c.pending.len() >= c.b.cfg.MaxPending || c.pendBytes > c.b.pressure.allows(c.b.cfg.MaxPendingBytes)
}

// submit decides where a queued publish goes.
func (c *conn) submit(p *pending) {
	m, b := p.m, c.b
	if reserved(m.Topic) || !c.mayPublish(m.Topic) {
		c.complete(p, Verdict{Reason: bundle.NotAllowed})
		return
	}
	if m.Retain {
		if p.kept = b.retained.reserve(m); p.kept == nil {
			b.metrics.limit(limitRetained)
			c.complete(p, Verdict{Reason: bundle.QuotaExceeded})
			return
		}
	}
	if m.Retain || m.PacketID != 0 || m.asks() || b.node.Wanted(m.Topic) || c.follows() {
		b.node.Publish(m, func(v Verdict) { c.complete(p, v) })
		return
	}
	p.local = true
	c.complete(p, Verdict{Reason: bundle.OK})
}

// reserved reports whether clients may not publish to a topic: what begins
// with $ and is the node's to say. Other such topics are ordinary, but stay at
// this node.
func reserved(topic string) bool {
	if !strings.HasPrefix(topic, "$") {
		return false
	}
	first, _, _ := strings.Cut(topic, "/")
	return first == "$SYS" || first == "$share" || first == "$mesh"
}

// complete takes the node's answer. Any goroutine.
func (c *conn) complete(p *pending, v Verdict) {
	p.m.ID = v.Message // nobody else has it yet
	if p.kept != nil {
		c.b.retained.settle(p.m, p.kept, v.Reason == bundle.OK || v.Reason == bundle.NoSubscriber)
	}
	if c.advance(p, v) {
		c.b.arrived(c)
	}
}

// advance records the node's answer and sends what is ready. It reports
// whether that was the last publish of a connection that is gone.
func (c *conn) advance(p *pending, v Verdict) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.done, p.verdict = true, v
	if c.draining {
		return false
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
	if c.full && !c.crowded() {
		c.full = false
		c.release()
	}
	return c.trails.Load() && c.pending.len() == 0
}

// finish delivers an accepted publish to live sessions and answers the client.
func (c *conn) finish(p *pending) {
	r, n := p.verdict.Reason, 0
	if (r == bundle.OK || r == bundle.NoSubscriber) && !p.verdict.Elsewhere {
		n = c.b.route(p.m, &p.verdict)
		if p.local || r == bundle.NoSubscriber {
			if r = bundle.OK; n == 0 {
				r = bundle.NoSubscriber
			}
		}
	}
	if p.local && p.m.QoS > 0 {
		c.b.node.Kept(r)
	}
	if w := c.b.watcher.Load(); w != nil {
		seen := p.verdict
		seen.Reason = r
		(*w).Published(p.m, seen, n)
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
	if refused := v.code >= codeUnspecified; p.ack == packet.TypePuback || refused {
		c.unacked--
		if p.ack == packet.TypePubrec {
			delete(c.inbound, p.id)
		}
	} else if in := c.inbound[p.id]; in != nil {
		in.pending, in.identity = false, p.identity()
	}
	if p.ack == packet.TypePubrec && v.code == codeNoSubscribers && p.identity() == "" {
		v.code = codeSuccess // 0x10 may be said (MQTT 5, 3.5.2.1), and is where more than an answer is asked for
	}
	reason := ""
	if v.code >= codeUnspecified && v.code != codeNotAuthorized && !c.noProblem {
		reason = r.String() // several reasons share a code
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
		c.control = appendAck(c.control, c.version, packet.TypePubcomp, id, codeSuccess, "", "") // of an earlier connection, or of nothing
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
	c.control = appendAck(c.control, c.version, packet.TypePubcomp, id, codeSuccess, "", in.identity)
	c.kick()
}

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// mqtt translates between the broker and the core.
type mqtt struct {
	self        addr.Node
	loop        *loop
	store       store.Store
	log         *slog.Logger
	broker      *broker.Broker
	doors       *doors // nil without
	snapshot    atomic.Pointer[core.Snapshot]
	requests    *mailbox[request]
	maxSessions int                              // those that outlive their connections are refused beyond it
	kept        [bundle.NumReasons]atomic.Uint64 // publishes that never left the broker

	sought sought
	pins   pins
	walks  atomic.Uint64 // the last number of one, see BeginWalk

	mu       sync.Mutex // guards what follows
	services map[string]func(body []byte)
}

// request is a bundle for a service of this node.
type request struct {
	delivery core.Delivery
	body     []byte
}

// errReserved refuses a device that calls itself what the node calls its own.
var errReserved = errors.New("the client id is the node's own; choose another")

// OpenSession implements broker.Node.
func (m *mqtt) OpenSession(ctx context.Context, o broker.SessionOpen) (broker.SessionState, error) {
	if o.Client == exportClient {
		return broker.SessionState{}, errReserved
	}
	will, err := willOf(o.Will)
	if err != nil {
		return broker.SessionState{}, err
	}
	var state core.SessionState
	full := false
	r, err := m.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) {
		if !c.MayOpen(token, o.Client, o.Expiry, m.maxSessions) {
			full = true
			return
		}
		state = c.OpenSession(now, core.SessionOpen{
			Token: token, Client: o.Client, Conn: o.Conn, Clean: o.Clean, Expiry: o.Expiry, ReceiveMax: o.ReceiveMax, Will: will,
			Assigned: o.Assigned,
		})
	})
	switch {
	case err != nil:
	case full:
		err = errSessions
	default:
		err = notOpened(r.Reason)
	}
	if err != nil { // the loop may still write state
		return broker.SessionState{}, err
	}
	if r.Session != nil { // another node had it
		state = *r.Session
	}
	out := broker.SessionState{Present: state.Present, Inbound: state.Inbound}
	for _, s := range state.Subscriptions {
		out.Subscriptions = append(out.Subscriptions, broker.Subscription{
			Filter: s.Filter, QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, ID: s.ID,
		})
	}
	return out, nil
}

// CloseSession implements broker.Node.
func (m *mqtt) CloseSession(client string, conn uint64, expiry uint32) {
	m.loop.in.put(func(now time.Time, c *core.Core) { c.CloseSession(now, client, conn, expiry) })
}

// Subscribe implements broker.Node.
func (m *mqtt) Subscribe(ctx context.Context, client string, subs []broker.Subscription) error {
	var all []core.Subscription
	for _, s := range subs {
		all = append(all, core.Subscription{Filter: s.Filter, QoS: s.QoS, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished, ID: s.ID})
	}
	r, err := m.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) { c.Subscribe(now, token, client, all) })
	switch {
	case err != nil || r.Reason == bundle.OK:
	case r.Reason == bundle.QuotaExceeded:
		err = fmt.Errorf("%w: too many shared subscriptions at this node, or too long a name", broker.ErrQuota)
	default:
		err = errors.New(r.Reason.String())
	}
	return err
}

// Unsubscribe implements broker.Node.
func (m *mqtt) Unsubscribe(ctx context.Context, client string, filters []string) error {
	all := slices.Clone(filters)
	_, err := m.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) { c.Unsubscribe(now, token, client, all) })
	return err
}

// Publish implements broker.Node.
func (m *mqtt) Publish(msg *broker.Message, done func(broker.Verdict)) {
	if msg.Retain {
		m.publishRetained(msg, done)
		return
	}
	s := submission(msg)
	m.asked(msg, &s)
	if !m.loop.in.put(func(now time.Time, c *core.Core) {
		s.Token = m.loop.newToken(func(r core.Reply) { done(verdict(r)) })
		c.Submit(now, []core.Submission{s})
	}) {
		done(broker.Verdict{Reason: bundle.ShuttingDown})
	}
}

func verdict(r core.Reply) broker.Verdict {
	v := broker.Verdict{Reason: r.Reason, Elsewhere: r.Elsewhere, Message: r.Message, Shared: true, Members: members(r.Members)}
	if len(r.To) > 0 {
		v.Trace = trace{r.To, r.Class}
	}
	return v
}

// Settle implements broker.Node.
func (m *mqtt) Settle(s broker.Settlement) {
	t := core.Settlement{Session: s.Client, Conn: s.Conn, Seq: s.Seq, Packet: s.PacketID}
	switch s.What {
	case broker.Received:
		t.Outcome = core.Received
	case broker.Released:
		t.Outcome = core.Inbound
	case broker.Unsent:
		t.Outcome = core.Unsent
	default:
		t.Outcome = core.Done
		if s.Lost != bundle.OK {
			t.Outcome, t.Reason = core.Dropped, s.Lost
		}
	}
	m.loop.in.put(func(now time.Time, c *core.Core) {
		if s.Done != nil {
			t.Token = m.loop.newToken(func(r core.Reply) {
				if r.Reason == bundle.OK {
					s.Done()
				}
			})
		}
		c.Settle(now, []core.Settlement{t})
	})
}

// Kept implements broker.Node.
func (m *mqtt) Kept(r bundle.Reason) { m.kept[r].Add(1) }

// local counts the publishes that never left the broker, by verdict.
func (m *mqtt) local() (out [bundle.NumReasons]uint64) {
	for r := range m.kept {
		out[r] = m.kept[r].Load()
	}
	return out
}

// flagEmptyType is a flag of ours in a message: its content type is there, and
// empty, which MQTT 5 tells from none.
const flagEmptyType = 1

// submission encodes a publication once; all its recipients share the bytes.
func submission(msg *broker.Message) core.Submission {
	w := published(msg)
	return submissionOf(msg, &w)
}

// published is a message as it travels.
func published(msg *broker.Message) wire.Message {
	w := wire.Message{
		Topic: msg.Topic, Payload: msg.Payload, QoS: msg.QoS, Retain: msg.Retain, Expiry: msg.Expiry > 0, Client: msg.Client,
		PayloadFormat: wire.PayloadFormat(msg.PayloadFormat), // the same values
		ContentType:   msg.ContentType, ResponseTopic: msg.ResponseTopic, CorrelationData: msg.CorrelationData,
	}
	if msg.HasContentType && msg.ContentType == "" {
		w.Flags |= flagEmptyType
	}
	for _, p := range msg.UserProperties {
		if p.Key != broker.IDProperty {
			w.UserProperties = append(w.UserProperties, wire.UserProperty{Key: p.Key, Value: p.Value})
		}
	}
	return w
}

func submissionOf(msg *broker.Message, w *wire.Message) core.Submission {
	return core.Submission{
		Topic: msg.Topic, Service: core.ServiceMQTT, Class: bundle.Telemetry, QoS: msg.QoS, Retain: msg.Retain,
		Clear: msg.Retain && len(msg.Payload) == 0, TTL: time.Duration(msg.Expiry) * time.Second,
		Client: msg.Client, Packet: msg.PacketID, Blob: &store.Blob{B: encode(w, len(msg.Payload)+len(msg.Topic)+len(msg.Client)+128)},
	}
}

// encode makes the payload block of a message of about size bytes.
func encode(w *wire.Message, size int) []byte {
	data := w.Append(make([]byte, 0, size))
	return bundle.AppendPayload(make([]byte, 0, len(data)+bundle.PayloadOverhead), data)
}

// message decodes what submission encoded. life is what is left of it.
func message(block []byte, life int64) (*broker.Message, error) {
	data, err := bundle.PayloadData(block)
	if err != nil {
		return nil, err
	}
	w, err := wire.ParseMessage(data)
	if err != nil {
		return nil, err
	}
	m := &broker.Message{
		Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Client: w.Client,
		ContentType: w.ContentType, ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData, Received: time.Now(),
		PayloadFormat: broker.Format(w.PayloadFormat),
	}
	m.HasContentType = w.ContentType != "" || w.Flags&flagEmptyType != 0
	if w.Expiry {
		m.Expiry = uint32(max((life+999)/1000, 1))
	}
	for _, p := range w.UserProperties {
		m.UserProperties = append(m.UserProperties, broker.KV{Key: p.Key, Value: p.Value})
	}
	return m, nil
}

// deliver hands messages to devices and services, in order, until ctx ends.
func (m *mqtt) deliver(ctx context.Context) {
	m.loop.deliver.each(ctx, func(v any) {
		switch d := v.(type) {
		case core.Live:
			if d.Retained {
				m.late(d)
				return
			}
			m.live(d.Blob.B, d)
		case core.Delivery:
			m.deliverOne(d)
		case core.TakenOver:
			m.broker.TakenOver(d.Client, d.Conn)
		}
	})
}

func (m *mqtt) deliverOne(d core.Delivery) {
	if m.doors != nil && m.doors.take(d) {
		return
	}
	if d.Release {
		m.broker.Deliver(broker.Delivery{
			Client: d.Session, Conn: d.Conn, Seq: d.Header.Seq, PacketID: d.PacketID, QoS: 2, Release: true,
		})
		return
	}
	block, err := blockOf(m.store, d)
	if err != nil {
		m.lost(d, err)
		return
	}
	switch {
	case d.Service == core.ServiceLive:
		m.live(block, core.Live{From: d.Header.Message.Node, Life: d.Life, Members: d.Members, Only: d.Only})
		m.settle(d)
	case d.Service != "":
		body, err := bundle.PayloadData(block)
		if err != nil {
			m.lost(d, err)
			return
		}
		m.requests.put(request{d, body})
	default:
		m.deliverTo(d, block)
	}
}

func (m *mqtt) setServices(s map[string]func([]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.services = s
}

// serve answers the bundles for services of this node, one at a time and in
// order, apart from the devices: a revision waits for the disk.
func (m *mqtt) serve(ctx context.Context) {
	m.requests.each(ctx, func(r request) {
		m.mu.Lock()
		serve := m.services[r.delivery.Service]
		m.mu.Unlock()
		switch {
		case r.delivery.Service == core.ServiceSync:
			m.compare(r)
		case r.delivery.Service == core.ServiceSessions:
			m.roam(r)
		case serve != nil:
			serve(r.body)
		default:
			m.log.Warn("a bundle for an unknown service is dropped", "message", r.delivery.Header.Message, "reason", r.delivery.Service)
		}
		if ctx.Err() == nil { // what a stop cut short is served again at the next start
			m.settle(r.delivery)
		}
	})
}

// blockOf returns the payload block of a delivery.
func blockOf(s store.Store, d core.Delivery) ([]byte, error) {
	if d.Blob != nil {
		return d.Blob.B, nil
	}
	return s.Read(d.Header.Seq)
}

func (m *mqtt) deliverTo(d core.Delivery, block []byte) {
	msg, err := message(block, d.Life)
	if err != nil {
		m.lost(d, err)
		return
	}
	msg.ID = d.Header.Message
	m.pins.note(msg, d.Header.Message.Node, d.Life)
	m.broker.Deliver(broker.Delivery{
		Client: d.Session, Conn: d.Conn, Seq: d.Header.Seq, PacketID: d.PacketID, QoS: d.Entry.QoS, Dup: d.Dup,
		Retain: d.Retain, SubIDs: d.SubIDs, Message: msg,
	})
}

// lost ends a message whose payload the disk gives back no more: it cannot be
// delivered, now or later, and counts as damaged.
func (m *mqtt) lost(d core.Delivery, err error) {
	m.log.Error("a stored message cannot be read, it ends as damaged", "message", d.Header.Message, "error", err)
	m.loop.in.put(func(now time.Time, c *core.Core) { c.Unreadable(now, d.Entry.Queue, d.Header.Seq) })
}

func (m *mqtt) settle(d core.Delivery) {
	t := core.Settlement{Session: d.Session, Service: d.Service, Conn: d.Conn, Seq: d.Header.Seq}
	m.loop.in.put(func(now time.Time, c *core.Core) { c.Settle(now, []core.Settlement{t}) })
}

// live hands a message to the sessions that do not outlive their connection:
// those chosen for shared subscriptions, the others unless it is for those
// only, or one client alone.
func (m *mqtt) live(block []byte, l core.Live) {
	msg, err := message(block, l.Life)
	if err != nil {
		m.log.Error("a message cannot be delivered", "error", err)
		return
	}
	msg.ID = l.Message
	if l.Own != "" {
		m.broker.DeliverOwn(l.Own, msg)
		return
	}
	m.pins.note(msg, l.From, l.Life)
	m.broker.DeliverLive(msg, members(l.Members), l.Only)
}

// late hands what was kept of a topic to those who subscribed before this node
// had it.
func (m *mqtt) late(d core.Live) {
	msg, err := message(d.Blob.B, d.Life)
	if err != nil {
		m.log.Error("a retained message cannot be delivered", "error", err)
		return
	}
	m.broker.DeliverRetained(msg)
}

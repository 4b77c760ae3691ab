package node

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/interest"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// taps shows operators what happens to messages. While none is open, the
// broker and the core tell nothing. Those that are open look at every message
// on the goroutine that carries it, so all that is done there is to compare
// topics and to note what is needed; words are made where they are read.
type taps struct {
	loop   *loop
	broker *broker.Broker
	open   atomic.Pointer[[]*tap] // never changed, but replaced; nil for none
	mu     sync.Mutex             // held to replace it
}

var _ broker.Watcher = (*taps)(nil)

func newTaps(l *loop, b *broker.Broker) *taps { return &taps{loop: l, broker: b} }

// trace is what a verdict tells of where a message went.
type trace struct {
	to    []store.Queue
	class bundle.Class
}

// glimpse is one event, as it is noted.
type glimpse struct {
	event   admin.TapEvent // without what is below
	id      bundle.ID
	to      []store.Queue
	payload []byte
	blob    *store.Blob // the payload is in it
	lost    uint64      // before it
}

// tap is one that is open.
type tap struct {
	filter  string
	payload bool
	ready   chan struct{} // has one element when something waits

	mu      sync.Mutex // guards what follows
	ring    []glimpse
	bytes   int
	lost    uint64
	batches map[batchKey][]*store.Header // those of its messages that are in a batch
	order   []batchKey                   // oldest first
	members int
}

// batchKey names a batch: its first message, and where it goes.
type batchKey struct {
	first bundle.ID
	queue store.Queue
}

// maxMembers bounds the messages of batches that a tap remembers.
const maxMembers = 1 << 16

// Tap implements admin.Backend.
func (b backend) Tap(ctx context.Context, r admin.TapRequest, f func(admin.TapEvent) error) error {
	if err := interest.ValidFilter(r.Filter); err != nil {
		return admin.Invalid("such as plant/#", "filter: %v", err)
	}
	if _, _, shared := interest.ParseShare(r.Filter); shared || r.Count < 0 {
		return admin.Invalid("", "a tap wants a topic filter that is not shared, and a count that is not negative")
	}
	t := &tap{filter: r.Filter, payload: r.Payload, ready: make(chan struct{}, 1), batches: map[batchKey][]*store.Header{}}
	if err := b.n.taps.add(ctx, t); err != nil {
		return err
	}
	defer b.n.taps.remove(t)
	err := f(admin.TapEvent{At: b.n.loop.clock.now().UTC(), Event: "open", Topic: r.Filter, Node: b.n.material.Self().Node})
	for told := 0; err == nil; {
		select {
		case <-t.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, g := range t.take() {
			if err = f(g.told(t.payload)); err != nil {
				break
			}
			if told++; told == r.Count {
				return nil
			}
		}
	}
	return err
}

// add opens a tap. When it returns everything is told.
func (s *taps) add(ctx context.Context, t *tap) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all()
	if len(all) >= admin.MaxTaps {
		return admin.NotHere("close another farhop tap", "%d taps are open, which is the limit", len(all))
	}
	s.store(append(slices.Clone(all), t))
	if len(all) > 0 {
		return nil
	}
	s.broker.Watch(s)
	err := s.loop.call(ctx, func(_ time.Time, c *core.Core) { c.Watch(true) })
	if err != nil {
		s.drop(t)
	}
	return err
}

func (s *taps) remove(t *tap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(t)
}

// drop closes a tap. The caller holds mu.
func (s *taps) drop(t *tap) {
	left := slices.DeleteFunc(slices.Clone(s.all()), func(o *tap) bool { return o == t })
	s.store(left)
	if len(left) == 0 {
		s.broker.Watch(nil)
		s.loop.in.put(func(_ time.Time, c *core.Core) { c.Watch(false) })
	}
}

func (s *taps) store(all []*tap) { s.open.Store(&all) }

func (s *taps) all() []*tap {
	if all := s.open.Load(); all != nil {
		return *all
	}
	return nil
}

// note gives an event of a topic to the taps that want it.
func (s *taps) note(topic string, make func() glimpse) {
	var g glimpse
	made := false
	for _, t := range s.all() {
		if !interest.Match(t.filter, topic) {
			continue
		}
		if !made {
			g, made = make(), true
			g.event.At, g.event.Topic = s.loop.clock.now().UTC(), topic
		}
		t.push(g)
	}
}

// of is what a message of the broker says.
func of(m *broker.Message, event string) glimpse {
	return glimpse{
		event: admin.TapEvent{Event: event, QoS: int(m.QoS), Retain: m.Retain, Size: len(m.Payload)}, id: m.ID, payload: m.Payload,
	}
}

// Published implements broker.Watcher.
func (s *taps) Published(m *broker.Message, v broker.Verdict, live int) {
	s.note(m.Topic, func() glimpse {
		g := of(m, "refused")
		if r := v.Reason; r == bundle.OK || r == bundle.NoSubscriber || r == bundle.Duplicate || r == bundle.Expired {
			g.event.Event = "accepted" // as the client hears it
		}
		g.id, g.event.Client, g.event.Live, g.event.Reason = v.Message, m.Client, live, v.Reason.String()
		if t, ok := v.Trace.(trace); ok {
			g.to, g.event.Class = t.to, t.class.String()
		}
		return g
	})
}

// Written implements broker.Watcher.
func (s *taps) Written(client string, m *broker.Message, qos byte) {
	s.note(m.Topic, func() glimpse {
		g := of(m, "delivered")
		g.event.Client, g.event.QoS = client, int(qos)
		return g
	})
}

// Lost implements broker.Watcher.
func (s *taps) Lost(client string, m *broker.Message, cause string) {
	s.note(m.Topic, func() glimpse {
		g := of(m, "dropped")
		g.event.Client, g.event.Reason = client, cause
		return g
	})
}

// sights takes in what the core saw. It runs on the loop.
func (s *taps) sights(all []core.Sight) {
	for i := range all {
		v := &all[i]
		switch {
		case v.Kind == core.SightBatched:
			for _, t := range s.all() {
				t.join(v)
			}
		case v.Header.Count > 0:
			for _, t := range s.all() {
				for _, h := range t.leave(v) {
					g := fate(v, h)
					g.event.At, g.event.Topic = s.loop.clock.now().UTC(), h.Topic
					t.push(g)
				}
			}
		case v.Header.Topic != "":
			s.note(v.Header.Topic, func() glimpse { return fate(v, v.Header) })
		}
	}
}

// fate is what happened to the message of a header.
func fate(v *core.Sight, h *store.Header) glimpse {
	g := glimpse{id: h.Message, to: v.To, blob: v.Blob, event: admin.TapEvent{
		QoS: int(h.QoS), Retain: h.Retain, Size: int(h.Size), Class: h.Class.String(), Node: v.Node,
	}}
	e := &g.event
	if v.Queue.Name != "" {
		e.Queue = core.QueueText(v.Queue)
	}
	switch v.Kind {
	case core.SightBatched: // of many
	case core.SightArrived:
		e.Event, e.Reason = "arrived", v.Reason.String()
	case core.SightHandedOn:
		e.Event = "forwarded"
	case core.SightAcknowledged:
		e.Event, e.Client = "acknowledged", v.Queue.Name
	case core.SightEnded:
		e.Event, e.Reason = "ended", v.Reason.String()
	}
	return g
}

// push keeps an event for the reader, unless too much waits already.
func (t *tap) push(g glimpse) {
	size := len(g.payload)
	if !t.payload {
		g.payload, size = nil, 0
	}
	if g.blob != nil {
		size += len(g.blob.B)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) >= admin.TapRing || len(t.ring) > 0 && t.bytes+size > admin.TapRingBytes {
		t.lost++
		return
	}
	g.lost, t.lost = t.lost, 0
	t.ring = append(t.ring, g)
	t.bytes += size
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// take empties the ring.
func (t *tap) take() []glimpse {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.ring
	t.ring, t.bytes = nil, 0
	return out
}

// join remembers which of its messages are in a batch.
func (t *tap) join(v *core.Sight) {
	var of []*store.Header
	for _, h := range v.Members {
		if interest.Match(t.filter, h.Topic) {
			of = append(of, h)
		}
	}
	if len(of) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := batchKey{v.Header.Message, v.Queue}
	t.batches[key] = of
	t.order = append(t.order, key)
	t.members += len(of)
	for len(t.order) > 1 && t.members > maxMembers {
		gone := t.forget(t.order[0])
		t.lost += uint64(len(gone))
	}
}

// leave returns the messages of a batch, which is over.
func (t *tap) leave(v *core.Sight) []*store.Header {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.forget(batchKey{v.Header.Message, v.Queue})
}

func (t *tap) forget(key batchKey) []*store.Header {
	of, ok := t.batches[key]
	if !ok {
		return nil
	}
	delete(t.batches, key)
	t.members -= len(of)
	if at := slices.Index(t.order, key); at >= 0 { // near the front: queues are served in order
		t.order = slices.Delete(t.order, at, at+1)
	}
	return of
}

// told puts an event into words.
func (g *glimpse) told(payload bool) admin.TapEvent {
	e := g.event
	e.Lost = g.lost
	if !g.id.Node.IsZero() {
		e.Message = g.id.String()
	}
	for _, q := range g.to {
		e.To = append(e.To, core.QueueText(q))
	}
	data := g.payload
	if g.blob != nil {
		if m, err := messageOf(g.blob.B); err == nil {
			e.Client, e.Size, data = m.Client, len(m.Payload), m.Payload
		}
	}
	if payload && len(data) > 0 {
		e.Truncated = len(data) > admin.MaxTapPayload
		e.Payload = data[:min(len(data), admin.MaxTapPayload)]
	}
	return e
}

func messageOf(block []byte) (wire.Message, error) {
	data, err := bundle.PayloadData(block)
	if err != nil {
		return wire.Message{}, err
	}
	return wire.ParseMessage(data)
}

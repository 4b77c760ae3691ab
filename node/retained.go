package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// The core decides which retained message of a topic is the newest, here and
// across the mesh; what its messages are is in the state of the store. The
// broker holds a copy, from which devices are served.

// publishRetained is Publish of a retained message. It is encoded with its
// stamp, which the core draws.
func (m *mqtt) publishRetained(msg *broker.Message, done func(broker.Verdict)) {
	w := published(msg)
	s := submissionOf(msg, &w)
	m.asked(msg, &s)
	if !m.loop.in.put(func(now time.Time, c *core.Core) {
		s.Token = m.loop.newToken(func(r core.Reply) { done(verdict(r)) })
		s.Stamp = c.Stamp(now, s.Topic)
		w.Stamp = uint64(s.Stamp)
		s.Blob = &store.Blob{B: encode(&w, len(s.Blob.B)+16)}
		c.Submit(now, []core.Submission{s})
	}) {
		done(broker.Verdict{Reason: bundle.ShuttingDown})
	}
}

// said is what the core needs to know of a publication that arrived.
func said(m *wire.Message) core.Said {
	return core.Said{Stamp: core.Stamp(m.Stamp), Expiry: m.Expiry, Empty: len(m.Payload) == 0}
}

// keep shows the broker what is kept of a topic. It runs on the loop, as the
// replies do by which the broker learns what its own devices published: so the
// last that it hears is the newest.
func (m *mqtt) keep(k core.Keep) {
	if k.Clear {
		m.broker.SetRetained(&broker.Message{Topic: k.Topic})
		return
	}
	msg, err := message(k.Blob.B, k.Life)
	if err != nil {
		m.log.Error("a retained message cannot be shown", "reason", k.Topic, "error", err)
		return
	}
	m.broker.SetRetained(msg)
}

// compare takes in one step of a comparison with another node.
func (m *mqtt) compare(r request) {
	age := core.CompareTTL - time.Duration(r.delivery.Life)*time.Millisecond
	from := r.delivery.Header.Origin
	m.loop.in.put(func(now time.Time, c *core.Core) {
		if err := c.Compare(now, from, max(age, 0), r.body, readPublication); err != nil {
			m.log.Warn("a comparison of retained messages is dropped", "peer", from, "error", err)
		}
	})
}

func readPublication(data []byte) (topic string, qos uint8, err error) {
	w, err := wire.ParseMessage(data)
	return w.Topic, w.QoS, err
}

// errFound ends a walk over the state.
var errFound = errors.New("found")

// fetch reads what other nodes get of the retained messages, until ctx ends.
func (m *mqtt) fetch(ctx context.Context) {
	m.loop.fetches.each(ctx, func(f core.Fetch) {
		values := make([]core.FetchedValue, 0, len(f.Topics))
		for _, topic := range f.Topics {
			err := m.store.State(core.RetainedPrefix+topic, func(key string, value []byte) error {
				if key == core.RetainedPrefix+topic {
					values = append(values, core.FetchedValue{Topic: topic, Value: slices.Clone(value)})
				}
				return errFound // the keys after it are of longer topics
			})
			if err != nil && !errors.Is(err, errFound) {
				m.log.Warn("a retained message cannot be read and is not given on", "reason", topic, "error", err)
			}
		}
		m.loop.in.put(func(now time.Time, c *core.Core) { c.Fetched(now, f, values) })
	})
}

// restoring is a store from which the core is restored. The broker's copy of
// the retained messages is made on the way: there may be a million of them.
type restoring struct {
	store.Store

	kept *broker.Retained
	now  int64 // ms
	log  *slog.Logger
}

// State implements core.Persistent.
func (r *restoring) State(prefix string, f func(key string, value []byte) error) error {
	if prefix != "" {
		return r.Store.State(prefix, f)
	}
	return r.Store.State(prefix, func(key string, value []byte) error {
		if topic, ok := strings.CutPrefix(key, core.RetainedPrefix); ok {
			r.keep(topic, value)
		}
		return f(key, value)
	})
}

func (r *restoring) keep(topic string, value []byte) {
	v, err := core.ParseRetained(value)
	if err == nil && v.State != core.KeptValue {
		return
	}
	var msg *broker.Message
	life := v.Ends - r.now
	if err == nil {
		msg, err = message(v.Block, life)
	}
	switch {
	case err != nil:
		r.log.Warn("a retained message is damaged and left out", "reason", topic, "error", err)
	case msg.Expiry == 0 || life > 0:
		r.kept.Set(msg)
	}
}

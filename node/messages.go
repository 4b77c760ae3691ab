package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/batch"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// What operators see of stored messages: headers and payloads as package store
// has them, in the words of package admin. The daemon and the commands that
// work on a store at rest share it.

// parseQueue reads what core.QueueText writes. The class is left open.
func parseQueue(text string) (store.Queue, error) {
	for kind := store.ToNode; kind <= store.ToOrder; kind++ {
		if name, ok := strings.CutPrefix(text, core.QueueText(store.Queue{Kind: kind})); ok && name != "" {
			return store.Queue{Kind: kind, Name: name}, nil
		}
	}
	return store.Queue{}, fmt.Errorf("queue %q: want a kind and a name, such as node earth-1 or session plc-7", text)
}

// parseClasses reads a class, "" for all.
func parseClasses(text string) ([]bundle.Class, error) {
	if text != "" {
		c, err := bundle.ParseClass(text)
		return []bundle.Class{c}, err
	}
	all := make([]bundle.Class, bundle.NumClasses)
	for c := range all {
		all[c] = bundle.Class(c)
	}
	return all, nil
}

// entryState is the state of a message that is not known to be in flight.
func entryState(it store.Item) string {
	switch {
	case it.Damaged:
		return "damaged"
	case it.Entry.State == store.Received:
		return "received"
	case it.Entry.State == store.Ended:
		return "ended"
	}
	return "waiting"
}

// waiting describes one item without what it says.
func waiting(it store.Item) admin.Waiting {
	h := it.Header
	w := admin.Waiting{Seq: h.Seq, Class: it.Entry.Queue.Class.String(), State: entryState(it)}
	if it.Damaged {
		return w
	}
	w.Message, w.Count, w.Service, w.Topic = h.Message.String(), int(h.Count), h.Service, h.Topic
	w.Origin, w.Previous, w.Hops = h.Origin, h.Prev, int(h.Hops)
	w.QoS, w.Retain, w.Size = int(h.QoS), h.Retain, int64(h.Size)
	if it.Entry.Queue.Kind == store.ToSession {
		w.QoS = int(it.Entry.QoS)
	}
	w.Received, w.Expires = utc(h.Received), utc(h.Expires)
	return w
}

func utc(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// publications reads what the payload block of a message says: one
// publication, all those of a batch, or the body for another service.
func publications(h *store.Header, block []byte) ([]admin.Publication, error) {
	data, err := bundle.PayloadData(block)
	if err != nil {
		return nil, err
	}
	var out []admin.Publication
	add := func(id bundle.ID, data []byte) error {
		m, err := wire.ParseMessage(data)
		if err == nil {
			out = append(out, publication(id, &m))
		}
		return err
	}
	switch {
	case h.Count > 0:
		err = eachOf(h.Message, data, add)
	case h.Topic == "" && h.Service != core.ServiceMQTT && h.Service != core.ServiceRetained && h.Service != core.ServiceLive:
		out = []admin.Publication{{Message: h.Message.String(), QoS: int(h.QoS), Payload: data}}
	default:
		err = add(h.Message, data)
	}
	return out, err
}

// eachOf calls f for each message of a batch that begins with first.
func eachOf(first bundle.ID, data []byte, f func(id bundle.ID, message []byte) error) error {
	return batch.Split(data, func(number uint64, message []byte) error {
		s := first.Seq
		id := bundle.ID{Node: first.Node, Seq: bundle.NewSequence(s.Incarnation(), s.Class(), s.Count()+number-1)}
		return f(id, message)
	})
}

// errInIt ends a search.
var errInIt = errors.New("it is in the batch")

// inBatch reports whether a batch that begins with first holds a message.
func inBatch(first, id bundle.ID, block []byte) bool {
	data, err := bundle.PayloadData(block)
	if err != nil {
		return false
	}
	err = eachOf(first, data, func(one bundle.ID, _ []byte) error {
		if one == id {
			return errInIt
		}
		return nil
	})
	return errors.Is(err, errInIt)
}

func publication(id bundle.ID, m *wire.Message) admin.Publication {
	p := admin.Publication{
		Message: id.String(), Topic: m.Topic, QoS: int(m.QoS), Retain: m.Retain, Expiry: m.Expiry, Client: m.Client,
		Text: m.PayloadFormat == wire.FormatText, ContentType: m.ContentType, Response: m.ResponseTopic,
		Correlation: m.CorrelationData, Payload: m.Payload,
	}
	if p.Payload == nil {
		p.Payload = []byte{} // "" in JSON, not null
	}
	for _, u := range m.UserProperties {
		p.Properties = append(p.Properties, admin.Property(u))
	}
	return p
}

// message is the way back. The message is not retained again: a newer one may
// be by now.
func replayed(p *admin.Publication) (wire.Message, error) {
	m := wire.Message{
		Topic: p.Topic, Payload: p.Payload, QoS: uint8(min(max(p.QoS, 0), 255)), Expiry: p.Expiry, Client: p.Client,
		ContentType: p.ContentType, ResponseTopic: p.Response, CorrelationData: p.Correlation,
	}
	if p.Text {
		m.PayloadFormat = wire.FormatText
	}
	for _, u := range p.Properties {
		m.UserProperties = append(m.UserProperties, wire.UserProperty(u))
	}
	return m, m.Validate()
}

// stored makes the lines of an item: one, or one for each message of a batch.
func stored(it store.Item, block []byte, now int64) []admin.Stored {
	h, q := it.Header, it.Entry.Queue
	line := admin.Stored{Queue: core.QueueText(q), Class: q.Class.String(), Seq: h.Seq, State: entryState(it)}
	if it.Damaged {
		line.Unread = store.ErrDamaged.Error()
		return []admin.Stored{line}
	}
	line.Service, line.Origin, line.Previous, line.Hops = h.Service, h.Origin, h.Prev, int(h.Hops)
	line.Received, line.Expires = utc(h.Received), utc(h.Expires)
	line.Publication = admin.Publication{
		Message: h.Message.String(), Topic: h.Topic, QoS: int(h.QoS), Retain: h.Retain, Payload: []byte{},
	}
	if h.Count > 0 {
		line.Batch = h.Message.String()
	}
	if block == nil {
		return []admin.Stored{line}
	}
	said, err := publications(h, block)
	if err != nil {
		line.Unread = err.Error()
	}
	if leaves := q.Kind == store.ToNode || q.Kind == store.ToRegion; leaves && len(it.Entry.Frozen) > 0 {
		hop := bundle.Hop{Age: age(it.Entry.Frozen, h.Expires-now), HopLimit: core.MaxHops, HopCount: h.Hops}
		if !h.Prev.IsZero() {
			hop.Prev = addr.NodeEID(h.Prev, "")
		}
		line.Bundle = hex.EncodeToString(bundle.AppendBundle(nil, it.Entry.Frozen, block, hop))
	}
	out := []admin.Stored{line}
	for i, p := range said {
		if i > 0 {
			line.Bundle = ""
			out = append(out, line)
		}
		out[i].Publication = p
	}
	return out
}

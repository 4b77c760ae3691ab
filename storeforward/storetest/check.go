package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// newPut makes a message with every field set, and a payload of size bytes
// that tells it apart.
func newPut(seq uint64, size int, entries ...store.Entry) store.Put {
	b := bytes.Repeat([]byte{byte(seq)}, size)
	return store.Put{
		Header: &store.Header{
			Seq:      seq,
			Message:  bundle.ID{Node: addr.MustNode("origin"), Seq: bundle.NewSequence(7, bundle.Telemetry, seq)},
			Origin:   addr.MustNode("maker"),
			Prev:     addr.MustNode("hop"),
			Class:    bundle.Telemetry,
			Hops:     byte(seq),
			QoS:      1,
			Retain:   seq%2 == 0,
			Topic:    fmt.Sprintf("plant/%d/temp", seq),
			Service:  "mqtt",
			Received: int64(seq) * 1000,
			Expires:  -int64(seq),
			Size:     uint32(size),
			Entries:  entries,
		},
		Blob: &store.Blob{B: b},
	}
}

// in makes an entry for a queue of a node.
func in(name string) store.Entry {
	return store.Entry{Queue: queueOf(name), Bundle: 5, DSeq: 6, QoS: 2, Frozen: []byte(name)}
}

func queueOf(name string) store.Queue {
	return store.Queue{Kind: store.ToNode, Name: name, Class: bundle.Telemetry}
}

func puts(p ...store.Put) *store.Batch { return &store.Batch{Puts: p} }

// contents is all that a store gives back, as text, so that two of them can
// be compared and a difference be read.
func contents(s store.Store, queues []store.Queue, seqs uint64) (string, error) {
	var b strings.Builder
	sum, err := s.Summary()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "next %d\n", sum.NextSeq)
	for _, q := range sum.Queues {
		fmt.Fprintf(&b, "queue %v count %d bytes %d first %d\n", q.Queue, q.Count, q.Bytes, q.First)
	}
	for _, q := range queues {
		items, err := s.Scan(q, 0, math.MaxInt32)
		if err != nil {
			return "", err
		}
		for _, it := range items {
			fmt.Fprintf(&b, "item %v %s\n", q, itemText(it))
		}
	}
	for seq := uint64(1); seq <= seqs; seq++ {
		p, err := s.Read(seq)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		if err == nil {
			fmt.Fprintf(&b, "payload %d of %d bytes, %08x\n", seq, len(p), crc32.ChecksumIEEE(p))
		}
	}
	err = s.State("", func(key string, value []byte) error {
		fmt.Fprintf(&b, "state %q %q\n", key, value)
		return nil
	})
	return b.String(), err
}

// itemText prints an item with its entries in the order of their queues:
// which order they are stored in is the engine's business.
func itemText(it store.Item) string {
	h := *it.Header
	h.Entries = slices.Clone(h.Entries)
	slices.SortFunc(h.Entries, func(a, b store.Entry) int { return compareQueues(a.Queue, b.Queue) })
	return fmt.Sprintf("%+v of %+v", it.Entry, h)
}

func compareQueues(a, b store.Queue) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class))
}

// model is the obvious store: whole messages in maps, everything recomputed.
type model struct {
	next     uint64
	messages map[uint64]modelMessage
	state    map[string]string
}

type modelMessage struct {
	header  store.Header
	payload []byte
	has     bool // the payload is still there
	entries map[store.Queue]store.Entry
}

func newModel() *model {
	return &model{next: 1, messages: map[uint64]modelMessage{}, state: map[string]string{}}
}

func (m *model) clone() *model {
	c := &model{next: m.next, messages: maps.Clone(m.messages), state: maps.Clone(m.state)}
	for seq, msg := range c.messages {
		msg.entries = maps.Clone(msg.entries)
		c.messages[seq] = msg
	}
	return c
}

func (m *model) apply(b *store.Batch) {
	for _, p := range b.Puts {
		msg := modelMessage{header: *p.Header, entries: map[store.Queue]store.Entry{}}
		if p.Blob != nil {
			msg.payload, msg.has = p.Blob.B, true
		} else if p.From != 0 {
			msg.payload, msg.has = m.messages[p.From].payload, m.messages[p.From].has
		}
		for _, e := range p.Header.Entries {
			msg.entries[e.Queue] = e
		}
		m.next = p.Header.Seq + 1
		m.keep(p.Header.Seq, msg)
	}
	for _, mk := range b.Marks {
		msg := m.messages[mk.Seq]
		if e, ok := msg.entries[mk.Queue]; ok && e.State != store.Ended {
			e.State = mk.State
			msg.entries[mk.Queue] = e
			m.keep(mk.Seq, msg)
		}
	}
	for _, d := range b.Drops {
		msg := m.messages[d.Seq]
		if _, ok := msg.entries[d.Queue]; ok {
			delete(msg.entries, d.Queue)
			m.keep(d.Seq, msg)
		}
	}
	for _, s := range b.Sets {
		if s.Value == nil && s.Blob == nil {
			delete(m.state, s.Key)
			continue
		}
		m.state[s.Key] = string(s.Value)
		if s.Blob != nil {
			m.state[s.Key] += string(s.Blob.B)
		}
	}
}

// keep stores a message, without its payload if no entry needs it, or not at
// all if it has no entry.
func (m *model) keep(seq uint64, msg modelMessage) {
	if len(msg.entries) == 0 {
		delete(m.messages, seq)
		return
	}
	needed := false
	for _, e := range msg.entries {
		needed = needed || e.State != store.Ended
	}
	msg.has = msg.has && needed
	m.messages[seq] = msg
}

// contents prints the model as contents prints a store.
func (m *model) contents(queues []store.Queue) string {
	var b strings.Builder
	fmt.Fprintf(&b, "next %d\n", m.next)
	seqs := slices.Sorted(maps.Keys(m.messages))
	sums := map[store.Queue]*store.QueueSummary{}
	for _, seq := range seqs {
		for q, e := range m.messages[seq].entries {
			if sums[q] == nil {
				sums[q] = &store.QueueSummary{Queue: q, First: seq}
			}
			sums[q].Count++
			if e.State != store.Ended {
				sums[q].Bytes += int64(m.messages[seq].header.Size)
			}
		}
	}
	for _, q := range slices.SortedFunc(maps.Keys(sums), compareQueues) {
		fmt.Fprintf(&b, "queue %v count %d bytes %d first %d\n", q, sums[q].Count, sums[q].Bytes, sums[q].First)
	}
	for _, q := range queues {
		for _, seq := range seqs {
			msg := m.messages[seq]
			e, ok := msg.entries[q]
			if !ok {
				continue
			}
			h := msg.header
			h.Entries = slices.Collect(maps.Values(msg.entries))
			fmt.Fprintf(&b, "item %v %s\n", q, itemText(store.Item{Header: &h, Entry: e}))
		}
	}
	for _, seq := range seqs {
		if msg := m.messages[seq]; msg.has {
			fmt.Fprintf(&b, "payload %d of %d bytes, %08x\n", seq, len(msg.payload), crc32.ChecksumIEEE(msg.payload))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.state)) {
		fmt.Fprintf(&b, "state %q %q\n", key, m.state[key])
	}
	return b.String()
}

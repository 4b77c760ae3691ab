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
	"strconv"
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
			Yields:   seq%3 == 0,
			Topic:    fmt.Sprintf("plant/%d/temp", seq),
			Service:  "mqtt",
			Charge:   strings.Repeat("q", int(seq%3)),
			Count:    uint16(seq % 4),
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

// Contents is all that a store gives back, as text, so that two of them can be
// compared and a difference be read: the summary, the given queues, payloads up
// to message seqs, and the state. seqs 0 asks for the payloads of messages in
// the queues alone, which is faster.
func Contents(s store.Store, queues []store.Queue, seqs uint64) (string, error) {
	sum, err := s.Summary()
	if err != nil {
		return "", err
	}
	b := append(appendNumbers([]byte("next"), sum.NextSeq), '\n')
	for _, q := range sum.Queues {
		b = appendSummary(b, q)
	}
	var wanted []uint64
	for _, q := range queues {
		items, err := s.Scan(q, 0, math.MaxInt32)
		if err != nil {
			return "", err
		}
		for _, it := range items {
			b = appendItem(b, it)
			if seqs == 0 {
				wanted = append(wanted, it.Header.Seq)
			}
		}
	}
	for seq := uint64(1); seq <= seqs; seq++ {
		wanted = append(wanted, seq)
	}
	slices.Sort(wanted)
	for _, seq := range slices.Compact(wanted) {
		p, err := s.Read(seq)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		b = appendPayload(b, seq, p)
	}
	err = s.State("", func(key string, value []byte) error {
		b = appendState(b, key, string(value))
		return nil
	})
	return string(b), err
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = append(b, ' ')
		b = strconv.AppendUint(b, n, 10)
	}
	return b
}

func appendQueue(b []byte, q store.Queue) []byte {
	b = append(b, " queue "...)
	b = append(b, q.Name...)
	return appendNumbers(b, uint64(q.Kind), uint64(q.Class))
}

func appendSummary(b []byte, q store.QueueSummary) []byte {
	b = appendQueue(append(b, "summary"...), q.Queue)
	return append(appendNumbers(b, uint64(q.Count), uint64(q.Bytes), q.First), '\n')
}

func appendPayload(b []byte, seq uint64, p []byte) []byte {
	b = appendNumbers(append(b, "payload"...), seq, uint64(len(p)), uint64(crc32.ChecksumIEEE(p)))
	return append(b, '\n')
}

func appendState(b []byte, key, value string) []byte {
	b = append(strconv.AppendQuote(append(b, "state "...), key), ' ')
	return append(strconv.AppendQuote(b, value), '\n')
}

// appendItem prints an item with its entries in the order of their queues:
// which order they are stored in is the engine's business.
func appendItem(b []byte, it store.Item) []byte {
	h := it.Header
	b = appendEntry(append(b, "item"...), &it.Entry)
	if it.Damaged {
		b = append(b, " DAMAGED"...)
	}
	b = append(b, " of"...)
	b = appendNumbers(b, h.Seq, uint64(h.Message.Seq), uint64(h.Class), uint64(h.Hops), uint64(h.QoS),
		uint64(h.Count), uint64(h.Received), uint64(h.Expires), uint64(h.Size))
	for _, text := range []string{h.Message.Node.String(), h.Origin.String(), h.Prev.String(), h.Topic, h.Service, h.Charge} {
		b = strconv.AppendQuote(append(b, ' '), text)
	}
	b = strconv.AppendBool(append(b, ' '), h.Retain)
	b = strconv.AppendBool(append(b, ' '), h.Yields)
	entries := h.Entries
	if len(entries) > 1 {
		entries = slices.Clone(entries)
		slices.SortFunc(entries, func(a, b store.Entry) int { return compareQueues(a.Queue, b.Queue) })
	}
	for i := range entries {
		b = appendEntry(b, &entries[i])
	}
	return append(b, '\n')
}

func appendEntry(b []byte, e *store.Entry) []byte {
	b = appendQueue(b, e.Queue)
	b = appendNumbers(b, uint64(e.Bundle), e.DSeq, uint64(e.QoS), uint64(e.State))
	return strconv.AppendQuote(append(b, ' '), string(e.Frozen))
}

func itemText(it store.Item) string { return string(appendItem(nil, it)) }

func compareQueues(a, b store.Queue) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class))
}

// Model is the obvious store: whole messages in maps, everything recomputed.
type Model struct {
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

// NewModel returns an empty model.
func NewModel() *Model {
	return &Model{next: 1, messages: map[uint64]modelMessage{}, state: map[string]string{}}
}

// Clone returns a copy that shares nothing that changes.
func (m *Model) Clone() *Model {
	c := &Model{next: m.next, messages: maps.Clone(m.messages), state: maps.Clone(m.state)}
	for seq, msg := range c.messages {
		msg.entries = maps.Clone(msg.entries)
		c.messages[seq] = msg
	}
	return c
}

// Apply makes a batch durable.
func (m *Model) Apply(b *store.Batch) {
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
func (m *Model) keep(seq uint64, msg modelMessage) {
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

// Next returns the first number never used.
func (m *Model) Next() uint64 { return m.next }

// Entries returns the entries that wait, in order, as drops of them.
func (m *Model) Entries() (out []store.Drop) {
	for _, seq := range slices.Sorted(maps.Keys(m.messages)) {
		for _, q := range slices.SortedFunc(maps.Keys(m.messages[seq].entries), compareQueues) {
			out = append(out, store.Drop{Queue: q, Seq: seq, Size: m.messages[seq].header.Size})
		}
	}
	return out
}

// Contents prints the model as the function Contents prints a store.
func (m *Model) Contents(queues []store.Queue) string {
	b := append(appendNumbers([]byte("next"), m.next), '\n')
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
		b = appendSummary(b, *sums[q])
	}
	for _, q := range queues {
		for _, seq := range seqs {
			msg := m.messages[seq]
			if e, ok := msg.entries[q]; ok {
				h := msg.header
				h.Entries = slices.Collect(maps.Values(msg.entries))
				b = appendItem(b, store.Item{Header: &h, Entry: e})
			}
		}
	}
	for _, seq := range seqs {
		if msg := m.messages[seq]; msg.has {
			b = appendPayload(b, seq, msg.payload)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.state)) {
		b = appendState(b, key, m.state[key])
	}
	return string(b)
}

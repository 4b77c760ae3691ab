package bridge

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// end is one of the two connections of a link.
type end struct {
	*client
	pings  pings
	wishes wishes
	box    *outbox
	domain string
	echoes bool // it sends back what is published to it
}

// flight is a message of QoS 1 or 2 from its PUBLISH at the source to the end
// of its handshake there. It has the same packet id at both brokers.
type flight struct {
	in, out   byte // QoS at the source and at the destination
	over      bool // nothing more is due from the destination
	releasing bool // PUBREL went to the destination
	taken     bool // the destination answered with PUBREC
	refused   bool // it said no for now, at least once
	id        string
	topic     string   // at the destination
	kept      *waiting // for another attempt, nil where there was no room
}

// flow carries messages one way while one link lasts. onPublish and onRelease
// are called by the source's reader, onAck by the destination's.
type flow struct {
	b        *Bridge
	way      *way
	src, dst *end

	mu      sync.Mutex
	flights map[uint16]*flight
	pubacks order
	pubrecs order
	moved   time.Time // the last acknowledgement, or when flights was empty
	heard   bool      // there was an acknowledgement
	retries retries
}

// way is what a direction keeps from link to link. While a link lasts its flow
// owns it.
type way struct {
	from  side
	memos map[uint16]memo // by the source's packet id, at most 65,535
	begun uint64          // messages of QoS 1 and 2 so far
	// reuses is set once the source gave an id again while others were free.
	// See flow.recall.
	reuses bool
	// The packet ids that are known to be free at the destination: all, or
	// those in freed. See flow.clear.
	allFree bool
	freed   [1 << 16 / 64]uint64
	counts  counts
}

// memo is what is known of the source's last use of a packet id.
type memo struct {
	sum  uint64 // digest of the message
	id   string
	done bool   // the destination has it, or never will
	nth  uint64 // by its first sight, from 1
}

// recent is how many messages ago an id may have been used that is not used
// again: half of the ids, so that a source that takes one after the other is
// not suspected.
const recent = 1 << 15

// order is the order in which acknowledgements are due (MQTT 5, 4.6).
type order struct {
	due   []uint16
	ready map[uint16]bool
}

func (o *order) push(id uint16) { o.due = append(o.due, id) }

// done marks one and returns those that are due now.
func (o *order) done(id uint16) []uint16 {
	if o.ready == nil {
		o.ready = make(map[uint16]bool)
	}
	o.ready[id] = true
	n := 0
	for n < len(o.due) && o.ready[o.due[n]] {
		delete(o.ready, o.due[n])
		n++
	}
	out := o.due[:n:n]
	o.due = o.due[n:]
	return out
}

// newFlow begins a link's direction. Sessions that are gone take with them
// what was known of their packet ids.
func newFlow(b *Bridge, w *way, src, dst *end) *flow {
	if !src.present {
		clear(w.memos)
	}
	if !dst.present {
		w.allFree = true
	} else if !src.present {
		w.allFree, w.freed = false, [len(w.freed)]uint64{}
	}
	return &flow{b: b, way: w, src: src, dst: dst, flights: make(map[uint16]*flight), moved: time.Now(), retries: newRetries()}
}

// onPublish takes a PUBLISH from the source.
func (f *flow) onPublish(pk *packets.Packet) error {
	id, qos := pk.PacketID, pk.FixedHeader.Qos
	sum := digest(pk.TopicName, pk.Payload, qos)
	f.mu.Lock()
	if qos > 0 && f.flights[id] != nil {
		f.mu.Unlock()
		if pk.FixedHeader.Dup {
			return nil // it is under way
		}
		return fmt.Errorf("%s broker: packet id %d for a second message", f.src.side, id)
	}
	known, again := f.recall(pk, sum)
	topic, most, mapped := mapTopic(f.b.cfg.Rules, f.src.side, pk.TopicName)
	o, cause := f.judge(pk, again && known.done, mapped)
	if o.id == "" {
		if o.id = known.id; o.id == "" {
			o.id = f.b.newID()
		}
	}
	out := f.translate(pk, topic, o)
	out.FixedHeader.Qos = min(qos, most, f.dst.maxQoS)
	if cause == "" && f.tooLarge(out) {
		cause = causeTooLarge
	}
	f.begin(pk, out, memo{sum: sum, id: o.id, done: cause != "", nth: known.nth}, cause)
	f.mu.Unlock()
	if cause != "" {
		f.drop(pk, cause)
		return nil
	}
	return f.forward(pk, out, o.id, again)
}

// recall looks up a redelivery. again is set where this process has seen it.
//
// A source may use an id again as soon as it is done with it, for a message
// that may be equal, and that may be lost on a connection and come on the next
// as our first sight of it, with DUP. It must not pass for the old one. So
// what was long ago is not believed, nor anything of a source that has shown
// that it takes ids again at once: a repeat does less harm than a loss, and of
// QoS 2 the destination knows repeats itself. (A PUBREL should end it with QoS
// 2. But Mosquitto 2.0.11, when it has been restarted, sends PUBLISH once more
// for what it has sent PUBREL for, and the destination is done with it.)
func (f *flow) recall(pk *packets.Packet, sum uint64) (m memo, again bool) {
	qos, w := pk.FixedHeader.Qos, f.way
	if qos == 0 {
		return memo{}, false
	}
	m, ok := w.memos[pk.PacketID]
	isRecent := ok && w.begun-m.nth < recent
	if !pk.FixedHeader.Dup { // a fresh use of the packet id, [MQTT-3.3.1-1]
		w.reuses = w.reuses || isRecent
		return memo{}, false
	}
	if !isRecent || m.sum != sum || w.reuses {
		return memo{}, false
	}
	return m, true
}

// judge decides whether the message goes on: cause says why not.
func (f *flow) judge(pk *packets.Packet, done, mapped bool) (o origin, cause string) {
	if done {
		return o, causeRedelivered
	}
	if !mapped {
		return o, causeUnmapped
	}
	if f.src.echoes && f.b.echoes.take(digest(pk.TopicName, pk.Payload, pk.FixedHeader.Qos)) {
		return o, causeLoop
	}
	o, own := originOf(pk)
	if !own {
		return o, ""
	}
	refresh := pk.FixedHeader.Retain && !f.src.present // a first subscription brings state, not news
	switch {
	case slices.Contains(o.path, f.dst.domain):
		return o, causeLoop
	case len(o.path) >= maxHops:
		return o, causeHops
	case f.b.seen.has(presence{f.dst.side, o.id}) && !refresh:
		return o, causeRepeat
	}
	f.b.seen.add(presence{f.src.side, o.id})
	return o, ""
}

// translate makes the PUBLISH for the destination, at the source's QoS.
func (f *flow) translate(pk *packets.Packet, topic string, o origin) *packets.Packet {
	out := &packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Dup: pk.FixedHeader.Dup, Retain: pk.FixedHeader.Retain && f.dst.retain},
		TopicName:       topic,
		Payload:         pk.Payload,
		PacketID:        pk.PacketID,
		ProtocolVersion: f.dst.version,
	}
	if f.dst.version < 5 {
		return out
	}
	p := &pk.Properties
	out.Properties = packets.Properties{
		PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag,
		MessageExpiryInterval: p.MessageExpiryInterval, ContentType: p.ContentType, CorrelationData: p.CorrelationData,
		ResponseTopic: mapResponse(f.b.cfg.Rules, f.src.side, p.ResponseTopic),
		User:          slices.Clone(p.User),
	}
	if !slices.Contains(o.path, f.src.domain) {
		o.path = append(slices.Clone(o.path), f.src.domain)
	}
	o.check = check(out)
	stamp(out, o)
	return out
}

// tooLarge reports whether the destination takes no packet of this size.
func (f *flow) tooLarge(out *packets.Packet) bool {
	size := weight(out)
	for _, u := range out.Properties.User {
		size += len(u.Key) + len(u.Val) + 5
	}
	if size += len(out.Properties.CorrelationData) + len(out.Properties.ResponseTopic) + len(out.Properties.ContentType); size <= f.dst.maxPacket {
		return false // the 64 bytes of weight are more than all headers
	}
	var b bytes.Buffer
	return encode(&b, out) != nil || b.Len() > f.dst.maxPacket
}

// begin notes a message of QoS 1 or 2. The caller holds mu.
func (f *flow) begin(pk, out *packets.Packet, m memo, cause string) {
	qos := pk.FixedHeader.Qos
	if qos == 0 {
		return
	}
	if len(f.flights) == 0 {
		f.moved = time.Now()
	}
	if m.nth == 0 {
		f.way.begun++
		m.nth = f.way.begun
	}
	f.way.memos[pk.PacketID] = m
	// A destination that has the QoS 2 message still waits for its PUBREL.
	held := cause == causeRedelivered && qos == 2 && out.FixedHeader.Qos == 2
	f.flights[pk.PacketID] = &flight{in: qos, out: out.FixedHeader.Qos, over: cause != "" && !held, id: m.id, topic: out.TopicName}
	if qos == 1 {
		f.pubacks.push(pk.PacketID)
	} else {
		f.pubrecs.push(pk.PacketID)
	}
}

// drop ends a message that does not go on: its source is told it is done.
func (f *flow) drop(pk *packets.Packet, cause string) {
	f.way.counts.drop(cause)
	if cause == causeUnmapped || cause == causeTooLarge || cause == causeHops {
		f.b.log.Warn("bridge drops a message", "bridge", f.b.cfg.Name, "from", f.src.side.String(), "cause", cause, "topic", pk.TopicName, "bytes", len(pk.Payload))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if pk.FixedHeader.Qos > 0 {
		f.answer(pk.PacketID, f.flights[pk.PacketID])
	}
}

// forward hands the message to the destination. again is set where it went
// out before.
func (f *flow) forward(pk, out *packets.Packet, id string, again bool) error {
	if out.FixedHeader.Qos == 0 {
		out.FixedHeader.Dup = false
	}
	if out.FixedHeader.Qos == 2 && !pk.FixedHeader.Dup {
		f.clear(out.PacketID)
	}
	if f.dst.echoes && !again {
		f.expectEcho(out)
	}
	w := waiting{out, time.Now()}
	if out.FixedHeader.Qos > 0 {
		f.keep(w)
	}
	ok, err := f.dst.box.publish(w)
	if err != nil {
		return err
	}
	if !ok {
		f.way.counts.drop(causeOverflow)
	} else {
		f.way.counts.forward(out)
	}
	if out.FixedHeader.Qos > 0 {
		return nil
	}
	f.b.seen.add(presence{f.dst.side, id})
	if pk.FixedHeader.Qos > 0 { // the destination takes QoS 0 alone
		f.mu.Lock()
		defer f.mu.Unlock()
		f.over(out.PacketID, f.flights[out.PacketID])
	}
	return nil
}

// clear frees a packet id at the destination before its first use. The
// destination may hold a QoS 2 message under it from a time before the source
// lost its session, and would take the new one for a repeat. DUP unset says
// that the source never sent this message before, so whatever is held is old;
// a PUBREL ends it and does nothing else.
func (f *flow) clear(id uint16) {
	w := f.way
	if bit := uint64(1) << (id % 64); !w.allFree && w.freed[id/64]&bit == 0 {
		w.freed[id/64] |= bit
		f.dst.box.send(ack(packets.Pubrel, id, f.dst.version))
	}
}

// expectEcho notes that a remote without no-local will send this back.
func (f *flow) expectEcho(out *packets.Packet) {
	if q, ok := returns(f.b.cfg.Rules, remote, out.TopicName); ok {
		f.b.echoes.add(digest(out.TopicName, out.Payload, min(q, out.FixedHeader.Qos)))
	}
}

// onRelease takes a PUBREL from the source.
func (f *flow) onRelease(id uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.flights[id]
	if fl == nil && f.dst.maxQoS == 2 {
		fl = &flight{in: 2, out: 2} // it began on an earlier link
		f.flights[id] = fl
	}
	if fl != nil && !fl.over {
		fl.releasing = true
		f.dst.box.send(ack(packets.Pubrel, id, f.dst.version))
		return
	}
	delete(f.flights, id)
	f.src.box.send(ack(packets.Pubcomp, id, f.src.version))
}

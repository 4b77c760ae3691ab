package bridge

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// onAck takes PUBACK, PUBREC and PUBCOMP from the destination. An error ends
// the link: the source keeps the message and sends it again on the next.
func (f *flow) onAck(pk *packets.Packet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := pk.PacketID
	fl := f.flights[id]
	f.moved, f.heard = time.Now(), true
	switch kind := pk.FixedHeader.Type; {
	case kind == packets.Pubcomp:
		if fl == nil || !fl.releasing {
			return nil // of a PUBREL by clear
		}
		f.dst.box.settled()
		delete(f.flights, id)
		f.src.box.send(ack(packets.Pubcomp, id, f.src.version))
		return nil
	case fl == nil || fl.over || fl.releasing || fl.taken || (kind == packets.Puback) != (fl.out == 1):
		if kind == packets.Pubrec && (fl == nil || fl.over) {
			f.dst.box.send(ack(packets.Pubrel, id, f.dst.version)) // let the broker forget it
		}
		return nil
	case pk.ReasonCode >= 0x80:
		return f.refused(id, fl, pk)
	case kind == packets.Puback:
		f.dst.box.settled()
		f.accepted(fl)
		f.b.seen.add(presence{f.dst.side, fl.id})
		f.over(id, fl)
	default: // PUBREC: the PUBREL is due from the source
		f.accepted(fl)
		fl.taken = true
		f.b.seen.add(presence{f.dst.side, fl.id})
		f.remember(id)
		f.answer(id, fl)
	}
	return nil
}

// over notes that nothing more is due from the destination, and answers the
// source. The caller holds mu.
func (f *flow) over(id uint16, fl *flight) {
	fl.over = true
	f.remember(id)
	f.answer(id, fl)
}

// remember notes that the destination has the message of a packet id.
func (f *flow) remember(id uint16) {
	if m, ok := f.way.memos[id]; ok {
		m.done = true
		f.way.memos[id] = m
	}
}

// answer acknowledges a message to its source, after those before it.
func (f *flow) answer(id uint16, fl *flight) {
	if fl == nil {
		return
	}
	if fl.in == 1 {
		delete(f.flights, id)
		for _, due := range f.pubacks.done(id) {
			f.src.box.send(ack(packets.Puback, due, f.src.version))
		}
		return
	}
	for _, due := range f.pubrecs.done(id) {
		f.src.box.send(ack(packets.Pubrec, due, f.src.version))
	}
}

// stuck returns how long messages have been under way without any
// acknowledgement, 0 where none is.
func (f *flow) stuck(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.flights) == 0 || len(f.retries.due) > 0 {
		return 0
	}
	return now.Sub(f.moved)
}

func (f *flow) underWay() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.flights)
}

// first is the topic of the message that has waited longest for the
// destination, where the destination acknowledged nothing at all.
func (f *flow) first() (topic string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, due := range [][]uint16{f.pubacks.due, f.pubrecs.due} {
		if len(due) > 0 && !f.heard {
			return f.flights[due[0]].topic, true
		}
	}
	return "", false
}

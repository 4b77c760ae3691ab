package load

import (
	"encoding/binary"
	"fmt"
)

// state of a packet id of a publisher.
type state uint8

const (
	free      state = iota
	sent            // PUBLISH is out
	releasing       // QoS 2: PUBREC came, PUBREL is out
)

// ids is how many packet ids there are: 1 to 65,535.
const ids = 1<<16 - 1

// publisher sends numbered messages and holds them back when too many are
// under way.
type publisher struct {
	*Conn
	l      *Load
	qos    byte
	number uint64        // of the next message
	last   uint64        // no number from this one on is sent; 0: without end
	acked  uint64        // messages whose handshake is over, all of them with QoS 0
	to     []*subscriber // who gets its messages
	index  int           // among the publishers

	packet   []byte // a whole PUBLISH, changed for each message
	id, body int    // offsets of packet id and payload in it
	states   []state
	answers  []byte // PUBRELs for the PUBRECs of one read
}

func newPublisher(l *Load, index int, topic string) *publisher {
	p := &publisher{l: l, qos: l.cfg.QoS, index: index}
	payload := make([]byte, l.cfg.Size)
	for i := MinPayload; i < len(payload); i++ {
		payload[i] = byte(i*167 + index) // not all zeros, not compressible to nothing
	}
	binary.BigEndian.PutUint64(payload, uint64(index))
	p.packet = AppendPublish(nil, topic, p.qos, 0, payload)
	p.body = len(p.packet) - len(payload)
	p.id = p.body - 2
	if p.qos > 0 {
		p.states = make([]state, ids+1)
	}
	return p
}

// room is how many messages may be sent now.
func (p *publisher) room() int {
	done := p.number
	for _, s := range p.to {
		done = min(done, s.next[p.index])
	}
	window := uint64(p.l.cfg.Window)
	if p.qos > 0 && p.l.cfg.Unacked > 0 {
		// Unacknowledged ones are bounded apart: over a long link far more may be
		// under way than one client has open.
		if unacked := p.number - p.acked; unacked >= uint64(p.l.cfg.Unacked) {
			return 0
		} else if left := uint64(p.l.cfg.Unacked) - unacked; p.number-done < window {
			return int(min(left, window-(p.number-done)))
		}
		return 0
	}
	if p.qos > 0 {
		done = min(done, p.acked)
	}
	return int(window - min(window, p.number-done))
}

// fill sends what it may, if that is worth a system call.
func (p *publisher) fill() error {
	if p.Blocked() {
		return nil
	}
	room := p.room()
	if least := p.l.batch; room < least && (p.last == 0 || p.last-p.number > uint64(room)) {
		return nil
	}
	if p.last > 0 {
		room = int(min(uint64(room), p.last-p.number))
	}
	if room == 0 {
		return nil
	}
	out := p.Buffer()
	for range room {
		if p.qos > 0 {
			id := uint16(1 + p.number%ids)
			if p.states[id] != free {
				return fmt.Errorf("packet id %d is never acknowledged", id)
			}
			p.states[id] = sent
			binary.BigEndian.PutUint16(p.packet[p.id:], id)
		}
		binary.BigEndian.PutUint64(p.packet[p.body+8:], p.number)
		out = append(out, p.packet...)
		p.number++
	}
	p.l.in += uint64(room)
	return p.Send(out)
}

// Packet implements Handler: the broker's side of the handshakes.
func (p *publisher) Packet(first byte, body []byte) error {
	id, err := packetID(body)
	if err != nil {
		return err
	}
	want, then := sent, free
	switch {
	case first == Puback && p.qos == 1:
	case first == Pubrec && p.qos == 2:
		then = releasing
		p.answers = appendAck(p.answers, Pubrel, id)
	case first == Pubcomp && p.qos == 2:
		want = releasing
	default:
		return fmt.Errorf("packet 0x%02x came that a publisher of QoS %d does not get", first, p.qos)
	}
	if p.states[id] != want {
		return fmt.Errorf("packet 0x%02x came for id %d, which does not wait for it", first, id)
	}
	if p.states[id] = then; then == free {
		p.acked++
	}
	return nil
}

// Turned implements Handler.
func (p *publisher) Turned() error {
	if len(p.answers) == 0 {
		return nil
	}
	err := p.Send(append(p.Buffer(), p.answers...))
	p.answers = p.answers[:0]
	return err
}

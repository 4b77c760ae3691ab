package load

import "fmt"

// prober is the publisher's number in messages that are sent to find out
// whether messages arrive.
const prober = 1<<64 - 1

// subscriber takes messages, acknowledges them, and knows which one has to
// come next from each publisher.
type subscriber struct {
	*Conn
	l       *Load
	qos     byte
	next    []uint64 // by publisher
	missing uint64   // numbers that were passed over
	wrong   uint64   // came again, or after a later one
	probed  bool     // a probe came
	acks    []byte
}

// Packet implements Handler.
func (s *subscriber) Packet(first byte, body []byte) error {
	if first == Pubrel && s.qos == 2 {
		id, err := packetID(body)
		s.acks = appendAck(s.acks, Pubcomp, id)
		return err
	}
	if first&0xF0 != Publish {
		return fmt.Errorf("packet 0x%02x came that a subscriber does not get", first)
	}
	m, err := parseMessage(first, body)
	if err != nil {
		return err
	}
	if m.qos != s.qos {
		return fmt.Errorf("a message of QoS %d came, want %d", m.qos, s.qos)
	}
	switch s.qos {
	case 1:
		s.acks = appendAck(s.acks, Puback, m.id)
	case 2:
		s.acks = appendAck(s.acks, Pubrec, m.id)
	}
	if m.from == prober {
		s.probed = true
		return nil
	}
	if m.from >= uint64(len(s.next)) {
		return fmt.Errorf("a message of publisher %d came, which does not exist", m.from)
	}
	s.l.out++
	switch next := &s.next[m.from]; {
	case m.no == *next:
		*next++
	case m.no > *next:
		s.missing += m.no - *next
		*next = m.no + 1
	default:
		s.wrong++
	}
	return nil
}

// Turned implements Handler: the acknowledgements of one read leave together.
func (s *subscriber) Turned() error {
	if len(s.acks) == 0 {
		return nil
	}
	err := s.Send(append(s.Buffer(), s.acks...))
	s.acks = s.acks[:0]
	return err
}

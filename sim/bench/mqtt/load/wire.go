package load

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// First bytes of the MQTT 3.1.1 packets of a load (2.2.1). The two bits of the
// QoS of a PUBLISH are left out of Publish.
const (
	Connect    = 0x10
	Connack    = 0x20
	Publish    = 0x30
	Puback     = 0x40
	Pubrec     = 0x50
	Pubrel     = 0x62
	Pubcomp    = 0x70
	Subscribe  = 0x82
	Suback     = 0x90
	Disconnect = 0xE0
)

// MinPayload is the part of a payload that says which message it is: publisher
// and number, 8 bytes each.
const MinPayload = 16

// maxPacket bounds what is taken from a broker.
const maxPacket = 1 << 20

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendHead appends first byte and remaining length (MQTT 3.1.1, 2.2.3).
func appendHead(b []byte, first byte, n int) []byte {
	b = append(b, first)
	for n >= 128 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// AppendConnect appends a CONNECT with a clean session, or with one that
// outlives its connection. keepAlive is in seconds, 0 for none.
func AppendConnect(b []byte, client string, keepAlive uint16, persistent bool) []byte {
	flags := byte(2)
	if persistent {
		flags = 0
	}
	b = appendHead(b, Connect, 10+2+len(client))
	b = append(appendString(b, "MQTT"), 4, flags)
	return appendString(binary.BigEndian.AppendUint16(b, keepAlive), client)
}

// AppendSubscribe appends a SUBSCRIBE for one filter.
func AppendSubscribe(b []byte, id uint16, filter string, qos byte) []byte {
	b = appendHead(b, Subscribe, 2+2+len(filter)+1)
	b = binary.BigEndian.AppendUint16(b, id)
	return append(appendString(b, filter), qos)
}

// AppendPublish appends a PUBLISH; id is of no meaning with QoS 0.
func AppendPublish(b []byte, topic string, qos byte, id uint16, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	b = appendString(appendHead(b, Publish|qos<<1, n), topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

// appendAck appends one of the packets that carry a packet id alone.
func appendAck(b []byte, first byte, id uint16) []byte {
	return append(b, first, 2, byte(id>>8), byte(id))
}

// Next cuts the first packet off b: its first byte, its body, and how many
// bytes it takes, 0 when it is not whole yet. The body is a part of b.
func Next(b []byte) (first byte, body []byte, size int, err error) {
	n := 0
	for i := 1; i < len(b); i++ {
		if i == 5 {
			return 0, nil, 0, errors.New("malformed packet: its length has five bytes")
		}
		n |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] >= 0x80 {
			continue
		}
		if n > maxPacket {
			return 0, nil, 0, fmt.Errorf("packet of %d bytes, want at most %d", n, maxPacket)
		}
		if end := i + 1 + n; end <= len(b) {
			return b[0], b[i+1 : end], end, nil
		}
		return 0, nil, 0, nil
	}
	return 0, nil, 0, nil
}

// packetID returns the id of an acknowledgement.
func packetID(body []byte) (uint16, error) {
	if len(body) != 2 {
		return 0, fmt.Errorf("an acknowledgement of %d bytes came, want 2", len(body))
	}
	return binary.BigEndian.Uint16(body), nil
}

// message is a PUBLISH that came.
type message struct {
	qos      byte
	id       uint16
	from, no uint64 // publisher and number
}

// parseMessage reads what a load has to know of a PUBLISH.
func parseMessage(first byte, body []byte) (m message, err error) {
	m.qos = first >> 1 & 3
	if len(body) < 2 {
		return m, errors.New("malformed PUBLISH: no topic")
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if m.qos > 0 && len(body) >= at+2 {
		m.id = binary.BigEndian.Uint16(body[at:])
		at += 2
	}
	if m.qos > 2 || len(body) < at+MinPayload {
		return m, fmt.Errorf("a PUBLISH 0x%02x of %d bytes came that nobody sent", first, len(body))
	}
	m.from, m.no = binary.BigEndian.Uint64(body[at:]), binary.BigEndian.Uint64(body[at+8:])
	return m, nil
}

package broker

import (
	"encoding/binary"
	"time"

	"github.com/farhop/farhop/broker/packet"
)

// The broker writes packets into one buffer per flush, so the encoders append.
// They are written here and not taken from the engine's codec because that one
// drops reason 0x10 from acknowledgements and copies every payload twice.

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// appendLength appends a variable byte integer (MQTT 5, 1.5.5).
func appendLength(b []byte, n int) []byte {
	for n >= 128 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func lengthSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// appendAck appends PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5, 3.4). The
// reason string is left out when it is "" and the code when it is success.
func appendAck(b []byte, version, typ byte, id uint16, code byte, reason, identity string) []byte {
	first := typ << 4
	if typ == packet.TypePubrel {
		first |= 2
	}
	if version < 5 || code == codeSuccess && identity == "" {
		return append(b, first, 2, byte(id>>8), byte(id))
	}
	if reason == "" && identity == "" {
		return append(b, first, 3, byte(id>>8), byte(id), code)
	}
	props := 0
	if reason != "" {
		props += 3 + len(reason)
	}
	if identity != "" {
		props += 5 + len(IDProperty) + len(identity)
	}
	b = append(b, first)
	b = appendLength(b, 3+lengthSize(props)+props)
	b = append(b, byte(id>>8), byte(id), code)
	b = appendLength(b, props)
	if reason != "" {
		b = appendString(append(b, 0x1F), reason)
	}
	if identity != "" {
		b = appendString(appendString(append(b, 0x26), IDProperty), identity)
	}
	return b
}

// appendSuback appends SUBACK or UNSUBACK. An UNSUBACK of MQTT 3.1.1 has no
// payload, a SUBACK there knows only one failure, 0x80.
func appendSuback(b []byte, version, typ byte, id uint16, codes []byte) []byte {
	n := 2 + len(codes)
	if version >= 5 {
		n++
	} else if typ == packet.TypeUnsuback {
		n, codes = 2, nil
	}
	b = append(b, typ<<4)
	b = appendLength(b, n)
	b = append(b, byte(id>>8), byte(id))
	if version >= 5 {
		b = append(b, 0)
	}
	for _, c := range codes {
		if version < 5 && c > 2 {
			c = codeUnspecified
		}
		b = append(b, c)
	}
	return b
}

// appendDisconnect appends a DISCONNECT; MQTT 3.1.1 servers send none.
func appendDisconnect(b []byte, version, code byte) []byte {
	if version < 5 {
		return b
	}
	return append(b, packet.TypeDisconnect<<4, 1, code) // no properties: MQTT 5, 3.14.2.2.1
}

// connack is what a client is told of its session (MQTT 5, 3.2.2.3).
type connack struct {
	present    bool
	assigned   string // the client id it got, "" if it brought one
	expiry     uint32 // of the session, when not as asked
	hasExpiry  bool
	receiveMax int
	maxPacket  int    // bytes
	keepAlive  uint16 // seconds, when not as asked
	hasKeep    bool
	method     string // of its enhanced authentication, "" for none
	data       []byte // the last of it, nil for none
}

// appendConnack appends the CONNACK of a session that is open.
func appendConnack(b []byte, version byte, a connack) []byte {
	present := byte(0)
	if a.present {
		present = 1
	}
	if version < 5 {
		if version < 4 {
			present = 0 // MQTT 3.1 knows none
		}
		return append(b, packet.TypeConnack<<4, 2, present, codeSuccess)
	}
	p := make([]byte, 0, 64)
	p = binary.BigEndian.AppendUint16(append(p, 0x22), maxAliases)
	if a.hasExpiry {
		p = binary.BigEndian.AppendUint32(append(p, 0x11), a.expiry)
	}
	if a.assigned != "" {
		p = appendString(append(p, 0x12), a.assigned)
	}
	if a.hasKeep {
		p = binary.BigEndian.AppendUint16(append(p, 0x13), a.keepAlive)
	}
	p = binary.BigEndian.AppendUint32(append(p, 0x27), uint32(a.maxPacket))
	p = binary.BigEndian.AppendUint16(append(p, 0x21), uint16(a.receiveMax))
	p = appendProof(p, a.method, a.data)
	b = append(b, packet.TypeConnack<<4)
	b = appendLength(b, 2+lengthSize(len(p))+len(p))
	b = append(b, present, codeSuccess)
	b = appendLength(b, len(p))
	return append(b, p...)
}

// appendProof appends the properties of an enhanced authentication, if there
// is one (MQTT 5, 3.15.2.2).
func appendProof(p []byte, method string, data []byte) []byte {
	if method != "" {
		p = appendString(append(p, 0x15), method)
	}
	if data != nil {
		p = appendString(append(p, 0x16), data)
	}
	return p
}

// appendAuth appends an AUTH (MQTT 5, 3.15).
func appendAuth(b []byte, code byte, method string, data []byte) []byte {
	p := appendProof(nil, method, data)
	b = append(b, packet.TypeAuth<<4)
	b = appendLength(b, 1+lengthSize(len(p))+len(p))
	b = appendLength(append(b, code), len(p))
	return append(b, p...)
}

// appendConnackError appends a CONNACK that refuses, if the version has one.
func appendConnackError(b []byte, version, code byte) []byte {
	if version >= 5 {
		return append(b, packet.TypeConnack<<4, 3, 0, code, 0)
	}
	if ret, ok := connackV3(code); ok {
		return append(b, packet.TypeConnack<<4, 2, 0, ret)
	}
	return b
}

// appendPublish appends the PUBLISH of one delivery. now ages its expiry; a
// message that expired keeps one second, whoever queues it decides on drops.
// alias stands for the topic unless it is 0; known says that the client has
// seen both together before.
func appendPublish(b []byte, version byte, d *delivery, now time.Time, alias uint16, known bool) []byte {
	m := d.m
	props := 0
	if version >= 5 {
		props = publishProps(d)
	}
	topic := m.Topic
	if alias > 0 {
		props += 3
		if known {
			topic = ""
		}
	}
	n := 2 + len(topic) + len(m.Payload)
	if d.qos > 0 {
		n += 2
	}
	if version >= 5 {
		n += lengthSize(props) + props
	}
	first := byte(packet.TypePublish<<4) | d.qos<<1
	if d.retain {
		first |= 1
	}
	if d.dup && d.qos > 0 {
		first |= 8
	}
	b = append(b, first)
	b = appendLength(b, n)
	b = appendString(b, topic)
	if d.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, d.id)
	}
	if version >= 5 {
		b = appendLength(b, props)
		if alias > 0 {
			b = binary.BigEndian.AppendUint16(append(b, 0x23), alias)
		}
		b = appendPublishProps(b, d, now)
	}
	return append(b, m.Payload...)
}

// publishProps counts the bytes appendPublishProps will append.
func publishProps(d *delivery) int {
	m, n := d.m, 0
	if m.PayloadFormat != FormatAbsent {
		n += 2
	}
	if m.Expiry != 0 {
		n += 5
	}
	if m.HasContentType {
		n += 3 + len(m.ContentType)
	}
	if m.ResponseTopic != "" {
		n += 3 + len(m.ResponseTopic)
	}
	if m.CorrelationData != nil {
		n += 3 + len(m.CorrelationData)
	}
	for _, p := range m.UserProperties {
		n += 5 + len(p.Key) + len(p.Value)
	}
	for _, id := range d.subIDs {
		n += 1 + lengthSize(id)
	}
	return n
}

func appendPublishProps(b []byte, d *delivery, now time.Time) []byte {
	m := d.m
	if m.PayloadFormat != FormatAbsent {
		b = append(b, 0x01, byte(m.PayloadFormat-FormatBytes))
	}
	if m.Expiry != 0 {
		left, _ := m.remaining(now)
		b = append(b, 0x02)
		b = binary.BigEndian.AppendUint32(b, max(left, 1))
	}
	if m.HasContentType {
		b = appendString(append(b, 0x03), m.ContentType)
	}
	if m.ResponseTopic != "" {
		b = appendString(append(b, 0x08), m.ResponseTopic)
	}
	if m.CorrelationData != nil {
		b = appendString(append(b, 0x09), m.CorrelationData)
	}
	for _, id := range d.subIDs {
		b = appendLength(append(b, 0x0B), id)
	}
	for _, p := range m.UserProperties {
		b = appendString(append(b, 0x26), p.Key)
		b = appendString(b, p.Value)
	}
	return b
}

package packet

import "bytes"

// Publish is a PUBLISH of a client. Its slices alias the frame.
type Publish struct {
	Topic    []byte // empty: the alias stands for it
	Payload  []byte
	ID       uint16 // 0 with QoS 0
	QoS      byte
	Retain   bool
	Dup      bool
	Alias    uint16 // 0: none
	HasProps bool   // some property but the alias is there

	// Properties (MQTT 5, 3.3.2.3).
	HasFormat       bool
	PayloadFormat   byte
	HasContentType  bool
	HasCorrelation  bool
	HasExpiry       bool
	Expiry          uint32 // seconds
	ContentType     []byte
	ResponseTopic   []byte
	CorrelationData []byte
	Users           int    // how many user properties
	props           []byte // the property block, when Users > 0
}

// ParsePublish reads a PUBLISH into p.
func ParsePublish(p *Publish, f Frame, version byte) error {
	*p = Publish{QoS: f.Flags >> 1 & 3, Retain: f.Flags&1 != 0, Dup: f.Flags&8 != 0}
	r := reader{b: f.Body}
	p.Topic = r.text("topic")
	if p.QoS > 0 {
		if p.ID = r.uint16("packet id"); r.err == nil && p.ID == 0 {
			r.fail(protocol("PUBLISH without a packet id")) // MQTT 5, [MQTT-2.2.1-3]
		}
	}
	if version >= maxVersion5 && r.err == nil {
		if len(r.b) > 0 && r.b[0] == 0 { // no properties, as nearly always
			r.b = r.b[1:]
		} else {
			p.readProps(&r)
		}
	}
	if r.err != nil {
		return r.err
	}
	if len(p.Topic) == 0 && p.Alias == 0 {
		return protocol("PUBLISH without a topic") // MQTT 5, 3.3.2.1; MQTT 3.1.1, [MQTT-4.7.3-1]
	}
	if bytes.ContainsAny(p.Topic, "+#") { // MQTT 5, [MQTT-3.3.2-2]
		return malformed("a topic with a wildcard")
	}
	p.Payload = r.b
	return nil
}

func (p *Publish) readProps(r *reader) {
	p.props = r.b
	r.properties(TypePublish, func(v property) {
		if v.id != propTopicAlias {
			p.HasProps = true
		}
		switch v.id {
		case propPayloadFormat:
			p.HasFormat, p.PayloadFormat = true, byte(v.num)
		case propMessageExpiry:
			p.HasExpiry, p.Expiry = true, v.num
		case propContentType:
			p.HasContentType, p.ContentType = true, v.text
		case propResponseTopic:
			p.ResponseTopic = v.text
		case propCorrelationData:
			p.HasCorrelation, p.CorrelationData = true, v.text
		case propTopicAlias:
			p.Alias = uint16(v.num)
		case propUser:
			p.Users++
		}
	})
}

// EachUser calls f for every user property, in order.
func (p *Publish) EachUser(f func(key, value []byte)) {
	if p.Users == 0 {
		return
	}
	r := reader{b: p.props}
	r.properties(TypePublish, func(v property) {
		if v.id == propUser {
			f(v.text, v.value)
		}
	})
}

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	ID   uint16
	Code byte // reason code, 0 in MQTT 3
}

// ParseAck reads one.
func ParseAck(f Frame, version byte) (Ack, error) {
	r := reader{b: f.Body}
	a := Ack{ID: r.uint16("packet id")}
	switch {
	case r.err != nil:
	case a.ID == 0:
		r.fail(protocol("acknowledgement of packet id 0"))
	case len(r.b) == 0:
	case version < maxVersion5:
		r.fail(malformed("an acknowledgement of %d bytes", len(f.Body)))
	default:
		if a.Code = r.byte("reason code"); !ackCode(f.Type, a.Code) {
			r.fail(protocol("reason code 0x%02X in packet type %d", a.Code, f.Type))
		}
		if len(r.b) > 0 {
			r.properties(uint(f.Type), nil)
		}
		r.end()
	}
	return a, r.err
}

// end refuses what follows the last field.
func (r *reader) end() {
	if r.err == nil && len(r.b) > 0 {
		r.fail(malformed("%d bytes behind the end of the packet", len(r.b)))
	}
}

// ackCode reports whether a packet of this type may carry the code (MQTT 5,
// 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1).
func ackCode(typ, code byte) bool {
	if typ == TypePubrel || typ == TypePubcomp {
		return code == 0 || code == 0x92
	}
	switch code {
	case 0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99:
		return true
	}
	return false
}

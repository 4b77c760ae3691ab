package packet

// Property identifiers (MQTT 5, 2.2.2.2).
const (
	propPayloadFormat   = 0x01
	propMessageExpiry   = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelationData = 0x09
	propSubscriptionID  = 0x0B
	propSessionExpiry   = 0x11
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propRequestProblem  = 0x17
	propWillDelay       = 0x18
	propRequestResponse = 0x19
	propReasonString    = 0x1F
	propReceiveMax      = 0x21
	propTopicAliasMax   = 0x22
	propTopicAlias      = 0x23
	propUser            = 0x26
	propMaxPacket       = 0x27
	highestProperty     = 0x2A
)

// kind is how the value of a property is written.
type kind uint8

const (
	kindNone kind = iota
	kindByte
	kindUint16
	kindUint32
	kindVarint
	kindText
	kindBinary
	kindPair
)

// in is a set of packet types that may carry a property; will stands for the
// properties of a will, which are of no packet type.
type in uint32

const will = 16

func on(types ...uint) in {
	var s in
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

type rule struct {
	kind kind
	in   in
	name string
}

// rules has the properties a client may send.
var rules = [highestProperty + 1]rule{
	propPayloadFormat:   {kindByte, on(TypePublish, will), "payload format indicator"},
	propMessageExpiry:   {kindUint32, on(TypePublish, will), "message expiry interval"},
	propContentType:     {kindText, on(TypePublish, will), "content type"},
	propResponseTopic:   {kindText, on(TypePublish, will), "response topic"},
	propCorrelationData: {kindBinary, on(TypePublish, will), "correlation data"},
	propSubscriptionID:  {kindVarint, on(TypeSubscribe), "subscription identifier"},
	propSessionExpiry:   {kindUint32, on(TypeConnect, TypeDisconnect), "session expiry interval"},
	propAuthMethod:      {kindText, on(TypeConnect, TypeAuth), "authentication method"},
	propAuthData:        {kindBinary, on(TypeConnect, TypeAuth), "authentication data"},
	propRequestProblem:  {kindByte, on(TypeConnect), "request problem information"},
	propWillDelay:       {kindUint32, on(will), "will delay interval"},
	propRequestResponse: {kindByte, on(TypeConnect), "request response information"},
	propReasonString:    {kindText, on(TypePuback, TypePubrec, TypePubrel, TypePubcomp, TypeDisconnect, TypeAuth), "reason string"},
	propReceiveMax:      {kindUint16, on(TypeConnect), "receive maximum"},
	propTopicAliasMax:   {kindUint16, on(TypeConnect), "topic alias maximum"},
	propTopicAlias:      {kindUint16, on(TypePublish), "topic alias"},
	propUser: {kindPair, on(TypeConnect, TypePublish, TypePuback, TypePubrec, TypePubrel, TypePubcomp,
		TypeSubscribe, TypeUnsubscribe, TypeDisconnect, TypeAuth, will), "user property"},
	propMaxPacket: {kindUint32, on(TypeConnect), "maximum packet size"},
}

// property is one value: num for numbers, text for strings and binary data,
// text and value for a user property.
type property struct {
	id          byte
	num         uint32
	text, value []byte
}

// properties reads the property block at the front of r and calls each, which
// may be nil. A property that the packet may not carry is malformed (2.2.2.2),
// one that is there twice a protocol error, as each of them says.
func (r *reader) properties(of uint, each func(property)) {
	n := r.varint("property length")
	body := r.take(n, "properties")
	if r.err != nil {
		return
	}
	p := reader{b: body}
	seen := uint64(0)
	for len(p.b) > 0 {
		v := p.property(of)
		if p.err != nil {
			break
		}
		if v.id != propUser {
			if seen&(1<<v.id) != 0 {
				p.fail(protocol("the %s is there twice", rules[v.id].name))
				break
			}
			seen |= 1 << v.id
		}
		if each != nil {
			each(v)
		}
	}
	if p.err != nil {
		r.b, r.err = nil, p.err
		return
	}
	if seen&(1<<propAuthData) != 0 && seen&(1<<propAuthMethod) == 0 {
		r.fail(protocol("authentication data without a method")) // MQTT 5, 3.1.2.11.10
	}
}

func (r *reader) property(of uint) property {
	v := property{id: r.byte("property identifier")}
	if r.err != nil {
		return v
	}
	if v.id > highestProperty || rules[v.id].in&(1<<of) == 0 {
		r.fail(malformed("property 0x%02X does not belong here", v.id))
		return v
	}
	rule := rules[v.id]
	switch rule.kind {
	case kindNone: // not in rules
	case kindByte:
		v.num = uint32(r.byte(rule.name))
		if v.num > 1 {
			r.fail(protocol("%s %d: 0 or 1", rule.name, v.num))
		}
	case kindUint16:
		v.num = uint32(r.uint16(rule.name))
	case kindUint32:
		v.num = r.uint32(rule.name)
	case kindVarint:
		v.num = uint32(r.varint(rule.name))
	case kindText:
		v.text = r.text(rule.name)
	case kindBinary:
		v.text = r.binary(rule.name)
	case kindPair:
		v.text, v.value = r.text(rule.name), r.text(rule.name)
	}
	if r.err == nil {
		r.checkValue(v)
	}
	return v
}

// checkValue refuses values that the standard calls an error by themselves.
func (r *reader) checkValue(v property) {
	switch v.id {
	case propReceiveMax, propMaxPacket, propSubscriptionID: // MQTT 5, 3.1.2.11.3, 3.1.2.11.4, 3.8.2.1.2
		if v.num == 0 {
			r.fail(protocol("%s 0", rules[v.id].name))
		}
	case propTopicAlias: // MQTT 5, [MQTT-3.3.2-8]
		if v.num == 0 {
			r.fail(&Fault{CodeBadAlias, "topic alias 0"})
		}
	}
}

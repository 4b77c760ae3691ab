package packet

import "bytes"

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

// rules has the properties and the packets of a client that may carry them.
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

	// Of servers.
	0x12: {kindText, 0, "assigned client identifier"},
	0x13: {kindUint16, 0, "server keep alive"},
	0x1A: {kindText, 0, "response information"},
	0x1C: {kindText, 0, "server reference"},
	0x24: {kindByte, 0, "maximum QoS"},
	0x25: {kindByte, 0, "retain available"},
	0x28: {kindByte, 0, "wildcard subscription available"},
	0x29: {kindByte, 0, "subscription identifiers available"},
	0x2A: {kindByte, 0, "shared subscription available"},
}

// property is one value: num for numbers, text for strings and binary data,
// text and value for a user property.
type property struct {
	id          byte
	num         uint32
	text, value []byte
}

// properties reads the property block at the front of r and calls each, which
// may be nil. A property that does not exist is malformed, one that is there
// twice a protocol error. Of one that the packet may not carry 2.2.2.2 says
// malformed and 1.2 protocol error; brokers answer the one for SUBSCRIBE and
// UNSUBSCRIBE and the other for the rest, and so do we.
func (r *reader) properties(of uint, each func(property)) {
	n := r.varint("property length")
	body := r.take(n, "properties")
	if r.err != nil {
		return
	}
	p := reader{b: body}
	seen := uint64(0)
	var first *Fault // protocol errors: what is malformed goes before them
	for len(p.b) > 0 {
		v, f := p.property(of)
		if p.err != nil {
			r.fail(malformed("%v", p.err))
			return
		}
		if v.id != propUser && seen&(1<<v.id) != 0 && f == nil {
			f = protocol("the %s is there twice", rules[v.id].name)
		}
		seen |= 1 << v.id
		if first == nil {
			first = f
		}
		if f == nil && each != nil {
			each(v)
		}
	}
	if first != nil {
		r.fail(first)
		return
	}
	if seen&(1<<propAuthData) != 0 && seen&(1<<propAuthMethod) == 0 {
		r.fail(protocol("authentication data without a method")) // MQTT 5, 3.1.2.11.10
	}
}

// property reads one. A value that is there but not allowed is the Fault; what
// is malformed fails the reader.
func (r *reader) property(of uint) (property, *Fault) {
	v := property{id: r.byte("property identifier")}
	rule := rule{}
	if v.id <= highestProperty {
		rule = rules[v.id]
	}
	switch rule.kind {
	case kindNone: // not in rules
		r.fail(malformed("property 0x%02X is none", v.id))
	case kindByte:
		v.num = uint32(r.byte(rule.name))
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
	switch {
	case r.err != nil:
		return v, nil
	case rule.in&(1<<of) != 0:
		return v, checkValue(v, rule)
	}
	f := protocol("the %s does not belong here", rule.name)
	if of == TypeSubscribe || of == TypeUnsubscribe {
		f.Code = CodeMalformed
	}
	return v, f
}

// checkValue refuses values that the standard calls an error by themselves.
func checkValue(v property, rule rule) *Fault {
	switch {
	case rule.kind == kindByte && v.num > 1:
		return protocol("%s %d: 0 or 1", rule.name, v.num)
	case v.num == 0 && (v.id == propReceiveMax || v.id == propMaxPacket || v.id == propSubscriptionID):
		return protocol("%s 0", rule.name) // MQTT 5, 3.1.2.11.3, 3.1.2.11.4, 3.8.2.1.2
	case v.num == 0 && v.id == propTopicAlias: // MQTT 5, [MQTT-3.3.2-8]
		return &Fault{CodeBadAlias, "topic alias 0"}
	case v.id == propResponseTopic && (len(v.text) == 0 || bytes.ContainsAny(v.text, "+#")): // MQTT 5, [MQTT-3.3.2-14]
		return protocol("response topic %.20q", v.text)
	}
	return nil
}

package conformance

import "fmt"

// Packet types, MQTT 5 table 2-1.
const (
	tCONNECT = 1 + iota
	tCONNACK
	tPUBLISH
	tPUBACK
	tPUBREC
	tPUBREL
	tPUBCOMP
	tSUBSCRIBE
	tSUBACK
	tUNSUBSCRIBE
	tUNSUBACK
	tPINGREQ
	tPINGRESP
	tDISCONNECT
	tAUTH
)

// typeNames are the names of packet types as case files write them.
var typeNames = [16]string{
	"", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// kind is the shape of a property's value, MQTT 5 section 1.5.
type kind byte

const (
	kByte kind = iota
	kTwo
	kFour
	kVar
	kText
	kBytes
	kPair
)

// willPackets is the bit of the will's properties among those of packets.
const willPackets = 0

// property is a row of MQTT 5 table 2-4.
type property struct {
	id      byte
	name    string // as case files write it
	kind    kind
	packets uint16 // bit t: packet type t may carry it; bit 0: a will may
}

// bits makes the set of packets of a property.
func bits(types ...int) uint16 {
	var set uint16
	for _, t := range types {
		set |= 1 << t
	}
	return set
}

// properties is MQTT 5 table 2-4.
var properties = []property{
	{0x01, "payload-format", kByte, bits(tPUBLISH, willPackets)},
	{0x02, "message-expiry", kFour, bits(tPUBLISH, willPackets)},
	{0x03, "content-type", kText, bits(tPUBLISH, willPackets)},
	{0x08, "response-topic", kText, bits(tPUBLISH, willPackets)},
	{0x09, "correlation-data", kBytes, bits(tPUBLISH, willPackets)},
	{0x0B, "subscription-id", kVar, bits(tPUBLISH, tSUBSCRIBE)},
	{0x11, "session-expiry", kFour, bits(tCONNECT, tCONNACK, tDISCONNECT)},
	{0x12, "assigned-id", kText, bits(tCONNACK)},
	{0x13, "server-keep-alive", kTwo, bits(tCONNACK)},
	{0x15, "auth-method", kText, bits(tCONNECT, tCONNACK, tAUTH)},
	{0x16, "auth-data", kBytes, bits(tCONNECT, tCONNACK, tAUTH)},
	{0x17, "request-problem", kByte, bits(tCONNECT)},
	{0x18, "will-delay", kFour, bits(willPackets)},
	{0x19, "request-response", kByte, bits(tCONNECT)},
	{0x1A, "response-info", kText, bits(tCONNACK)},
	{0x1C, "server-reference", kText, bits(tCONNACK, tDISCONNECT)},
	{0x1F, "reason-string", kText, bits(tCONNACK, tPUBACK, tPUBREC, tPUBREL, tPUBCOMP, tSUBACK, tUNSUBACK, tDISCONNECT, tAUTH)},
	{0x21, "receive-maximum", kTwo, bits(tCONNECT, tCONNACK)},
	{0x22, "alias-maximum", kTwo, bits(tCONNECT, tCONNACK)},
	{0x23, "alias", kTwo, bits(tPUBLISH)},
	{0x24, "maximum-qos", kByte, bits(tCONNACK)},
	{0x25, "retain-available", kByte, bits(tCONNACK)},
	{0x26, "user-property", kPair, 0xFFFF &^ bits(tPINGREQ, tPINGRESP)},
	{0x27, "maximum-packet", kFour, bits(tCONNECT, tCONNACK)},
	{0x28, "wildcard-available", kByte, bits(tCONNACK)},
	{0x29, "subscription-id-available", kByte, bits(tCONNACK)},
	{0x2A, "shared-available", kByte, bits(tCONNACK)},
}

// absent gives what a CONNACK means that leaves a property out, for variables
// that are bound to it (MQTT 5 section 3.2.2.3).
var absent = map[string]string{
	"receive-maximum": "65535", "alias-maximum": "0", "maximum-qos": "2", "retain-available": "1",
	"maximum-packet": "268435460", "wildcard-available": "1", "subscription-id-available": "1", "shared-available": "1",
	"server-keep-alive": "0", "session-expiry": "0",
}

// reasonCodes are those a server may send, by packet type: MQTT 5 sections
// 3.2.2.2, 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1 and
// 3.15.2.1, without those that the tables give to clients alone.
var reasonCodes = map[int]string{
	tCONNACK:    "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F",
	tPUBACK:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	tPUBREC:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	tPUBREL:     "\x00\x92",
	tPUBCOMP:    "\x00\x92",
	tSUBACK:     "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2",
	tUNSUBACK:   "\x00\x11\x80\x83\x87\x8F\x91",
	tDISCONNECT: "\x00\x80\x81\x82\x83\x87\x89\x8B\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2",
	tAUTH:       "\x00\x18",
}

// byID finds a property by its identifier.
func byID(id byte) (property, bool) {
	for _, p := range properties {
		if p.id == id {
			return p, true
		}
	}
	return property{}, false
}

// byName finds a property by its name.
func byName(name string) (property, bool) {
	for _, p := range properties {
		if p.name == name {
			return p, true
		}
	}
	return property{}, false
}

// typeOf finds a packet type by its name, 0 when there is none.
func typeOf(name string) int {
	for t, n := range typeNames {
		if n == name && t > 0 {
			return t
		}
	}
	return 0
}

// appendVar appends a variable byte integer, MQTT 5 section 1.5.5. What needs
// more than four bytes gets them: a case may want it so.
func appendVar(b []byte, n int) []byte {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// appendText appends a string or binary data with its length. Only the low 16
// bits of the length have room.
func appendText(b []byte, s string) []byte {
	b = append(b, byte(len(s)>>8), byte(len(s)))
	return append(b, s...)
}

// show writes bytes for people: as text where they are, else in hex.
func show(s string) string {
	const most = 120
	more := ""
	if len(s) > most {
		more, s = fmt.Sprintf("... (%d bytes)", len(s)), s[:most]
	}
	for _, r := range []byte(s) {
		if r < 0x20 || r > 0x7E {
			return fmt.Sprintf("x:%x%s", s, more)
		}
	}
	return s + more
}

package conformance

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBody bounds a packet from a server, bytes after its fixed header. No case
// makes a server send more.
const maxBody = 1 << 20

// value is one field of a received packet: numbers in decimal, text and bytes
// as they are.
type value struct{ key, text string }

// received is a packet from a server.
type received struct {
	kind   int
	size   int // bytes on the wire, fixed header included
	values []value
}

// all gives every value of a key, in order.
func (r received) all(key string) []string {
	var out []string
	for _, v := range r.values {
		if v.key == key {
			out = append(out, v.text)
		}
	}
	return out
}

// num gives the number of a field, 0 when it has none.
func (r received) num(key string) int {
	for _, v := range r.values {
		if v.key == key {
			n, _ := strconv.Atoi(v.text) // numbers were written by the decoder
			return n
		}
	}
	return 0
}

func (r received) String() string {
	var b strings.Builder
	b.WriteString(typeNames[r.kind])
	for _, v := range r.values {
		if v.text != "0" || v.key == "code" || v.key == "codes" {
			fmt.Fprintf(&b, " %s=%s", v.key, show(v.text))
		}
	}
	return b.String()
}

// breach is something that a server must not do, whatever the case.
type breach struct {
	clause string // "MQTT5 [MQTT-2.1.3-1]", "" for rules without a number
	text   string
}

func (b *breach) Error() string {
	if b.clause == "" {
		return b.text
	}
	return b.text + ", " + b.clause
}

// decoder reads one packet from a server and holds it against what chapters 2
// and 3 of the standards say of its form.
type decoder struct {
	version byte
	kind    int
	b       []byte
	values  []value
	err     *breach
}

// decode reads a packet's body. first is the first byte of its fixed header,
// header the bytes before the body.
func decode(version byte, first byte, header int, body []byte) (received, *breach) {
	d := &decoder{version: version, kind: int(first >> 4), b: body}
	flags := first & 15
	if d.kind != tPUBLISH && flags != map[int]byte{tPUBREL: 2}[d.kind] {
		d.fail(d.clause("2.1.3-1", "2.2.2-1"), "%s with flags %#x", typeNames[d.kind], flags)
	}
	switch d.kind {
	case tCONNACK:
		d.connack()
	case tPUBLISH:
		d.publish(flags)
	case tPUBACK, tPUBREC, tPUBREL, tPUBCOMP:
		d.put("pid", d.id())
		d.tail()
	case tSUBACK, tUNSUBACK:
		d.codes()
	case tDISCONNECT, tAUTH:
		if version < 5 {
			d.fail("", "%s does not exist for a server of this version", typeNames[d.kind])
		}
		d.tail()
	case tPINGRESP:
	default:
		d.fail("", "a server must not send %s (type %d)", typeNames[d.kind], d.kind)
	}
	if len(d.b) > 0 {
		d.fail("", "%s with %d bytes too many", typeNames[d.kind], len(d.b))
	}
	return received{d.kind, header + len(body), d.values}, d.err
}

// clause gives the number of a rule in the standard that the connection
// speaks, "" when it has none there.
func (d *decoder) clause(five, three string) string { return clause(d.version, five, three) }

func clause(version byte, five, three string) string {
	switch {
	case version >= 5 && five != "":
		return "MQTT5 [MQTT-" + five + "]"
	case version < 5 && three != "":
		return "MQTT311 [MQTT-" + three + "]"
	}
	return ""
}

func (d *decoder) fail(clause, format string, args ...any) {
	if d.err == nil {
		d.err = &breach{clause, fmt.Sprintf(format, args...)}
	}
}

func (d *decoder) put(key string, n int) { d.values = append(d.values, value{key, strconv.Itoa(n)}) }

// take cuts bytes off the front.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("", "%s ends in the middle of a field", typeNames[d.kind])
		d.b = nil
		return make([]byte, min(n, 1<<16))
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() int { return int(d.take(1)[0]) }
func (d *decoder) two() int  { return int(binary.BigEndian.Uint16(d.take(2))) }

// id reads a packet identifier.
func (d *decoder) id() int {
	n := d.two()
	if n == 0 {
		d.fail(d.clause("2.2.1-4", "2.3.1-4"), "%s with packet identifier 0", typeNames[d.kind])
	}
	return n
}

func (d *decoder) bytes() string { return string(d.take(d.two())) }

func (d *decoder) text() string {
	s := d.bytes()
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		d.fail(d.clause("1.5.4-1", "1.5.3-1"), "%s with a string that is no UTF-8 or holds U+0000: %s", typeNames[d.kind], show(s))
	}
	return s
}

func (d *decoder) varInt() int {
	n := 0
	for i := range 4 {
		c := d.byte()
		n |= c & 127 << (7 * i)
		if c < 128 {
			if i > 0 && c == 0 {
				d.fail(d.clause("1.5.5-1", ""), "a variable byte integer longer than it needs to be")
			}
			return n
		}
	}
	d.fail("", "a variable byte integer of more than four bytes")
	return n
}

func (d *decoder) connack() {
	flags := d.byte()
	if flags > 1 {
		d.fail(d.clause("3.2.2-1", "2.2.2-1"), "CONNACK with flags %#x", flags)
	}
	d.put("present", flags&1)
	code := d.code()
	if flags != 0 && code != 0 {
		d.fail(d.clause("3.2.2-6", "3.2.2-4"), "CONNACK with code %#x and Session Present", code)
	}
	if d.version >= 5 {
		d.properties()
	} else if code > 5 {
		d.fail(d.clause("", "3.2.2-6"), "CONNACK with the reserved return code %d", code)
	}
}

// code reads a reason code and checks that the packet may carry it.
func (d *decoder) code() int {
	c := d.byte()
	d.put("code", c)
	d.checkCode(c)
	return c
}

func (d *decoder) checkCode(c int) {
	if d.version >= 5 && strings.IndexByte(reasonCodes[d.kind], byte(c)) < 0 {
		number := map[int]string{
			tCONNACK: "3.2.2-8", tPUBACK: "3.4.2-1", tPUBREC: "3.5.2-1", tPUBREL: "3.6.2-1", tPUBCOMP: "3.7.2-1",
			tSUBACK: "3.9.3-2", tUNSUBACK: "3.11.3-2", tDISCONNECT: "3.14.2-1", tAUTH: "3.15.2-1",
		}[d.kind]
		d.fail(d.clause(number, ""), "%s with reason code %#x, which a server must not use there", typeNames[d.kind], c)
	}
}

func (d *decoder) publish(flags byte) {
	dup, qos := int(flags>>3), int(flags>>1&3)
	d.put("dup", dup)
	d.put("qos", qos)
	d.put("retain", int(flags&1))
	topic := d.text()
	d.values = append(d.values, value{"topic", topic})
	switch {
	case qos == 3:
		d.fail(d.clause("3.3.1-4", "3.3.1-4"), "PUBLISH with QoS 3")
	case qos == 0 && dup == 1:
		d.fail(d.clause("3.3.1-2", "3.3.1-2"), "PUBLISH with QoS 0 and DUP")
	case strings.ContainsAny(topic, "+#"):
		d.fail(d.clause("3.3.2-2", "3.3.2-2"), "PUBLISH with wildcards in its topic %s", show(topic))
	}
	if qos > 0 {
		d.put("pid", d.id())
	}
	if d.version >= 5 {
		d.properties()
	}
	d.values = append(d.values, value{"payload", string(d.b)})
	d.b = nil
}

// tail reads the reason code and properties that may end a packet.
func (d *decoder) tail() {
	if d.version < 5 {
		return
	}
	if len(d.b) == 0 {
		d.put("code", 0)
		d.put("props", 0)
		return
	}
	d.code()
	if len(d.b) > 0 {
		d.properties()
	} else {
		d.put("props", 0)
	}
}

// codes reads SUBACK and UNSUBACK.
func (d *decoder) codes() {
	d.put("pid", d.id())
	if d.version >= 5 {
		d.properties()
	}
	var codes []string
	for _, c := range d.b {
		codes = append(codes, strconv.Itoa(int(c)))
		d.checkCode(int(c))
		if d.kind == tSUBACK && d.version < 5 && c > 2 && c != 0x80 {
			d.fail(d.clause("", "3.9.3-2"), "SUBACK with return code %#x", c)
		}
	}
	if d.kind == tSUBACK || d.version >= 5 {
		d.b = nil
	}
	d.values = append(d.values, value{"codes", strings.Join(codes, ",")})
}

// properties reads what follows the property length and notes how many there
// were as props.
func (d *decoder) properties() {
	rest := d.take(d.varInt())
	after := d.b
	seen := map[byte]bool{}
	count := 0
	for d.b = rest; len(d.b) > 0 && d.err == nil; count++ {
		id := byte(d.varInt())
		p, ok := byID(id)
		number := ""
		if p.name == "session-expiry" && d.kind == tDISCONNECT {
			number = "3.14.2-2" // a client's may carry it
		}
		if !ok || p.packets&(1<<d.kind) == 0 || number != "" {
			d.fail(d.clause(number, ""), "%s with property %#x %s, which it must not carry", typeNames[d.kind], id, p.name)
			break
		}
		if seen[id] && p.kind != kPair && p.name != "subscription-id" {
			d.fail("", "%s with %s twice", typeNames[d.kind], p.name)
		}
		seen[id] = true
		d.values = append(d.values, value{p.name, d.value(p)})
	}
	d.b = after
	d.put("props", count)
}

func (d *decoder) value(p property) string {
	n := 0
	switch p.kind {
	case kText:
		return d.text()
	case kBytes:
		return d.bytes()
	case kPair:
		return d.text() + ":" + d.text()
	case kByte:
		if n = d.byte(); n > 1 {
			d.fail("", "%s with %s %d", typeNames[d.kind], p.name, n)
		}
	case kTwo:
		n = d.two()
	case kFour:
		n = int(binary.BigEndian.Uint32(d.take(4)))
	case kVar:
		n = d.varInt()
	}
	if n == 0 {
		switch p.name {
		case "alias":
			d.fail("MQTT5 [MQTT-3.3.2-8]", "PUBLISH with topic alias 0")
		case "subscription-id", "receive-maximum", "maximum-packet":
			d.fail("", "%s with %s 0", typeNames[d.kind], p.name)
		}
	}
	return strconv.Itoa(n)
}

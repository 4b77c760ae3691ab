package conformance

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// encode builds a packet from the fields of a case. It checks nothing that
// the standards ask for, so that a case can break each of their rules; what it
// cannot build is written in bytes (rawBytes).
func encode(version byte, name string, fields []field) ([]byte, error) {
	t := typeOf(name)
	if t == 0 {
		return nil, fmt.Errorf("no packet is called %q", name)
	}
	e := &encoder{version: version, fields: fields, used: make([]bool, len(fields))}
	var body []byte
	flags := byte(0)
	switch t {
	case tCONNECT:
		body = e.connect()
	case tPUBLISH:
		flags = byte(e.num("dup", 0)<<3 | e.num("qos", 0)<<1 | e.num("retain", 0))
		body = e.publish()
	case tSUBSCRIBE, tUNSUBSCRIBE:
		flags = 2
		body = e.filters(t)
	case tDISCONNECT, tAUTH:
		body = e.last(t, nil)
	case tPUBACK, tPUBREC, tPUBREL, tPUBCOMP:
		if t == tPUBREL {
			flags = 2
		}
		body = e.last(t, e.two("pid", 0))
	}
	flags = byte(e.num("flags", int(flags)))
	for i, f := range fields {
		if !e.used[i] && e.err == nil {
			e.err = fmt.Errorf("%s has no field %q", name, f.key)
		}
	}
	return append(appendVar([]byte{byte(t)<<4 | flags}, len(body)), body...), e.err
}

type encoder struct {
	version byte
	fields  []field
	used    []bool
	err     error
}

// get gives the text of a field and marks it as used.
func (e *encoder) get(key string) (string, bool) {
	for i, f := range e.fields {
		if f.key == key && !e.used[i] {
			e.used[i] = true
			return f.value, true
		}
	}
	return "", false
}

// num gives a field's number.
func (e *encoder) num(key string, otherwise int) int {
	s, ok := e.get(key)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 0, 32)
	e.fail(key, err)
	return int(n)
}

func (e *encoder) two(key string, otherwise int) []byte {
	n := e.num(key, otherwise)
	return []byte{byte(n >> 8), byte(n)}
}

// text gives a field's bytes.
func (e *encoder) text(key, otherwise string) string {
	s, ok := e.get(key)
	if !ok {
		return otherwise
	}
	b, err := literal(s)
	e.fail(key, err)
	return b
}

func (e *encoder) fail(key string, err error) {
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("%s: %w", key, err)
	}
}

// literal reads a value of a case: text, x:HEX, or fill:N bytes of 'z'.
func literal(s string) (string, error) {
	if h, ok := strings.CutPrefix(s, "x:"); ok {
		b, err := hex.DecodeString(h)
		return string(b), err
	}
	if n, ok := strings.CutPrefix(s, "fill:"); ok {
		i, err := strconv.ParseUint(n, 10, 24)
		return strings.Repeat("z", int(i)), err
	}
	return s, nil
}

func (e *encoder) connect() []byte {
	b := appendText(nil, e.text("protocol", "MQTT"))
	b = append(b, byte(e.num("level", int(e.version))))
	will, hasWill := e.get("will")
	user, hasUser := e.get("user")
	pass, hasPass := e.get("pass")
	flags := e.num("clean", 1)<<1 | e.num("will-qos", 0)<<3 | e.num("will-retain", 0)<<5
	for bit, has := range map[int]bool{2: hasWill, 6: hasPass, 7: hasUser} {
		if has {
			flags |= 1 << bit
		}
	}
	b = append(b, byte(e.num("connect-flags", flags)))
	b = append(b, e.two("keep", 60)...)
	id, payload := e.text("id", ""), e.text("will-payload", "")
	willProps := e.properties("will.")
	if e.version >= 5 {
		b = append(b, e.properties("")...)
	}
	b = appendText(b, id)
	if hasWill {
		if e.version >= 5 {
			b = append(b, willProps...)
		}
		will, err := literal(will)
		e.fail("will", err)
		b = appendText(appendText(b, will), payload)
	}
	if hasUser {
		v, err := literal(user)
		e.fail("user", err)
		b = appendText(b, v)
	}
	if hasPass {
		v, err := literal(pass)
		e.fail("pass", err)
		b = appendText(b, v)
	}
	return b
}

func (e *encoder) publish() []byte {
	b := appendText(nil, e.text("topic", ""))
	for _, f := range e.fields {
		if f.key == "pid" {
			b = append(b, e.two("pid", 0)...)
		}
	}
	payload := e.text("payload", "")
	if e.version >= 5 {
		b = append(b, e.properties("")...)
	}
	return append(b, payload...)
}

// filters builds SUBSCRIBE and UNSUBSCRIBE. A filter of a SUBSCRIBE is
// FILTER,QOS and options after further commas: nl, rap, rh=N, or=N for any bits.
func (e *encoder) filters(t int) []byte {
	b := e.two("pid", 1)
	var tail []byte
	for {
		s, ok := e.get("filter")
		if !ok {
			break
		}
		name, options, _ := strings.Cut(s, ",")
		text, err := literal(name)
		e.fail("filter", err)
		tail = appendText(tail, text)
		if t == tSUBSCRIBE {
			o, err := subscribeOptions(options)
			e.fail("filter", err)
			tail = append(tail, o)
		}
	}
	if e.version >= 5 {
		b = append(b, e.properties("")...)
	}
	return append(b, tail...)
}

// subscribeOptions reads what follows the filter, MQTT 5 section 3.8.3.1.
func subscribeOptions(s string) (byte, error) {
	var o byte
	for i, part := range strings.Split(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseUint(value, 0, 8)
		switch {
		case i == 0:
			if n, err = strconv.ParseUint(cmpOr(part, "0"), 0, 8); err != nil {
				return 0, fmt.Errorf("%q is no QoS", part)
			}
			o |= byte(n)
		case part == "nl":
			o |= 4
		case part == "rap":
			o |= 8
		case key == "rh" && err == nil:
			o |= byte(n) << 4
		case key == "or" && err == nil:
			o |= byte(n)
		default:
			return 0, fmt.Errorf("no subscription option is called %q", part)
		}
	}
	return o, nil
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// last builds what ends with an optional reason code and properties: both may
// be left out in MQTT 5, and do not exist before.
func (e *encoder) last(t int, b []byte) []byte {
	if e.version < 5 {
		return b
	}
	code, ok := e.get("code")
	props := e.properties("")
	if !ok && len(props) == 1 {
		return b
	}
	n, err := strconv.ParseUint(cmpOr(code, "0"), 0, 8)
	e.fail("code", err)
	b = append(b, byte(n))
	if len(props) > 1 || t == tAUTH {
		b = append(b, props...)
	}
	return b
}

// properties encodes all fields that are properties, in their order, with the
// length before them.
func (e *encoder) properties(prefix string) []byte {
	var b []byte
	for i, f := range e.fields {
		name, ok := strings.CutPrefix(f.key, prefix)
		if !ok || e.used[i] {
			continue
		}
		if p, ok := byName(name); ok {
			e.used[i] = true
			v, err := encodeValue(p, f.value)
			e.fail(f.key, err)
			b = append(append(b, p.id), v...)
		}
	}
	return append(appendVar(nil, len(b)), b...)
}

func encodeValue(p property, s string) ([]byte, error) {
	switch p.kind {
	case kText, kBytes:
		v, err := literal(s)
		return appendText(nil, v), err
	case kPair:
		k, v, ok := strings.Cut(s, ":")
		if !ok {
			return nil, errors.New("a user property is KEY:VALUE")
		}
		return appendText(appendText(nil, k), v), nil
	case kByte, kTwo, kFour, kVar: // numbers, below
	}
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return nil, err
	}
	switch p.kind {
	case kByte:
		return []byte{byte(n)}, nil
	case kTwo:
		return []byte{byte(n >> 8), byte(n)}, nil
	case kFour:
		return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, nil
	case kVar, kText, kBytes, kPair:
	}
	return appendVar(nil, int(n)), nil
}

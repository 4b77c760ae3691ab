package packet

import (
	"encoding/binary"
	"unicode/utf8"
)

// reader takes the fields of a packet off its body. The first fault sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(f *Fault) {
	if r.err == nil {
		r.err = f
	}
	r.b = nil
}

func (r *reader) take(n int, what string) []byte {
	if len(r.b) < n {
		r.fail(malformed("the packet ends in its %s", what))
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte(what string) byte {
	if b := r.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if b := r.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if b := r.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) varint(what string) int {
	n, digits, err := length(r.b)
	if err != nil || digits == 0 {
		r.fail(malformed("the packet ends in its %s, or that is no number", what))
		return 0
	}
	r.b = r.b[digits:]
	return n
}

// binary is two bytes of length and that many bytes (MQTT 5, 1.5.6).
func (r *reader) binary(what string) []byte {
	n := int(r.uint16(what))
	if r.err != nil {
		return nil
	}
	return r.take(n, what)
}

// text is a UTF-8 string (MQTT 5, 1.5.4).
func (r *reader) text(what string) []byte {
	b := r.binary(what)
	if r.err == nil && !validText(b) {
		r.fail(malformed("the %s is not UTF-8, or has a NUL", what))
	}
	return b
}

// validText reports whether b is UTF-8 without what MQTT 5, [MQTT-1.5.4-1] and
// [MQTT-1.5.4-2] forbid, and without control characters and non-characters,
// which a receiver may refuse (1.5.4): they have no place in topics and names,
// and do harm in logs and terminals.
func validText(b []byte) bool {
	plain := true
	for _, c := range b {
		if c < 0x20 || c >= 0x7F {
			plain = false
			break
		}
	}
	if plain {
		return true
	}
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r < 0x20 || r >= 0x7F && r <= 0x9F || r&0xFFFE == 0xFFFE || r >= 0xFDD0 && r <= 0xFDEF {
			return false
		}
	}
	return true
}

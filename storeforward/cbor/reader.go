package cbor

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

const (
	// MaxDepth is the deepest nesting that Skip follows.
	MaxDepth = 16
	// Indefinite is the length Array returns for an array that ends in a
	// break.
	Indefinite = -1
)

// Error says what is wrong in an encoding, and where.
type Error struct {
	Offset int // of the item that could not be read, counted from the base of the Reader
	Msg    string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Msg) }

// Kind is the type of the next item.
type Kind uint8

// The kinds, in the order of the major types of RFC 8949.
const (
	KindUint Kind = iota
	KindNegative
	KindBytes
	KindText
	KindArray
	KindMap
	KindTag
	KindSimple // booleans, null, floats
	KindBreak
	KindEnd // no byte left
)

var kindNames = [...]string{
	"an unsigned integer", "a negative integer", "a byte string", "a text string",
	"an array", "a map", "a tag", "a simple value or float", "a break", "the end of the data",
}

// Reader reads items from a byte slice. After the first error every method
// returns a zero value and leaves the position alone. A Reader is a small
// value; copying it makes a bookmark.
type Reader struct {
	b     []byte
	off   int
	base  int
	err   *Error
	loose bool
}

// NewReader returns a Reader of b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// NewReaderAt returns a Reader of b whose offsets count from base: the
// position of b within what encloses it.
func NewReaderAt(b []byte, base int) Reader { return Reader{b: b, base: base} }

// Err returns the first error, an *Error, or nil.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// OK reports whether there was no error so far.
func (r *Reader) OK() bool { return r.err == nil }

// Fail makes msg the error of r at the offset, unless it has one already.
func (r *Reader) Fail(offset int, msg string) {
	if r.err == nil {
		r.err = &Error{Offset: offset, Msg: msg}
	}
}

// Offset returns the position of the next item.
func (r *Reader) Offset() int { return r.base + r.off }

// Len returns the number of bytes not yet read.
func (r *Reader) Len() int { return len(r.b) - r.off }

// Since returns a view of the bytes read since Offset was offset.
func (r *Reader) Since(offset int) []byte { return r.b[offset-r.base : r.off : r.off] }

// Shortest reports whether all integers and lengths read or skipped so far
// were in their shortest form, as deterministic encoding demands.
func (r *Reader) Shortest() bool { return !r.loose }

// End fails when bytes are left.
func (r *Reader) End() {
	if r.err == nil && r.off < len(r.b) {
		r.Fail(r.Offset(), fmt.Sprintf("%d bytes after the end", r.Len()))
	}
}

// Peek returns the kind of the next item, KindEnd after an error.
func (r *Reader) Peek() Kind {
	switch {
	case r.err != nil || r.off >= len(r.b):
		return KindEnd
	case r.b[r.off] == byteBreak:
		return KindBreak
	}
	return Kind(r.b[r.off] >> 5)
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 {
	if v, ok := r.small(majorUint); ok { // most are
		return v
	}
	v, _ := r.expect(majorUint)
	return v
}

// small reads a head whose argument is in its first byte, if that is next. It
// is the short way of the methods that expect one type, fit to be inlined.
func (r *Reader) small(major byte) (arg uint64, ok bool) {
	if r.off < len(r.b) && r.err == nil {
		if arg = uint64(r.b[r.off] - major<<5); arg < 24 {
			r.off++
			return arg, true
		}
	}
	return 0, false
}

// UintMax reads an unsigned integer and fails when it is greater than most.
func (r *Reader) UintMax(most uint64) uint64 {
	at := r.Offset()
	v, ok := r.expect(majorUint)
	if ok && v > most {
		r.Fail(at, fmt.Sprintf("%d is more than the limit of %d", v, most))
		return 0
	}
	return v
}

// Int reads an integer that fits an int64.
func (r *Reader) Int() int64 {
	at, major := r.Offset(), byte(majorUint)
	if r.Peek() == KindNegative {
		major = majorNeg
	}
	v, ok := r.expect(major)
	switch {
	case !ok:
		return 0
	case v > math.MaxInt64:
		r.Fail(at, "an integer that does not fit 64 bits with sign")
		return 0
	case major == majorNeg:
		return -1 - int64(v)
	}
	return int64(v)
}

// Bytes returns a view of a byte string of definite length.
func (r *Reader) Bytes() []byte { return r.str(majorBytes) }

// Text returns a view of a text string of definite length, and fails when it
// is not UTF-8.
func (r *Reader) Text() []byte {
	at := r.Offset()
	s := r.str(majorText)
	if !utf8.Valid(s) {
		r.Fail(at, "a text string that is not UTF-8")
		return nil
	}
	return s
}

// TextMax reads a text string into a string and fails when it is longer than
// most bytes.
func (r *Reader) TextMax(most int) string {
	at := r.Offset()
	s := r.Text()
	if len(s) > most {
		r.Fail(at, fmt.Sprintf("a text of %d bytes, more than the limit of %d", len(s), most))
		return ""
	}
	return string(s)
}

// Array reads the head of an array and returns its length, or Indefinite. A
// length is never greater than the number of bytes left.
func (r *Reader) Array() int {
	at := r.Offset()
	n, ok := r.small(majorArray)
	if !ok {
		if r.one(byteArrayStart) {
			return Indefinite
		}
		n, ok = r.expect(majorArray)
	}
	if ok && n > uint64(r.Len()) {
		r.Fail(at, fmt.Sprintf("an array of %d items in %d bytes", n, r.Len()))
		return 0
	}
	return int(n)
}

// ArrayMin reads the head of an array of definite length and fails when it
// has fewer than least items. The caller reads the items it knows and skips
// the rest.
func (r *Reader) ArrayMin(least int) int {
	at, n := r.Offset(), r.Array()
	if r.err != nil {
		return 0
	}
	if n < least {
		r.Fail(at, fmt.Sprintf("want an array of definite length of at least %d items", least))
		return 0
	}
	return n
}

// Break consumes a break if it is next.
func (r *Reader) Break() bool { return r.one(byteBreak) }

// Null consumes null if it is next.
func (r *Reader) Null() bool { return r.one(byteNull) }

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if r.one(byteTrue) {
		return true
	}
	if !r.one(byteFalse) && r.err == nil {
		r.Fail(r.Offset(), "want true or false, found "+kindNames[r.Peek()])
	}
	return false
}

func (r *Reader) one(b byte) bool {
	if r.err != nil || r.off >= len(r.b) || r.b[r.off] != b {
		return false
	}
	r.off++
	return true
}

func (r *Reader) str(major byte) []byte {
	at := r.Offset()
	n, ok := r.small(major)
	if !ok {
		if n, ok = r.expect(major); !ok {
			return nil
		}
	}
	if n > uint64(r.Len()) {
		r.Fail(at, fmt.Sprintf("a string of %d bytes with %d left", n, r.Len()))
		return nil
	}
	s := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return s
}

// expect reads a head of the given major type and returns its argument.
func (r *Reader) expect(major byte) (uint64, bool) {
	if r.err != nil {
		return 0, false
	}
	if r.off >= len(r.b) || r.b[r.off]>>5 != major || r.b[r.off] == byteBreak {
		r.Fail(r.Offset(), "want "+kindNames[major]+", found "+kindNames[r.Peek()])
		return 0, false
	}
	return r.arg()
}

// arg reads a head with a definite argument and returns the argument.
func (r *Reader) arg() (uint64, bool) {
	info := r.b[r.off] & 0x1f
	if info < 24 {
		r.off++
		return uint64(info), true
	}
	if info > 27 {
		r.Fail(r.Offset(), "an indefinite length or reserved head where a definite one is due")
		return 0, false
	}
	width := 1 << (info - 24)
	if r.Len() < 1+width {
		r.Fail(r.Offset(), "cut off within a head")
		return 0, false
	}
	p := r.b[r.off+1 : r.off+1+width]
	var v, least uint64
	switch width {
	case 1:
		v, least = uint64(p[0]), 24
	case 2:
		v, least = uint64(binary.BigEndian.Uint16(p)), 1<<8
	case 4:
		v, least = uint64(binary.BigEndian.Uint32(p)), 1<<16
	default:
		v, least = binary.BigEndian.Uint64(p), 1<<32
	}
	// Floats and simple values have no shorter form to prefer here.
	if v < least && r.b[r.off]>>5 != majorSimple {
		r.loose = true
	}
	r.off += 1 + width
	return v, true
}

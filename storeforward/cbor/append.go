// Package cbor writes and reads the part of CBOR (RFC 8949) that bundles and
// hop frames are made of: integers, byte and text strings, arrays, booleans
// and null, with definite or indefinite array lengths.
//
// Writing is by appending and always in the shortest form (RFC 8949, section
// 4.2.1). Reading is by a Reader over a byte slice that copies nothing: strings
// are views of its input. A Reader never allocates more than its input is long
// and never recurses deeper than MaxDepth. Its first error sticks, so that a
// decoder can read all fields of a structure and ask Err once:
//
//	b := cbor.AppendText(cbor.AppendUint(cbor.AppendArray(nil, 2), 7), "luna")
//	r := cbor.NewReader(b)
//	n, id, name := r.Array(), r.Uint(), string(r.Text())
//	if err := r.Err(); err != nil { ... }
//
// The package uses no reflection and knows neither maps nor floats, except to
// skip them. It is called by storeforward/bundle and node/wire.
package cbor

import "encoding/binary"

// The major types (RFC 8949, section 3.1), in the top three bits of a head.
const (
	majorUint   = 0
	majorNeg    = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7
)

// The single-byte items used here.
const (
	byteFalse      = 0xf4
	byteTrue       = 0xf5
	byteNull       = 0xf6
	byteBreak      = 0xff
	byteArrayStart = 0x9f
)

// appendHead appends a head with the shortest argument.
func appendHead(dst []byte, major byte, arg uint64) []byte {
	m := major << 5
	switch {
	case arg < 24:
		return append(dst, m|byte(arg))
	case arg < 1<<8:
		return append(dst, m|24, byte(arg))
	case arg < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, m|25), uint16(arg))
	case arg < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, m|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(dst, m|27), arg)
}

// AppendUint appends an unsigned integer.
func AppendUint(dst []byte, v uint64) []byte { return appendHead(dst, majorUint, v) }

// AppendInt appends a signed integer.
func AppendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return appendHead(dst, majorNeg, uint64(-1-v))
	}
	return appendHead(dst, majorUint, uint64(v))
}

// AppendBytes appends a byte string.
func AppendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(b))), b...)
}

// AppendBytesHead appends the head of a byte string of n bytes, which the
// caller appends next.
func AppendBytesHead(dst []byte, n int) []byte { return appendHead(dst, majorBytes, uint64(n)) }

// AppendText appends a text string, which has to be valid UTF-8.
func AppendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

// AppendArray appends the head of an array of n items, which the caller
// appends next.
func AppendArray(dst []byte, n int) []byte { return appendHead(dst, majorArray, uint64(n)) }

// AppendArrayStart opens an array of indefinite length; AppendBreak ends it.
func AppendArrayStart(dst []byte) []byte { return append(dst, byteArrayStart) }

// AppendBreak appends the stop code of an array of indefinite length.
func AppendBreak(dst []byte) []byte { return append(dst, byteBreak) }

// AppendBool appends true or false.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, byteTrue)
	}
	return append(dst, byteFalse)
}

// AppendNull appends null.
func AppendNull(dst []byte) []byte { return append(dst, byteNull) }

// BytesLen returns the encoded length of a byte string of n bytes.
func BytesLen(n int) int { return UintLen(uint64(n)) + n }

// UintLen returns the encoded length of an unsigned integer.
func UintLen(v uint64) int {
	switch {
	case v < 24:
		return 1
	case v < 1<<8:
		return 2
	case v < 1<<16:
		return 3
	case v < 1<<32:
		return 5
	}
	return 9
}

// Package wire holds the frames that farhop nodes exchange over one hop (ALPN
// farhop/1), one per file, and Message, the MQTT publication as the payload of
// a bundle. docs/wire.md describes the bytes.
//
// A frame on a stream is a uvarint length, a type byte and a body; the length
// counts type and body. The body is a CBOR array whose trailing items may grow
// in later versions: a reader ignores those it does not know, and skips frames
// of types it does not know. A frame that breaks a limit or a rule is
// malformed, and so is the session it came on.
//
// The package does no I/O beyond ReadFrame and keeps no state. node/link reads
// and writes frames, node/core makes and consumes them.
//
//	out = wire.Append(out, wire.Ack{Class: bundle.Telemetry, XID: 57})
//	...
//	typ, body, err := wire.ReadFrame(r, wire.MaxFrame, buf)
//	frame, err := wire.Parse(typ, body)
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

const (
	// Version is the version of the protocol, said in Hello.
	Version = 1
	// MaxFrame is the default limit of type and body: a message of 4 MiB, and
	// room for its topic, its properties and the headers.
	MaxFrame = 4<<20 + 256<<10
)

// Errors of ReadFrame and Parse.
var (
	ErrTooLarge    = errors.New("frame too large") // the stream cannot go on
	ErrUnknownType = errors.New("unknown frame type")
)

// Type is the type byte of a frame.
type Type byte

// The frame types. The numbers are on the wire and never change meaning.
const (
	TypeHello       Type = 1
	TypeAdvert      Type = 2
	TypeTransfer    Type = 3
	TypeGap         Type = 4
	TypeAck         Type = 5
	TypeRefuse      Type = 6
	TypeVolatile    Type = 7
	TypePing        Type = 8
	TypePong        Type = 9
	TypeBye         Type = 10
	TypeStreamOpen  Type = 11
	TypeStreamReply Type = 12
	TypePart        Type = 13
	TypeEarly       Type = 14
	TypeBegin       Type = 15
)

var typeNames = [...]string{
	"", "hello", "advert", "transfer", "gap", "ack", "refuse", "volatile", "ping", "pong", "bye",
	"stream-open", "stream-reply", "part", "early", "begin",
}

// String returns the name used in logs and metrics.
func (t Type) String() string {
	if t > 0 && int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "type-" + strconv.Itoa(int(t))
}

// Frame is one of the frame structs of this package, by value.
type Frame interface {
	Type() Type
	append(dst []byte) []byte // the body
}

// Append appends a whole frame.
func Append(dst []byte, f Frame) []byte {
	start := len(dst)
	width := uvarintLen(uint64(1 + sizeHint(f)))
	dst = append(dst, make([]byte, width)...)
	dst = append(dst, byte(f.Type()))
	dst = f.append(dst)
	size := len(dst) - start - width
	if need := uvarintLen(uint64(size)); need != width { // the hint was off
		dst = append(dst, make([]byte, need)...)
		copy(dst[start+need:], dst[start+width:start+width+size])
		dst = dst[:start+need+size]
	}
	binary.PutUvarint(dst[start:], uint64(size))
	return dst
}

// sizeHint is exact for the frames that may be large enough to make moving
// their body costly.
func sizeHint(f Frame) int {
	switch f := f.(type) {
	case Transfer:
		return transferSize(f.Class, f.XID, len(f.Bundle))
	case Volatile:
		return 1 + cbor.BytesLen(len(f.Bundle))
	case Part:
		return len(f.Data) + 64
	case Early:
		return len(f.Bundle) + 8
	}
	return 0
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// Parse reads the body of a frame. Byte strings in the frame (Bundle) are
// views of body; everything else is copied. A type that this version does not
// know is ErrUnknownType, and the frame is to be skipped.
func Parse(typ Type, body []byte) (Frame, error) {
	r := cbor.NewReader(body)
	f := parse(typ, &r)
	if f == nil {
		return nil, fmt.Errorf("%w %d", ErrUnknownType, typ)
	}
	r.End()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("malformed %s frame: %w", typ, err)
	}
	return f, nil
}

func parse(typ Type, r *cbor.Reader) Frame {
	switch typ {
	case TypeHello:
		return parseHello(r)
	case TypeAdvert:
		return parseAdvert(r)
	case TypeTransfer:
		return parseTransfer(r)
	case TypeGap:
		return parseGap(r)
	case TypeAck:
		return parseAck(r)
	case TypeRefuse:
		return parseRefuse(r)
	case TypeVolatile:
		return parseVolatile(r)
	case TypePing:
		return Ping{parseStamp(r)}
	case TypePong:
		return Pong{parseStamp(r)}
	case TypeBye:
		return parseBye(r)
	case TypeStreamOpen:
		return parseStreamOpen(r)
	case TypeStreamReply:
		return parseStreamReply(r)
	case TypePart:
		return parsePart(r)
	case TypeEarly:
		return parseEarly(r)
	case TypeBegin:
		rest(r, fields(r, 0))
		return Begin{}
	}
	return nil
}

// firstRead is how much memory a length alone can claim; more follows as the
// bytes arrive.
const firstRead = 64 << 10

// ReadFrame reads one frame of at most most bytes of type and body. The body
// lies in buf, or in larger memory when buf is too small; it may be used as
// the next buf once the frame parsed from it is done with. io.EOF means that
// the stream ended between frames.
func ReadFrame(r *bufio.Reader, most int, buf []byte) (Type, []byte, error) {
	size, err := binary.ReadUvarint(r)
	switch {
	case errors.Is(err, io.EOF):
		return 0, nil, err
	case err != nil:
		return 0, nil, fmt.Errorf("read length of frame: %w", err)
	case size == 0:
		return 0, nil, errors.New("malformed frame: it has no type")
	case size > uint64(most):
		return 0, nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, most)
	}
	typ, err := r.ReadByte()
	if err != nil {
		return 0, nil, fmt.Errorf("read type of frame: %w", noEOF(err))
	}
	left, body := int(size)-1, buf[:0]
	for left > 0 {
		step := min(left, max(cap(body)-len(body), len(body), firstRead))
		old := len(body)
		if old+step > cap(body) { // no more than is kept: append would round up
			body = append(make([]byte, 0, old+step), body...)
		}
		body = body[:old+step]
		if _, err := io.ReadFull(r, body[old:]); err != nil {
			return 0, nil, fmt.Errorf("read %s frame: %w", Type(typ), noEOF(err))
		}
		left -= step
	}
	return Type(typ), body, nil
}

// noEOF makes an end within a frame an error that differs from a good end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fields opens the array of a body that has at least known items; rest skips
// those that a later version added.
func fields(r *cbor.Reader, known int) (more int) { return r.ArrayMin(known) - known }

func rest(r *cbor.Reader, more int) { r.SkipN(more) }

// readNode reads the name of a node, which may be "" for none.
func readNode(r *cbor.Reader) addr.Node {
	var n addr.Node
	at := r.Offset()
	if err := n.UnmarshalText(r.Text()); err != nil {
		r.Fail(at, err.Error())
	}
	return n
}

// needNode reads the name of a node that has to be there.
func needNode(r *cbor.Reader, what string) addr.Node {
	at := r.Offset()
	n := readNode(r)
	if n.IsZero() {
		r.Fail(at, "no "+what+" node")
	}
	return n
}

func readRegion(r *cbor.Reader) addr.Region {
	var g addr.Region
	at := r.Offset()
	if err := g.UnmarshalText(r.Text()); err != nil {
		r.Fail(at, err.Error())
	}
	return g
}

func readClass(r *cbor.Reader) bundle.Class {
	return bundle.Class(r.UintMax(bundle.NumClasses - 1))
}

// readSequence reads a sequence number that a farhop node gave.
func readSequence(r *cbor.Reader) bundle.Sequence {
	at := r.Offset()
	s := bundle.Sequence(r.Uint())
	if s.Class() >= bundle.NumClasses {
		r.Fail(at, "a sequence number of a class that does not exist")
	}
	return s
}

// readReason reads a reason; those of later versions pass.
func readReason(r *cbor.Reader) bundle.Reason { return bundle.Reason(r.UintMax(255)) }

// readXID reads a transfer number, which counts from 1.
func readXID(r *cbor.Reader) uint64 {
	at := r.Offset()
	xid := r.Uint()
	if xid == 0 {
		r.Fail(at, "transfer number 0")
	}
	return xid
}

// appendClipped appends text for a person, cut to what the peer accepts.
func appendClipped(dst []byte, s string, most int) []byte {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	if !utf8.ValidString(s) {
		s = "(not UTF-8)"
	}
	return cbor.AppendText(dst, s)
}

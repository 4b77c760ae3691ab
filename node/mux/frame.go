package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The types of frames. A frame is its type, two uvarints, and for some a text
// or bytes as long as the second says. docs/wire.md has what they mean.
const (
	frameData   = 1 // stream, length, bytes
	frameEnd    = 2 // stream, length, the last bytes
	frameCredit = 3 // stream, bytes more that may come
	frameReset  = 4 // stream, code
	frameFreed  = 5 // kind, streams of it that may be opened in addition
	framePing   = 6 // number, 0
	framePong   = 7 // number, 0
	frameClose  = 8 // code, length, text
)

const (
	recordLen = 16 << 10 // most bytes of a TLS record (RFC 8446, section 5.1)
	maxHeader = 1 + 2*binary.MaxVarintLen64
	// chunkLen leaves room in a record for the header of a chunk: its type, a
	// stream's number below 2^28 and a length of three bytes.
	chunkLen    = recordLen - chunkHeader
	chunkHeader = 8
	maxText     = 256 // bytes of a Close
)

// ErrProtocol is wrapped by what a peer did that the format does not allow.
var ErrProtocol = errors.New("the peer breaks the rules of the multiplexer")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// frame is a header and, of some types, a piece of what follows it.
type frame struct {
	typ  byte
	a, b uint64
	// data is a piece of the bytes that follow the header, of which more comes
	// when last is not set. It is valid until the next call.
	data []byte
	last bool
}

func appendFrame(dst []byte, typ byte, a, b uint64) []byte {
	dst = append(dst, typ)
	dst = binary.AppendUvarint(dst, a)
	return binary.AppendUvarint(dst, b)
}

// decoder cuts what a connection brings into frames. Bytes of streams are
// handed on as they come; it never holds more than one record.
type decoder struct {
	src  io.Reader
	buf  []byte // of one record
	r, w int
	cur  frame  // whose bytes are under way
	left uint64 // of them
}

func newDecoder(src io.Reader) *decoder { return &decoder{src: src, buf: make([]byte, recordLen)} }

// next returns a frame, or a piece of one. An end in the middle of a frame is
// io.ErrUnexpectedEOF, at its beginning io.EOF.
func (d *decoder) next() (frame, error) {
	for {
		if d.left > 0 && d.r < d.w {
			return d.piece(), nil
		}
		if d.left == 0 {
			f, n, err := parseHeader(d.buf[d.r:d.w])
			if err != nil {
				return frame{}, err
			}
			if n > 0 {
				d.r += n
				if d.begin(f) {
					return d.cur, nil
				}
				continue
			}
		}
		if err := d.fill(); err != nil {
			return frame{}, err
		}
	}
}

// begin takes a header; whole says that nothing follows it.
func (d *decoder) begin(f frame) (whole bool) {
	d.cur, d.left = f, 0
	switch f.typ {
	case frameData, frameEnd, frameClose:
		d.left = f.b
	}
	d.cur.last = d.left == 0
	return d.cur.last
}

// piece cuts what there is of a frame's bytes.
func (d *decoder) piece() frame {
	n := min(d.left, uint64(d.w-d.r))
	d.cur.data = d.buf[d.r : d.r+int(n) : d.r+int(n)]
	d.r += int(n)
	d.left -= n
	d.cur.last = d.left == 0
	return d.cur
}

// give hands the decoder's buffer, of which the last n bytes were returned as
// the last piece, to whoever keeps them, and takes another. It refuses while
// there is more in it.
func (d *decoder) give(n int, other func() []byte) (segment, bool) {
	if d.r < d.w {
		return segment{}, false
	}
	seg := segment{d.buf, d.r - n, d.r}
	d.buf, d.r, d.w = other(), 0, 0
	return seg, true
}

// fill reads once. A header that was cut stays.
func (d *decoder) fill() error {
	if d.r == d.w {
		d.r, d.w = 0, 0
	} else if d.r > 0 {
		d.w = copy(d.buf, d.buf[d.r:d.w])
		d.r = 0
	}
	n, err := d.src.Read(d.buf[d.w:])
	d.w += n
	switch {
	case n > 0:
		return nil
	case errors.Is(err, io.EOF) && (d.left > 0 || d.w > 0):
		return io.ErrUnexpectedEOF
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// parseHeader reads a header; n is 0 when b ends before it does.
func parseHeader(b []byte) (f frame, n int, err error) {
	if len(b) == 0 {
		return f, 0, nil
	}
	f.typ, n = b[0], 1
	if f.typ < frameData || f.typ > frameClose {
		return f, 0, violation("a frame of type %d", f.typ)
	}
	for _, v := range []*uint64{&f.a, &f.b} {
		x, w := binary.Uvarint(b[n:])
		if w < 0 {
			return f, 0, violation("a number of more than 64 bits in a frame of type %d", f.typ)
		}
		if w == 0 {
			return f, 0, nil
		}
		*v, n = x, n+w
	}
	switch {
	case (f.typ == frameData || f.typ == frameEnd) && f.b > chunkLen:
		return f, 0, violation("a chunk of %d bytes, at most %d are allowed", f.b, chunkLen)
	case f.typ == frameClose && f.b > maxText:
		return f, 0, violation("a text of %d bytes, at most %d are allowed", f.b, maxText)
	}
	return f, n, nil
}

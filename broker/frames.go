package broker

import (
	"io"
)

const (
	readBuffer = 2 << 10 // bytes per connection
	smallFrame = 8 << 10 // frames up to this pass as they come, longer ones once complete
)

// frames reads from a socket and gives out whole, sane MQTT packets only. It
// exists because the engine allocates what a packet's length promises: here a
// packet costs memory as its bytes arrive, its length is checked before that,
// and a length of endless continuation bytes ends after four (MQTT 5, 1.5.5).
type frames struct {
	r          io.Reader
	maxPublish int // bytes of a PUBLISH with its header
	maxOther   int // bytes of every other packet

	connected bool // the CONNECT has passed
	left      int  // bytes of the current small frame still to give out
	big       []byte
	buf       []byte // unread input, a window of store
	store     []byte
}

func newFrames(r io.Reader, maxPublish, maxOther int) *frames {
	return &frames{r: r, maxPublish: maxPublish, maxOther: min(maxPublish, maxOther), store: make([]byte, readBuffer)}
}

// Read implements io.Reader. One call never crosses the end of a packet.
func (f *frames) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(f.big) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.big) > 0 {
		n := copy(p, f.big)
		if f.big = f.big[n:]; len(f.big) == 0 {
			f.big = nil
		}
		return n, nil
	}
	if len(f.buf) == 0 {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buf[:min(len(f.buf), f.left)])
	f.buf, f.left = f.buf[n:], f.left-n
	return n, nil
}

// fill reads once more from the socket, behind what is unread.
func (f *frames) fill() error {
	n := copy(f.store, f.buf)
	got, err := f.r.Read(f.store[n:])
	f.buf = f.store[:n+got]
	if got > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// next reads and checks the header of the next packet.
func (f *frames) next() error {
	typ, total, err := f.header()
	if err != nil {
		return err
	}
	limit := f.maxOther
	switch {
	case !f.connected && typ != typeConnect:
		return &fault{codeProtocol, "the first packet is no CONNECT"}
	case f.connected && typ == typePublish:
		limit = f.maxPublish
	}
	if total > limit {
		return &fault{codeTooLarge, "packet too large"}
	}
	f.connected = true
	if total <= smallFrame {
		f.left = total
		return nil
	}
	return f.collect(total)
}

// header returns the type and the whole size of the packet that begins at buf.
func (f *frames) header() (typ byte, total int, err error) {
	n := 0
	for i := 1; ; i++ {
		for len(f.buf) <= i {
			if err := f.fill(); err != nil {
				return 0, 0, err
			}
		}
		if i == 5 {
			return 0, 0, &fault{codeMalformed, "packet length has more than four bytes"}
		}
		c := f.buf[i]
		n |= int(c&127) << (7 * (i - 1))
		if c < 128 {
			return f.buf[0] >> 4, i + 1 + n, nil
		}
	}
}

// collect gathers a large packet. The buffer doubles as bytes arrive, so that
// a sender pays for what we allocate.
func (f *frames) collect(total int) error {
	b := make([]byte, 0, min(total, smallFrame))
	n := min(len(f.buf), total)
	b = append(b, f.buf[:n]...)
	f.buf = f.buf[n:]
	for len(b) < total {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(total, 2*cap(b)))
			copy(grown, b)
			b = grown
		}
		got, err := f.r.Read(b[len(b):cap(b)])
		b = b[:len(b)+got]
		if err != nil && len(b) < total {
			return err
		}
	}
	f.big = b
	return nil
}

package mux

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// maxCredit bounds what a peer may add up.
const maxCredit = 1 << 40

// segment is a buffer of recordLen bytes of which r to w were received and not
// read.
type segment struct {
	buf  []byte
	r, w int
}

// full is how much of each buffer is used on average, at least: what a stream
// holds is at most a third larger than what it received, and one buffer.
const full = recordLen / 4 * 3

// buffer returns a buffer.
func (c *Conn) buffer() []byte {
	if b, ok := c.free.Get().(*[recordLen]byte); ok {
		return b[:]
	}
	return make([]byte, recordLen)
}

// release takes a buffer back. Where a reader is behind there are hundreds of
// them: they wait to be used again until the collector wants them.
func (c *Conn) release(b []byte) { c.free.Put((*[recordLen]byte)(b)) }

// read serves what the peer sends until the connection is over. It never waits
// for a reader of a stream, nor for the writer.
func (c *Conn) read() {
	defer close(c.done)
	d := newDecoder(c.tls)
	for {
		f, err := d.next()
		if err == nil {
			err = c.took(f, d)
		} else {
			c.failed(err)
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	told := c.farewell != nil
	c.mu.Unlock()
	if told { // until the peer has heard why
		_, _ = io.Copy(io.Discard, c.tls)
	}
}

// failed ends the connection for what a read said.
func (c *Conn) failed(err error) {
	for _, cut := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, cut) {
			err = fmt.Errorf("%w: %w", ErrCut, err)
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err, errors.Is(err, ErrProtocol))
}

// took serves a frame or a piece of one. An error says that the connection is
// over.
func (c *Conn) took(f frame, d *decoder) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.rtt.heard = time.Now()
		if err := c.handle(f, d); err != nil {
			c.end(err, true)
		}
	}
	return c.err
}

// handle takes a frame or a piece of one; mu is held.
func (c *Conn) handle(f frame, d *decoder) error {
	switch f.typ {
	case frameData, frameEnd:
		return c.receive(f, d)
	case frameCredit:
		s, err := c.stream(f.a, true)
		if s == nil || err != nil {
			return err
		}
		if f.b > maxCredit || s.credit > maxCredit {
			return violation("a credit of %d bytes for stream %d", f.b, f.a)
		}
		s.credit += int64(f.b)
		c.enqueue(s)
		c.kick()
	case frameReset:
		s, err := c.stream(f.a, false)
		if s == nil || err != nil {
			return err
		}
		s.abort(&ResetError{Code: f.b}, false)
	case frameFreed:
		most := [2]uint64{MaxStreams, MaxOneWay}
		if f.a > 1 || f.b > most[f.a] || uint64(c.may[f.a])+f.b > most[f.a] {
			return violation("%d streams of kind %d given back that were not open", f.b, f.a)
		}
		c.may[f.a] += int(f.b)
		c.opened.Broadcast()
	case framePing:
		c.rtt.answer, c.rtt.question = true, f.a
		c.kick()
	case framePong:
		c.rtt.answered(f.a, c.rtt.heard)
	case frameClose:
		c.text = append(c.text, f.data...)
		if f.last {
			c.end(&CloseError{Code: f.a, Text: string(c.text), Remote: true}, false)
		}
	}
	return nil
}

// stream returns the stream of a number, and lets the peer open its next; mu is
// held. It is nil when the stream is over here.
func (c *Conn) stream(id uint64, opens bool) (*Stream, error) {
	n, kind := id>>2, int(id>>1&1)
	if mine := (id&1 == 1) == c.server; mine {
		if n >= c.next[kind] {
			return nil, violation("stream %d, which was not opened", id)
		}
		return c.streams[id], nil
	}
	most := [2]int{MaxStreams, MaxOneWay}
	switch {
	case n < c.seen[kind]:
		return c.streams[id], nil
	case n > c.seen[kind] || !opens:
		return nil, violation("stream %d out of order, %d were opened", id, c.seen[kind])
	case c.live[kind] >= most[kind]:
		return nil, violation("more than %d streams of kind %d", most[kind], kind)
	}
	c.seen[kind]++
	c.live[kind]++
	s := c.newStream(kind, false)
	s.id, s.born = id, true
	c.streams[id] = s
	c.backlog[kind] = append(c.backlog[kind], s)
	c.arrived.Broadcast()
	if s.grant > 0 {
		c.tell(s)
	}
	return s, nil
}

// receive takes bytes of a stream; mu is held.
func (c *Conn) receive(f frame, d *decoder) error {
	s, err := c.stream(f.a, true)
	if s == nil || err != nil {
		return err
	}
	if s.kind == oneWay && s.mine {
		return violation("bytes on stream %d, which goes the other way", f.a)
	}
	if s.readErr != nil {
		return nil // reset here
	}
	n := int64(len(f.data))
	if s.ended || n > s.granted {
		return violation("%d bytes on stream %d, which may have %d", n, f.a, s.granted)
	}
	s.granted -= n
	s.keep(f.data, d)
	s.ended = f.typ == frameEnd && f.last
	s.readable.Signal()
	return nil
}

// keep holds received bytes; those that fill a record keep its buffer, as long
// as buffers with less in them are few.
func (s *Stream) keep(b []byte, d *decoder) {
	last := len(s.segs) - 1
	s.held += len(b)
	if len(b) >= full && (len(s.segs)+1)*full <= s.held {
		if seg, ok := d.give(len(b), s.c.buffer); ok {
			s.segs = append(s.segs, seg)
			return
		}
	}
	for len(b) > 0 {
		if last < 0 || s.segs[last].w == recordLen {
			s.segs = append(s.segs, segment{buf: s.c.buffer()})
			last = len(s.segs) - 1
		}
		tail := &s.segs[last]
		n := copy(tail.buf[tail.w:], b)
		tail.w += n
		b = b[n:]
	}
}

// take copies what there is; mu is held.
func (s *Stream) take(p []byte) (n int) {
	for n < len(p) && len(s.segs) > 0 {
		seg := &s.segs[0]
		m := copy(p[n:], seg.buf[seg.r:seg.w])
		n += m
		s.held -= m
		if seg.r += m; seg.r == seg.w {
			s.c.release(seg.buf)
			*seg = segment{}
			s.segs = s.segs[1:]
		}
	}
	return n
}

// drop frees what was received and not read; mu is held.
func (s *Stream) drop() {
	for _, seg := range s.segs {
		s.c.release(seg.buf)
	}
	s.segs, s.held, s.ended = nil, 0, true
}

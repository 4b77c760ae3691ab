package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

var errClosedStream = errors.New("write on a stream that was closed")

// Stream is one stream. One goroutine may read and one may write at a time.
type Stream struct {
	c    *Conn
	kind int
	mine bool   // we opened it
	id   uint64 // valid when born
	born bool   // the peer can know it

	// Everything below is guarded by c.mu.

	// From the peer.
	segs     []segment // received and not read
	held     int       // bytes in them
	window   int64     // bytes the peer may have under way and unread
	granted  int64     // bytes that it may still send
	owed     int64     // bytes read and not granted again
	ended    bool      // its last byte is in segs
	readErr  error     // io.EOF once that was read, or why nothing will be
	expired  bool      // the read deadline is over
	deadline *time.Timer
	epoch    time.Time // of the grant before
	readable sync.Cond

	// To the peer.
	out      []byte // of the Write under way
	finish   bool   // an end is to be sent
	sent     bool   // it was
	credit   int64
	sendErr  error
	writable sync.Cond
	urgency  int8
	inTurns  bool
	queued   bool // in c.ready

	grant   uint64 // credit to tell
	reset   *ResetError
	waiting bool // in c.due
}

// newStream makes a stream; mu is held. One of ours gets its number when its
// first bytes leave, so that numbers arrive in order.
func (c *Conn) newStream(kind int, mine bool) *Stream {
	first := int64(firstWindow)
	if kind == oneWay {
		first = firstWindowOneWay
	}
	s := &Stream{c: c, kind: kind, mine: mine, credit: first, window: first, granted: first, epoch: time.Now(), urgency: urgencies - 1}
	s.readable.L, s.writable.L = &c.mu, &c.mu
	switch {
	case kind == oneWay && mine:
		s.readErr, s.window, s.granted = io.EOF, 0, 0
	case kind == oneWay:
		s.finish, s.sent, s.sendErr = true, true, errClosedStream
	default:
		s.grow(usualWindow - first)
	}
	return s
}

func (s *Stream) wakeAll() {
	s.readable.Broadcast()
	s.writable.Broadcast()
}

// SetPriority sets the urgency (RFC 9218), 0 to 7, of which lower goes first.
// Streams of one urgency take turns when incremental, else the one that began
// to wait first goes first.
func (s *Stream) SetPriority(urgency int8, incremental bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	before := s.urgency
	s.urgency, s.inTurns = min(max(urgency, 0), urgencies-1), incremental
	if s.queued && before != s.urgency {
		q := s.c.ready[before]
		s.c.ready[before] = slices.DeleteFunc(q, func(o *Stream) bool { return o == s })
		s.queued = false
		s.c.enqueue(s)
	}
}

// Read implements io.Reader. The end of what the peer sends is io.EOF.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.awaitBytes(); err != nil {
		return 0, err
	}
	n := s.take(p)
	s.settle(n)
	return n, nil
}

// awaitBytes waits until something can be read; mu is held.
func (s *Stream) awaitBytes() error {
	for {
		switch {
		case s.c.err != nil:
			return s.c.err
		case s.readErr != nil:
			return s.readErr
		case s.expired:
			return fmt.Errorf("read from stream: %w", os.ErrDeadlineExceeded)
		case len(s.segs) > 0:
			return nil
		case s.ended:
			s.readErr = io.EOF
			s.c.retire(s)
			return io.EOF
		}
		s.readable.Wait()
	}
}

// WriteTo implements io.WriterTo: it writes what comes, in the buffers that it
// came in, until the peer's end. The peer may send more when w took them.
func (s *Stream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		segs, err := s.next()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		var some [maxPour][]byte
		out := net.Buffers(some[:0])
		for _, seg := range segs {
			out = append(out, seg.buf[seg.r:seg.w])
		}
		n, err := out.WriteTo(w)
		total += n
		s.wrote(segs, int(n))
		if err != nil {
			return total, err
		}
	}
}

// maxPour is how many buffers WriteTo writes at once.
const maxPour = 4

// next takes what has come out of the stream.
func (s *Stream) next() ([]segment, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.awaitBytes(); err != nil {
		return nil, err
	}
	segs := s.segs[:min(len(s.segs), maxPour)]
	for _, seg := range segs {
		s.held -= seg.w - seg.r
	}
	s.segs = s.segs[len(segs):]
	return segs, nil
}

// wrote gives the buffers back, of which n bytes were written.
func (s *Stream) wrote(segs []segment, n int) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for i, seg := range segs {
		s.c.release(seg.buf)
		segs[i] = segment{}
	}
	if s.readErr == nil && s.c.err == nil {
		s.settle(n)
	}
}

// settle counts n bytes as read, and lets the peer send more once a quarter of
// the window is free; mu is held. A window that was used up within a few round
// trips was too small.
func (s *Stream) settle(n int) {
	s.owed += int64(n)
	if s.ended || s.owed < s.window/4 {
		return
	}
	now := time.Now()
	if now.Sub(s.epoch) < max(growTrips*s.c.rtt.smooth, s.c.cfg.Busy) {
		s.grow(min(s.window, s.c.cfg.Window-s.window))
	}
	s.epoch = now
	s.granted += s.owed
	s.grant += uint64(s.owed)
	s.owed = 0
	s.c.tell(s)
}

// growTrips: a quarter of a window that is read within so many round trips held the
// peer up.
const growTrips = 4

// grow widens the window by up to n bytes, of the spare; mu is held.
func (s *Stream) grow(n int64) {
	if n = min(n, s.c.spare); n <= 0 {
		return
	}
	s.c.spare -= n
	s.window += n
	s.granted += n
	s.grant += uint64(n)
	s.c.tell(s)
}

// Write implements io.Writer. It blocks while the peer does not read.
func (s *Stream) Write(p []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.writeErr(); err != nil || len(p) == 0 {
		return 0, err
	}
	s.out = p
	s.c.enqueue(s)
	defer s.c.kick()
	for len(s.out) > 0 {
		if err := s.writeErr(); err != nil {
			n := len(p) - len(s.out)
			s.out = nil
			return n, err
		}
		// Whoever has something to send sends it, with what is more urgent.
		if s.queued && !s.c.writing {
			s.c.flush()
			continue
		}
		s.writable.Wait()
	}
	return len(p), nil
}

func (s *Stream) writeErr() error {
	switch {
	case s.c.err != nil:
		return s.c.err
	case s.sendErr != nil:
		return s.sendErr
	case s.finish:
		return errClosedStream
	}
	return nil
}

// Close says that no more bytes come; reading goes on.
func (s *Stream) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.err != nil {
		return s.c.err
	}
	if s.finish || s.sendErr != nil {
		return nil
	}
	s.finish = true
	s.c.enqueue(s)
	s.c.kick()
	return nil
}

// Reset ends both ways at once; the peer sees a *ResetError. After both ended
// orderly it does nothing.
func (s *Stream) Reset(code uint64) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.over() || s.c.err != nil {
		return
	}
	e := &ResetError{Code: code}
	if s.reset == nil && (s.born || !s.mine) {
		s.reset = e
		s.c.tell(s)
		s.c.kick()
	}
	s.abort(e, true)
}

// abort drops what waits in both directions; mu is held. What the peer has sent
// to its end can still be read after the peer's reset.
func (s *Stream) abort(e *ResetError, local bool) {
	if s.readErr == nil && (local || !s.ended) {
		s.readErr = e
		s.drop()
	}
	if !s.sent {
		s.sendErr, s.finish, s.sent = e, true, true
	}
	s.wakeAll()
	s.c.retire(s)
}

// over reports whether both ways have ended; mu is held.
func (s *Stream) over() bool { return s.readErr != nil && s.sent }

// retire forgets a stream that is over; mu is held.
func (c *Conn) retire(s *Stream) {
	if !s.over() || s.window < 0 {
		return
	}
	first := int64(firstWindow)
	if s.kind == oneWay {
		first = firstWindowOneWay
	}
	c.spare += max(s.window-first, 0)
	s.window = -1
	if s.deadline != nil {
		s.deadline.Stop()
	}
	if s.born {
		delete(c.streams, s.id)
	}
	switch {
	case !s.mine:
		c.live[s.kind]--
		c.freed[s.kind]++
		c.kick()
	case !s.born: // the peer never heard of it
		delete(c.unborn, s)
		c.may[s.kind]++
		c.opened.Broadcast()
	}
}

// SetReadDeadline lets reads fail from t on; zero is never.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.deadline != nil {
		s.deadline.Stop()
		s.deadline = nil
	}
	s.expired = false
	if t.IsZero() || s.window < 0 {
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		s.expired = true
		s.readable.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		if s.deadline == timer {
			s.expired = true
			s.readable.Broadcast()
		}
	})
	s.deadline = timer
	return nil
}

// Context ends with the stream's connection.
func (s *Stream) Context() context.Context { return s.c.ctx }

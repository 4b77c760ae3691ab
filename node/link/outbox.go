package link

import (
	"context"
	"sync"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
)

// The lanes of a session: the control stream, one data stream per class, one
// for what is never stored.
const (
	laneControl  = 0
	laneClass    = 1 // + bundle.Class
	laneVolatile = laneClass + bundle.NumClasses
	numLanes     = laneVolatile + 1
)

const maxSpare = 1 << 20 // bytes of write buffer a quiet lane keeps

func laneOf(f wire.Frame) int {
	c := -1
	switch f := f.(type) {
	case wire.Transfer:
		c = int(f.Class)
	case wire.Gap:
		c = int(f.Class)
	case wire.Part:
		c = int(f.Class)
	case wire.Volatile:
		return laneVolatile
	}
	if c < 0 || c >= bundle.NumClasses {
		return laneControl
	}
	return laneClass + c
}

// urgency is the RFC 9218 urgency of a lane: lower goes first. TCP services
// share theirs with the interactive class.
func urgency(lane int) int8 {
	if lane == laneVolatile {
		lane = laneClass + int(bundle.Telemetry)
	}
	return int8(lane)
}

// outbox holds what waits to be written, within one budget for the session.
// Encoding happens in the caller, writing in one goroutine per lane, and no
// lock is held while writing.
type outbox struct {
	budget   int
	volatile int // of the budget, most that waits without custody
	maxFrame int // the peer's limit, bytes of type and body
	parts    splitter
	origins  bool // lanes note where their frames come from

	mu     sync.Mutex
	closed bool
	queued int // bytes in buf of all lanes and in writes under way
	lanes  [numLanes]lane
	frames uint64
	shed   uint64 // Volatile frames dropped

	start func(i int) // starts the writer of a lane; called with mu held
}

type lane struct {
	buf, spare []byte
	from, past []origin      // of the frames in buf, and spare memory for it
	queued     int           // bytes in buf and in a write under way
	wake       chan struct{} // nil until the lane's first frame; capacity 1
	room       chan struct{} // something of the lane was written; nil until somebody waits for that; capacity 1
}

// add queues frames. The Down is meaningful when ok is false: the session is
// beyond use and must be closed.
func (o *outbox) add(frames []wire.Frame) (d Down, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range frames {
		i := laneOf(f)
		if i == laneVolatile && o.lanes[i].queued > o.volatile {
			o.shed++ // no custody: better lost than the session
			continue
		}
		if d, ok := o.put(i, origin{}, func(dst []byte) []byte { return wire.Append(dst, f) }); !ok {
			return d, false
		}
	}
	return Down{}, !o.closed
}

// addTransfer is add for a bundle in parts. again reads its payload block once
// more; nil: what is to be sent again is kept.
func (o *outbox) addTransfer(c bundle.Class, xid uint64, frozen, payloadBlock []byte, hop bundle.Hop, again Payload) (d Down, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lane := laneClass + int(min(c, bundle.NumClasses-1))
	t := &stored{class: c, xid: xid, frozen: frozen, hop: hop, parts: o.parts.split(c, xid, frozen, payloadBlock, hop), payload: again}
	n, from := 1, t
	if t.parts != nil {
		n = t.parts.count()
	}
	if again == nil {
		from = nil
	}
	for i := range n {
		if d, ok := o.put(lane, origin{of: from, part: i}, func(dst []byte) []byte { return t.append(dst, i, payloadBlock) }); !ok {
			return d, false
		}
	}
	return Down{}, true
}

// put appends one frame to a lane; mu is held.
func (o *outbox) put(i int, from origin, encode func(dst []byte) []byte) (d Down, ok bool) {
	if o.closed {
		return Down{Cause: Closed, Err: errClosed}, false
	}
	l := &o.lanes[i]
	before := len(l.buf)
	l.buf = encode(l.buf)
	n := len(l.buf) - before
	o.queued += n
	l.queued += n
	o.frames++
	if o.origins && i != laneControl {
		from.end = len(l.buf)
		l.from = append(l.from, from)
	}
	switch {
	case n > o.maxFrame+maxEnvelope:
		return down(Protocol, "frame of %d bytes to send, the peer takes %d", n, o.maxFrame), false
	case o.queued > o.budget:
		return down(Overflow, "%d bytes wait to be sent, the budget is %d", o.queued, o.budget), false
	}
	if l.wake == nil {
		l.wake = make(chan struct{}, 1)
		o.start(i)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return Down{}, true
}

// close refuses all further frames and drops what waits.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for i := range o.lanes {
		l := &o.lanes[i]
		l.buf, l.spare, l.from, l.past = nil, nil, nil, nil
	}
}

// laneWriter writes whole frames. from has an entry for each of them, or none.
type laneWriter func(data []byte, from []origin) error

// write empties lane i into w until ctx ends, everything waiting at a time.
func (o *outbox) write(ctx context.Context, i int, w laneWriter) error {
	l := &o.lanes[i]
	for {
		data, from := o.take(l, nil, nil)
		for len(data) > 0 {
			if err := w(data, from); err != nil {
				return err
			}
			data, from = o.take(l, data, from)
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take settles what was written and returns what waits now.
func (o *outbox) take(l *lane, written []byte, past []origin) ([]byte, []origin) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queued -= len(written)
	l.queued -= len(written)
	if l.room != nil && len(written) > 0 {
		poke(l.room)
	}
	if written != nil && !o.closed {
		clear(past)
		l.spare, l.past = written[:0], past[:0]
	}
	if len(l.buf) == 0 {
		// Quiet: give the memory of a rush back.
		if cap(l.buf) > maxSpare {
			l.buf = nil
		}
		if cap(l.spare) > maxSpare {
			l.spare, l.past = nil, nil
		}
		return nil, nil
	}
	data, from := l.buf, l.from
	l.buf, l.spare, l.from, l.past = l.spare, nil, l.past, nil
	return data, from
}

// laneShare is the part of the budget that a lane has for what could as well
// wait where it is stored: transfers of the largest size fit beside it in all
// lanes at once.
const laneShare = 32

// await waits until a lane has room for a transfer. It reports false when one
// of the contexts is over. One goroutine may wait for a lane.
func (o *outbox) await(ctx, session context.Context, i int) bool {
	for {
		o.mu.Lock()
		l := &o.lanes[i]
		if l.room == nil {
			l.room = make(chan struct{}, 1)
		}
		room, free := l.room, l.queued < o.budget/laneShare
		o.mu.Unlock()
		if free {
			return ctx.Err() == nil && session.Err() == nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		case <-session.Done():
			return false
		}
	}
}

func (o *outbox) stats() (queued int, frames, shed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queued, o.frames, o.shed
}

package link

import (
	"context"
	"io"
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
	maxFrame int // the peer's limit, bytes of type and body
	parts    splitter

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
	wake       chan struct{} // nil until the lane's first frame; capacity 1
}

// add queues frames. The Down is meaningful when ok is false: the session is
// beyond use and must be closed.
func (o *outbox) add(frames []wire.Frame) (d Down, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range frames {
		i := laneOf(f)
		if i == laneVolatile && o.queued > o.budget/2 {
			o.shed++ // no custody: better lost than the session
			continue
		}
		if d, ok := o.put(i, func(dst []byte) []byte { return wire.Append(dst, f) }); !ok {
			return d, false
		}
	}
	return Down{}, !o.closed
}

// addTransfer is add for a bundle in parts.
func (o *outbox) addTransfer(c bundle.Class, xid uint64, frozen, payloadBlock []byte, hop bundle.Hop) (d Down, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lane := laneClass + int(min(c, bundle.NumClasses-1))
	if parts := o.parts.split(c, xid, frozen, payloadBlock, hop); parts != nil {
		for _, f := range parts {
			if d, ok := o.put(lane, func(dst []byte) []byte { return wire.Append(dst, f) }); !ok {
				return d, false
			}
		}
		return Down{}, true
	}
	return o.put(lane, func(dst []byte) []byte {
		return wire.AppendTransfer(dst, c, xid, frozen, payloadBlock, hop)
	})
}

// put appends one frame to a lane; mu is held.
func (o *outbox) put(i int, encode func(dst []byte) []byte) (d Down, ok bool) {
	if o.closed {
		return Down{Cause: Closed, Err: errClosed}, false
	}
	l := &o.lanes[i]
	before := len(l.buf)
	l.buf = encode(l.buf)
	n := len(l.buf) - before
	o.queued += n
	o.frames++
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
		o.lanes[i].buf, o.lanes[i].spare = nil, nil
	}
}

// write empties lane i into w until ctx ends, everything waiting at a time.
func (o *outbox) write(ctx context.Context, i int, w io.Writer) error {
	l := &o.lanes[i]
	for {
		data := o.take(l, nil)
		for len(data) > 0 {
			if _, err := w.Write(data); err != nil {
				return err
			}
			data = o.take(l, data)
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take settles what was written and returns what waits now.
func (o *outbox) take(l *lane, written []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queued -= len(written)
	if written != nil && !o.closed {
		l.spare = written[:0]
	}
	if len(l.buf) == 0 {
		// Quiet: give the memory of a rush back.
		if cap(l.buf) > maxSpare {
			l.buf = nil
		}
		if cap(l.spare) > maxSpare {
			l.spare = nil
		}
		return nil
	}
	data := l.buf
	l.buf, l.spare = l.spare, nil
	return data
}

func (o *outbox) stats() (queued int, frames, shed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queued, o.frames, o.shed
}

package mux

import (
	"errors"
	"slices"
	"time"
)

// enqueue lets a stream wait for its turn, when it has something to send and
// may; mu is held.
func (c *Conn) enqueue(s *Stream) {
	if s.queued || s.sent || !s.sendable() {
		return
	}
	s.queued = true
	c.ready[s.urgency] = append(c.ready[s.urgency], s)
}

// sendable reports whether a chunk can leave; mu is held.
func (s *Stream) sendable() bool {
	return len(s.out) > 0 && s.credit > 0 || s.finish && len(s.out) == 0
}

// tell lets what a stream has to say of itself wait for the next batch; mu is
// held.
func (c *Conn) tell(s *Stream) {
	if !s.waiting {
		s.waiting = true
		c.due = append(c.due, s)
	}
	if s.born {
		c.kick()
	}
}

// pending reports whether there is anything to send; mu is held.
func (c *Conn) pending() bool {
	if c.freed != [2]uint64{} || c.rtt.answer || c.rtt.ask {
		return true
	}
	if slices.ContainsFunc(c.due, func(s *Stream) bool { return s.born }) {
		return true
	}
	return slices.ContainsFunc(c.ready[:], func(q []*Stream) bool { return len(q) > 0 })
}

// kick wakes the writer when nobody is writing; mu is held.
func (c *Conn) kick() {
	if !c.writing && c.pending() {
		c.wake.Signal()
	}
}

// write sends what no Write sends itself, and says farewell.
func (c *Conn) write() {
	c.mu.Lock()
	for c.err == nil {
		if c.writing || !c.pending() {
			c.wake.Wait()
			continue
		}
		c.flush()
	}
	for c.writing {
		c.wake.Wait()
	}
	c.writing = true
	text := c.farewell
	c.mu.Unlock()
	if text != nil {
		c.part(text)
	}
	_ = c.raw.Close() // ends what still reads
}

// part says why and waits for the peer to hang up, as long as Linger allows: to
// close what still has bytes to read would make TCP drop the text.
func (c *Conn) part(text []byte) {
	if _, err := c.tls.Write(text); err != nil {
		return
	}
	if c.raw.flush() != nil || c.tls.CloseWrite() != nil || c.raw.flush() != nil {
		return
	}
	if half, ok := c.raw.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		<-c.done
	}
}

// flush sends one batch; mu is held, and not while the batch is written. Who
// calls it kicks the writer, or sends the rest itself.
func (c *Conn) flush() {
	c.writing = true
	c.batch = c.fill(c.batch[:0])
	b := c.batch
	c.mu.Unlock()
	_, err := c.tls.Write(b)
	err = errors.Join(err, c.raw.flush())
	c.mu.Lock()
	c.writing = false
	if err != nil {
		c.end(err, false)
	}
	if c.err != nil {
		c.wake.Broadcast()
	}
}

// fill makes a batch: what keeps the connection going, then chunks by urgency;
// mu is held.
func (c *Conn) fill(b []byte) []byte {
	now := time.Now()
	b = c.rtt.append(b, now, c.mostUrgent() != nil, c.cfg.Measure)
	for kind, n := range c.freed {
		if n > 0 {
			b = appendFrame(b, frameFreed, uint64(kind), n)
			c.freed[kind] = 0
		}
	}
	b = c.tellDue(b)
	for len(b) <= c.cfg.Batch-leastRoom {
		s := c.mostUrgent()
		if s == nil {
			break
		}
		b = c.chunk(b, s)
	}
	return b
}

// tellDue adds credit and resets, of streams that the peer knows.
func (c *Conn) tellDue(b []byte) []byte {
	kept := c.due[:0]
	for i, s := range c.due {
		switch {
		case !s.born && s.window >= 0, len(b) > c.cfg.Batch/2:
			kept = append(kept, c.due[i])
			continue
		case s.reset != nil && s.born:
			b = appendFrame(b, frameReset, s.id, s.reset.Code)
		case s.grant > 0 && s.readErr == nil && !s.ended:
			b = appendFrame(b, frameCredit, s.id, s.grant)
		}
		s.grant, s.waiting = 0, false
	}
	clear(c.due[len(kept):])
	c.due = kept
	return b
}

// mostUrgent returns the stream whose turn it is, nil when none waits.
func (c *Conn) mostUrgent() *Stream {
	for u, q := range c.ready {
		for len(q) > 0 {
			if s := q[0]; !s.sent && s.sendable() {
				c.ready[u] = q
				return s
			}
			q[0].queued = false
			q = slices.Delete(q, 0, 1)
		}
		c.ready[u] = q
	}
	return nil
}

// chunk adds the next bytes of s, which is the first of its queue.
func (c *Conn) chunk(b []byte, s *Stream) []byte {
	if !s.born {
		c.bear(s)
		b = c.tellDue(b)
	}
	n := int(min(int64(len(s.out)), s.credit, int64(c.room(len(b)))))
	typ := byte(frameData)
	if s.finish && n == len(s.out) {
		typ, s.sent = frameEnd, true
	}
	b = append(appendFrame(b, typ, s.id, uint64(n)), s.out[:n]...)
	s.out = s.out[n:]
	s.credit -= int64(n)
	if len(s.out) == 0 {
		s.out = nil
		s.writable.Broadcast()
	}
	q := c.ready[s.urgency]
	switch {
	case s.sent || !s.sendable():
		s.queued = false
		c.ready[s.urgency] = slices.Delete(q, 0, 1)
	case s.inTurns && len(q) > 1:
		c.ready[s.urgency] = append(slices.Delete(q, 0, 1), s)
	}
	if s.sent {
		c.retire(s)
	}
	return b
}

// leastRoom: less of a record or a batch is not worth a chunk.
const leastRoom = 1 << 10

// room is how much the next chunk of a batch takes: it ends where a record
// does, so that the far end finds whole chunks in records.
func (c *Conn) room(have int) int {
	n := recordLen - have%recordLen - chunkHeader
	if n < leastRoom {
		n += recordLen
	}
	return min(n, chunkLen, max(c.cfg.Batch-have, leastRoom))
}

// bear gives a stream of ours its number.
func (c *Conn) bear(s *Stream) {
	s.id = c.next[s.kind]<<2 | uint64(s.kind)<<1
	if c.server {
		s.id |= 1
	}
	c.next[s.kind]++
	s.born = true
	delete(c.unborn, s)
	c.streams[s.id] = s
}

package dtn

import (
	"fmt"
	"time"
)

// write sends frames until the session ends. Frames that are ready together
// leave in one write, so that none waits for Nagle's algorithm or in another
// packet than its neighbours.
func (s *session) write() error {
	buf := make([]byte, 0, batch+s.door.cfg.Limits.Segment+segmentHead)
	timer := time.NewTimer(0)
	defer timer.Stop()
	lastWrite := time.Now()
	for {
		var err error
		if buf, err = s.fill(buf[:0]); err != nil {
			return err
		}
		if len(buf) == 0 {
			at := s.wait(lastWrite)
			if s.keepalive == 0 || time.Now().Before(lastWrite.Add(s.keepalive)) {
				if !s.rest(timer, at) {
					return errPeace
				}
				continue
			}
			buf = append(buf, msgKeepalive)
		}
		if _, err := s.conn.Write(buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		lastWrite = time.Now()
		if cap(buf) > 4*batch+maxSegment {
			buf = make([]byte, 0, batch+s.door.cfg.Limits.Segment+segmentHead) // after a large OneSegment
		}
	}
}

// wait returns when there is something to do though nothing happens, zero for
// never, and ends an idle session.
func (s *session) wait(lastWrite time.Time) (at time.Time) {
	if s.keepalive > 0 {
		at = lastWrite.Add(s.keepalive)
	}
	limit := s.door.cfg.Idle
	if limit <= 0 {
		return at
	}
	s.mu.Lock()
	quiet := s.cur == nil && len(s.queue)+len(s.unacked)+len(s.receipts) == 0 && !s.arriving && !s.termSent
	idle := s.active.Add(limit)
	s.mu.Unlock()
	switch {
	case quiet && !time.Now().Before(idle):
		s.terminate(termIdle)
	case quiet && (at.IsZero() || idle.Before(at)):
		at = idle
	}
	return at
}

// rest waits for work, or until at when that is set. It reports false when
// the session is over.
func (s *session) rest(timer *time.Timer, at time.Time) bool {
	var due <-chan time.Time
	if !at.IsZero() {
		timer.Reset(time.Until(at))
		due = timer.C
	}
	select {
	case <-s.wake:
	case <-due:
	case <-s.quit:
		return false
	}
	return true
}

// fill appends the frames that are to be sent now: control, answers whose turn
// it is, then segments. With nothing to append, an error says that the
// session is to be closed.
func (s *session) fill(buf []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf = append(buf, s.control...)
	s.control = s.control[:0]
	n := 0
	for _, r := range s.receipts {
		if !r.ready || len(buf) > batch {
			break
		}
		if r.refuse {
			buf = appendRefuse(buf, r.flags, r.id)
		} else {
			buf = appendAck(buf, r.flags, r.id, r.length)
		}
		n++
	}
	if n > 0 {
		clear(s.receipts[:n])
		s.receipts = s.receipts[n:]
		select {
		case s.drained <- struct{}{}:
		default:
		}
	}
	if s.hangUp != nil {
		if len(buf) == 0 {
			return buf, s.hangUp
		}
		return buf, nil // what was owed goes first
	}
	for len(buf) < batch && s.pickLocked() {
		buf = s.segmentLocked(buf)
	}
	if len(buf) == 0 && s.termSent && s.termSeen && s.cur == nil && len(s.unacked) == 0 && len(s.receipts) == 0 && !s.arriving {
		return buf, errPeace
	}
	return buf, nil
}

// pickLocked makes sure that there is a current transfer.
func (s *session) pickLocked() bool {
	if s.cur == nil && len(s.queue) > 0 {
		s.cur = s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.cur.id = s.nextID
		s.nextID++
		s.unacked[s.cur.id] = s.cur
	}
	return s.cur != nil
}

// segmentLocked appends the next segment of the current transfer.
func (s *session) segmentLocked(buf []byte) []byte {
	t := s.cur
	n := t.total // no more than a segment may have: see mru
	if !s.oneSegment() {
		n = min(t.total-t.sent, s.init.segmentMRU, uint64(s.door.cfg.Limits.Segment))
	}
	var flags byte
	if t.sent == 0 {
		flags |= flagStart
	}
	if t.sent+n == t.total {
		flags |= flagEnd
	}
	buf = appendSegment(buf, flags, t.id, n, t.total)
	t.sent += n
	for n > 0 {
		part := t.pieces[0][:min(n, uint64(len(t.pieces[0])))]
		buf = append(buf, part...)
		n -= uint64(len(part))
		if t.pieces[0] = t.pieces[0][len(part):]; len(t.pieces[0]) == 0 {
			t.pieces = t.pieces[1:]
		}
	}
	if flags&flagEnd != 0 {
		s.cur = nil
		t.pieces = nil
	}
	s.stats.segmentsOut.Add(1)
	return buf
}

// ack takes an XFER_ACK.
func (s *session) ack(m message) error {
	s.mu.Lock()
	t := s.unacked[m.id]
	last := m.flags&flagEnd != 0
	switch {
	case t == nil:
		s.mu.Unlock()
		return s.strike(msgAck)
	case m.length > t.sent || last && m.length < t.total:
		s.mu.Unlock()
		return &protocolError{
			reject: rejectUnexpected, kind: msgAck,
			msg: fmt.Sprintf("an acknowledgement of %d bytes, %d of %d are sent", m.length, t.sent, t.total),
		}
	}
	// Not every stack repeats the flags of the segment, as it should.
	last = m.length == t.total
	s.touch()
	if last {
		delete(s.unacked, m.id)
	}
	s.mu.Unlock()
	if last {
		s.stats.bundlesOut.Add(1)
		s.stats.bytesOut.Add(int64(t.total))
		t.finish(nil)
		s.mayEnd()
	}
	return nil
}

// mayEnd wakes the writer when the session ends: the answer to the last
// transfer is what it waits for.
func (s *session) mayEnd() {
	s.mu.Lock()
	ending := s.termSent
	s.mu.Unlock()
	if ending {
		s.poke()
	}
}

// refused takes an XFER_REFUSE. The rest of the transfer is not sent.
func (s *session) refused(m message) error {
	s.mu.Lock()
	t := s.unacked[m.id]
	if t == nil {
		s.mu.Unlock()
		return s.strike(msgRefuse)
	}
	delete(s.unacked, m.id)
	if s.cur == t {
		s.cur = nil
	}
	s.touch()
	s.mu.Unlock()
	s.poke()
	if m.reason == refuseCompleted {
		s.stats.bundlesOut.Add(1)
		t.finish(nil)
		return nil
	}
	s.stats.refusalsIn.Add(1)
	t.finish(&RefusedError{Code: m.reason})
	return nil
}

// rejected takes a MSG_REJECT. Which transfer a rejected segment belonged to
// is not said, so all of them are lost.
func (s *session) rejected(m message) error {
	s.stats.rejectsIn.Add(1)
	s.log.Warn("the peer rejected a message", "type", m.rejected, "reason", m.reason)
	if m.rejected == msgKeepalive {
		return nil
	}
	return fmt.Errorf("the peer rejected message type %d, reason %d", m.rejected, m.reason)
}

// termReceived takes a SESS_TERM: it is answered, what was not begun fails.
func (s *session) termReceived(m message) {
	s.mu.Lock()
	s.termSeen = true
	if !s.termSent {
		s.termSent = true
		s.control = appendTerm(s.control, flagReply, m.reason)
	}
	refused := s.queue
	s.queue = nil
	s.mu.Unlock()
	s.log.Info("the peer ends the session", "reason", termText(m.reason))
	for _, t := range refused {
		t.finish(ErrSessionLost)
	}
	s.expire()
	s.poke()
}

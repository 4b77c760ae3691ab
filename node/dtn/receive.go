package dtn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/farhop/farhop/storeforward/bundle"
)

// errPeace ends a session as both ends wished.
var errPeace = errors.New("session ended")

// inbound is the transfer that arrives. The reading goroutine alone uses it,
// but for drop.
type inbound struct {
	mu      sync.Mutex
	busy    bool
	id      uint64
	data    []byte
	total   uint64 // announced, when known
	known   bool
	refused bool // its answer is a refusal already; the rest is skipped
	taken   int64
	dropped bool // the session is over
}

// drop gives back what an unfinished transfer holds.
func (in *inbound) drop(d *Door) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dropped = true
	if in.taken > 0 {
		d.budget.give(in.taken, false)
		in.taken = 0
	}
}

// read handles messages until the session ends.
func (s *session) read() error {
	for {
		s.mid(s.in.busy)
		if _, err := s.br.Peek(1); err != nil {
			return s.readError(err)
		}
		s.mid(true)
		m, err := readMessage(s.br)
		if err == nil {
			s.stats.messagesIn.Add(1)
			err = s.handle(m)
		}
		if err != nil {
			return s.readError(err)
		}
	}
}

// mid tells the connection whether silence is within a message or transfer.
// The buffered reader reads only when it is empty, so this is in time.
func (s *session) mid(within bool) { s.pipe.mid = within }

// readError says what the end of reading means.
func (s *session) readError(err error) error {
	ne, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, io.EOF):
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.termSeen && len(s.unacked) == 0 {
			return errPeace
		}
		return errors.New("the peer closed the connection without SESS_TERM")
	case isNet && ne.Timeout() || errors.Is(err, os.ErrDeadlineExceeded):
		return &protocolError{term: termIdle, msg: "the peer was silent for too long"}
	}
	return err
}

func (s *session) handle(m message) error {
	switch m.kind {
	case msgSegment:
		return s.segment(m)
	case msgAck:
		return s.ack(m)
	case msgRefuse:
		return s.refused(m)
	case msgKeepalive:
	case msgTerm:
		s.termReceived(m)
	case msgReject:
		return s.rejected(m)
	default: // a second SESS_INIT
		return s.strike(m.kind)
	}
	return nil
}

// strike rejects a message that is read and makes no sense now.
func (s *session) strike(kind byte) error {
	s.stats.rejectsOut.Add(1)
	if s.strikes++; s.strikes >= maxStrikes {
		return &protocolError{reject: rejectUnexpected, kind: kind, msg: "too many messages that make no sense"}
	}
	s.mu.Lock()
	s.control = appendReject(s.control, rejectUnexpected, kind)
	s.mu.Unlock()
	s.poke()
	return nil
}

// segment receives an XFER_SEGMENT and the data after it.
func (s *session) segment(m message) error {
	limits := &s.door.cfg.Limits
	if m.length > limits.SegmentMRU {
		return &protocolError{term: termResources, msg: fmt.Sprintf("a segment of %d bytes, more than the segment MRU of %d", m.length, limits.SegmentMRU)}
	}
	start := m.flags&flagStart != 0
	if start && s.in.busy && s.in.refused {
		s.finishIn() // the peer has taken the refusal and sends no more of it
	}
	if start == s.in.busy || !start && m.id != s.in.id {
		// START within a transfer, or what follows a START that never came.
		if err := s.skip(m.length); err != nil {
			return err
		}
		return s.strike(msgSegment)
	}
	if start {
		s.beginIn(m)
	}
	if !s.in.refused {
		s.checkSegment(m)
	}
	if err := s.fillIn(m.length); err != nil {
		return err
	}
	return s.segmentDone(m, start)
}

// beginIn starts an inbound transfer.
func (s *session) beginIn(m message) {
	s.in.mu.Lock()
	s.in.busy, s.in.id, s.in.total, s.in.known = true, m.id, m.total, m.hasTotal
	s.in.refused, s.in.data, s.in.taken = false, nil, 0
	s.in.mu.Unlock()
	s.mu.Lock()
	s.arriving = true
	s.touch()
	ending := s.termSent
	s.mu.Unlock()
	switch {
	case ending:
		s.refuse(refuseTerminating)
	case m.critical:
		s.refuse(refuseExtension)
	case m.hasTotal && m.total > s.door.cfg.Limits.TransferMRU:
		s.refuse(refuseNoResources) // "SHOULD apply reactive bundle fragmentation"
	}
}

// checkSegment refuses the transfer when the segment must not be taken.
func (s *session) checkSegment(m message) {
	size := uint64(len(s.in.data)) + m.length
	switch {
	case s.in.known && size > s.in.total:
		s.refuse(refuseNotAcceptable)
	case size > s.door.cfg.Limits.TransferMRU:
		s.refuse(refuseNoResources)
	}
}

// refuse refuses the arriving transfer; the rest of it is skipped.
func (s *session) refuse(reason byte) {
	s.in.mu.Lock()
	s.in.refused, s.in.data = true, nil
	if s.in.taken > 0 {
		s.door.budget.give(s.in.taken, false)
		s.in.taken = 0
	}
	s.in.mu.Unlock()
	s.stats.refused(reason)
	s.enqueue(&receipt{ready: true, refuse: true, flags: reason, id: s.in.id})
}

// fillIn reads n bytes of the transfer, those of a refused one to nowhere. It
// takes room for what is there, not for what a length promises.
func (s *session) fillIn(n uint64) error {
	total := uint64(len(s.in.data)) + n
	if s.in.known {
		total = s.in.total
	}
	for n > 0 && !s.in.refused {
		part := min(n, batch)
		if !s.door.budget.take(int64(part), s.quit) {
			s.door.stats.budgetRefusals.Add(1)
			s.refuse(refuseNoResources)
			break
		}
		s.in.took(s.door, int64(part))
		at := len(s.in.data)
		s.in.data = extend(s.in.data, int(part), total)
		if _, err := io.ReadFull(s.br, s.in.data[at:]); err != nil {
			return unexpected(err)
		}
		n -= part
	}
	return s.skip(n)
}

// extend makes data n bytes longer. Its room grows fourfold, to the total at
// most, so that large bundles are copied seldom and promises cost little.
func extend(data []byte, n int, total uint64) []byte {
	want := len(data) + n
	if want > cap(data) {
		room := max(want, int(min(total, 4*uint64(want))))
		data = append(make([]byte, 0, room), data...)
	}
	return data[:want]
}

// took notes that the transfer holds n bytes more.
func (in *inbound) took(d *Door, n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.taken += n; in.dropped { // the session ended meanwhile
		d.budget.give(in.taken, false)
		in.taken = 0
	}
}

func (s *session) skip(n uint64) error {
	_, err := io.CopyN(io.Discard, s.br, int64(n))
	return unexpected(err)
}

// unexpected turns the end of the stream within data into an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// segmentDone answers a segment that is read, and hands over the bundle after
// the last one.
func (s *session) segmentDone(m message, start bool) error {
	last := m.flags&flagEnd != 0
	if start && !last && !s.in.refused && s.door.cfg.Want != nil {
		if why := s.door.cfg.Want(s.received(s.in.data)); why == bundle.Duplicate {
			s.refuse(refuseCompleted)
		} else if why != bundle.OK {
			reason, _ := answerTo(why)
			s.refuse(reason)
		}
	}
	if last && !s.in.refused && s.in.known && uint64(len(s.in.data)) != s.in.total {
		s.refuse(refuseNotAcceptable)
	}
	if !s.in.refused {
		r := &receipt{ready: !last, flags: m.flags, id: m.id, length: uint64(len(s.in.data))}
		if !s.enqueue(r) {
			return errPeace
		}
		if last {
			return s.commit(r)
		}
	}
	if last {
		s.finishIn()
	}
	return nil
}

func (s *session) finishIn() {
	s.in.mu.Lock()
	s.in.busy, s.in.data, s.in.taken = false, nil, 0
	s.in.mu.Unlock()
	s.mu.Lock()
	s.arriving = false
	s.touch()
	s.mu.Unlock()
	s.poke()
}

// commit hands the arrived bundle to the Sink; its verdict completes r.
func (s *session) commit(r *receipt) error {
	select {
	case s.commits <- struct{}{}: // a full window holds the peer back
	case <-s.quit:
		return errPeace
	}
	s.in.mu.Lock()
	data, taken := s.in.data, s.in.taken
	s.in.taken = 0 // now the verdict's to give back
	s.in.mu.Unlock()
	if taken > 0 {
		s.door.budget.complete(taken)
	}
	s.stats.bundlesIn.Add(1)
	s.stats.bytesIn.Add(int64(len(data)))
	s.finishIn()
	var once sync.Once
	s.door.cfg.Sink.Receive(s.received(data), func(why bundle.Reason) {
		once.Do(func() { s.verdict(r, why, taken) })
	})
	return nil
}

func (s *session) verdict(r *receipt, why bundle.Reason, taken int64) {
	if taken > 0 {
		s.door.budget.give(taken, true)
	}
	<-s.commits
	reason, refuse := answerTo(why)
	if refuse {
		s.stats.refused(reason)
		s.log.Info("refused a bundle", "reason", why.String())
	}
	s.mu.Lock()
	r.ready, r.refuse = true, refuse
	if refuse {
		r.flags = reason
	}
	s.touch()
	s.mu.Unlock()
	s.poke()
}

// enqueue puts an answer into line. It waits while the line is full, which is
// while the Sink owes verdicts, and reports false when the session is over.
func (s *session) enqueue(r *receipt) bool {
	for {
		s.mu.Lock()
		room := len(s.receipts) < maxReceipts
		if room {
			s.receipts = append(s.receipts, r)
		}
		s.mu.Unlock()
		if room {
			s.poke()
			return true
		}
		select {
		case <-s.drained:
		case <-s.quit:
			return false
		}
	}
}

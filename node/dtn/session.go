package dtn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of one session that are not configurable.
const (
	maxReceipts = 4096     // acknowledgements that wait for their turn
	maxStrikes  = 16       // messages rejected before the session ends
	batch       = 64 << 10 // bytes of frames joined into one write
	maxLinger   = 1 << 20  // bytes read from a peer that was hung up on
)

// session is an established TCPCLv4 session. Two goroutines run it: read
// (the caller of run) and write. Everything below mu is shared by them, by
// Send and by the Sink's callbacks.
type session struct {
	door *Door
	established
	log   *slog.Logger
	stats *counters
	since time.Time

	keepalive time.Duration // negotiated, 0: none
	in        inbound       // what arrives
	strikes   int           // of the reading goroutine alone
	pipe      *patient      // of the reading goroutine alone
	slots     chan struct{} // a token for each outbound transfer
	commits   chan struct{} // a token for each inbound transfer that waits for its commit
	life      context.Context
	quit      <-chan struct{} // closed when the session is over
	die       context.CancelFunc
	wake      chan struct{} // tells the writer that there is something to do
	drained   chan struct{} // tells the reader that receipts have left

	mu       sync.Mutex
	over     error       // why the session ended, nil while it lives
	control  []byte      // frames that go before everything else
	receipts []*receipt  // in the order of arrival
	queue    []*transfer // not begun
	cur      *transfer   // partly written
	unacked  map[uint64]*transfer
	nextID   uint64
	arriving bool      // an inbound transfer has begun and not ended
	termSent bool      // no transfer may begin any more
	termSeen bool      // the peer ends the session too
	hangUp   error     // close as soon as everything is written
	active   time.Time // when the last transfer began or ended
}

// transfer is one outbound bundle.
type transfer struct {
	id     uint64
	pieces [][]byte
	total  uint64
	sent   uint64
	slots  chan struct{} // where its place is given back
	done   func(error)
}

// finish ends the transfer and gives its place to the next. The caller holds
// no lock.
func (t *transfer) finish(err error) {
	<-t.slots
	t.done(err)
}

// receipt is the answer to one inbound segment. Answers leave in the order in
// which the segments came: some stacks count on it.
type receipt struct {
	ready  bool
	refuse bool
	flags  byte // of the segment, or the reason of the refusal
	id     uint64
	length uint64
}

func newSession(d *Door, e *established, stats *counters) *session {
	s := &session{
		door: d, established: *e, stats: stats, since: time.Now(),
		slots:   make(chan struct{}, d.cfg.Limits.InFlight),
		commits: make(chan struct{}, d.cfg.Limits.InFlight),
		wake:    make(chan struct{}, 1), drained: make(chan struct{}, 1),
		unacked: map[uint64]*transfer{}, active: time.Now(),
	}
	s.life, s.die = context.WithCancel(context.Background())
	s.quit = s.life.Done()
	s.keepalive = min(d.cfg.Keepalive, time.Duration(e.init.keepalive)*time.Second)
	name := "stranger"
	if e.peer != nil {
		name = e.peer.cfg.Name
	}
	s.log = d.cfg.Log.With("peer", name, "node", e.node.String(), "remote", e.conn.RemoteAddr().String())
	return s
}

// run serves the session until it ends and returns why; nil is a peaceful end.
func (s *session) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.terminate(termUnknown) })
	defer stop()
	// Contact and SESS_INIT had a deadline; from here patience sets it.
	_ = s.conn.SetDeadline(time.Time{})
	s.pipe = &patient{Conn: s.conn, first: s.br, limit: s.patience()}
	s.br = bufio.NewReaderSize(s.pipe, readBuffer)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.write()
		s.linger()
		s.end(err)
	})
	err := s.read()
	if pe, ok := errors.AsType[*protocolError](err); ok {
		s.mu.Lock()
		s.control = pe.answer(s.control)
		s.termSent, s.hangUp = true, err
		s.mu.Unlock()
		s.poke()
		defer time.AfterFunc(s.drain(), func() { s.end(err) }).Stop()
	} else {
		s.end(err)
	}
	wg.Wait()
	return s.why()
}

// linger lets the last frames of a session that we hang up arrive: closing a
// connection with data unread resets it, and a reset may overtake them.
func (s *session) linger() {
	s.mu.Lock()
	hangUp := s.hangUp != nil && s.over == nil
	s.mu.Unlock()
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok && hangUp && c.CloseWrite() == nil {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.drain()))
		_, _ = io.CopyN(io.Discard, s.conn, maxLinger) // until the peer closes too
	}
}

// patience is how long the peer may stay silent in the middle of what it is
// saying, or at all when keepalives were agreed on (RFC 9174, section 5.1.1).
func (s *session) patience() patience {
	stall := max(time.Minute, 20*s.rtt)
	if s.keepalive > 0 {
		return patience{idle: 2*s.keepalive + 2*s.rtt, stall: max(2*s.keepalive, stall)}
	}
	return patience{stall: stall}
}

// patience holds two limits of silence.
type patience struct {
	idle  time.Duration // between messages; 0: for ever
	stall time.Duration // within a message or transfer
}

// patient is a connection whose reads wait as long as its limit says.
type patient struct {
	net.Conn
	first *bufio.Reader // holds what was read before; serves until empty
	limit patience
	mid   bool // within a message or transfer; set by the reader
}

func (p *patient) Read(b []byte) (int, error) {
	if p.first != nil && p.first.Buffered() > 0 {
		return p.first.Read(b[:min(len(b), p.first.Buffered())])
	}
	p.first = nil
	wait := p.limit.idle
	if p.mid {
		wait = p.limit.stall
	}
	var at time.Time
	if wait > 0 {
		at = time.Now().Add(wait)
	}
	if err := p.SetReadDeadline(at); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// end ends the session: the connection is closed, every transfer the peer did
// not acknowledge fails. Only the first call counts.
func (s *session) end(why error) {
	s.mu.Lock()
	if s.over != nil {
		s.mu.Unlock()
		return
	}
	if why == nil {
		why = errPeace
	}
	s.over = why
	lost := slices.Clone(s.queue)
	for _, t := range s.unacked {
		lost = append(lost, t)
	}
	s.queue, s.cur, s.unacked = nil, nil, map[uint64]*transfer{}
	s.mu.Unlock()
	s.die()
	_ = s.conn.Close()
	for _, t := range lost {
		t.finish(fmt.Errorf("%w: %w", ErrSessionLost, why))
	}
	s.in.drop(s.door)
}

// why returns the reason for the end, nil for a peaceful one.
func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.over, errPeace) {
		return nil
	}
	return s.over
}

// terminate begins the end (RFC 9174, section 6.1): no transfer begins any
// more, those begun are finished, and Drain bounds how long that may take.
func (s *session) terminate(reason byte) {
	s.mu.Lock()
	if s.termSent || s.over != nil {
		s.mu.Unlock()
		return
	}
	s.termSent = true
	s.control = appendTerm(s.control, 0, reason)
	refused := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, t := range refused {
		t.finish(ErrSessionLost)
	}
	s.poke()
	s.expire()
}

// expire bounds how long a session that ends may take.
func (s *session) expire() {
	late := time.AfterFunc(s.drain(), func() { s.end(errors.New("the peer did not finish in time")) })
	context.AfterFunc(s.life, func() { late.Stop() })
}

// drain is how long a session may take to end.
func (s *session) drain() time.Duration {
	if d := s.door.cfg.Drain; d > 0 {
		return d
	}
	return 5*time.Second + 4*s.rtt
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// begin queues a bundle for the peer, once the session has a place for it.
// Without ctx it does not wait for one.
func (s *session) begin(ctx context.Context, pieces [][]byte, total uint64, done func(error)) (forget func(), err error) {
	if mru := s.mru(); total > mru {
		return nil, &TooLargeError{Size: total, MRU: mru}
	}
	select {
	case s.slots <- struct{}{}:
	default:
		if ctx == nil {
			return nil, ErrBusy
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.quit:
			return nil, ErrSessionLost
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t := &transfer{pieces: slices.Clone(pieces), total: total, slots: s.slots, done: done}
	s.mu.Lock()
	if s.over != nil || s.termSent {
		s.mu.Unlock()
		<-s.slots
		return nil, ErrSessionLost
	}
	s.queue = append(s.queue, t)
	s.touch()
	s.mu.Unlock()
	s.poke()
	return func() { s.forget(t) }, nil
}

// forget gives up a transfer that has not begun. What has begun is still sent
// to its end: TCPCL knows no way to stop in the middle and keep the session.
func (s *session) forget(t *transfer) {
	s.mu.Lock()
	at := slices.Index(s.queue, t)
	if at >= 0 {
		s.queue = slices.Delete(s.queue, at, at+1)
	}
	s.mu.Unlock()
	if at >= 0 {
		t.finish(context.Canceled)
	}
}

// touch notes that a transfer began or ended, for the end of idle sessions.
// The caller holds mu.
func (s *session) touch() {
	if s.door.cfg.Idle > 0 {
		s.active = time.Now()
	}
}

// usable reports whether transfers may begin.
func (s *session) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over == nil && !s.termSent
}

// load returns how many outbound transfers wait or are under way.
func (s *session) load() int { return len(s.slots) }

// describe fills in what a view of peers shows.
func (s *session) describe(v *PeerState) {
	v.Up, v.Since, v.Remote = true, s.since, s.conn.RemoteAddr().String()
	v.Node, v.Authenticated, v.Kex = s.node, s.authenticated, s.kex
	v.TransferMRU, v.SegmentMRU, v.Keepalive, v.RTT = s.mru(), s.init.segmentMRU, s.keepalive, s.rtt
	v.InFlight += s.load()
	v.Sessions++
}

// received makes what the Sink gets to know about a bundle.
func (s *session) received(data []byte) Received {
	r := Received{Node: s.node, Authenticated: s.authenticated, Kind: TCPCL, Remote: s.conn.RemoteAddr().String(), Bundle: data}
	if s.peer != nil {
		r.Peer = s.peer.cfg.Name
	}
	return r
}

// answerTo says how a verdict is put (RFC 9174, section 5.2.4). A bundle that
// is here already is acknowledged, now that all of it was sent: that is true,
// and not every stack takes "completed" for success.
func answerTo(r bundle.Reason) (reason byte, refuse bool) {
	switch r {
	case bundle.OK, bundle.Duplicate:
		return 0, false
	case bundle.StoreFull, bundle.QuotaExceeded, bundle.DiskFailed, bundle.TooLarge:
		return refuseNoResources, true
	case bundle.ShuttingDown:
		return refuseTerminating, true
	default:
		return refuseNotAcceptable, true
	}
}

// mru is the largest bundle the peer takes.
func (s *session) mru() uint64 {
	if s.oneSegment() {
		return min(s.init.transferMRU, s.init.segmentMRU, maxOneSegment)
	}
	return s.init.transferMRU
}

func (s *session) oneSegment() bool { return s.peer != nil && s.peer.cfg.OneSegment }

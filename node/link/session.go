package link

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Session is one authenticated connection with another node.
type Session struct {
	id    uint64
	peer  Identity
	hello wire.Hello
	dial  string // the address we dialled, "" when the peer did
	conn  carrier
	ctrl  stream
	in    *bufio.Reader // of ctrl
	props Properties
	cfg   *Config

	answered    bool       // our Hello went before it was a session
	epoch       uint64     // what our Hello called the session, of those that the peer dialled
	offered     wire.Salvo // what our Hello said
	salvo       *salvoEnds // nil: QUIC's streams carry the lanes
	salvoUnsent atomic.Uint64
	parts       *assembler // guarded by sinkMu

	ctx    context.Context // ends when the session does
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // readers and writers
	tcp    sync.WaitGroup // TCP service handlers; they may outlive LinkDown
	sinkMu sync.Mutex     // one Frames call at a time
	out    outbox
	upAt   time.Time
	// firstRTT is the round-trip time the handshake found.
	firstRTT time.Duration
	down     chan struct{} // closed after LinkDown has returned
	cause    atomic.Pointer[Down]
	silent   atomic.Bool

	besideMu sync.Mutex // guards beside
	beside   *beside    // while another session is sought in its place
	renew    chan struct{}
}

func newSession(id uint64, c *Config, conn carrier, ctrl stream, in *bufio.Reader, peer Identity, h wire.Hello, props Properties, begun []wire.Begun) *Session {
	s := &Session{id: id, cfg: c, conn: conn, ctrl: ctrl, in: in, peer: peer, hello: h, props: props, offered: offerOn(conn, props), down: make(chan struct{}), renew: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(conn.Context()))
	s.out = outbox{budget: c.SendBudget, volatile: c.SendBudget / 4, maxFrame: int(min(h.MaxFrame, math.MaxInt32)), parts: newSplitter(props, h), origins: s.offered.Rate > 0, start: s.startLane}
	if s.offered.Rate > 0 { // salvo has more of what was sent in memory
		s.out.volatile /= 4
	}
	tuned(conn, props, s.Dialed())
	s.parts = newAssembler(peer.Node, c.Parts, int(c.Hello.MaxFrame), begun)
	return s
}

// ID is unique within one run of the Manager, from 1.
func (s *Session) ID() uint64 { return s.id }

// Node is the far end, as its certificate says.
func (s *Session) Node() addr.Node { return s.peer.Node }

// Uplink names the link among several with the node, "" where it is the only one.
func (s *Session) Uplink() string { return s.props.Uplink }

// Silent notes whether the node found the link silent: others go first then.
func (s *Session) Silent(silent bool) { s.silent.Store(silent) }

func (s *Session) peering() peering { return peering{s.peer.Node, s.props.Uplink} }

// Region is the far end's region, as its certificate says.
func (s *Session) Region() addr.Region { return s.peer.Region }

// Kex names the key exchange that was negotiated.
func (s *Session) Kex() string { return s.peer.Kex }

// Hello is what the far end said first.
func (s *Session) Hello() wire.Hello { return s.hello }

// Dialed reports whether we opened the connection.
func (s *Session) Dialed() bool { return s.dial != "" }

// RemoteAddr is where the far end's packets come from.
func (s *Session) RemoteAddr() string { return s.conn.RemoteAddr().String() }

// Link returns what was configured for this link.
func (s *Session) Link() Properties { return s.props }

// MaxFrame is the largest frame the far end takes, type and body, in bytes.
// Sending a larger one ends the session.
func (s *Session) MaxFrame() int { return s.out.maxFrame }

// RTT is the smoothed round-trip time; before the first sample, twice the
// configured light time.
func (s *Session) RTT() time.Duration {
	return cmp.Or(s.conn.Stats().RTT, s.props.rtt())
}

// Since is when the session came up.
func (s *Session) Since() time.Time { return s.upAt }

// Stats are counts since the session came up, packets and bytes as on the
// wire with QUIC's own overhead and salvo's.
type Stats struct {
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64 // declared lost by QUIC; may shrink
	Queued                       int    // bytes that wait to be sent
	FramesSent                   uint64
	VolatileShed                 uint64 // dropped because half of the budget was in use
}

// Stats returns the counts.
func (s *Session) Stats() Stats {
	c := s.conn.Stats()
	st := Stats{
		BytesSent: c.BytesSent, BytesReceived: c.BytesReceived,
		PacketsSent: c.PacketsSent, PacketsReceived: c.PacketsReceived, PacketsLost: c.PacketsLost,
	}
	if sv, ok := s.Salvo(); ok {
		st.BytesSent += uint64(sv.Out.Bytes + sv.In.ReportBytes)
		st.BytesReceived += uint64(sv.In.Bytes + sv.Out.ReportBytes)
		st.PacketsSent += uint64(sv.Out.Packets + sv.In.Reports)
		st.PacketsReceived += uint64(sv.In.Packets + sv.Out.Reports)
	}
	st.Queued, st.FramesSent, st.VolatileShed = s.out.stats()
	return st
}

// Send queues frames and never blocks; frames of one lane keep their order.
// It returns false when the session is over. More than the budget waiting
// ends it (Overflow), except for Volatile frames, which are shed and counted
// when half of the budget is in use.
func (s *Session) Send(frames ...wire.Frame) bool {
	d, ok := s.out.add(frames)
	if !ok && d.Err != nil && !errors.Is(d.Err, errClosed) {
		s.end(d)
	}
	return ok
}

// SendTransfer is Send for a Transfer whose bundle is in parts: they are
// spliced straight into the write buffer, see wire.AppendTransfer. again reads
// the payload block once more, at any time until the session ends: with it the
// bundle need not be held until the peer has it, which on a far link takes long.
// Without it, nil, it is.
func (s *Session) SendTransfer(c bundle.Class, xid uint64, frozen, payloadBlock []byte, hop bundle.Hop, again Payload) bool {
	d, ok := s.out.addTransfer(c, xid, frozen, payloadBlock, hop, again)
	if !ok && d.Err != nil && !errors.Is(d.Err, errClosed) {
		s.end(d)
	}
	return ok
}

// Await waits until there is room for a transfer of a class, so that no more
// of what is stored is read than the link takes soon. It reports false when the
// session or ctx is over. One goroutine at a time may wait for a class.
func (s *Session) Await(ctx context.Context, c bundle.Class) bool {
	return s.out.await(ctx, s.ctx, laneClass+int(min(c, bundle.NumClasses-1)))
}

// Close ends the session without waiting for it to be down. What was not
// sent is lost; custody is the core's.
func (s *Session) Close(reason string) {
	s.end(down(Closed, "%s", reason))
}

// end closes the connection for the first reason given. It does not block.
func (s *Session) end(d Down) {
	if s.cause.CompareAndSwap(nil, &d) {
		s.cancel(d)
	}
}

// Done is closed when the session is down and LinkDown has returned.
func (s *Session) Done() <-chan struct{} { return s.down }

// OpenStream opens a TCP service stream. The caller writes StreamOpen first.
func (s *Session) OpenStream(ctx context.Context) (*Stream, error) {
	st, err := s.conn.OpenStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream to %s: %w", s.peer.Node, err)
	}
	st.SetPriority(tcpUrgency, true)
	return newStream(st, nil), nil
}

// run moves frames until the session ends and returns why. The caller has
// called LinkUp and calls LinkDown.
func (s *Session) run(free func(*[]byte)) Down {
	stop := context.AfterFunc(s.conn.Context(), func() { s.end(downOf(context.Cause(s.conn.Context()))) })
	defer stop()
	s.wg.Go(func() { s.read(s.in, int(s.cfg.Hello.MaxFrame)) })
	s.wg.Go(s.acceptUni)
	s.wg.Go(s.acceptTCP)
	s.wg.Go(s.keepSchedule)
	if s.salvo != nil {
		s.salvo.start(s.wg.Go, free)
	}
	<-s.ctx.Done()
	d := *s.cause.Load()
	s.out.close()
	hangUp(s.conn, d)
	s.wg.Wait()
	s.parts.end()
	return d
}

// read gives the frames of one stream to the sink.
func (s *Session) read(r *bufio.Reader, most int) {
	err := readLoop(r, most, s.deliver)
	// The connection's own end says more than the stream's error.
	if cause := context.Cause(s.conn.Context()); cause != nil {
		err = cause
	}
	s.end(downOf(err))
}

// deliver gives frames to the sink, one call at a time.
func (s *Session) deliver(batch []wire.Frame) {
	s.sinkMu.Lock()
	defer s.sinkMu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	batch, err := s.parts.replace(batch)
	if err != nil {
		s.end(downOf(err))
		return
	}
	if len(batch) > 0 {
		s.cfg.Events.Frames(s, batch)
	}
}

func (s *Session) acceptUni() {
	for n := 1; ; n++ {
		st, err := s.conn.AcceptUni(s.ctx)
		if err != nil {
			return // the connection is gone, run knows why
		}
		most := int(s.cfg.Hello.MaxFrame)
		if n >= numLanes { // none of ours: a frame of each lane may be in memory
			most = min(most, maxOddFrame)
		}
		s.wg.Go(func() { s.read(newReader(st), most) })
	}
}

func (s *Session) acceptTCP() {
	for {
		st, err := s.conn.AcceptStream(s.ctx)
		if err != nil {
			return
		}
		s.tcp.Go(func() { s.serveTCP(st) })
	}
}

func (s *Session) serveTCP(qs stream) {
	qs.SetPriority(tcpUrgency, true)
	r := bufio.NewReaderSize(qs, openBuffer)
	st := newStream(qs, r)
	// Who opens thousands of streams and says nothing holds them for so long.
	_ = qs.SetReadDeadline(time.Now().Add(s.props.helloWait(s.RTT())))
	f, err := readFrame(r, maxOpenFrame)
	open, ok := f.(wire.StreamOpen)
	if err == nil {
		err = qs.SetReadDeadline(time.Time{})
	}
	if err != nil || !ok || s.cfg.Streams == nil {
		s.cfg.Log.Debug("stream refused", "peer", s.peer.Node, "err", err, "frame", fmt.Sprintf("%T", f))
		st.Reset(resetRefused)
		return
	}
	s.cfg.Streams(s.ctx, s, open, st)
}

// startLane starts the writer of a lane. The outbox calls it with its lock
// held, and never after close, so wg is not yet waited for.
func (s *Session) startLane(i int) {
	s.wg.Go(func() {
		if i == laneControl {
			s.endWrite(s.out.write(s.ctx, i, onto(s.ctrl)))
			return
		}
		if s.salvo != nil && s.salvo.out != nil {
			s.endWrite(s.out.write(s.ctx, i, s.salvo.out.lane(s.ctx, i)))
			return
		}
		st, err := s.conn.OpenUni(s.ctx)
		if err == nil {
			st.SetPriority(urgency(i), false)
			err = s.out.write(s.ctx, i, onto(st))
		}
		s.endWrite(err)
	})
}

// onto writes frames as bytes.
func onto(w io.Writer) laneWriter {
	return func(data []byte, _ []origin) error {
		_, err := w.Write(data)
		return err
	}
}

func (s *Session) endWrite(err error) {
	if cause := context.Cause(s.conn.Context()); cause != nil {
		err = cause
	}
	s.end(downOf(err))
}

// keepSchedule closes the session when a contact ends before a long gap, and
// sends a Ping when one begins after a short gap: without it the connection
// would wake up only at its next probe, up to a minute later.
func (s *Session) keepSchedule() {
	if !s.props.scheduled() {
		return
	}
	for {
		open, change := s.props.contact(time.Now())
		if change.IsZero() && !open {
			s.end(down(ContactEnd, "the last contact of the schedule is over"))
			return
		}
		if !wait(s.ctx, time.Until(change)) {
			return
		}
		if !open {
			s.Send(wire.Ping{})
			continue
		}
		if gap, again := s.props.gapAfter(change); again && gap > keepGap {
			s.end(down(ContactEnd, "contact over, the next one is %v away", gap.Round(time.Second)))
			return
		}
	}
}

// wait sleeps for d and reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

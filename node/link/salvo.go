package link

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/farhop/farhop/node/salvo"
	"github.com/farhop/farhop/node/salvo/packet"
)

// exporterLabel names the secret that both ends take from the handshake (RFC
// 8446, section 7.5): 32 bytes of it are salvo's, 4 are the association.
const exporterLabel = "EXPORTER-farhop-salvo"

// Bounds of what waits between the socket and an engine.
const (
	queuedPackets = 4096 // of one association and direction: 6 MiB
	packetBytes   = 1452 // of UDP payload, the most that quic-go reads from the socket we share
)

// salvoEnds are the ends of one session: out sends what our Hello offered, in
// takes what the peer's did; nil where it offered none.
type salvoEnds struct {
	association uint32
	out         *salvoOut
	in          *salvoIn
}

// newSalvo makes the ends that both Hellos agree on; nil when there are none.
func newSalvo(s *Session, socket packetWriter) (*salvoEnds, error) {
	mine, theirs := s.offered, s.hello.Salvo
	if mine.Version == 0 || theirs.Version == 0 || mine.Rate == 0 && theirs.Rate == 0 {
		return nil, nil //nolint:nilnil // a session without salvo is common
	}
	if mine.Version != theirs.Version { // both ends see that, and use streams
		s.cfg.Log.Warn("salvo is not used: the versions differ, upgrade the older node", "peer", s.peer.Node, "version", theirs.Version, "want", mine.Version)
		return nil, nil //nolint:nilnil // the session goes on without
	}
	state := s.conn.TLS()
	secret, err := state.ExportKeyingMaterial(exporterLabel, nil, packet.SecretLen+4)
	if err != nil {
		return nil, fmt.Errorf("export the secret of salvo: %w", err)
	}
	e := &salvoEnds{association: uint32(secret[32])<<24 | uint32(secret[33])<<16 | uint32(secret[34])<<8 | uint32(secret[35])}
	keys := salvo.Keys{Secret: secret[:packet.SecretLen], Association: e.association}
	forward, backward := packet.Forward, packet.Backward
	if !s.Dialed() {
		forward, backward = backward, forward
	}
	line := salvoLine{s: s, socket: socket, done: s.ctx.Done()}
	if mine.Rate > 0 {
		keys.Direction, line.seeks = forward, mine.OWLT == 0
		if e.out, err = newSalvoOut(line, salvoConfig(mine, int64(s.MaxFrame())+maxEnvelope), keys); err != nil {
			return nil, err
		}
	}
	if theirs.Rate > 0 {
		keys.Direction, line.seeks = backward, theirs.OWLT == 0
		if e.in, err = newSalvoIn(line, s.reporting(salvoConfig(theirs, int64(s.cfg.Hello.MaxFrame)+maxEnvelope)), keys); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// unknownRate is what a way of which nothing is configured is trusted with, in
// bit/s: a sixteenth of it may be reports, and timers follow from that.
const unknownRate = 100_000_000

// reporting bounds what a peer says of the way back by what is known of it
// here: as often as it likes, our reports would go to the peer at our expense.
func (s *Session) reporting(c salvo.Config) salvo.Config {
	c.ReturnRate = min(cmp.Or(c.ReturnRate, c.Rate), cmp.Or(s.props.Rate, unknownRate))
	return c
}

// start runs the ends.
func (e *salvoEnds) start(run func(func()), free func(*[]byte)) {
	if e.out != nil {
		run(func() { e.out.run(free) })
	}
	if e.in != nil {
		run(func() { e.in.run(free) })
	}
}

// packetWriter is the socket, as quic.Transport shares it.
type packetWriter interface {
	WriteTo(b []byte, to net.Addr) (int, error)
}

// salvoLine is what both ends use of their session.
type salvoLine struct {
	s      *Session
	socket packetWriter
	done   <-chan struct{}
	seeks  bool // the offer says no distance: it is as measured
}

// measured returns how far the peer is, where nobody said it.
func (l *salvoLine) measured() (owlt time.Duration, ok bool) {
	if !l.seeks {
		return 0, false
	}
	owlt = l.s.RTT() / 2
	return owlt, owlt > 0
}

// send writes one packet to where the peer is now. What the socket does not
// take is lost, as it may be anywhere on the way.
func (l *salvoLine) send(b []byte) {
	if _, err := l.socket.WriteTo(b, l.s.conn.RemoteAddr()); err != nil {
		l.s.salvoUnsent.Add(1)
	}
}

// demux gives packets that are not QUIC's to the session they belong to.
type demux struct {
	mu   sync.RWMutex
	ends map[uint32]*salvoEnds
	free sync.Pool // of *[]byte
}

func newDemux() *demux {
	return &demux{ends: map[uint32]*salvoEnds{}, free: sync.Pool{New: func() any { b := make([]byte, 0, packetBytes); return &b }}}
}

// add makes ends reachable. Two sessions with one number among four billion
// can only be an accident: the second does without.
func (d *demux) add(e *salvoEnds) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ends[e.association] != nil {
		return false
	}
	d.ends[e.association] = e
	return true
}

func (d *demux) remove(e *salvoEnds) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ends[e.association] == e {
		delete(d.ends, e.association)
	}
}

func (d *demux) release(b *[]byte) { d.free.Put(b) }

// deliver hands a packet on; else it says why not.
func (d *demux) deliver(b []byte) (why string) {
	head, ok := packet.Peek(b)
	if !ok {
		return "foreign"
	}
	d.mu.RLock()
	e := d.ends[head.Association]
	d.mu.RUnlock()
	var to chan<- *[]byte
	switch {
	case e == nil:
		return "unknown"
	case head.Kind == packet.Data && e.in != nil && head.Direction == e.in.direction:
		to = e.in.packets
	case head.Kind == packet.Report && e.out != nil && head.Direction == e.out.direction:
		to = e.out.packets
	default:
		return "unknown"
	}
	buf, _ := d.free.Get().(*[]byte)
	*buf = append((*buf)[:0], b...)
	select {
	case to <- buf:
		return ""
	default:
		d.free.Put(buf)
		return "queue-full"
	}
}

// readSalvo serves the packets that reach quic-go and are not QUIC's, where the
// socket cannot be shared before it, until ctx ends or the transport is closed.
func (m *Manager) readSalvo(ctx context.Context) {
	buf := make([]byte, packetBytes)
	for {
		n, _, err := m.tr.ReadNonQUICPacket(ctx, buf)
		if err != nil {
			return
		}
		m.stray(buf[:n])
	}
}

// stray takes a packet that is not QUIC's.
func (m *Manager) stray(b []byte) {
	if why := m.demux.deliver(b); why != "" {
		m.met.strays.WithLabelValues(why).Inc()
	}
}

// socketOf is what the packets of a session leave by.
func (m *Manager) socketOf(s *Session) packetWriter {
	if q, ok := s.conn.(quicCarrier); ok {
		return q.tr
	}
	return m.tr
}

// useSalvo takes salvo into use on a session, where both ends agreed to. The
// result is called when the session is over.
func (m *Manager) useSalvo(s *Session) func() {
	e, err := newSalvo(s, m.socketOf(s))
	if err != nil {
		s.end(down(Refused, "salvo with %s: %w; check rate, return_rate, loss, burst and mtu of the link at both ends", s.peer.Node, err))
	}
	if e == nil {
		return func() {}
	}
	if !m.demux.add(e) {
		s.end(down(Refused, "salvo with %s: association %08x is in use, by one chance in four billion; the next session gets another", s.peer.Node, e.association))
		return func() {}
	}
	s.salvo = e
	counted := m.count(s)
	return func() { m.demux.remove(e); counted() }
}

// Window is how many bytes of bundles should be under way to fill the link, 0
// when that is not known.
func (s *Session) Window() int64 {
	if s.offered.Rate == 0 {
		return 0
	}
	return s.props.pipe()
}

// Layer is what carries the bundles that we send.
func (s *Session) Layer() Layer {
	if s.salvo != nil && s.salvo.out != nil {
		return LayerSalvo
	}
	if _, ok := s.conn.(tlsCarrier); ok {
		return LayerTLS
	}
	return LayerQUIC
}

// SalvoStats are counts of a session whose bundles salvo carries; ok is false
// for others.
type SalvoStats struct {
	Out salvo.SenderStats
	In  salvo.ReceiverStats
	// Unsent are packets that the socket did not take.
	Unsent uint64

	// Of what is under way: bytes in memory at the end that sends, and at most;
	// payloads read again from where they are stored; and blocks given up
	// because custody of what was in them had ended.
	Held, MaxHeld int64
	Reread, Gone  uint64
	// Of what waits for what was before it: bytes in memory and on disk at the
	// end that receives, and at most.
	Kept, MaxKept       int64
	Spooled, MaxSpooled int64
}

// Salvo returns the counts.
func (s *Session) Salvo() (st SalvoStats, ok bool) {
	if s.salvo == nil {
		return st, false
	}
	if o := s.salvo.out; o != nil {
		o.mu.Lock()
		st.Out, st.Gone = o.stats, o.gone
		o.mu.Unlock()
		st.Held, st.MaxHeld, st.Reread = o.shelf.stats()
	}
	if in := s.salvo.in; in != nil {
		in.mu.Lock()
		st.In = in.stats
		st.Kept, st.MaxKept, st.Spooled, st.MaxSpooled = in.kept.memory, in.kept.memoryPeak, in.kept.disk, in.kept.diskPeak
		in.mu.Unlock()
	}
	st.Unsent = s.salvoUnsent.Load()
	return st, true
}

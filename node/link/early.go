package link

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// What goes with the first flight to a peer that is known (0-RTT, RFC 9001,
// section 4.6). It arrives after one light time, where a session takes three.
// Anybody may record it and play it again, so nothing in it may have an effect
// that is not the same twice:
//
//   - Copies of bundles, of which the sender keeps custody: the receiver knows
//     each when it comes again, whenever that is.
//   - The Hello. The listener answers it, and no more: it decides about the
//     connection when the handshake is done and the dialler has said Begin.

// Early is what a node gives and takes in that flight. Its methods may be called
// at the same time.
type Early interface {
	// Offer returns copies of what waits for a peer in some classes, none for
	// all, at most so many bytes, as far as they are at hand before ctx ends.
	Offer(ctx context.Context, peer addr.Node, owlt time.Duration, classes []bundle.Class, most int) []wire.Early
	// Take is given what a peer sent. rtt is of the link, as far as it is known.
	Take(peer addr.Node, rtt time.Duration, frames []wire.Early)
}

const (
	// maxEarly fits the packets that stock QUIC sends first, and that a server
	// holds back until it has the keys.
	maxEarly       = 16 << 10 // bytes
	maxEarlyFrames = 64
	// plainEvery: one of so many attempts goes without the ticket, whose first
	// flight is larger than others.
	plainEvery = 4
)

// earlyMost is how much a link carries while it would wait for the handshake.
func (p Properties) earlyMost() int {
	if p.Rate == 0 || p.rtt() == 0 {
		return maxEarly
	}
	return int(min(maxEarly, float64(p.Rate)/8*p.rtt().Seconds()))
}

// opening is a connection that the peer has not heard a Hello on, or one that
// went with the first flight.
type opening struct {
	conn  carrier
	ctrl  stream // with our Hello on it; nil: it is to be opened
	begun []wire.Begun
	pass  *pass // nil: no tickets are kept
}

// open dials, and sends what goes with the first flight.
func (d *dialer) open(ctx context.Context, to net.Addr, w way, rtt time.Duration) (o opening, err error) {
	m, props := d.m, d.peer.Link
	conf, p := m.cfg.TLSClient(d.peer.Node), d.pass(w)
	if w.tcp {
		o.conn, err = m.dialTLS(ctx, to, conf, d.peer, props.handshakeTimeout(w.attempts, rtt))
		return o, err
	}
	o.pass = p
	var peer addr.Node
	var offer []wire.Early
	if p != nil {
		conf.ClientSessionCache = p
		peer = p.known(conf.VerifyConnection, m.cfg.Identify)
	}
	if !peer.IsZero() && m.cfg.Early != nil {
		octx, cancel := context.WithTimeout(ctx, max(props.timing(rtt).cross, props.rtt()/8))
		offer = m.cfg.Early.Offer(octx, peer, props.light(), props.Classes, props.earlyMost())
		cancel()
	}
	c, err := d.connect(ctx, to, conf, props.dialConfig(w.attempts, rtt))
	if err != nil {
		p.failed(err)
		return o, err
	}
	qc := c.conn
	o.conn = c
	defer func() {
		if err != nil {
			p.failed(err)
			hangUp(o.conn, downOf(err))
		}
	}()
	early := !peer.IsZero() && !isDone(qc.HandshakeComplete())
	if early {
		o.begun = m.begun(peer)
		if err = o.greet(m, props, offer); err != nil && !errors.Is(err, quic.Err0RTTRejected) {
			return o, betterCause(o.conn, err)
		}
	}
	select {
	case <-qc.HandshakeComplete():
	case <-qc.Context().Done():
		return o, context.Cause(qc.Context())
	case <-ctx.Done():
		return o, context.Cause(ctx)
	}
	switch {
	case !early:
	case qc.ConnectionState().Used0RTT:
		m.met.early.WithLabelValues("sent").Inc()
	default:
		m.met.early.WithLabelValues("refused").Inc()
		o.ctrl = nil
		if qc, err = qc.NextConnection(ctx); err != nil {
			return o, err
		}
		o.conn = quicCarrier{qc, c.tr}
	}
	return o, nil
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// greet opens the control stream and puts Hello and bundles on it.
func (o *opening) greet(m *Manager, props Properties, offer []wire.Early) (err error) {
	if o.ctrl, err = o.conn.OpenStream(o.conn.Context()); err != nil {
		return err
	}
	if err = m.greet(o.ctrl, greeting{offer: props.offer(), begun: o.begun, early: true, epoch: o.pass.epoch, uplink: props.Uplink}); err != nil {
		return err
	}
	var out []byte
	for _, f := range offer {
		out = wire.Append(out, f)
	}
	if len(out) > 0 {
		_, err = o.ctrl.Write(out)
	}
	return err
}

// settle says Hello on a connection that is kept, or Begin where the Hello has
// gone before.
func (o *opening) settle(ctx context.Context, m *Manager, props Properties, peer addr.Node) (err error) {
	if o.ctrl != nil {
		if _, err = o.ctrl.Write(wire.Append(nil, wire.Begin{})); err != nil {
			return fmt.Errorf("send begin: %w", err)
		}
		return nil
	}
	if o.ctrl, err = o.conn.OpenStream(ctx); err != nil {
		return fmt.Errorf("open the control stream: %w", err)
	}
	o.begun = m.begun(peer)
	if err = m.greet(o.ctrl, greeting{offer: offerOn(o.conn, props), begun: o.begun, uplink: props.Uplink}); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	return nil
}

// pass returns the ticket for an attempt, nil where none are kept.
func (d *dialer) pass(w way) *pass {
	if d.m.cfg.Tickets == nil || w.tcp {
		return nil
	}
	var ticket []byte
	if w.instead == nil && w.attempts%plainEvery != plainEvery-1 {
		var err error
		if ticket, err = d.m.cfg.Tickets.Ticket(d.peer.way()); err != nil {
			d.m.cfg.Log.Warn("the ticket of a peer cannot be read: the first flight carries no data", "peer", d.peer.Address, "error", err)
		}
	}
	return newPass(ticket, d.keepTicket, d.m.cfg.Log)
}

// keepTicket hands a ticket to the writer of this dialer, for its caller must
// not wait for a disk. The newest counts.
func (d *dialer) keepTicket(ticket []byte) {
	select {
	case <-d.tickets:
	default:
	}
	select {
	case d.tickets <- ticket:
	default: // another is newer
	}
}

// writeTickets keeps on disk what keepTicket is given, until ctx ends.
func (d *dialer) writeTickets(ctx context.Context) {
	for {
		select {
		case t := <-d.tickets:
			if err := d.m.cfg.Tickets.Keep(d.peer.way(), t); err != nil {
				d.m.cfg.Log.Warn("the ticket of a peer cannot be kept: its next session begins a round trip later", "peer", d.peer.Address, "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// hearEarly serves a connection whose Hello came with its first flight until
// the dialler keeps it. answered says that our Hello, with what g has, is on it
// already.
func (m *Manager) hearEarly(ctx context.Context, conn carrier, st stream, in *bufio.Reader, hello wire.Hello, g greeting) (answered bool, err error) {
	if _, ok := conn.(quicCarrier); !ok {
		return false, down(Protocol, "a hello of %s over TCP says that it came early", hello.Node)
	}
	peer := peering{hello.Node, hello.Uplink}
	props := m.linkTo(peer)
	m.met.early.WithLabelValues("received").Inc()
	if m.reg.mayAnswer(peer) {
		g.offer, g.uplink = props.offer(), peer.uplink
		if err := m.greet(st, g); err != nil {
			return false, err
		}
		answered = true
	}
	defer context.AfterFunc(ctx, func() { _ = st.SetReadDeadline(time.Unix(1, 0)) })()
	take := func(frames []wire.Early) { m.cfg.Early.Take(peer.node, props.rtt(), frames) }
	if m.cfg.Early == nil || hello.Epoch == 0 || hello.Epoch != m.epoch(peer) {
		m.met.early.WithLabelValues("stale").Inc()
		take = func([]wire.Early) {}
	}
	if err := takeEarly(in, take); err != nil {
		return answered, betterCause(conn, fmt.Errorf("node %s, early: %w", peer.node, err))
	}
	select {
	case <-handshakeDone(conn): // Begin came with data that nobody can play again
		return answered, st.SetReadDeadline(time.Time{})
	case <-ctx.Done():
		return answered, context.Cause(ctx)
	}
}

// takeEarly reads up to Begin.
func takeEarly(in *bufio.Reader, take func([]wire.Early)) error {
	var frames []wire.Early
	give := func() {
		if len(frames) > 0 {
			take(frames)
		}
		frames = nil
	}
	defer give()
	for size, n := 0, 0; ; {
		f, err := readFrame(in, 2*maxEarly)
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case wire.Begin:
			return nil
		case wire.Early:
			size, n = size+len(f.Bundle), n+1
			if size > 2*maxEarly || n > maxEarlyFrames {
				return down(Protocol, "%d bundles of %d bytes came early, at most %d of %d are taken", n, size, maxEarlyFrames, 2*maxEarly)
			}
			if frames = append(frames, f); !buffered(in) {
				give()
			}
		case nil:
		default:
			return down(Protocol, "a %s came before begin", f.Type())
		}
	}
}

// awaitHello bounds the exchange of Hellos with a dialler. Before the handshake
// is done its own limit counts, for the round trip is not known.
func (m *Manager) awaitHello(ctx context.Context, conn carrier, patience func() time.Duration) (context.Context, context.CancelFunc) {
	hctx, cancel := context.WithCancel(conn.Context())
	stop := context.AfterFunc(ctx, cancel)
	m.wg.Go(func() {
		defer stop()
		select {
		case <-handshakeDone(conn):
			wait(hctx, patience())
			cancel()
		case <-hctx.Done():
		}
	})
	return hctx, cancel
}

// handshakeDone is closed when the far end has shown that it is there, and not
// somebody who plays its packets again.
func handshakeDone(conn carrier) <-chan struct{} {
	if q, ok := conn.(quicCarrier); ok {
		return q.conn.HandshakeComplete()
	}
	done := make(chan struct{}) // over TCP there is no connection before
	close(done)
	return done
}

// newEpoch names a session that a peer dials: no flight knows it before.
func (m *Manager) newEpoch() uint64 {
	if m.cfg.Tickets == nil {
		return 0
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.BigEndian.Uint64(b[:]), 1)
}

// epochKey is where the epoch of a node is kept, beside tickets: no address
// looks like it.
func epochKey(l peering) string {
	if l.uplink == "" {
		return "epoch of " + l.node.String()
	}
	return "epoch of " + l.node.String() + " by " + l.uplink
}

// epoch returns that of the newest session that a node dialled on a link, 0 if
// none is known.
func (m *Manager) epoch(node peering) uint64 {
	m.epochMu.Lock()
	defer m.epochMu.Unlock()
	if e, ok := m.epochs[node]; ok || m.cfg.Tickets == nil {
		return e
	}
	b, err := m.cfg.Tickets.Ticket(epochKey(node))
	if err != nil || len(b) != 8 {
		return 0
	}
	m.epochs[node] = binary.BigEndian.Uint64(b)
	return m.epochs[node]
}

// setEpoch ends what was recorded before a session. Without its file a restart
// takes no first flight of the node until the next session.
func (m *Manager) setEpoch(s *Session) {
	if s.epoch == 0 {
		return
	}
	node := s.peering()
	m.epochMu.Lock()
	m.epochs[node] = s.epoch
	m.epochMu.Unlock()
	m.wg.Go(func() {
		m.epochDisk.Lock() // whoever writes last writes the newest
		defer m.epochDisk.Unlock()
		if err := m.cfg.Tickets.Keep(epochKey(node), binary.BigEndian.AppendUint64(nil, m.epoch(node))); err != nil {
			m.cfg.Log.Warn("the epoch of a peer cannot be kept: after a restart its next session begins a round trip later", "peer", node.node, "error", err)
		}
	})
}

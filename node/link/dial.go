package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// PeerState is what an operator sees of one configured peer.
type PeerState struct {
	Address   string
	Node      addr.Node // pinned, or found there; zero before the first contact
	Region    addr.Region
	Connected bool
	Uplink    string // of several links with the node
	Inbound   bool   // the session in use was dialled by the peer
	Kex       string
	RTT       time.Duration
	Since     time.Time // of the state that Connected tells
	Attempts  int       // failed in a row
	LastError string    // why the last attempt failed, "" after a success
	NextTry   time.Time // zero while connected or dialling
}

// Peers returns the state of every configured peer, in configured order.
func (m *Manager) Peers() []PeerState {
	out := make([]PeerState, len(m.dialers))
	for i, d := range m.dialers {
		out[i] = d.state()
	}
	return out
}

// dialer keeps one configured peer connected.
type dialer struct {
	m       *Manager
	peer    Peer
	tickets chan []byte // the newest that is to be kept

	mu       sync.Mutex // guards what follows
	rnd      *rand.Rand
	node     addr.Node // found at the address, or the pin
	rtt      time.Duration
	attempts int
	deaf     int  // attempts over UDP in a row that got no answer
	overTCP  bool // where the layer leaves the choice
	lastErr  string
	cause    string // of lastErr, what is compared before logging
	since    time.Time
	next     time.Time
	resting  chan struct{} // closed when the next connection of a socket of its own ends; nil: none has
}

func (d *dialer) state() PeerState {
	d.mu.Lock()
	st := PeerState{
		Address: d.peer.Address, Node: cmp.Or(d.node, d.peer.Node), Uplink: d.peer.Link.Uplink, Since: d.since,
		Attempts: d.attempts, LastError: d.lastErr, NextTry: d.next,
	}
	d.mu.Unlock()
	if s := d.m.reg.current(peering{st.Node, st.Uplink}); s != nil {
		st.Connected, st.Inbound, st.Since = true, !s.Dialed(), s.Since()
		st.Region, st.Kex, st.RTT = s.Region(), s.Kex(), s.RTT()
		st.LastError, st.NextTry, st.Attempts = "", time.Time{}, 0
	}
	return st
}

// run dials, waits while a session stands, and dials again, until ctx ends.
func (d *dialer) run(ctx context.Context) {
	d.mark(func() { d.since, d.node = time.Now(), d.peer.Node })
	for ctx.Err() == nil {
		if s := d.m.reg.current(peering{d.found(), d.peer.Link.Uplink}); s != nil {
			d.watch(ctx, s)
			continue
		}
		open, change := d.peer.Link.contact(time.Now())
		if !open {
			if !d.awaitContact(ctx, change) {
				return
			}
			continue
		}
		pause, again := d.attempt(ctx)
		if again && !d.pause(ctx, pause, change) {
			return
		}
	}
}

// found returns the node at the address, zero when it is not known yet.
func (d *dialer) found() addr.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node
}

func (d *dialer) mark(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// watch waits until a session is down, whoever dialled it.
func (d *dialer) watch(ctx context.Context, s *Session) {
	d.mark(func() { d.attempts, d.lastErr, d.cause, d.next = 0, "", "", time.Time{} })
	select {
	case <-s.Done():
	case <-ctx.Done():
	}
	d.mark(func() { d.since, d.rtt = time.Now(), s.RTT() })
	if why := s.cause.Load(); why != nil && why.Cause != Restarted {
		// Both ends may dial now; a little chance spares them the crossing.
		wait(ctx, d.chance(d.peer.Link.timing(s.firstRTT).cross))
	}
}

// chance is a part of d, drawn.
func (d *dialer) chance(of time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rnd.Int64N(int64(of)))
}

// backoff is the pause after attempt n, see Properties.backoff.
func (d *dialer) backoff(n int, seen time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peer.Link.backoff(n, seen, d.rnd)
}

// awaitContact sleeps until the schedule opens the link, or a session with
// the peer is there anyway.
func (d *dialer) awaitContact(ctx context.Context, start time.Time) bool {
	if start.IsZero() {
		d.m.cfg.Log.Warn("peer has no contact left in its schedule, it is not dialled any more", "peer", d.peer.Address)
		<-ctx.Done()
		return false
	}
	d.mark(func() { d.next, d.attempts = start, 0 })
	return wait(ctx, time.Until(start))
}

// pause waits before the next attempt, no longer than until end, the end of
// the contact.
func (d *dialer) pause(ctx context.Context, p time.Duration, end time.Time) bool {
	if !end.IsZero() {
		p = min(p, max(time.Until(end), 0))
	}
	d.mark(func() { d.next = time.Now().Add(p) })
	return wait(ctx, p)
}

// attempt dials once and, when that works, serves the session to its end.
// again says that the next attempt must wait.
func (d *dialer) attempt(ctx context.Context) (pause time.Duration, again bool) {
	d.mu.Lock()
	w, n, rtt := d.way(), d.attempts, d.rtt
	d.next = time.Time{}
	d.mu.Unlock()
	s, release, err := d.establish(ctx, w, rtt)
	d.learn(w, err)
	switch {
	case err == nil:
		d.m.met.dials.WithLabelValues("ok").Inc()
		d.mark(func() { d.attempts, d.lastErr, d.cause = 0, "", "" })
		why := d.serve(ctx, s, w, release)
		d.mark(func() { d.since, d.rtt = time.Now(), s.RTT() })
		if time.Since(s.upAt) < d.peer.Link.timing(s.firstRTT).settle || why.Remote && why.Cause != Restarted {
			// Ended as soon as it began, or on purpose: do not hammer.
			return d.backoff(0, rtt), true
		}
		return 0, false
	case ctx.Err() != nil:
		return 0, false
	case downOf(err).Cause == Redundant:
		// Look for the session that stays; it may still be on its way.
		d.m.met.dials.WithLabelValues(string(Redundant)).Inc()
		return d.backoff(0, rtt), true
	}
	d.failed(err, d.peer.Link.handshakeTimeout(n, rtt))
	return d.backoff(n, rtt), true
}

// failed notes why an attempt failed and logs it when the cause is a new one.
func (d *dialer) failed(err error, waited time.Duration) {
	cause, text := explain(err, d.peer, waited)
	d.m.met.dials.WithLabelValues(cause).Inc()
	d.mu.Lock()
	d.attempts++
	key := cause
	if cause == causeCertificate {
		key = text // expired, other mesh, ...: the text tells them apart
	}
	fresh := key != d.cause
	d.cause, d.lastErr = key, text
	d.mu.Unlock()
	if fresh {
		d.m.cfg.Log.Warn("peer not reached", "peer", d.peer.way(), "cause", cause, "err", text)
	}
}

// establish dials and exchanges Hellos. On success release must be called
// once the session is installed.
func (d *dialer) establish(ctx context.Context, w way, rtt time.Duration) (_ *Session, _ func(), err error) {
	to, err := d.resolve(ctx, w.attempts)
	if err != nil {
		return nil, nil, err
	}
	m, props := d.m, d.peer.Link
	began := time.Now()
	o, err := d.open(ctx, to, w, rtt)
	if err != nil {
		return nil, nil, err
	}
	conn := o.conn
	release := func() {}
	defer func() {
		if err != nil {
			o.pass.failed(err)
			hangUp(conn, downOf(err))
			release()
		}
	}()
	peer, err := m.identify(conn, d.peer.Node)
	if err != nil {
		return nil, nil, err
	}
	d.mark(func() { d.node = peer.Node })
	claimed, err := m.reg.claimDial(peering{peer.Node, props.Uplink}, w.instead)
	if err != nil {
		return nil, nil, Down{Cause: Redundant, Err: err}
	}
	release = claimed
	// There may be no sample yet; the handshake took a round trip or more.
	hctx, cancel := context.WithTimeout(conn.Context(), props.helloWait(max(conn.Stats().RTT, time.Since(began))))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if err := o.settle(hctx, m, props, peer.Node); err != nil {
		return nil, nil, err
	}
	in, hello, err := m.hear(hctx, o.ctrl, peer)
	if err != nil {
		return nil, nil, betterCause(conn, err)
	}
	o.pass.met(conn.TLS(), hello.Epoch)
	s := newSession(m.nextID.Add(1), &m.cfg, conn, o.ctrl, in, peer, hello, props, o.begun)
	s.dial = d.peer.Address
	return s, release, nil
}

// betterCause prefers why the connection ended to what a stream says of it.
func betterCause(conn carrier, err error) error {
	if cause := context.Cause(conn.Context()); cause != nil {
		return downOf(cause)
	}
	return err
}

// resolve looks the address up; attempts go round the answers, IPv4 first.
func (d *dialer) resolve(ctx context.Context, attempt int) (net.Addr, error) {
	ips, port, err := lookUp(ctx, d.peer.Address)
	if err != nil {
		return nil, err
	}
	from := source(d.peer.From)
	ips = slices.DeleteFunc(ips, func(ip netip.Addr) bool { return !from.reaches(ip) })
	if len(ips) == 0 {
		return nil, &sourceError{d.peer.From, fmt.Errorf("%s has no address of that kind (IPv4, IPv6)", d.peer.Address)}
	}
	ip := ips[attempt%len(ips)]
	return &net.UDPAddr{IP: ip.AsSlice(), Port: int(port), Zone: ip.Zone()}, nil
}

// lookUp returns the addresses of HOST:PORT, IPv4 first; one or more.
func lookUp(ctx context.Context, address string) ([]netip.Addr, uint16, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, 0, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("port %q of %s: %w", port, address, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(ips) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errResolve, err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortFunc(ips, func(a, b netip.Addr) int { return cmp.Or(cmp.Compare(a.BitLen(), b.BitLen()), a.Compare(b)) })
	return ips, uint16(p), nil
}

package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const acceptPause = 50 * time.Millisecond

// gate is a listener whose Accept gives connections whose handshake is over.
type gate struct {
	inner net.Listener
	cfg   Config
	at    place
	tls   *tls.Config
	up    *upgrader
	m     *meters

	slots chan struct{}  // one entry per handshake under way
	ready chan net.Conn  // to Accept
	done  chan struct{}  // closed by Close
	work  sync.WaitGroup // the acceptor and the handshakes

	close sync.Once
	err   error // of Close

	mu       sync.Mutex
	underway map[*attempt]struct{} // guarded by mu
}

// attempt is one handshake.
type attempt struct {
	raw   net.Conn
	from  netip.Addr
	since time.Time
	cut   bool // guarded by gate.mu: for the sake of others
}

func newGate(inner net.Listener, cfg Config, at place, m *meters) *gate {
	g := &gate{
		inner: inner, cfg: cfg, at: at, m: m,
		slots:    make(chan struct{}, cfg.MaxHandshakes),
		ready:    make(chan net.Conn),
		done:     make(chan struct{}),
		underway: make(map[*attempt]struct{}),
	}
	if at.secure() {
		g.tls = forKind(cfg.TLS, at.kind)
	}
	if at.path != "" {
		g.up = newUpgrader(cfg, at)
	}
	g.work.Go(g.serve)
	return g
}

// Accept returns the next connection that is through its handshake.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.done:
		return nil, &net.OpError{Op: "accept", Net: g.at.kind, Addr: g.inner.Addr(), Err: net.ErrClosed}
	}
}

// Addr is the bound address.
func (g *gate) Addr() net.Addr { return g.inner.Addr() }

// Close ends the listener and every handshake under way. Connections that were
// accepted stay.
func (g *gate) Close() error {
	g.close.Do(func() {
		close(g.done)
		g.err = g.inner.Close()
		g.mu.Lock()
		for a := range g.underway {
			_ = a.raw.Close()
		}
		g.mu.Unlock()
		g.work.Wait()
	})
	return g.err
}

// serve accepts until Close, and starts a handshake for each who comes. One
// client at most waits here for its turn; the others wait in the kernel.
func (g *gate) serve() {
	for {
		raw, err := g.inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Running out of descriptors or buffers passes.
			g.cfg.Log.Warn("mqtt accept failed", "listener", g.cfg.URL, "err", err)
			if !g.sleep(acceptPause) {
				return
			}
			continue
		}
		if !g.turn() {
			_ = raw.Close()
			return
		}
		a := &attempt{raw: raw, from: addrPort(raw.RemoteAddr()).Addr(), since: time.Now()}
		if !g.enter(a) {
			_ = raw.Close()
			return
		}
		g.work.Go(func() {
			g.handshake(a)
			<-g.slots
		})
	}
}

func (g *gate) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.done:
		return false
	}
}

// turn takes a slot, making room if need be. It reports false on Close.
func (g *gate) turn() bool {
	select {
	case g.slots <- struct{}{}:
		return true
	default:
	}
	g.m.full.Inc()
	for {
		t := time.NewTimer(g.crowd(time.Now()))
		select {
		case g.slots <- struct{}{}:
			t.Stop()
			return true
		case <-g.done:
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// crowd cuts a handshake that takes long, and returns when to look again. Of
// the address that has the most, the oldest goes, if it has had a quarter of
// its time.
func (g *gate) crowd(now time.Time) time.Duration {
	patience := g.cfg.HandshakeTimeout / 4
	again := patience
	g.mu.Lock()
	defer g.mu.Unlock()
	slow := make(map[netip.Addr]int)
	for a := range g.underway {
		if left := patience - now.Sub(a.since); left > 0 {
			again = min(again, left)
		} else if !a.cut {
			slow[network(a.from)]++
		}
	}
	var victim *attempt
	for a := range g.underway {
		if a.cut || now.Sub(a.since) < patience {
			continue
		}
		if victim == nil || slow[network(a.from)] > slow[network(victim.from)] ||
			slow[network(a.from)] == slow[network(victim.from)] && a.since.Before(victim.since) {
			victim = a
		}
	}
	if victim != nil {
		victim.cut = true
		_ = victim.raw.Close()
	}
	return max(again, time.Millisecond)
}

// network is what one attacker has at hand: an IPv4 address, or the 64 bits of
// an IPv6 network.
func network(a netip.Addr) netip.Addr {
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}

// enter notes a handshake, so that Close and crowd find it.
func (g *gate) enter(a *attempt) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.done:
		return false
	default:
	}
	g.underway[a] = struct{}{}
	g.m.underway.Inc()
	return true
}

// leave reports whether the handshake was cut.
func (g *gate) leave(a *attempt) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.underway, a)
	g.m.underway.Dec()
	return a.cut
}

// handshake takes one client through everything before MQTT and hands it to
// Accept.
func (g *gate) handshake(a *attempt) {
	_ = a.raw.SetDeadline(a.since.Add(g.cfg.HandshakeTimeout))
	c, err := g.shake(a.raw)
	if err == nil {
		err = a.raw.SetDeadline(time.Time{})
	}
	if g.leave(a) {
		err = refuse(causeCrowded, errors.New("slow while others waited"))
	}
	if err != nil {
		_ = a.raw.Close()
		err = explain(err)
		g.m.refuse(err)
		g.cfg.Log.Debug("mqtt client refused", "listener", g.cfg.URL, "remote", a.raw.RemoteAddr().String(), "err", err)
		return
	}
	select {
	case g.ready <- c:
		g.m.accepted.Inc()
	case <-g.done:
		_ = c.Close()
	}
}

// shake is the handshake proper.
func (g *gate) shake(raw net.Conn) (net.Conn, error) {
	peer := Peer{Transport: g.at.kind, Remote: addrPort(raw.RemoteAddr())}
	if g.proxied(peer.Remote.Addr()) {
		p, err := readProxy(raw)
		if err != nil {
			return nil, err
		}
		if p.from.IsValid() {
			peer.Remote = p.from
		}
		if p.cn != "" {
			peer.Names = []string{p.cn}
		}
	}
	c := raw
	if g.tls != nil {
		t := tls.Server(raw, g.tls)
		if err := t.Handshake(); err != nil {
			return nil, err
		}
		// A certificate shown to us says more than what a proxy says of one.
		if n := names(t.ConnectionState()); len(n) > 0 {
			peer.Names = n
		}
		c = t
	}
	if g.up != nil {
		return g.up.upgrade(&conn{Conn: c, peer: peer})
	}
	return &conn{Conn: c, peer: peer}, nil
}

// proxied reports whether a header is required of an address.
func (g *gate) proxied(from netip.Addr) bool {
	if g.at.kind == Unix {
		return true // Listen makes a gate of a unix socket for nothing else
	}
	for _, p := range g.cfg.Proxy {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// explain finds the cause of a failed handshake.
func explain(err error) error {
	var known *refusal
	var cert *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return refuse(causeTimeout, err)
	case errors.As(err, &cert):
		return refuse(causeClientCert, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		return refuse(causeGone, err)
	}
	return refuse(causeTLS, err)
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

package dtn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// How long to wait for a connection, and between attempts.
const (
	firstConnect = 10 * time.Second // distance unknown, first attempt
	minConnect   = 2 * time.Second  // distance known
	lastConnect  = 5 * time.Minute
	firstPause   = 500 * time.Millisecond // distance unknown
	minPause     = 200 * time.Millisecond
	maxPause     = time.Minute
)

// connectTimeout is how long attempt (0, 1, ...) may take; seen is how long
// the last successful one took, 0 when there was none.
func connectTimeout(attempt int, seen time.Duration) time.Duration {
	first := firstConnect
	if seen > 0 {
		first = max(20*seen, minConnect)
	}
	return min(first<<min(attempt, 8), max(lastConnect, 4*seen))
}

// backoff is the pause after attempt, doubling from ten times the connect
// time, with ± 25 % so that the nodes of a site do not come back together.
func backoff(attempt int, seen time.Duration, rnd *rand.Rand) time.Duration {
	base := firstPause
	if seen > 0 {
		base = max(10*seen, minPause)
	}
	d := min(base<<min(attempt, 12), max(maxPause, 4*seen))
	return time.Duration(float64(d) * (0.75 + 0.5*rnd.Float64()))
}

// keep keeps a session with p by dialling whenever there is none.
func (d *Door) keep(ctx context.Context, p *peer) {
	var salt uint64
	for _, b := range []byte(p.cfg.Name) {
		salt = salt*131 + uint64(b)
	}
	rnd := rand.New(rand.NewPCG(d.cfg.Seed, salt))
	for ctx.Err() == nil {
		if p.pick() != nil { // it dialled us
			select {
			case <-p.down:
			case <-ctx.Done():
			}
			continue
		}
		start := time.Now()
		err := d.dial(ctx, p)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		if time.Since(start) > 10*backoff(0, p.rtt, rnd) {
			p.attempt = 0 // what lived for some time was good
		}
		pause := backoff(p.attempt, p.rtt, rnd)
		p.attempt++
		p.nextDial = time.Now().Add(pause)
		p.mu.Unlock()
		p.failed(err)
		d.cfg.Log.Info("dtn peer is not connected", "peer", p.cfg.Name, "address", p.cfg.Address, "error", err, "retry", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		p.mu.Lock()
		p.nextDial = time.Time{}
		p.mu.Unlock()
	}
}

// dial makes one session with p and serves it to its end.
func (d *Door) dial(ctx context.Context, p *peer) error {
	p.mu.Lock()
	limit := connectTimeout(p.attempt, p.rtt)
	p.mu.Unlock()
	dialer := net.Dialer{Timeout: limit}
	start := time.Now()
	conn, err := dialer.DialContext(ctx, "tcp", p.cfg.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	rtt := time.Since(start)
	p.mu.Lock()
	p.rtt = rtt
	p.mu.Unlock()
	if p.cfg.Kind != TCPCL {
		return d.plainOut(ctx, p, conn, rtt)
	}
	name := p.cfg.ServerName
	if host, _, _ := net.SplitHostPort(p.cfg.Address); name == "" && net.ParseIP(host) == nil {
		name = host
	}
	c := &contact{cfg: &d.cfg, active: true, policy: p.cfg.TLS, auth: p.cfg.Auth, name: name}
	c.lookup = func(node addr.EID) (*peer, Auth, error) {
		if !p.expects(node) {
			return nil, "", fmt.Errorf("%s answers, not %s; check the address", node, p.cfg.Node)
		}
		return p, p.cfg.Auth, nil
	}
	return d.tcpcl(ctx, conn, c, max(connectTimeout(0, rtt), firstConnect), rtt, func() {})
}

// tcpcl begins a TCPCLv4 session on conn and serves it to its end. greeted is
// called when the beginning is over.
func (d *Door) tcpcl(ctx context.Context, conn net.Conn, c *contact, limit, rtt time.Duration, greeted func()) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	e, err := c.begin(conn, rtt)
	greeted()
	if !stop() || err != nil {
		return errors.Join(err, ctx.Err())
	}
	stats := &d.strangers
	if e.peer != nil {
		stats = &e.peer.stats
	}
	s := newSession(d, e, stats)
	s.log.Info("dtn session is up", "tls", e.kex, "authenticated", e.authenticated, "rtt", e.rtt,
		"transferMRU", e.init.transferMRU, "segmentMRU", e.init.segmentMRU, "keepalive", s.keepalive)
	if e.peer != nil {
		e.peer.attach(s)
	}
	err = s.run(ctx)
	s.log.Info("dtn session is over", "error", err)
	if e.peer != nil {
		e.peer.detach(s, err)
	}
	return err
}

// accept serves one listener.
func (d *Door) accept(ctx context.Context, ln net.Listener, l Listener) error {
	served := make(chan struct{}, cap(d.slots))
	var pause time.Duration
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			for range cap(served) { // all that are served give their token back
				served <- struct{}{}
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("dtn door: accept on %s: %w", l.Address, err)
		case err != nil: // out of file descriptors, most likely
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			d.cfg.Log.Warn("dtn door cannot accept", "address", l.Address, "error", err)
			time.Sleep(pause)
			continue
		}
		pause = 0
		if !d.admit() {
			_ = conn.Close()
			continue
		}
		served <- struct{}{}
		go func() {
			defer func() { <-d.slots; <-served }()
			d.serve(ctx, conn, l)
		}()
	}
}

// admit takes a place for a connection, or turns it away.
func (d *Door) admit() bool {
	select {
	case d.greeting <- struct{}{}:
	default:
		d.turnedAway.Add(1)
		return false
	}
	select {
	case d.slots <- struct{}{}:
		return true
	default:
		<-d.greeting
		d.turnedAway.Add(1)
		return false
	}
}

// serve serves one accepted connection.
func (d *Door) serve(ctx context.Context, conn net.Conn, l Listener) {
	remote := conn.RemoteAddr().String()
	if l.Kind != TCPCL {
		<-d.greeting
		if err := d.plainIn(ctx, conn, l); err != nil {
			d.cfg.Log.Info("dtn connection is over", "kind", string(l.Kind), "remote", remote, "error", err)
		}
		return
	}
	c := &contact{cfg: &d.cfg, policy: l.TLS, auth: l.Auth}
	c.lookup = func(node addr.EID) (*peer, Auth, error) { return d.known(node, l) }
	err := d.tcpcl(ctx, conn, c, acceptPatience, 0, func() { <-d.greeting })
	if err != nil {
		d.cfg.Log.Info("dtn connection is over", "kind", string(l.Kind), "remote", remote, "error", err)
	}
}

// known finds the peer that connected.
func (d *Door) known(node addr.EID, l Listener) (*peer, Auth, error) {
	if node == d.cfg.Node {
		return nil, "", fmt.Errorf("%s is this node itself", node)
	}
	for _, c := range d.cfg.Peers { // in the order of the configuration
		p := d.peers[c.Name]
		if c.Kind != TCPCL || c.Node.IsZero() || c.Node != node {
			continue
		}
		p.mu.Lock()
		n := len(p.outlets)
		p.mu.Unlock()
		if n >= maxOutlets {
			return nil, "", fmt.Errorf("%s has %d sessions already", c.Name, n)
		}
		return p, c.Auth, nil
	}
	if !l.Strangers {
		return nil, "", fmt.Errorf("%s is no configured peer, and this listener admits no strangers", node)
	}
	return nil, l.Auth, nil
}

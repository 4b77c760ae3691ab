package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/farhop/farhop/node/mux"
)

// tlsCarrier is a connection of TLS over TCP.
type tlsCarrier struct{ conn *mux.Conn }

func (c tlsCarrier) Context() context.Context { return c.conn.Context() }
func (c tlsCarrier) RemoteAddr() net.Addr     { return c.conn.RemoteAddr() }
func (c tlsCarrier) TLS() tls.ConnectionState { return c.conn.TLS() }
func (c tlsCarrier) Stats() carrierStats      { return carrierStats(c.conn.Stats()) }

func (c tlsCarrier) OpenStream(ctx context.Context) (stream, error) {
	st, err := c.conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c tlsCarrier) OpenUni(ctx context.Context) (sendStream, error) {
	st, err := c.conn.OpenUni(ctx)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c tlsCarrier) AcceptStream(ctx context.Context) (stream, error) {
	st, err := c.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c tlsCarrier) AcceptUni(ctx context.Context) (io.Reader, error) {
	st, err := c.conn.AcceptUni(ctx)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (c tlsCarrier) CloseWithError(code uint64, text string) error {
	return c.conn.CloseWithError(code, text)
}

// tuned gives a connection over TCP what is known of the link.
func tuned(conn carrier, p Properties, dialed bool) {
	if t, ok := conn.(tlsCarrier); ok {
		t.conn.Tune(p.muxConfig(dialed))
	}
}

// muxConfig is the multiplexer's configuration. Credit comes a quarter of a
// window late, and TCP has a window of its own before it; so it is wider than
// QUIC's. What waits in the kernel is
// bounded by time where the rate is known: an alarm waits behind it.
func (p Properties) muxConfig(dialed bool) mux.Config {
	t := p.timing(0)
	c := mux.Config{
		Window: min(2*int64(p.window()), t.maxWindow), Idle: p.idleTimeout(), Measure: measureEvery, Busy: busyTime, Linger: t.redial,
		Violation: Protocol.code(),
	}
	if dialed {
		c.KeepAlive = p.keepAlive()
	}
	if rate := p.Rate; rate > 0 {
		share := func(d time.Duration, most int64) int {
			return int(min(max(rate/8*int64(d)/int64(time.Second), minBatch), most))
		}
		c.Batch, c.Unsent = share(batchTime, mux.DefaultBatch), share(unsentTime, mux.DefaultUnsent)
	}
	return c
}

// minBatch is what is written at once however slow the link is, in bytes.
const minBatch = 1 << 10

// dialTLS opens a connection over TCP. patience is for each of its two round
// trips.
func (m *Manager) dialTLS(ctx context.Context, to net.Addr, conf *tls.Config, p Peer, patience time.Duration) (carrier, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*patience, errNoAnswer)
	defer cancel()
	d := net.Dialer{KeepAlive: -1}
	if l, ok := m.local.(*net.UDPAddr); ok && !l.IP.IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: l.IP, Zone: l.Zone}
	}
	c, err := dialTLS(ctx, source(p.From).dialer(d), to, conf, p.Link, m.wg.Go)
	return c, source(p.From).fault(err)
}

// errNoAnswer is the cause of a context that ends an attempt.
var errNoAnswer = errors.New("no answer")

func dialTLS(ctx context.Context, d net.Dialer, to net.Addr, conf *tls.Config, p Properties, run func(func())) (carrier, error) {
	why := func(err error) error {
		if cause := context.Cause(ctx); errors.Is(cause, errNoAnswer) {
			return cause
		}
		return err
	}
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, why(err)
	}
	c, err := mux.Client(ctx, nc, conf, p.muxConfig(true))
	if err != nil {
		return nil, why(err)
	}
	run(c.Wait)
	return tlsCarrier{c}, nil
}

// waiting are the inbound connections over TCP that have not shown who they are,
// the oldest first.
type waiting struct {
	mu    sync.Mutex
	conns []net.Conn
}

// enter adds a connection. Where too many wait it closes the one that has
// waited longest, and full is true: an honest one is through within some round
// trips. done is called when it has shown who it is, or is gone.
func (w *waiting) enter(nc net.Conn) (done func(), full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if full = len(w.conns) >= maxPending; full {
		_ = w.conns[0].Close()
		w.conns = slices.Delete(w.conns, 0, 1)
	}
	w.conns = append(w.conns, nc)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns = slices.DeleteFunc(w.conns, func(c net.Conn) bool { return c == nc })
	}, full
}

// tcp reports whether the node has TCP at all.
func (m *Manager) tcp() bool { return m.cfg.Socket == nil }

// bindTries: so many ports are tried where any port will do and both UDP and
// TCP need it.
const bindTries = 8

// bind opens the port for UDP and TCP. A node that cannot have TCP works, but
// not for peers to which no UDP passes; the listener is nil then.
func (m *Manager) bind(ctx context.Context) (net.PacketConn, net.Listener, error) {
	_, port, _ := net.SplitHostPort(m.cfg.Listen)
	for try := 1; ; try++ {
		conn, err := m.cfg.bind(ctx)
		if err != nil || !m.tcp() {
			return conn, nil, err
		}
		lc := net.ListenConfig{KeepAlive: -1}
		ln, err := lc.Listen(ctx, "tcp", conn.LocalAddr().String())
		switch {
		case err == nil:
			return conn, ln, nil
		case port == "0" && try < bindTries:
			_ = conn.Close()
		default:
			m.cfg.Log.Warn("peers to which no UDP passes cannot come in: TCP is not available; free the port or choose another mesh.listen in farhop.yaml",
				"addr", conn.LocalAddr(), "err", err)
			return conn, nil, nil
		}
	}
}

// acceptTCP serves connections over TCP until the listener closes.
func (m *Manager) acceptTCP(ctx context.Context, ln net.Listener) {
	conf, patience := mux.ServerTLS(m.cfg.TLSServer), m.cfg.listenConfig().HandshakeIdleTimeout
	for {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = nc.Close()
			}
			return
		case err != nil: // too many open files, most likely
			m.warn("a connection was not accepted", "err", err)
			wait(ctx, acceptPause)
			continue
		}
		m.wg.Go(func() { m.inboundTCP(ctx, nc, conf, patience) })
	}
}

// shakeCause says why a handshake over TCP failed.
func shakeCause(err error) Cause {
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errNoAnswer):
		return Silent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op) && op.Op != localError:
		return Failed
	}
	return Refused
}

// inboundTCP serves one connection.
func (m *Manager) inboundTCP(ctx context.Context, nc net.Conn, conf *tls.Config, patience time.Duration) {
	done, full := m.waiting.enter(nc)
	defer done()
	if full {
		m.met.refused.WithLabelValues(string(Busy)).Inc()
	}
	hctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, pendingKey{}, done), patience, errNoAnswer)
	defer cancel()
	c, err := mux.Server(hctx, nc, conf, Properties{}.muxConfig(false))
	if err != nil {
		if ctx.Err() == nil {
			m.met.refused.WithLabelValues(string(shakeCause(err))).Inc()
			m.warn("connection refused", "from", nc.RemoteAddr(), "layer", LayerTLS, "err", err)
		}
		return
	}
	cancel()
	m.wg.Go(c.Wait)
	if c.TLS().NegotiatedProtocol == ALPNJoin {
		done() // newcomers have a limit of their own
	}
	m.take(ctx, tlsCarrier{c})
}

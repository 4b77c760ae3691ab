package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Application codes of CONNECTION_CLOSE, STOP_SENDING and RESET_STREAM. There
// is no standard for MQTT over QUIC; 0 is no error with the brokers that have
// it.
const (
	quicDone     = 0
	quicBusy     = 1 // as many handshakes as allowed are under way, or the listener closes
	quicNoStream = 2 // the client opened no stream in time
	quicExtra    = 3 // a stream that is not the client's first
)

const (
	maxExtraStreams = 8 // per connection; a client that goes on is cut
	minFarewell     = 200 * time.Millisecond
	maxFarewell     = 10 * time.Second // more than three round trips to the Moon
)

// quicListener serves MQTT over QUIC (RFC 9000) as EMQX and NanoMQ do it: the
// first bidirectional stream a client opens is its MQTT connection.
type quicListener struct {
	cfg Config
	m   *meters
	udp net.PacketConn
	tr  *quic.Transport
	ln  *quic.Listener

	slots   chan struct{}
	ready   chan net.Conn
	done    chan struct{}
	ctx     context.Context // ends with done
	cancel  context.CancelFunc
	work    sync.WaitGroup
	closing sync.Once
	err     error

	mu    sync.Mutex
	users int // guarded by mu: the listener and its connections; the last one closes the socket
}

// slotKey finds a connection's slot in its context.
type slotKey struct{}

// slot is one handshake's place among those under way.
type slot struct {
	since  time.Time
	free   func()
	passed atomic.Bool // the handshake is over, Accept has the connection
}

func listenQUIC(ctx context.Context, cfg Config, at place, m *meters) (net.Listener, error) {
	var lc net.ListenConfig
	udp, err := lc.ListenPacket(ctx, "udp", at.addr)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", cfg.URL, unbound(err))
	}
	l := &quicListener{
		cfg: cfg, m: m, udp: udp, users: 1,
		slots: make(chan struct{}, cfg.MaxHandshakes),
		ready: make(chan net.Conn),
		done:  make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.tr = &quic.Transport{
		Conn:        udp,
		ConnContext: l.admit,
		// A round trip more, for proof that the address is the sender's, once
		// there is reason to doubt it.
		VerifySourceAddress: func(net.Addr) bool { return len(l.slots) >= cap(l.slots)/2 },
		StatelessResetKey:   (*quic.StatelessResetKey)(cfg.ResetKey),
	}
	if l.ln, err = l.tr.Listen(forKind(cfg.TLS, QUIC), l.config()); err != nil {
		l.cancel()
		return nil, errors.Join(fmt.Errorf("listen %s: %w", cfg.URL, err), l.tr.Close(), udp.Close())
	}
	l.work.Go(l.serve)
	return l, nil
}

func (l *quicListener) config() *quic.Config {
	window := uint64(l.cfg.MaxWindow)
	return &quic.Config{
		// A client's first flight can be recorded and sent again by anyone. With
		// 0-RTT it would hold CONNECT and PUBLISH, and a replayed PUBLISH is one
		// that nobody sent. A resumed handshake costs one round trip and is not
		// replayable.
		Allow0RTT: false,
		// The library gives up at twice this.
		HandshakeIdleTimeout: l.cfg.HandshakeTimeout / 2,
		MaxIdleTimeout:       l.cfg.IdleTimeout,
		KeepAlivePeriod:      0, // MQTT's PINGREQ is the client's choice of how often
		// More streams than we take, so that a client that wants several hears
		// so at once, instead of waiting for credit.
		MaxIncomingStreams:             2,
		MaxIncomingUniStreams:          -1,
		InitialStreamReceiveWindow:     min(window, 64<<10),
		MaxStreamReceiveWindow:         window,
		InitialConnectionReceiveWindow: min(window, 96<<10),
		MaxConnectionReceiveWindow:     window + window/2,
	}
}

// admit gives a new connection a slot, or has it refused. The slot is free
// when the client's stream is handed to Accept, or the connection has failed.
func (l *quicListener) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.m.full.Inc()
		return nil, errors.New("too many handshakes under way")
	}
	l.m.underway.Inc()
	s := &slot{since: time.Now()}
	free := sync.OnceFunc(func() {
		l.m.underway.Dec()
		<-l.slots
	})
	// The library lets go of a connection without a word when two first packets
	// with one id come at the same instant.
	late := time.AfterFunc(l.cfg.HandshakeTimeout+time.Second, free)
	s.free = func() {
		late.Stop()
		free()
	}
	context.AfterFunc(ctx, func() {
		if !s.passed.Load() {
			l.refused(context.Cause(ctx))
		}
		s.free()
	})
	return context.WithValue(ctx, slotKey{}, s), nil
}

// refused counts a connection that ended before its handshake did.
func (l *quicListener) refused(err error) {
	cause := causeGone
	var timeout net.Error
	if asTimeout(err, &timeout) {
		cause = causeTimeout
	} else if e, ok := errors.AsType[*quic.TransportError](err); ok && e.ErrorCode.IsCryptoError() {
		cause = causeTLS
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			cause = causeClientCert
		}
	}
	l.m.refuse(refuse(cause, err))
	l.cfg.Log.Debug("mqtt client refused", "listener", l.cfg.URL, "cause", cause, "err", err)
}

// serve takes connections whose handshake is over; each waits for its stream
// on its own. Once the listener is closed it sends away those who are through.
func (l *quicListener) serve() {
	for {
		qc, err := l.ln.Accept(context.Background())
		if err != nil {
			if !errors.Is(err, quic.ErrServerClosed) {
				l.cfg.Log.Error("mqtt listener failed", "listener", l.cfg.URL, "err", err)
			}
			l.shut()
			return
		}
		if !l.hold() {
			_ = qc.CloseWithError(quicBusy, "closing")
			continue
		}
		l.work.Go(func() { l.first(qc) })
	}
}

// first waits for a client's stream and hands it to Accept.
func (l *quicListener) first(qc *quic.Conn) {
	s, ok := qc.Context().Value(slotKey{}).(*slot)
	if !ok { // every connection came through admit
		_ = qc.CloseWithError(quicBusy, "")
		l.release()
		return
	}
	s.passed.Store(true)
	defer s.free()
	ctx, cancel := context.WithDeadline(l.ctx, s.since.Add(l.cfg.HandshakeTimeout))
	defer cancel()
	stream, err := qc.AcceptStream(ctx)
	if err != nil {
		l.streamless(qc, err)
		return
	}
	c := &quicConn{
		Stream: stream, qc: qc, l: l,
		peer: Peer{Remote: addrPort(qc.RemoteAddr()), Transport: QUIC, Names: names(qc.ConnectionState().TLS)},
	}
	select {
	case l.ready <- c:
		l.m.accepted.Inc()
		go c.tend() // ends with the connection
	case <-l.done:
		_ = qc.CloseWithError(quicBusy, "closing")
		l.release()
	}
}

// streamless closes and counts a connection on which no stream was opened.
func (l *quicListener) streamless(qc *quic.Conn, err error) {
	defer l.release()
	switch {
	case l.ctx.Err() != nil:
		_ = qc.CloseWithError(quicBusy, "closing")
		l.m.refuse(refuse(causeGone, err))
	case errors.Is(err, context.DeadlineExceeded):
		_ = qc.CloseWithError(quicNoStream, "no stream was opened")
		l.m.refuse(refuse(causeStream, err))
	default:
		_ = qc.CloseWithError(quicDone, "")
		l.refused(err)
	}
}

// hold counts a connection that needs the socket.
func (l *quicListener) hold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		return false
	}
	l.users++
	return true
}

// release closes the socket after its last user.
func (l *quicListener) release() {
	l.mu.Lock()
	l.users--
	last := l.users == 0
	l.mu.Unlock()
	if last {
		_ = l.tr.Close()
		_ = l.udp.Close()
	}
}

// Accept returns the next client that has opened its stream.
func (l *quicListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: QUIC, Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr is the bound UDP address.
func (l *quicListener) Addr() net.Addr { return l.udp.LocalAddr() }

// Close ends the listener and every handshake under way. Connections that were
// accepted stay, and the socket with them.
func (l *quicListener) Close() error {
	err := l.shut()
	l.work.Wait()
	return err
}

func (l *quicListener) shut() error {
	l.closing.Do(func() {
		close(l.done)
		l.cancel()
		l.err = l.ln.Close()
		l.release()
	})
	return l.err
}

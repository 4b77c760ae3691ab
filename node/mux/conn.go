package mux

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Limits of the format: both ends reckon with them before anything was said.
const (
	MaxStreams = 1024 // two-way streams that each end may have open
	MaxOneWay  = 16   // one-way streams that each end may have open

	firstWindow       = 8 << 10   // bytes of a two-way stream
	firstWindowOneWay = 256 << 10 // bytes of a one-way stream
)

// What a Config has where it says nothing.
const (
	DefaultBatch  = 64 << 10  // bytes of one write
	DefaultUnsent = 128 << 10 // bytes in the kernel that are not on their way
)

// Limits of this end. With every stream at its first window and the spare in
// use, what no reader has taken stays below 32 MiB.
const (
	spareWindow = 8 << 20  // bytes that all windows may grow by
	usualWindow = 64 << 10 // of a two-way stream, at once while the spare lasts
	urgencies   = 8        // RFC 9218
)

// ErrIdle ends a connection from which nothing came for Config.Idle.
var ErrIdle = errors.New("nothing was heard from the peer")

// ErrCut ends a connection that TCP ended and the peer did not.
var ErrCut = errors.New("the connection was cut")

// CloseError says that one end closed the connection.
type CloseError struct {
	Code   uint64
	Text   string
	Remote bool // the far end did
}

// Error implements error.
func (e *CloseError) Error() string {
	by := "here"
	if e.Remote {
		by = "by the peer"
	}
	return fmt.Sprintf("closed %s with code %d: %.256q", by, e.Code, e.Text)
}

// ResetError says that one end reset the stream.
type ResetError struct{ Code uint64 }

// Error implements error.
func (e *ResetError) Error() string { return fmt.Sprintf("stream reset with code %d", e.Code) }

// Config is how a connection behaves. Zero times mean never.
type Config struct {
	Window int64 // bytes that the window of a stream grows to; 0: it does not grow
	Batch  int   // bytes of one write, from 1 KiB; 0: 64 KiB
	Unsent int   // bytes that the kernel may hold unsent, where it can be told; 0: 128 KiB

	Idle      time.Duration // silence that ends the connection
	KeepAlive time.Duration // silence of ours before a ping
	Measure   time.Duration // least time between two measurements of the round trip
	Busy      time.Duration // a quarter of a window that is read within this is too small a one; or within some round trips
	Linger    time.Duration // for the peer to hear that the connection ends

	Violation uint64 // code told to a peer that breaks the rules
}

func (c Config) withDefaults() Config {
	if c.Batch == 0 {
		c.Batch = DefaultBatch
	}
	if c.Unsent == 0 {
		c.Unsent = DefaultUnsent
	}
	c.Batch = max(c.Batch, 1<<10)
	return c
}

// Conn is one connection. Its methods may be called by many at once.
type Conn struct {
	cfg    Config
	raw    *record
	tls    *tls.Conn
	server bool
	state  tls.ConnectionState

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	done   chan struct{} // nothing comes any more, or we do not listen

	mu       sync.Mutex
	err      error  // why it ended
	farewell []byte // the Close to send, if there is one
	streams  map[uint64]*Stream
	unborn   map[*Stream]bool // of ours, without a number yet
	next     [2]uint64        // of ours, by kind
	seen     [2]uint64        // of the peer's, by kind
	may      [2]int           // open in addition, by kind
	live     [2]int           // of the peer's that are not over, by kind
	freed    [2]uint64        // of the peer's that are over and not yet told
	backlog  [2][]*Stream
	spare    int64
	free     sync.Pool // of *[recordLen]byte
	text     []byte    // of the peer's Close

	writing bool
	ready   [urgencies][]*Stream // that have bytes to send and credit
	due     []*Stream            // that have credit or a reset to tell
	batch   []byte
	wake    sync.Cond // the writer: there is something to send
	opened  sync.Cond // OpenStream: another stream may be opened
	arrived sync.Cond // AcceptStream

	rtt     measure
	minding *time.Timer
}

// kinds of streams, as in the second bit of their numbers.
const (
	twoWay = 0
	oneWay = 1
)

// Client shakes hands as the end that dialled. The connection owns nc.
func Client(ctx context.Context, nc net.Conn, conf *tls.Config, cfg Config) (*Conn, error) {
	raw := newRecord(nc)
	return handshake(ctx, raw, tls.Client(raw, ClientTLS(conf)), false, cfg)
}

// Server shakes hands as the end that was dialled. The connection owns nc.
// Values of ctx are those of the connection's Context; its end ends nothing
// but the handshake.
func Server(ctx context.Context, nc net.Conn, conf *tls.Config, cfg Config) (*Conn, error) {
	raw := newRecord(nc)
	return handshake(ctx, raw, tls.Server(raw, conf), true, cfg)
}

// ClientTLS returns conf for connections of this package: whole records from
// the beginning, and no sessions that would be shared with QUIC.
func ClientTLS(conf *tls.Config) *tls.Config {
	c := conf.Clone()
	c.DynamicRecordSizingDisabled = true
	c.SessionTicketsDisabled, c.ClientSessionCache = true, nil
	return c
}

// ServerTLS is ClientTLS for the end that is dialled.
func ServerTLS(conf *tls.Config) *tls.Config {
	c := conf.Clone()
	c.DynamicRecordSizingDisabled, c.SessionTicketsDisabled = true, true
	if choose := conf.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			return ServerTLS(chosen), nil
		}
	}
	return c
}

func handshake(ctx context.Context, raw *record, tc *tls.Conn, server bool, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	setOptions(raw.Conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, ignoreClosed(raw.Close()))
	}
	c := newConn(raw, tc, server, cfg)
	c.state = tc.ConnectionState()
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.rtt.take(raw.settle())
	c.rtt.heard, c.rtt.said = time.Now(), time.Now()
	c.wg.Go(c.read)
	c.wg.Go(c.write)
	c.minding = time.NewTimer(0)
	c.wg.Go(c.mind)
	return c, nil
}

// newConn makes a connection that nothing serves yet.
func newConn(raw *record, tc *tls.Conn, server bool, cfg Config) *Conn {
	c := &Conn{
		cfg: cfg, raw: raw, tls: tc, server: server, done: make(chan struct{}),
		streams: map[uint64]*Stream{}, unborn: map[*Stream]bool{}, may: [2]int{MaxStreams, MaxOneWay}, spare: spareWindow,
		cancel: func(error) {},
	}
	for _, cond := range []*sync.Cond{&c.wake, &c.opened, &c.arrived} {
		cond.L = &c.mu
	}
	return c
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Context ends with the connection; its cause is a *CloseError, ErrIdle, or
// what TCP or TLS say.
func (c *Conn) Context() context.Context { return c.ctx }

// TLS is the state after the handshake.
func (c *Conn) TLS() tls.ConnectionState { return c.state }

// RemoteAddr is the far end of the TCP connection.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Wait returns when the connection is over and its goroutines are.
func (c *Conn) Wait() { c.wg.Wait() }

// CloseWithError ends the connection and tells the peer a code and a text of
// up to 256 bytes. It does not wait.
func (c *Conn) CloseWithError(code uint64, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(&CloseError{Code: code, Text: text}, true)
	return nil
}

// end notes why the connection is over; mu is held. The writer does the rest.
func (c *Conn) end(err error, tell bool) {
	if c.err != nil {
		return
	}
	c.err = err
	if tell {
		code, text := c.cfg.Violation, err.Error()
		if e := (*CloseError)(nil); errors.As(err, &e) {
			code, text = e.Code, e.Text
		}
		text = text[:min(len(text), maxText)]
		c.farewell = append(appendFrame(nil, frameClose, code, uint64(len(text))), text...)
	}
	// A write that the peer does not take must not keep us.
	_ = c.raw.SetDeadline(time.Now().Add(c.cfg.Linger))
	c.cancel(err)
	for _, s := range c.streams {
		s.wakeAll()
	}
	for s := range c.unborn {
		s.wakeAll()
	}
	c.wake.Broadcast()
	c.opened.Broadcast()
	c.arrived.Broadcast()
}

// Tune changes what the connection was configured with.
func (c *Conn) Tune(cfg Config) {
	cfg = cfg.withDefaults()
	setOptions(c.raw.Conn, cfg)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg = cfg
	c.minding.Reset(0)
}

// OpenStream opens a stream that goes both ways. It waits while as many are
// open as may be, and as long as ctx lasts.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) { return c.open(ctx, twoWay) }

// OpenUni opens a stream from here to there.
func (c *Conn) OpenUni(ctx context.Context) (*Stream, error) { return c.open(ctx, oneWay) }

func (c *Conn) open(ctx context.Context, kind int) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.await(ctx, &c.opened, func() bool { return c.may[kind] > 0 }); err != nil {
		return nil, err
	}
	c.may[kind]--
	s := c.newStream(kind, true)
	c.unborn[s] = true
	return s, nil
}

// AcceptStream returns the next stream of the peer that goes both ways.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) { return c.accept(ctx, twoWay) }

// AcceptUni returns the next stream of the peer that only it writes to.
func (c *Conn) AcceptUni(ctx context.Context) (*Stream, error) { return c.accept(ctx, oneWay) }

func (c *Conn) accept(ctx context.Context, kind int) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.await(ctx, &c.arrived, func() bool { return len(c.backlog[kind]) > 0 }); err != nil {
		return nil, err
	}
	s := c.backlog[kind][0]
	c.backlog[kind] = slices.Delete(c.backlog[kind], 0, 1)
	return s, nil
}

// await waits until ok; mu is held.
func (c *Conn) await(ctx context.Context, cond *sync.Cond, ok func() bool) error {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		cond.Broadcast()
	})()
	for {
		switch {
		case c.err != nil:
			return c.err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case ok():
			return nil
		}
		cond.Wait()
	}
}

package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tcpSide is the stream half of a link: it accepts connections, dials the
// receiver and carries bytes both ways (see pipe.go).
type tcpSide struct {
	log      *slog.Logger
	ln       *net.TCPListener
	to       string
	maxConns int
	up, down *road

	conns   atomic.Int64
	refused atomic.Uint64
}

// road is one direction for all TCP connections of a link.
type road struct {
	window  int // bytes of one connection inside the link
	carried atomic.Uint64

	mu      sync.Mutex
	carrier *carrier      // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced at each change
}

func openTCP(c Config, listen string) (*tcpSide, error) {
	to, err := net.ResolveTCPAddr("tcp", c.To)
	if err != nil {
		return nil, fmt.Errorf("resolve receiver %s: %w", c.To, err)
	}
	at, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("resolve listen address %s: %w", listen, err)
	}
	ln, err := net.ListenTCP("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("listen on tcp %s: %w", listen, err)
	}
	if c.Up.Loss > 0 || c.Down.Loss > 0 {
		c.Log.Info("loss does not apply to TCP through the link; use delay, rate or contacts")
	}
	newRoad := func(p Profile, d Direction) *road {
		return &road{
			window:  c.Window,
			carrier: &carrier{p: p, rng: newRand(c.Seed, d, streams)},
			changed: make(chan struct{}),
		}
	}
	return &tcpSide{
		log: c.Log, ln: ln, to: to.String(), maxConns: c.MaxFlows,
		up: newRoad(c.Up, up), down: newRoad(c.Down, down),
	}, nil
}

func (t *tcpSide) addr() net.Addr { return t.ln.Addr() }

// close ends accepting; run ends the connections.
func (t *tcpSide) close() error {
	if err := t.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// run accepts until the listener closes and owns all connections: they end with
// it.
func (t *tcpSide) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		client, err := t.ln.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			// The process is short of descriptors, or the client has gone: both
			// pass, and open connections must not suffer.
			t.log.Warn("accept", "listen", t.addr().String(), "err", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return fmt.Errorf("accept at %s: %w", t.addr(), err)
		}
		if t.conns.Load() >= int64(t.maxConns) {
			t.refused.Add(1)
			reset(client)
			continue
		}
		t.conns.Add(1)
		wg.Go(func() {
			defer t.conns.Add(-1)
			t.serve(ctx, client)
		})
	}
}

// serve carries one connection from the client's connect to its end.
func (t *tcpSide) serve(ctx context.Context, client *net.TCPConn) {
	link := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := func(c *net.TCPConn) {
		if link.Err() != nil {
			reset(c) // a link that goes away must not look like an orderly end
			return
		}
		c.Close()
	}
	defer end(client)
	defer context.AfterFunc(ctx, func() { end(client) })()

	if t.up.pass(ctx) != nil { // the SYN
		return
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.to)
	if err != nil {
		t.log.Info("receiver refused connection", "to", t.to, "err", err)
		if t.down.pass(ctx) == nil { // its RST
			reset(client)
		}
		return
	}
	server := conn.(*net.TCPConn)
	defer end(server)
	defer context.AfterFunc(ctx, func() { end(server) })()
	join(ctx, cancel, t, client, server)
}

// reset closes c with a RST instead of a FIN.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

func (t *tcpSide) setState(up, down State) {
	t.up.change(func(c *carrier) { c.state = up })
	t.down.change(func(c *carrier) { c.state = down })
}

func (t *tcpSide) setProfile(now time.Time, up, down Profile) {
	t.up.change(func(c *carrier) { c.setProfile(now, up) })
	t.down.change(func(c *carrier) { c.setProfile(now, down) })
}

func (t *tcpSide) addStats(now time.Time, s *Stats) {
	read := func(r *road, d *DirStats) {
		r.mu.Lock()
		defer r.mu.Unlock()
		d.StreamBytes = r.carried.Load()
		d.State = r.carrier.state
		d.Open = d.State == StateOpen && r.carrier.p.Contacts.Open(now)
	}
	read(t.up, &s.Up)
	read(t.down, &s.Down)
	s.Conns, s.Refused = int(t.conns.Load()), t.refused.Load()
}

// change alters the carrier and lets everyone who waits on it look again.
func (r *road) change(f func(*carrier)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.carrier)
	close(r.changed)
	r.changed = make(chan struct{})
}

// chunk is the largest piece to send at once now.
func (r *road) chunk() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.carrier.chunk()
}

// send waits until the link takes size bytes and returns when they arrive.
func (r *road) send(ctx context.Context, size int) (arrive time.Time, err error) {
	for {
		now := time.Now()
		r.mu.Lock()
		arrive, retry, ok := r.carrier.admit(now, size)
		changed := r.changed
		r.mu.Unlock()
		if ok {
			return arrive, nil
		}
		if err := sleepUntil(ctx, retry, changed); err != nil {
			return time.Time{}, err
		}
	}
}

// pass sends a control segment (SYN, SYN-ACK, RST) and waits for its arrival.
func (r *road) pass(ctx context.Context) error {
	arrive, err := r.send(ctx, 0)
	if err != nil {
		return err
	}
	return r.arrive(ctx, arrive)
}

// arrive waits until at, and then for the end of a black hole.
func (r *road) arrive(ctx context.Context, at time.Time) error {
	if err := sleepUntil(ctx, at, nil); err != nil {
		return err
	}
	for {
		r.mu.Lock()
		hole, changed := r.carrier.state == StateBlackhole, r.changed
		r.mu.Unlock()
		if !hole {
			return nil
		}
		if err := sleepUntil(ctx, time.Time{}, changed); err != nil {
			return err
		}
	}
}

// sleepUntil waits until at (the zero Time: for ever), or until wake closes, or
// returns why ctx ended. It never returns before at of itself.
func sleepUntil(ctx context.Context, at time.Time, wake <-chan struct{}) error {
	var ring <-chan time.Time
	if !at.IsZero() {
		d := time.Until(at)
		if d <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		ring = timer.C
	}
	select {
	case <-ring:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err()
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/broker/listen"
)

const (
	sweepEvery  = time.Minute // expired retained messages
	rulesEvery  = time.Second // how soon new rules bind those who are in
	acceptPause = 50 * time.Millisecond
)

// Broker serves MQTT clients for one node. Create it with New, fill it with
// SetRetained, then Run it. Deliver, DeliverLive, SetRetained and TakenOver
// may be called from New on.
type Broker struct {
	cfg            Config
	node           Node
	metrics        *metrics
	live           directory
	retained       *retainedStore
	queued         queuedWalks
	loops          loops
	ids            idLocks
	buffers        sync.Pool // of *batch
	conns          atomic.Uint64
	pressure       pressure
	unreleasedSaid atomic.Int64   // ns: when the log last told of one, see conn.unreleased
	bound          chan struct{}  // closed when Run listens
	work           sync.WaitGroup // goroutines of conn.later

	rules  any         // generation of the rules at the start
	strict atomic.Bool // the rules have changed since: deliveries are checked

	watcher atomic.Pointer[Watcher]
	sys     sys

	mu        sync.Mutex // guards what follows
	sessions  map[string]*conn
	trailing  map[string]*conn // gone, with publishes that the node has not answered
	all       map[*conn]struct{}
	lobby     lobby
	idle      sync.Cond // signalled when all shrinks
	listeners []net.Listener
	draining  bool
}

// New checks the configuration and prepares a broker. It binds nothing.
func New(cfg Config, node Node) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("mqtt metrics: %w", err)
	}
	b := &Broker{
		cfg: cfg, node: node, metrics: m, bound: make(chan struct{}),
		sessions: make(map[string]*conn), trailing: make(map[string]*conn), all: make(map[*conn]struct{}),
		pressure: pressure{limit: uint64(cfg.MaxMemory)},
		retained: cfg.Retained.open(&cfg, m),
	}
	b.idle.L = &b.mu
	b.buffers.New = func() any { return new(batch) }
	// Numbers of a restarted broker must not repeat those of the last run.
	b.conns.Store(uint64(time.Now().UnixNano()))
	b.sys.began = time.Now()
	return b, nil
}

// Clients returns how many clients have a session connection now.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sessions)
}

// Listening is closed when Run has bound its address.
func (b *Broker) Listening() <-chan struct{} { return b.bound }

// Addr is the first bound address, that of Config.Listen if there is one, or
// nil before Listening is closed.
func (b *Broker) Addr() net.Addr {
	if all := b.Addrs(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Addrs are the bound addresses, Config.Listen first, then those of
// Config.Listeners.
func (b *Broker) Addrs() []net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []net.Addr
	for _, l := range b.listeners {
		out = append(out, l.Addr())
	}
	return out
}

// Run listens and serves until ctx ends, then drains: every client gets a
// DISCONNECT 0x8B (MQTT 5) and is cut if it does not take it, which is a loss to
// its will. It returns nil after a drain. The node must serve until Run returns.
// Run may be called once.
func (b *Broker) Run(ctx context.Context) error {
	ls, err := b.bind(ctx)
	if err != nil {
		return err
	}
	return b.runOn(ctx, ls)
}

// bind opens all listeners, or none.
func (b *Broker) bind(ctx context.Context) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
		}
	}()
	if b.cfg.Listen != "" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", b.cfg.Listen)
		if err != nil {
			return all, fmt.Errorf("listen for MQTT on %s: %w: stop the program that has it, or choose another address with %s",
				b.cfg.Listen, err, b.cfg.ListenInstruction)
		}
		all = append(all, l)
	}
	for _, c := range b.cfg.Listeners {
		l, err := listen.Listen(ctx, c)
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	return all, nil
}

// runOn is Run on listeners that are there.
func (b *Broker) runOn(ctx context.Context, ls []net.Listener) error {
	if err := b.loops.start(b); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		b.cfg.Log.Warn("sockets cannot be polled, each client costs a goroutine", "err", err)
	}
	if b.cfg.Rules != nil {
		b.rules = b.cfg.Rules.Generation()
	}
	b.mu.Lock()
	b.listeners = ls
	b.mu.Unlock()
	close(b.bound)
	for _, l := range ls {
		b.cfg.Log.Info("mqtt listening", "addr", l.Addr().String())
	}
	b.serve(ctx, ls)
	b.drain()
	return nil
}

// serve accepts until ctx ends, and keeps house.
func (b *Broker) serve(ctx context.Context, ls []net.Listener) {
	var accepting sync.WaitGroup
	for _, l := range ls {
		accepting.Go(func() {
			if err := b.acceptPolled(ctx, l); err != nil {
				b.accept(ctx, l)
			}
			_ = l.Close()
		})
	}
	defer accepting.Wait()
	sweep, rules, tell := time.NewTicker(sweepEvery), time.NewTicker(rulesEvery), time.NewTicker(b.cfg.SysInterval)
	memory := time.NewTicker(pressureEvery)
	defer sweep.Stop()
	defer memory.Stop()
	defer rules.Stop()
	defer tell.Stop()
	for {
		select {
		case now := <-sweep.C:
			b.retained.sweep(now)
		case <-memory.C:
			b.watchMemory()
		case <-rules.C:
			if b.cfg.Rules != nil && b.cfg.Rules.Generation() != b.rules {
				b.strict.Store(true)
			}
		case <-tell.C:
			b.tellSys(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// accept serves the listener until it is closed.
func (b *Broker) accept(ctx context.Context, l net.Listener) {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		raw, err := l.Accept()
		if err == nil {
			go b.ServeConn(raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) || !b.pauseAccept(ctx, err) {
			return
		}
	}
}

// pauseAccept waits after a failed accept, and reports false when it is over.
// Running out of descriptors or buffers passes; it must not end the broker.
func (b *Broker) pauseAccept(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	b.cfg.Log.Warn("mqtt accept failed", "err", err)
	select {
	case <-time.After(acceptPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// ServeConn serves one connection of any transport and returns when it has
// ended. It closes raw.
func (b *Broker) ServeConn(raw net.Conn) {
	c := &conn{b: b, num: b.conns.Add(1)}
	p := newPump(c, raw)
	c.driver = p
	if !b.enter(c) {
		_ = raw.Close()
		return
	}
	p.serve()
	b.leave(c)
}

// enter counts a connection in, or refuses it.
func (b *Broker) enter(c *conn) bool {
	now := time.Now()
	b.mu.Lock()
	// A quarter more than the sessions allowed, so that those over the limit
	// can be told so, and clients can take over their own sessions.
	full := len(b.all) >= b.cfg.MaxClients+b.cfg.MaxClients/4+16
	var goes *conn
	if full && !b.draining {
		goes = b.makeRoom(now)
	}
	in := !b.draining && (!full || goes != nil)
	if in {
		b.all[c] = struct{}{}
		b.lobby.enter(c, now)
	}
	b.mu.Unlock()
	if goes != nil {
		goes.disconnect(noDisconnectMessage, "crowded")
	}
	if full {
		b.metrics.limit(limitClients)
	}
	if !in {
		b.metrics.connects.WithLabelValues("over-limit").Inc()
	}
	return in
}

// leave counts a connection out.
func (b *Broker) leave(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, c)
	b.lobby.leave(c)
	b.idle.Broadcast()
}

// stopping reports whether the broker ends.
func (b *Broker) stopping() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.draining
}

// drain ends every connection. Each is gone in flushTimeout and maxLinger.
func (b *Broker) drain() {
	b.mu.Lock()
	b.draining = true
	open := make([]*conn, 0, len(b.all))
	for c := range b.all {
		open = append(open, c)
	}
	b.mu.Unlock()
	for _, c := range open {
		c.disconnect(codeShuttingDown, cause(codeShuttingDown))
	}
	b.mu.Lock()
	for len(b.all) > 0 {
		b.idle.Wait()
	}
	b.mu.Unlock()
	b.loops.stop()
	b.work.Wait()
}

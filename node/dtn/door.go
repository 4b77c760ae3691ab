package dtn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/routing/addr"
)

// What Send returns beside the context's error.
var (
	// ErrUnknownPeer: no peer of that name is configured.
	ErrUnknownPeer = errors.New("no such peer is configured")
	// ErrNoSession: the peer cannot be reached now; nothing was sent.
	ErrNoSession = errors.New("no session with the peer")
	// ErrSessionLost: the session ended before the peer acknowledged. Whether
	// it has the bundle is not known; offer it again.
	ErrSessionLost = errors.New("session lost before the acknowledgement")
	// ErrBusy: as many transfers as may be are under way; TryBegin alone.
	ErrBusy = errors.New("the session has no place")
	// ErrTooLarge is matched by *TooLargeError.
	ErrTooLarge = errors.New("larger than the peer accepts")
	// ErrRefused is matched by *RefusedError.
	ErrRefused = errors.New("refused by the peer")
)

// TooLargeError says that a bundle has to be fragmented first.
type TooLargeError struct{ Size, MRU uint64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("a bundle of %d bytes: %v: at most %d", e.Size, ErrTooLarge, e.MRU)
}

// Is makes errors.Is(err, ErrTooLarge) work.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }

// RefusedError is an XFER_REFUSE of the peer.
type RefusedError struct{ Code byte }

func (e *RefusedError) Error() string { return ErrRefused.Error() + ": " + refuseText(e.Code) }

// Is makes errors.Is(err, ErrRefused) work.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Retry reports whether the same bundle may be offered again later. The peer
// that finds it not acceptable will not change its mind (RFC 9174, 5.2.4).
func (e *RefusedError) Retry() bool {
	return e.Code != refuseNotAcceptable && e.Code != refuseExtension
}

func refuseText(code byte) string {
	names := []string{"no reason given", "it has the bundle", "out of resources", "wants it again from the start", "not acceptable", "extension not understood", "the session ends"}
	if int(code) < len(names) {
		return names[code]
	}
	return fmt.Sprintf("reason %#02x", code)
}

// outlet is a way to a peer.
type outlet interface {
	// begin takes a bundle; done is called unless there is an error. forget
	// gives up what has not been sent. Without ctx nothing is waited for.
	begin(ctx context.Context, pieces [][]byte, total uint64, done func(error)) (forget func(), err error)
	usable() bool
	load() int
	mru() uint64
	describe(*PeerState)
}

// Door listens, dials and carries bundles both ways.
type Door struct {
	cfg        Config
	budget     *budget
	peers      map[string]*peer
	strangers  counters
	slots      chan struct{} // inbound sessions
	greeting   chan struct{} // inbound connections that are not sessions yet
	ready      chan struct{}
	turnedAway atomic.Int64
	stats      counters
	table      Table

	mu    sync.Mutex
	bound []net.Listener
}

// New checks cfg and returns a Door that does nothing yet.
func New(cfg Config) (*Door, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("dtn door: %w", err)
	}
	cfg = cfg.withDefaults()
	d := &Door{
		cfg: cfg, budget: newBudget(cfg.Limits.Buffer), peers: map[string]*peer{},
		slots:    make(chan struct{}, cfg.Limits.Sessions),
		greeting: make(chan struct{}, (cfg.Limits.Sessions+1)/2),
		ready:    make(chan struct{}), table: NewTable(cfg.Peers),
	}
	for _, p := range cfg.Peers {
		d.peers[p.Name] = &peer{cfg: p, sink: cfg.Sink, down: make(chan struct{}, 1)}
	}
	return d, nil
}

// Table returns which peer serves which endpoints.
func (d *Door) Table() Table { return d.table }

// Run binds the listeners, dials the peers and serves until ctx ends. Then it
// ends all sessions by SESS_TERM and waits for them, at most Config.Drain. An
// error is a listener that could not be bound, or that broke.
func (d *Door) Run(ctx context.Context) error {
	for i, l := range d.cfg.Listeners {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.Address)
		if err != nil {
			for _, b := range d.bound {
				_ = b.Close()
			}
			return fmt.Errorf("dtn door: listen on listeners[%d] (%s %s): %w", i, l.Kind, l.Address, err)
		}
		d.mu.Lock()
		d.bound = append(d.bound, ln)
		d.mu.Unlock()
		d.cfg.Log.Info("dtn door listens", "kind", string(l.Kind), "address", ln.Addr().String())
	}
	close(d.ready)
	g, ctx := errgroup.WithContext(ctx)
	for i, ln := range d.bound {
		g.Go(func() error { return d.accept(ctx, ln, d.cfg.Listeners[i]) })
	}
	for _, p := range d.peers {
		if p.cfg.Address != "" {
			g.Go(func() error { d.keep(ctx, p); return nil })
		}
	}
	g.Go(func() error {
		<-ctx.Done()
		for _, ln := range d.bound {
			_ = ln.Close()
		}
		return nil
	})
	return g.Wait()
}

// Ready is closed when the listeners are bound.
func (d *Door) Ready() <-chan struct{} { return d.ready }

// Addresses returns what the listeners are bound to, in the order of
// Config.Listeners, once Ready is closed.
func (d *Door) Addresses() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, l := range d.bound {
		out = append(out, l.Addr().String())
	}
	return out
}

// Send hands a bundle, in pieces, to a peer. Over TCPCL it returns nil when
// the peer acknowledged all of it, over STCP and MTCP when it is written.
// Calls run at the same time share the session; bundles leave in the order of
// the calls, as many as Limits.InFlight. After an error other than
// *RefusedError the bundle may or may not have arrived. The pieces must never
// change, even after ctx has ended.
func (d *Door) Send(ctx context.Context, name string, pieces [][]byte) error {
	got := make(chan error, 1)
	forget, err := d.begin(ctx, name, pieces, func(err error) { got <- err })
	if err != nil {
		return err
	}
	select {
	case err := <-got:
		if err != nil {
			err = fmt.Errorf("send to %s: %w", name, err)
		}
		return err
	case <-ctx.Done():
		forget()
		return fmt.Errorf("send to %s: %w", name, ctx.Err())
	}
}

// Begin is Send without the wait: it returns when the bundle has its place in
// the session, which holds Limits.InFlight, and calls done with what Send
// would return, once and from any goroutine, at most before it returns itself.
// done must not block. It is not called when Begin returns an error. Bundles
// leave in the order of the calls.
func (d *Door) Begin(ctx context.Context, name string, pieces [][]byte, done func(error)) error {
	_, err := d.begin(ctx, name, pieces, done)
	return err
}

// TryBegin is Begin without any wait, for callers that must not: ErrBusy says
// that the session has no place. It is for TCPCL alone.
func (d *Door) TryBegin(name string, pieces [][]byte, done func(error)) error {
	_, err := d.begin(nil, name, pieces, done) //nolint:staticcheck // nil is "do not wait", within this package
	return err
}

func (d *Door) begin(ctx context.Context, name string, pieces [][]byte, done func(error)) (forget func(), err error) {
	p := d.peers[name]
	if p == nil {
		return nil, fmt.Errorf("send to %q: %w", name, ErrUnknownPeer)
	}
	o := p.pick()
	if o == nil {
		return nil, fmt.Errorf("send to %s: %w", name, ErrNoSession)
	}
	var total uint64
	for _, b := range pieces {
		total += uint64(len(b))
	}
	if total == 0 {
		return nil, fmt.Errorf("send to %s: the bundle is empty", name)
	}
	if forget, err = o.begin(ctx, pieces, total, done); err != nil {
		return nil, fmt.Errorf("send to %s: %w", name, err)
	}
	return forget, nil
}

// MRU returns the largest bundle the peer takes, in bytes; false when there is
// no session.
func (d *Door) MRU(name string) (uint64, bool) {
	if p := d.peers[name]; p != nil {
		if o := p.pick(); o != nil {
			return o.mru(), true
		}
	}
	return 0, false
}

// Peers returns the configured peers by name.
func (d *Door) Peers() []PeerState {
	var out []PeerState
	for _, p := range d.peers {
		out = append(out, p.state())
	}
	slices.SortFunc(out, func(a, b PeerState) int { return cmpString(a.Name, b.Name) })
	return out
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Stats returns the Door as a whole.
func (d *Door) Stats() DoorStats {
	return DoorStats{
		Sessions: len(d.slots), Held: d.budget.held(), BudgetRefusals: d.stats.budgetRefusals.Load(),
		TurnedAway: d.turnedAway.Load(), Strangers: d.strangers.snapshot(),
	}
}

// peer is a configured peer at work.
type peer struct {
	cfg   Peer
	sink  Sink
	stats counters
	down  chan struct{} // wakes the dialler when the last session is gone

	turn sync.Mutex // held over a change of outlets and the Sink's call for it

	mu       sync.Mutex
	outlets  []outlet // the newest last
	rtt      time.Duration
	attempt  int
	lastErr  string
	nextDial time.Time
}

// maxOutlets is how many sessions with one peer are served at the same time.
// More than one is what a peer causes that comes back before its old session
// is known to be dead.
const maxOutlets = 4

func (p *peer) attach(o outlet) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	first := len(p.outlets) == 0
	p.outlets = append(p.outlets, o)
	p.lastErr = ""
	p.mu.Unlock()
	if first {
		p.sink.PeerUp(p.cfg.Name)
	}
}

func (p *peer) detach(o outlet, why error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	p.outlets = slices.DeleteFunc(p.outlets, func(x outlet) bool { return x == o })
	last := len(p.outlets) == 0
	p.mu.Unlock()
	p.failed(why)
	if last {
		p.sink.PeerDown(p.cfg.Name)
		select {
		case p.down <- struct{}{}:
		default:
		}
	}
}

func (p *peer) failed(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastErr = ""; why != nil {
		p.lastErr = why.Error()
	}
}

// pick returns the newest session that takes transfers, nil without one.
func (p *peer) pick() outlet {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range slices.Backward(p.outlets) {
		if o.usable() {
			return o
		}
	}
	return nil
}

func (p *peer) state() PeerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := PeerState{
		Name: p.cfg.Name, Kind: p.cfg.Kind, Address: p.cfg.Address, Node: p.cfg.Node,
		RTT: p.rtt, LastError: p.lastErr, NextDial: p.nextDial, Stats: p.stats.snapshot(),
	}
	for _, e := range p.cfg.EIDs {
		v.EIDs = append(v.EIDs, e.String())
	}
	for _, o := range p.outlets {
		o.describe(&v)
	}
	return v
}

// expects reports whether a session may be with p when the other end says it
// is node.
func (p *peer) expects(node addr.EID) bool { return p.cfg.Node.IsZero() || p.cfg.Node == node }

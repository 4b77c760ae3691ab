package emulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// Defaults of a Config.
const (
	DefaultMaxFlows = 256
	DefaultInFlight = 256 << 20
	DefaultWindow   = 16 << 20
)

// Config describes a link. The zero value of every field but Listen and To is
// a usable default.
type Config struct {
	// Network is "udp" (the default), "tcp", or "both" on the same port.
	Network string
	// Listen is the host:port that clients use in place of To; port 0 takes a
	// free one, see Link.Addr.
	Listen string
	// To is the host:port of the real receiver, resolved once by Open.
	To string
	// Up is the way from clients to To, Down the way back.
	Up, Down Profile
	// RebindEvery is how often the link gives UDP clients new upstream ports, as
	// Rebind does; 0 is never.
	RebindEvery time.Duration
	// Events are done to the link at their time after its opening. What comes
	// before Run is done with it.
	Events []desc.Event
	// Seed decides loss, jitter and mishaps. Two links with the same seed treat their
	// n-th datagram of a direction alike: give each link its own.
	Seed uint64
	// MaxFlows bounds the clients served at once, UDP and TCP each; 0 means
	// DefaultMaxFlows. A new UDP client takes the place of the one silent
	// longest, since silence of any length is normal on far links; a new TCP
	// connection is reset.
	MaxFlows int
	// InFlight bounds the memory of datagrams inside the link, bytes per
	// direction; 0 means DefaultInFlight. A datagram is charged at least 2 KiB.
	// A long fast link needs about Rate/8 x Delay: 50 Mbit/s to Mars is 7 GB.
	InFlight int64
	// Window bounds the bytes of one TCP connection inside the link, per
	// direction; 0 means DefaultWindow. Like a TCP window it limits the
	// connection to Window/Delay. Both directions of MaxFlows connections can
	// hold this much at worst.
	Window int
	// Log receives the link's events; nil discards them.
	Log *slog.Logger
}

// Validate reports all faults of c, each with its field.
func (c Config) Validate() error {
	var errs []error
	fault := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	switch c.Network {
	case "", "udp", "tcp", "both":
	default:
		fault("Network", fmt.Errorf("%.80q is not udp, tcp or both", c.Network))
	}
	fault("Listen", checkAddr(c.Listen, true))
	fault("To", checkAddr(c.To, false))
	fault("Up", c.Up.Validate())
	fault("Down", c.Down.Validate())
	for i, e := range c.Events {
		fault(fmt.Sprintf("Events[%d]", i), e.Validate())
	}
	if c.RebindEvery < 0 {
		fault("RebindEvery", errors.New("must not be negative"))
	}
	if c.MaxFlows < 0 {
		fault("MaxFlows", errors.New("must not be negative"))
	}
	if c.InFlight < 0 {
		fault("InFlight", errors.New("must not be negative"))
	}
	if c.Window < 0 {
		fault("Window", errors.New("must not be negative"))
	}
	return errors.Join(errs...)
}

// checkAddr reports what is wrong with a host:port. A receiver (listen false)
// needs both parts.
func checkAddr(addr string, listen bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%.80q is not host:port", addr)
	}
	n, err := net.LookupPort("udp", port)
	if err != nil {
		return fmt.Errorf("%.80q: bad port: %w", addr, err)
	}
	if !listen && (host == "" || n == 0) {
		return fmt.Errorf("%.80q: name the receiver's host and port", addr)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Network = cmp.Or(c.Network, "udp")
	c.MaxFlows = cmp.Or(c.MaxFlows, DefaultMaxFlows)
	c.InFlight = cmp.Or(c.InFlight, DefaultInFlight)
	c.Window = cmp.Or(c.Window, DefaultWindow)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Link is one emulated link. Open binds it, Run moves its packets; all other
// methods are safe at any time from any goroutine.
type Link struct {
	cfg    Config
	log    *slog.Logger
	opened time.Time // anchors schedules without a start
	udp    *udpSide  // nil without UDP
	tcp    *tcpSide  // nil without TCP

	stop     chan struct{} // closed by Close
	stopOnce sync.Once

	replan chan struct{} // capacity 1: rebindEvery changed

	mu          sync.Mutex // guards below, and keeps SetState and SetProfile in order
	running     bool
	rebindEvery time.Duration
}

// Open checks c, binds the sockets and resolves To. Packets wait in the sockets
// until Run. The caller must call Close, or Run to its end.
func Open(c Config) (*Link, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("link emulator: %w", err)
	}
	c = c.withDefaults()
	now := time.Now()
	c.Up, c.Down = c.Up.Anchored(now), c.Down.Anchored(now)
	l := &Link{cfg: c, log: c.Log, opened: now, stop: make(chan struct{}), replan: make(chan struct{}, 1), rebindEvery: c.RebindEvery}
	var err error
	switch c.Network {
	case "udp":
		l.udp, err = openUDP(c, c.Listen)
	case "tcp":
		l.tcp, err = openTCP(c, c.Listen)
	default:
		l.udp, l.tcp, err = openBoth(c)
	}
	if err != nil {
		return nil, fmt.Errorf("link emulator: %w", err)
	}
	return l, nil
}

// openBoth binds UDP and TCP on one port. A port picked by the system for UDP
// may be taken for TCP, so a free one is tried a few times.
func openBoth(c Config) (*udpSide, *tcpSide, error) {
	_, port, _ := net.SplitHostPort(c.Listen)
	tries := 1
	if port == "0" || port == "" {
		tries = 16
	}
	var last error
	for range tries {
		u, err := openUDP(c, c.Listen)
		if err != nil {
			return nil, nil, err
		}
		host, _, _ := net.SplitHostPort(c.Listen)
		_, got, _ := net.SplitHostPort(u.addr().String())
		t, err := openTCP(c, net.JoinHostPort(host, got))
		if err == nil {
			return u, t, nil
		}
		u.close()
		last = err
	}
	return nil, nil, last
}

// Addr returns the address clients use: the UDP one, or the TCP one if the link
// carries TCP only. With "both" the ports are equal.
func (l *Link) Addr() net.Addr {
	if l.udp != nil {
		return l.udp.addr()
	}
	return l.tcp.addr()
}

// Run moves packets until ctx ends, Close is called, or a socket fails, and
// closes the link. It returns nil in the first two cases. It may be called once.
func (l *Link) Run(ctx context.Context) error {
	l.mu.Lock()
	again := l.running
	l.running = true
	l.mu.Unlock()
	if again {
		return errors.New("link emulator: Run called twice on one link")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // ends the others: their sockets close with the link
		select {
		case <-ctx.Done():
		case <-l.stop:
		}
		cancel()
		return l.Close()
	})
	l.log.Info("link open", "listen", l.Addr().String(), "to", l.cfg.To, "up", l.cfg.Up.String(), "down", l.cfg.Down.String())
	g.Go(func() error { return l.runEvents(ctx) })
	if l.udp != nil {
		g.Go(func() error { return l.udp.run() })
	}
	if l.tcp != nil {
		g.Go(func() error { return l.tcp.run(ctx) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("link emulator: %w", err)
	}
	return nil
}

// Close closes the sockets and makes Run return; what is under way is lost.
// Closing again is a no-op.
func (l *Link) Close() error {
	var err error
	l.stopOnce.Do(func() {
		close(l.stop)
		if l.udp != nil {
			err = errors.Join(err, l.udp.close())
		}
		if l.tcp != nil {
			err = errors.Join(err, l.tcp.close())
		}
	})
	return err
}

// Cut cuts both directions (true) or opens them (false).
func (l *Link) Cut(cut bool) {
	to := StateOpen
	if cut {
		to = StateCut
	}
	l.SetState(to, to)
}

// SetState says what is done to each direction from now on: a link that is
// half-open has one StateOpen.
func (l *Link) SetState(up, down State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.udp != nil {
		l.udp.setState(now, up, down)
	}
	if l.tcp != nil {
		l.tcp.setState(up, down)
	}
	l.log.Info("link changed", "listen", l.Addr().String(), "up", up.String(), "down", down.String())
}

// Rebind gives every UDP client a new upstream port, as a NAT does that has
// forgotten it, and returns how many got one. What the receiver still sends to
// the old port is dropped. TCP connections stay.
func (l *Link) Rebind() (n int, err error) {
	if l.udp == nil {
		return 0, nil
	}
	if n, err = l.udp.rebind(); err != nil {
		err = fmt.Errorf("link emulator: rebind: %w", err)
	}
	l.log.Info("link rebound", "listen", l.Addr().String(), "flows", n)
	return n, err
}

// SetProfile replaces both profiles, or neither if one is invalid. It holds for
// what is offered from now on and for datagrams still waiting at the
// bottleneck; what is under way arrives when it would have. Contacts without a
// Start keep counting from the opening of the link.
func (l *Link) SetProfile(up, down Profile) error {
	err := errors.Join(wrapField("Up", up.Validate()), wrapField("Down", down.Validate()))
	if err != nil {
		return fmt.Errorf("link emulator: set profile: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	up, down = up.Anchored(l.opened), down.Anchored(l.opened)
	if l.udp != nil {
		l.udp.setProfile(now, up, down)
	}
	if l.tcp != nil {
		l.tcp.setProfile(now, up, down)
	}
	l.log.Info("link changed", "listen", l.Addr().String(), "up", up.String(), "down", down.String())
	return nil
}

func wrapField(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}

// Stats returns a snapshot.
func (l *Link) Stats() Stats {
	var s Stats
	now := time.Now()
	if l.tcp != nil {
		l.tcp.addStats(now, &s)
	}
	if l.udp != nil {
		l.udp.addStats(now, &s)
	}
	return s
}

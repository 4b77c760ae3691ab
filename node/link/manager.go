package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
)

// Manager owns the UDP socket, the dialers and the sessions.
type Manager struct {
	cfg     Config
	reg     *registry
	met     *metrics
	tr      *quic.Transport
	dialers []*dialer
	bound   chan struct{} // closed when local is set
	local   net.Addr
	demux   *demux
	// stopping is closed when Run is to end.
	stopping chan struct{}

	epochMu   sync.Mutex         // guards epochs
	epochs    map[peering]uint64 // of the newest session that a node dialled
	epochDisk sync.Mutex         // held while one is written; never under epochMu
	endedMu   sync.Mutex         // guards ended and carried
	ended     salvoTotals        // of sessions that are over
	carried   map[*Session]bool  // sessions with salvo that are not

	nextID  atomic.Uint64
	pending atomic.Int64 // inbound connections before their Hello is done
	waiting waiting      // the same over TCP
	joins   chan struct{}
	checks  chan struct{}
	// lastWarn is when warn last wrote at its level, Unix nanoseconds.
	lastWarn atomic.Int64
	wg       sync.WaitGroup // everything Run has started
}

// New checks the configuration. It binds nothing.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	cfg = cfg.withDefaults()
	m := &Manager{cfg: cfg, reg: newRegistry(cfg.Node), bound: make(chan struct{}), stopping: make(chan struct{}), demux: newDemux(), carried: map[*Session]bool{}, epochs: map[peering]uint64{}, joins: make(chan struct{}, maxJoins), checks: make(chan struct{}, maxChecks)}
	met, err := newMetrics(cfg.Registerer, m)
	if err != nil {
		return nil, fmt.Errorf("link: register metrics: %w", err)
	}
	m.met = met
	src := rand.NewChaCha8(cfg.Seed)
	for _, p := range cfg.Peers {
		m.dialers = append(m.dialers, &dialer{m: m, peer: p, tickets: make(chan []byte, 1), rnd: rand.New(rand.NewPCG(src.Uint64(), src.Uint64()))})
	}
	return m, nil
}

// Addr returns the bound address; it waits until Run has bound it or ctx ends.
func (m *Manager) Addr(ctx context.Context) (net.Addr, error) {
	select {
	case <-m.bound:
		return m.local, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("link is not bound: %w", context.Cause(ctx))
	}
}

// Sessions returns the sessions that are up, by node name.
func (m *Manager) Sessions() []*Session {
	out := m.reg.sessions()
	slices.SortFunc(out, func(a, b *Session) int { return a.peer.Node.Compare(b.peer.Node) })
	return out
}

// Session returns the session with node, nil when there is none. Of several it
// is the cheapest that is not silent.
func (m *Manager) Session(node addr.Node) *Session { return m.reg.best(node) }

// SessionOver returns the session of one link with node, nil when there is none.
func (m *Manager) SessionOver(node addr.Node, uplink string) *Session {
	return m.reg.current(peering{node, uplink})
}

// Run binds, dials and serves until ctx ends, then closes every session and
// returns when all of its goroutines have. It may be called once.
func (m *Manager) Run(ctx context.Context) error {
	conn, tcp, err := m.bind(ctx)
	if err != nil {
		return err
	}
	token := quic.TokenGeneratorKey(m.cfg.TokenKey)
	m.tr = m.transport(conn)
	m.tr.TokenGeneratorKey, m.tr.ConnContext = &token, m.admit
	m.tr.VerifySourceAddress = func(net.Addr) bool { return m.pending.Load() > retryPending }
	ln, err := m.tr.ListenEarly(m.cfg.TLSServer, m.cfg.listenConfig())
	if err != nil {
		if tcp != nil {
			err = errors.Join(err, tcp.Close())
		}
		return errors.Join(fmt.Errorf("listen for peers on %s: %w", conn.LocalAddr(), err), conn.Close())
	}
	m.local = conn.LocalAddr()
	close(m.bound)
	m.cfg.Log.Info("listening for peers", "addr", m.local)
	m.wg.Go(func() { m.accept(ctx, ln) })
	m.wg.Go(func() { m.readSalvo(ctx) })
	if tcp != nil {
		m.wg.Go(func() { m.acceptTCP(ctx, tcp) })
		defer context.AfterFunc(ctx, func() { _ = tcp.Close() })()
	}
	for _, d := range m.dialers {
		m.wg.Go(func() { d.run(ctx) })
		m.wg.Go(func() { d.writeTickets(ctx) })
	}
	<-ctx.Done()
	close(m.stopping)
	err = ln.Close()
	m.wg.Wait()
	return errors.Join(err, m.tr.Close(), conn.Close())
}

// transport is QUIC over a socket of this node.
func (m *Manager) transport(conn net.PacketConn) *quic.Transport {
	reset := quic.StatelessResetKey(m.cfg.StatelessResetKey)
	return &quic.Transport{Conn: m.share(conn), StatelessResetKey: &reset, ConnectionIDLength: idLength, Tracer: strayQUIC{m}}
}

// share has salvo's packets leave the socket before quic-go sees them, where
// the socket is a real one.
func (m *Manager) share(conn net.PacketConn) net.PacketConn {
	if c, ok := conn.(*net.UDPConn); ok {
		return newSharedConn(c, m.stray, m.wrongVersion)
	}
	return conn
}

// bind opens the UDP socket.
func (c Config) bind(ctx context.Context) (net.PacketConn, error) {
	if c.Socket != nil {
		return c.Socket, nil
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", c.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen for peers on %s/udp: the port is taken, perhaps by another farhop; stop it or choose another mesh.listen in farhop.yaml: %w", c.Listen, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for peers on %s/udp (mesh.listen in farhop.yaml): %w", c.Listen, err)
	}
	return conn, nil
}

// take serves an inbound connection to its end.
func (m *Manager) take(ctx context.Context, conn carrier) {
	switch conn.TLS().NegotiatedProtocol {
	case ALPNJoin:
		m.serveJoin(ctx, conn)
		return
	case ALPNCheck:
		m.serveCheck(ctx, conn)
		return
	}
	if err := m.inbound(ctx, conn); err != nil {
		m.met.refused.WithLabelValues(string(downOf(err).Cause)).Inc()
		m.logRefused(conn, err)
	}
}

func (m *Manager) logRefused(conn carrier, err error) {
	if errors.Is(err, errRedundant) {
		m.cfg.Log.Debug("connection not needed", "from", conn.RemoteAddr())
		return
	}
	m.warn("connection refused", "from", conn.RemoteAddr(), "err", err)
}

// inbound turns an accepted connection into a session and serves it.
func (m *Manager) inbound(ctx context.Context, conn carrier) (err error) {
	defer func() {
		if err != nil {
			hangUp(conn, downOf(err))
		}
	}()
	peer, err := m.identify(conn, addr.Node{})
	if err != nil {
		return err
	}
	hctx, cancel := m.awaitHello(ctx, conn, func() time.Duration { return m.linkTo(peering{node: peer.Node}).helloWait(conn.Stats().RTT) })
	defer cancel()
	st, err := conn.AcceptStream(hctx)
	if err != nil {
		return fmt.Errorf("wait for the control stream of %s: %w", peer.Node, err)
	}
	in, hello, err := m.hear(hctx, st, peer)
	if err != nil {
		return err
	}
	at := peering{peer.Node, hello.Uplink}
	if !m.reg.takes(at) {
		return down(Refused, "node %s has %d links with names already: give links that come and go one name", peer.Node, maxUplinks)
	}
	answered, g := false, greeting{begun: m.begun(at.node), epoch: m.newEpoch()}
	if hello.Early {
		if answered, err = m.hearEarly(hctx, conn, st, in, hello, g); err != nil {
			return err
		}
	}
	release, err := m.reg.claimInbound(hctx, at, hello.Boot)
	if err != nil {
		return Down{Cause: Redundant, Err: err}
	}
	shown(conn)
	cancel()
	if !answered {
		g.begun = m.begun(at.node) // nobody was told the older list
	}
	s := newSession(m.nextID.Add(1), &m.cfg, conn, st, in, peer, hello, m.linkTo(at), g.begun)
	s.answered, s.epoch = answered, g.epoch
	m.serve(ctx, s, release)
	return nil
}

// linkTo returns what is configured for the link to a node that dialled us.
func (m *Manager) linkTo(l peering) Properties {
	if p, ok := m.cfg.Links[l.node]; ok && l.uplink == "" {
		return p
	}
	for _, p := range m.cfg.More {
		if l == (peering{p.Node, p.Link.Uplink}) {
			return p.Link
		}
	}
	for _, d := range m.dialers {
		if d.peer.Link.Uplink == l.uplink && (d.peer.Node == l.node || d.found() == l.node) {
			return d.peer.Link
		}
	}
	return Properties{Uplink: l.uplink}
}

// serve runs an agreed session until it is down. Of an inbound session it
// sends our Hello first, see registry.
func (m *Manager) serve(ctx context.Context, s *Session, release func()) Down {
	defer context.AfterFunc(ctx, func() { s.end(down(Shutdown, "the node stops")) })()
	s.upAt, s.firstRTT = time.Now(), s.RTT()
	m.reg.install(s)
	m.setEpoch(s)
	if !s.Dialed() && !s.answered {
		if err := m.greet(s.ctrl, greeting{offer: s.offered, begun: s.parts.said, epoch: s.epoch, uplink: s.props.Uplink}); err != nil {
			s.end(downOf(err))
		}
	}
	release()
	defer m.useSalvo(s)()
	m.met.ups.Inc()
	log := m.cfg.Log.With("peer", s.peer.Node, "session", s.id)
	if s.props.Uplink != "" {
		log = log.With("link", s.props.Uplink)
	}
	log.Info("link up", "region", s.peer.Region, "remote", s.RemoteAddr(), "dialed", s.Dialed(), "kex", s.peer.Kex, "rtt", s.RTT(), "profile", s.Profile(), "layer", s.Layer())
	m.cfg.Events.LinkUp(s)
	m.wg.Go(func() { m.keepAnew(ctx, s) })
	d := s.run(m.demux.release)
	m.cfg.Events.LinkDown(s, d)
	m.met.downs.WithLabelValues(string(d.Cause)).Inc()
	log.Info("link down", "cause", d.Cause, "by_peer", d.Remote, "err", d.Err)
	m.reg.remove(s)
	close(s.down)
	m.wg.Go(s.tcp.Wait)
	return d
}

// identify judges who is at the far end. pin is the node wanted, if any.
func (m *Manager) identify(conn carrier, pin addr.Node) (Identity, error) {
	state := conn.TLS()
	if state.CurveID != tls.X25519MLKEM768 {
		return Identity{}, down(Refused, "key exchange %v, want %v: the peer must run with post-quantum TLS", state.CurveID, tls.X25519MLKEM768)
	}
	id, err := m.cfg.Identify(state)
	switch {
	case err != nil:
		return id, Down{Cause: Refused, Err: err}
	case id.Node == m.cfg.Node:
		return id, down(Refused, "%s at %s: %w", id.Node, conn.RemoteAddr(), errSelf)
	case !pin.IsZero() && id.Node != pin:
		return id, down(Refused, "%w: %s answers at %s, want %s", errWrongNode, id.Node, conn.RemoteAddr(), pin)
	}
	return id, nil
}

// greeting is what of our Hello differs between connections.
type greeting struct {
	offer  wire.Salvo
	begun  []wire.Begun
	early  bool
	epoch  uint64
	uplink string
}

// greet sends our Hello.
func (m *Manager) greet(st stream, g greeting) error {
	st.SetPriority(urgency(laneControl), false)
	h := m.cfg.Hello
	h.Salvo, h.Parts, h.Begun, h.Early, h.Epoch, h.Uplink = g.offer, m.cfg.Parts != nil, g.begun, g.early, g.epoch, g.uplink
	_, err := st.Write(wire.Append(nil, h))
	return err
}

// begun is what is kept of a peer's bundles.
func (m *Manager) begun(node addr.Node) []wire.Begun {
	if m.cfg.Parts == nil {
		return nil
	}
	all := m.cfg.Parts.Begun(node)
	return all[:min(len(all), wire.MaxBegun)]
}

// hear reads the far end's Hello and compares it with its certificate. The
// reader keeps what came after it.
func (m *Manager) hear(ctx context.Context, st stream, peer Identity) (*bufio.Reader, wire.Hello, error) {
	if t, ok := ctx.Deadline(); ok {
		_ = st.SetReadDeadline(t)
	}
	defer context.AfterFunc(ctx, func() { _ = st.SetReadDeadline(time.Unix(1, 0)) })()
	in := newReader(st)
	h, err := readHello(in)
	switch {
	case err != nil:
		return nil, h, fmt.Errorf("node %s: %w", peer.Node, err)
	case h.Version != m.cfg.Hello.Version:
		return nil, h, down(Refused, "node %s speaks version %d of the mesh protocol, this node %d: upgrade the older one", peer.Node, h.Version, m.cfg.Hello.Version)
	case h.Node != peer.Node:
		return nil, h, down(Refused, "hello says node %s, its certificate says %s", h.Node, peer.Node)
	case h.Region != peer.Region:
		return nil, h, down(Refused, "hello of %s says region %s, its certificate says %s", h.Node, h.Region, peer.Region)
	case !wire.ValidUplink(h.Uplink):
		return nil, h, down(Refused, "hello of %s names its link %q: want letters, digits, and -_. after the first", h.Node, h.Uplink)
	case h.MaxFrame < maxHello:
		return nil, h, down(Refused, "hello of %s takes frames of %d bytes, at least %d are needed", h.Node, h.MaxFrame, maxHello)
	}
	return in, h, st.SetReadDeadline(time.Time{})
}

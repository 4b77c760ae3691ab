package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"
)

// Check looks what passes to an address from the socket of the mesh. It waits
// until that is bound.
func (m *Manager) Check(ctx context.Context, r CheckRequest) (Check, error) {
	if _, err := m.Addr(ctx); err != nil {
		return Check{}, err
	}
	return checkFrom(ctx, m.tr, m.transport, r)
}

// Checker checks without a Manager: of a node that does not run.
type Checker struct{ tr *quic.Transport }

// NewChecker binds a UDP socket; listen is HOST:PORT.
func NewChecker(ctx context.Context, listen string) (*Checker, error) {
	conn, err := (Config{Listen: listen}).bind(ctx)
	if err != nil {
		return nil, err
	}
	return &Checker{bare(conn)}, nil
}

// bare is a transport of nothing but checks.
func bare(conn net.PacketConn) *quic.Transport { return &quic.Transport{Conn: conn} }

// Check is as that of Manager.
func (c *Checker) Check(ctx context.Context, r CheckRequest) (Check, error) {
	return checkFrom(ctx, c.tr, bare, r)
}

// Close frees the socket.
func (c *Checker) Close() error { return errors.Join(c.tr.Close(), c.tr.Conn.Close()) }

// checkFrom checks from where the peer's packets leave, see source.outlet.
func checkFrom(ctx context.Context, shared *quic.Transport, over func(net.PacketConn) *quic.Transport, r CheckRequest) (Check, error) {
	tr, free, err := source(r.Peer.From).outlet(ctx, shared, over)
	if err != nil {
		return unbound(err, r), ctx.Err()
	}
	defer free()
	return check(ctx, tr, r), ctx.Err()
}

// unbound is a check that found no socket to ask from.
func unbound(err error, r CheckRequest) Check {
	c := Check{ECNOut: ECNUnknown, ECNIn: ECNUnknown, NAT: NATUnknown}
	c.Cause, c.Error = explain(err, r.Peer, 0)
	return c
}

// check tries the addresses of a peer until one answers.
func check(ctx context.Context, tr *quic.Transport, r CheckRequest) Check {
	c := Check{ECNOut: ECNUnknown, ECNIn: ECNUnknown, NAT: NATUnknown}
	began := time.Now()
	all, port, err := lookUp(ctx, r.Peer.Address)
	if c.Addresses, c.Resolved = all, time.Since(began); err != nil {
		c.Cause, c.Error = explain(err, r.Peer, 0)
		return c
	}
	for n, ip := range all {
		to := netip.AddrPortFrom(ip, port)
		c.To = to.String()
		if err = c.dial(ctx, tr, net.UDPAddrFromAddrPort(to), r); err == nil || c.UDP || ctx.Err() != nil || n == len(all)-1 {
			break
		}
	}
	if err != nil {
		c.Cause, c.Error = explain(err, r.Peer, r.Peer.Link.handshakeTimeout(checkAttempt, 0))
		c.old(err)
	}
	c.tryTCP(ctx, r.Peer)
	return c
}

// tryTCP opens a connection to the address that was tried with UDP, and closes
// it: whether it passes, not what listens.
func (c *Check) tryTCP(ctx context.Context, p Peer) {
	tctx, cancel := context.WithTimeout(ctx, p.Link.handshakeTimeout(0, c.RTT))
	defer cancel()
	began := time.Now()
	d := source(p.From).dialer(net.Dialer{})
	conn, err := d.DialContext(tctx, "tcp", c.To)
	c.TCPTook = time.Since(began)
	switch {
	case err == nil:
		c.TCP = TCPOpen
		_ = conn.Close() // nothing was written
	case errors.Is(err, syscall.ECONNREFUSED):
		c.TCP = TCPRefused
	case tctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		c.TCP = TCPSilent
	default:
		c.TCP, c.TCPError = TCPFailed, err.Error()
	}
}

// checkAttempt is the attempt whose patience a check has: of a link of which
// nothing is known, twice that of the first.
const checkAttempt = 1

// old tells a node that knows no checks: it answers, and takes links.
func (c *Check) old(err error) {
	var t *quic.TransportError
	if !errors.As(err, &t) || !t.Remote && !t.ErrorCode.IsCryptoError() {
		return
	}
	c.UDP = true // who is judged has answered
	if t.Remote && t.ErrorCode == alertNoProtocol {
		c.Old, c.Cause = true, "old"
		c.Error = fmt.Sprintf("%s answers, but takes no checks: its farhop is older than farhop netcheck, or it is no mesh port", c.To)
	}
}

func (c *Check) dial(ctx context.Context, tr *quic.Transport, to net.Addr, r CheckRequest) error {
	w := newWatcher()
	conf := r.Peer.Link.dialConfig(checkAttempt, 0)
	conf.KeepAlivePeriod = 0
	conf.Tracer = func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return w }
	began := time.Now()
	conn, err := tr.Dial(ctx, to, r.TLS, conf)
	if err != nil {
		return err
	}
	c.UDP, c.Handshake = true, time.Since(began)
	defer func() { hangUp(quicCarrier{conn: conn}, down(Closed, "done")) }()
	state := conn.ConnectionState().TLS
	if c.Peer, err = r.Identify(state); err != nil {
		return Down{Cause: Refused, Err: err}
	}
	if len(state.PeerCertificates) > 0 {
		c.Expires = state.PeerCertificates[0].NotAfter
	}
	c.Local = localAddr(tr.Conn.LocalAddr(), to)
	if err := c.exchange(ctx, conn, w, r); err != nil {
		return betterCause(quicCarrier{conn: conn}, err)
	}
	w.note(c, r.Quick)
	return nil
}

// exchange asks again and again, while the search for the MTU goes on: one step
// of it takes some of the round trips that QUIC reckons with, which on a busy
// machine are longer than those found here.
func (c *Check) exchange(ctx context.Context, conn *quic.Conn, w *watcher, r CheckRequest) error {
	defer context.AfterFunc(ctx, func() { hangUp(quicCarrier{conn: conn}, down(Closed, "given up")) })()
	st, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	in := bufio.NewReaderSize(st, maxCheckLine)
	trips := checkTrips
	if r.Quick {
		trips = quickTrips
	}
	for n := range trips {
		if n >= quickTrips && (w.searched() || !wait(ctx, conn.ConnectionStats().SmoothedRTT-c.RTT)) {
			break
		}
		patience := r.Peer.Link.helloWait(max(conn.ConnectionStats().SmoothedRTT, c.RTT))
		_ = st.SetReadDeadline(time.Now().Add(patience))
		if err := c.askOnce(st, in); err != nil {
			return err
		}
	}
	return nil
}

// askOnce makes one exchange of times, as NTP does (RFC 5905, section 8). The
// one that took least says most of the offset.
func (c *Check) askOnce(st *quic.Stream, in *bufio.Reader) error {
	began := time.Now()
	if err := writeCheck(st, checkAsk{Sent: began.UnixNano()}); err != nil {
		return err
	}
	var ans checkAnswer
	if err := readCheck(in, &ans); err != nil {
		return err
	}
	took := time.Since(began)
	rtt := max(took-time.Duration(max(ans.Sent-ans.Came, 0)), 1)
	if c.RTT == 0 || rtt < c.RTT {
		middle := began.Add(took / 2).UnixNano()
		c.RTT, c.Within = rtt, rtt/2
		c.Offset = time.Duration(ans.Came + (ans.Sent-ans.Came)/2 - middle)
	}
	c.Software = ans.Software[:min(len(ans.Software), 64)]
	c.seen(ans.Seen)
	return nil
}

// seen compares our address with what the peer sees of it.
func (c *Check) seen(at netip.AddrPort) {
	local, err := netip.ParseAddrPort(c.Local)
	if !at.IsValid() || err != nil {
		return
	}
	c.Seen = at.String()
	switch {
	case local.Addr() != at.Addr():
		c.NAT = NATYes
	case local.Port() != at.Port():
		c.NAT = NATPort
	default:
		c.NAT = NATNone
	}
}

// localAddr is where packets to an address leave from: of a socket that is
// bound to all addresses the system tells which. "" when it does not.
func localAddr(bound, to net.Addr) string {
	b, ok := bound.(*net.UDPAddr)
	if !ok {
		return ""
	}
	ap := b.AddrPort()
	ip := ap.Addr().Unmap()
	if ip.IsUnspecified() {
		probe, err := net.Dial("udp", to.String()) // sends nothing
		if err != nil {
			return ""
		}
		defer probe.Close()
		ip = probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	}
	return netip.AddrPortFrom(ip.WithZone(""), ap.Port()).String()
}

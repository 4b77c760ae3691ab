package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"
)

// serveJoin hands the one stream of a newcomer to Config.Join. Newcomers have
// no certificate, so there are few at a time, each with a bounded life.
func (m *Manager) serveJoin(ctx context.Context, conn carrier) {
	if m.cfg.Join == nil {
		hangUp(conn, down(Refused, "this node does not take newcomers"))
		return
	}
	select {
	case m.joins <- struct{}{}:
		defer func() { <-m.joins }()
	default:
		hangUp(conn, down(Busy, "too many newcomers at once, try again"))
		return
	}
	m.met.joins.Inc()
	jctx, cancel := context.WithTimeout(ctx, max(joinTime, joinTrips*conn.Stats().RTT))
	defer cancel()
	defer context.AfterFunc(conn.Context(), cancel)() // who hangs up frees the place at once
	defer context.AfterFunc(jctx, func() { hangUp(conn, down(Shutdown, "out of time")) })()
	st, err := conn.AcceptStream(jctx)
	if err != nil {
		hangUp(conn, downOf(err))
		return
	}
	s := newStream(st, nil)
	m.cfg.Join(jctx, s, conn.RemoteAddr(), conn.TLS())
	_ = s.CloseWrite()
	// The newcomer hangs up when it has read the answer.
	select {
	case <-conn.Context().Done():
	case <-jctx.Done():
	}
}

// DialJoin opens a connection to join a mesh, from a UDP port of its own, and
// calls use with its one stream. The connection ends when use returns. conf
// pins the server by what the ticket says and names ALPNJoin. The distance is
// unknown, so only ctx limits the time.
func DialJoin(ctx context.Context, address string, conf *tls.Config, use func(st *Stream, state tls.ConnectionState) error) (err error) {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return fmt.Errorf("join through %s: %w", address, err)
	}
	udp, err := net.ListenUDP("udp", nil)
	if err != nil {
		return fmt.Errorf("join through %s: %w", address, err)
	}
	tr := &quic.Transport{Conn: udp}
	defer func() { err = errors.Join(err, tr.Close(), udp.Close()) }()
	config, patience := Properties{}.quicConfig(), profiles[0].handshakeMax
	config.HandshakeIdleTimeout = patience
	qc, err := tr.Dial(ctx, to, conf, config)
	if err != nil {
		_, text := explain(err, Peer{Address: address}, patience)
		return fmt.Errorf("join: %s", text)
	}
	conn := quicCarrier{qc}
	defer func() { hangUp(conn, down(Closed, "done")) }()
	st, err := conn.OpenStream(ctx)
	if err != nil {
		return fmt.Errorf("join through %s: %w", address, err)
	}
	defer context.AfterFunc(ctx, func() { hangUp(conn, down(Closed, "given up")) })()
	if err := use(newStream(st, nil), conn.TLS()); err != nil {
		return betterCause(conn, err)
	}
	return nil
}

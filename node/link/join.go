package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

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
// calls use with its one stream. Where no answer comes by UDP it tries TCP as
// well. The connection ends when use returns. conf pins the server by what the
// ticket says and names ALPNJoin. The distance is unknown, so only ctx limits
// the time.
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
	var running sync.WaitGroup
	defer running.Wait()
	conn, err := dialEither(ctx, tr, to, conf, &running)
	if err != nil {
		_, text := explain(err, Peer{Address: address}, profiles[0].handshakeMax)
		return fmt.Errorf("join: %s", text)
	}
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

// dialEither opens a connection over UDP, or over TCP when UDP failed or has
// not answered for some time: the first that answers. What it leaves running
// ends with the connection or with ctx.
func dialEither(ctx context.Context, tr *quic.Transport, to *net.UDPAddr, conf *tls.Config, running *sync.WaitGroup) (carrier, error) {
	type result struct {
		conn carrier
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	over := [2]chan result{make(chan result, 1), make(chan result, 1)}
	attempts, patience := 1, profiles[0].handshakeMax
	running.Go(func() {
		config := Properties{}.quicConfig()
		config.HandshakeIdleTimeout = patience
		conn, err := tr.Dial(ctx, to, conf, config)
		over[0] <- result{quicCarrier{conn: conn}, err}
	})
	tryTCP := sync.OnceFunc(func() {
		attempts++
		running.Go(func() {
			tctx, stop := context.WithTimeoutCause(ctx, 2*patience, errNoAnswer)
			defer stop()
			conn, err := dialTLS(tctx, net.Dialer{KeepAlive: -1}, to, conf, Properties{}, running.Go)
			over[1] <- result{conn, err}
		})
	})
	defer func() {
		cancel()
		for range attempts { // of two that answered, one goes
			running.Go(func() {
				select {
				case r := <-over[0]:
					giveBack(r.conn, r.err)
				case r := <-over[1]:
					giveBack(r.conn, r.err)
				}
			})
		}
	}()
	late := time.NewTimer(profiles[0].handshake)
	defer late.Stop()
	var first error
	for {
		var r result
		select {
		case r = <-over[0]:
		case r = <-over[1]:
		case <-late.C:
			tryTCP()
			continue
		}
		attempts--
		if r.err == nil {
			return r.conn, nil
		}
		if first == nil {
			first = r.err
		}
		if decides(r.err) {
			return nil, r.err
		}
		tryTCP()
		if attempts == 0 {
			return nil, first
		}
	}
}

// decides reports whether an attempt failed for what the far end is, which the
// other transport would not change.
func decides(err error) bool {
	var (
		quicErr *quic.TransportError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &quicErr):
		return quicErr.ErrorCode.IsCryptoError()
	case errors.As(err, &op):
		return op.Op == remoteError
	}
	return !isTimeout(err) && !errors.Is(err, errNoAnswer) && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled)
}

func giveBack(conn carrier, err error) {
	if err == nil {
		hangUp(conn, down(Redundant, "the other transport was faster"))
	}
}

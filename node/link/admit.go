package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
)

// pendingKey is where a connection's context has who waits to be believed: a
// *visitor over QUIC, a func() over TCP.
type pendingKey struct{}

// visitor is an inbound connection over QUIC.
type visitor struct {
	done  func()      // it is not pending any more
	known atomic.Bool // it is served: whoever serves it says how it ends
}

// shown ends what is counted of a connection that has shown who it is.
func shown(conn carrier) {
	switch v := conn.Context().Value(pendingKey{}).(type) {
	case *visitor:
		v.done()
	case func():
		v()
	}
}

// admit bounds the inbound connections that have not shown who they are.
func (m *Manager) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	if m.pending.Add(1) > maxPending {
		m.pending.Add(-1)
		m.met.refused.WithLabelValues(string(Busy)).Inc()
		err := errors.New("too many connections wait to be authenticated")
		m.warn("connection refused", "from", info.RemoteAddr, "err", err)
		return nil, err
	}
	v := &visitor{done: sync.OnceFunc(func() { m.pending.Add(-1) })}
	from := info.RemoteAddr
	context.AfterFunc(ctx, func() {
		v.done()
		if !v.known.Load() {
			m.unshaken(from, context.Cause(ctx))
		}
	})
	return context.WithValue(ctx, pendingKey{}, v), nil
}

// unshaken tells of a connection that ended before its handshake did: nobody
// else hears why. What the far end gave up itself is no refusal of ours.
func (m *Manager) unshaken(from net.Addr, err error) {
	var (
		app *quic.ApplicationError
		tr  *quic.TransportError
	)
	switch {
	case errors.Is(err, quic.ErrServerClosed), errors.Is(err, quic.ErrTransportClosed), errors.As(err, &tr) && tr.ErrorCode == quic.ConnectionRefused:
		// The node stops.
	case errors.As(err, &app), tr != nil && tr.Remote:
		m.cfg.Log.Debug("handshake ended by the far end", "from", from, "err", err)
	default:
		cause := Refused
		if isTimeout(err) {
			cause = Silent
		}
		m.met.refused.WithLabelValues(string(cause)).Inc()
		m.warn("connection refused", "from", from, "layer", LayerQUIC, "err", err)
	}
}

// quicVersions are those of QUIC (RFC 8999) that quic-go speaks.
var quicVersions = [...]quic.Version{quic.Version1, quic.Version2}

// wrongVersion tells of a packet of a QUIC that this node does not speak; the
// transport answers with those that it does (RFC 9000, section 6).
func (m *Manager) wrongVersion(from net.Addr, version quic.Version) {
	m.met.refused.WithLabelValues(string(Refused)).Inc()
	m.warn("connection refused", "from", from, "layer", LayerQUIC,
		"err", fmt.Errorf("version %#x of QUIC, this node speaks %#x and %#x", uint32(version), uint32(quicVersions[0]), uint32(quicVersions[1])))
}

func (m *Manager) accept(ctx context.Context, ln *quic.EarlyListener) {
	for {
		qc, err := ln.Accept(ctx)
		if err != nil {
			return // ctx ended, or Run closed the listener
		}
		conn := quicCarrier{qc, m.tr}
		m.wg.Go(func() {
			// Who came without a ticket has shown who it is when the handshake is done.
			if !qc.ConnectionState().Used0RTT {
				select {
				case <-qc.HandshakeComplete():
				case <-qc.Context().Done():
					return
				case <-ctx.Done():
					hangUp(conn, down(Shutdown, "the node stops"))
					return
				}
			}
			if v, ok := qc.Context().Value(pendingKey{}).(*visitor); ok {
				v.known.Store(true)
			}
			m.take(ctx, conn)
		})
	}
}

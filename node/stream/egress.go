package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
)

var errNoEndpoint = errors.New("this node has no endpoint of the service")

// Handle serves a stream that a neighbour opened, whose StreamOpen was read:
// it connects to a local endpoint when this node is the destination and
// relays to the next hop otherwise. It returns when the stream is done.
// Whether the neighbour may is the caller's business.
func (s *Server) Handle(ctx context.Context, open wire.StreamOpen, st Conn) {
	if !s.enter() {
		st.Reset(ResetStopped)
		return
	}
	defer s.wg.Done()
	ctx, cancel := mergeContext(ctx, s.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { st.Reset(ResetStopped) })
	defer stop()
	if open.Dest == s.cfg.Node {
		s.egress(ctx, open, st)
		return
	}
	s.relay(ctx, open, st)
}

// enter counts a caller's goroutine in, so that Run waits for it.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.ctx == nil {
		return false
	}
	s.wg.Add(1)
	return true
}

// refuse answers no. It reads on until the ingress has seen the answer and
// resets: a reset from here could overtake it.
func (s *Server) refuse(st Conn, reason bundle.Reason, text string) {
	reply := wire.StreamReply{Reason: reason, Text: text[:min(len(text), 256)]}
	_, err := st.Write(wire.Append(nil, reply))
	if err == nil {
		err = st.CloseWrite()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(st, maxDrain))
	}
	if err != nil {
		st.Reset(ResetRefused) // the ingress knows, or is gone
	}
}

func (s *Server) egress(ctx context.Context, open wire.StreamOpen, st Conn) {
	svc := s.lookup(open.Service)
	if svc == nil || len(svc.Endpoints) == 0 {
		s.met.conns.WithLabelValues("egress", resultRefused).Inc()
		s.refuse(st, bundle.NoRoute, fmt.Sprintf("%s: %v", s.cfg.Node, errNoEndpoint))
		return
	}
	done, ok := s.track(&svc.shared.egress, svc.MaxConns, "egress")
	if !ok {
		s.refuse(st, bundle.QuotaExceeded, fmt.Sprintf("%s: service %s has %d connections already", s.cfg.Node, svc.Name, svc.MaxConns))
		return
	}
	ctx, cancel := mergeContext(ctx, svc.ctx)
	defer cancel()
	local, err := s.dialEndpoint(ctx, svc)
	if err != nil {
		done(resultRefused)
		if ctx.Err() == nil {
			s.report(svc, false)
		}
		s.refuse(st, bundle.NoRoute, fmt.Sprintf("%s: %v", s.cfg.Node, err))
		return
	}
	if _, err := st.Write(wire.Append(nil, wire.StreamReply{OK: true})); err != nil {
		tcpConn{local}.Reset(0)
		st.Reset(ResetAborted)
		done(resultReset)
		return
	}
	done(s.pipe(ctx, st, tcpConn{local}))
}

func (s *Server) relay(ctx context.Context, open wire.StreamOpen, st Conn) {
	done, ok := s.track(&s.relays, relayLimit, "relay")
	if !ok {
		s.refuse(st, bundle.QuotaExceeded, fmt.Sprintf("%s relays %d connections already", s.cfg.Node, relayLimit))
		return
	}
	if open.Hops == 0 {
		done(resultRefused)
		s.refuse(st, bundle.HopLimit, fmt.Sprintf("%s: no hops left on the way to %s", s.cfg.Node, open.Dest))
		return
	}
	open.Hops = min(open.Hops, maxHops) - 1
	next, err := s.openNext(ctx, open)
	if err != nil {
		done(resultRefused)
		s.refuse(st, bundle.NoRoute, fmt.Sprintf("%s: %v", s.cfg.Node, err))
		return
	}
	done(s.pipe(ctx, st, next))
}

// openNext opens a stream to the next hop and announces what it is for.
func (s *Server) openNext(ctx context.Context, open wire.StreamOpen) (Conn, error) {
	next, err := s.cfg.Mesh.Open(ctx, open.Dest)
	if err != nil {
		return nil, fmt.Errorf("next hop to %s: %w", open.Dest, err)
	}
	if _, err := next.Write(wire.Append(nil, open)); err != nil {
		next.Reset(ResetAborted)
		return nil, fmt.Errorf("next hop to %s: %w", open.Dest, err)
	}
	return next, nil
}

// pipe joins two connections until both directions ended. It leaves both
// closed.
func (s *Server) pipe(ctx context.Context, a, b Conn) (result string) {
	abort := func() {
		a.Reset(ResetAborted)
		b.Reset(ResetAborted)
	}
	stop := context.AfterFunc(ctx, abort)
	err := both(
		func() error { return s.bufs.copy(b, a) },
		func() error { return s.bufs.copy(a, b) },
		abort)
	if !stop() || err != nil {
		return resultReset
	}
	for _, c := range []Conn{a, b} {
		if t, ok := c.(tcpConn); ok {
			_ = t.Close() // both directions are shut: this frees the descriptor
		}
	}
	return resultDone
}

// mergeContext ends with either of its parents.
func mergeContext(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

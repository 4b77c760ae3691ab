package link

import (
	"context"
	"time"
)

// Renew has the session replaced by another one, because it is silent for
// longer than its transport should need: its peer may have another address, or
// see this node at one that is no more. Where this node has the peer's address
// it dials beside the session, after pauses as for a peer that is down, and the
// first that carries stays. A node that has none can only end a session whose
// peer is heard and does not hear it: what the peer sends is answered by a
// stateless reset then, and it dials.
func (s *Session) Renew(heard bool) {
	s.besideMu.Lock()
	defer s.besideMu.Unlock()
	if s.beside == nil {
		// The peer ends the old session when it has the new one, before we may know.
		ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
		s.beside = &beside{ctx: ctx, end: cancel}
	}
	s.beside.heard = s.beside.heard || heard
	select {
	case s.renew <- struct{}{}:
	default:
	}
}

// renewal is what was asked for, nil when that is over.
func (s *Session) renewal() *beside {
	s.besideMu.Lock()
	defer s.besideMu.Unlock()
	if s.beside == nil {
		return nil
	}
	b := *s.beside
	return &b
}

// Carries ends what Renew began.
func (s *Session) Carries() {
	s.besideMu.Lock()
	defer s.besideMu.Unlock()
	if s.beside != nil {
		s.beside.end()
		s.beside = nil
	}
}

// beside is the search for a session in place of a silent one.
type beside struct {
	ctx   context.Context // ends when the silence does
	end   context.CancelFunc
	heard bool // the peer is heard and does not hear us
}

// keepAnew does what Renew asks for until the session is down; ctx is for the
// session that replaces it.
func (m *Manager) keepAnew(ctx context.Context, s *Session) {
	defer s.Carries()
	for {
		select {
		case <-s.renew:
			b, d := s.renewal(), m.dialerOf(s)
			switch {
			case b == nil:
			case d == nil && b.heard:
				s.end(down(Silent, "the peer is heard and does not hear us: it may have another address now"))
			case d != nil && d.dialBeside(ctx, s, b.ctx):
				return
			}
		case <-s.Done():
			return
		}
	}
}

// dialerOf returns who can dial the peer of a session, nil when nobody can.
func (m *Manager) dialerOf(s *Session) *dialer {
	for _, d := range m.dialers {
		if s.peering() == (peering{d.found(), d.peer.Link.Uplink}) {
			return d
		}
	}
	return nil
}

// dialBeside dials the peer of a silent session until that carries again or is
// down, and serves what replaces it to its end. It reports whether it did.
func (d *dialer) dialBeside(ctx context.Context, s *Session, silent context.Context) bool {
	defer context.AfterFunc(ctx, s.Carries)()
	for n := 0; ; n++ {
		if silent.Err() != nil || s.ctx.Err() != nil {
			return false
		}
		d.mu.Lock()
		w := d.way()
		d.mu.Unlock()
		w.instead, w.attempts = s, n
		next, release, err := d.establish(silent, w, s.RTT())
		if err == nil {
			d.learn(w, nil)
			d.m.met.dials.WithLabelValues("ok").Inc()
			d.m.cfg.Log.Info("a silent session is made anew", "peer", s.peer.Node, "session", s.id)
			d.serve(ctx, next, w, release)
			return true
		}
		if silent.Err() != nil {
			return false
		}
		d.learn(w, err)
		cause, text := explain(err, d.peer, d.peer.Link.handshakeTimeout(n, s.RTT()))
		d.m.met.dials.WithLabelValues(cause).Inc()
		d.m.cfg.Log.Debug("a silent session has no better one", "peer", s.peer.Node, "cause", cause, "err", text)
		t := time.NewTimer(d.backoff(n, s.RTT()))
		select {
		case <-t.C:
		case <-silent.Done():
		case <-s.ctx.Done():
		}
		t.Stop()
	}
}

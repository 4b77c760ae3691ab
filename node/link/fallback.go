package link

import (
	"context"
	"time"
)

// way is what one attempt to dial uses.
type way struct {
	tcp      bool
	instead  *Session // that the new one replaces; nil: there is none
	attempts int      // failed before
}

// fallsBack reports whether TCP may stand in for UDP on this link.
func (d *dialer) fallsBack() bool {
	return d.m.tcp() && (d.peer.Link.Layer == "" || d.peer.Link.Layer == LayerAuto)
}

// way returns what the next attempt uses; mu is held.
func (d *dialer) way() way {
	return way{tcp: d.peer.Link.Layer == LayerTLS || d.overTCP, attempts: d.attempts}
}

// learn notes what an attempt says about UDP: when some in a row got no answer,
// TCP and UDP are tried in turns. What worked last is tried first.
func (d *dialer) learn(w way, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.fallsBack():
	case err == nil:
		d.overTCP, d.deaf = w.tcp, 0
	case w.tcp:
		d.overTCP = false
	case !isTimeout(err):
		d.deaf = 0
	default:
		d.deaf++
		d.overTCP = d.deaf >= udpTries
	}
}

// serve runs a session that was dialled until it is down.
func (d *dialer) serve(ctx context.Context, s *Session, w way, release func()) Down {
	if !w.tcp || !d.fallsBack() {
		return d.m.serve(ctx, s, release)
	}
	d.m.met.moves.WithLabelValues(string(LayerTLS)).Inc()
	looking, stop := context.WithCancel(ctx)
	defer stop()
	every := d.peer.Link.timing(s.firstRTT).lookUDP
	back := make(chan struct{})
	d.m.wg.Go(func() { d.moveBack(looking, ctx, s, every, back) })
	why := d.m.serve(ctx, s, release)
	if why.Cause == Replaced { // by what moveBack is about, most likely
		select {
		case <-back:
		case <-ctx.Done():
		}
	}
	return why
}

// moveBack looks from time to time whether UDP passes again, while a session
// over TCP stands in for it, and replaces the session when it does. It ends
// when looking does; ctx is for the new session. back is closed when there is
// no attempt under way that could replace the session.
func (d *dialer) moveBack(looking, ctx context.Context, s *Session, every time.Duration, back chan<- struct{}) {
	next, release := d.look(looking, s, every)
	close(back)
	if next == nil {
		return
	}
	d.learn(way{}, nil)
	d.m.met.moves.WithLabelValues(string(LayerQUIC)).Inc()
	d.m.serve(ctx, next, release)
}

// look tries UDP until it passes; the session is nil when that was given up.
func (d *dialer) look(looking context.Context, s *Session, every time.Duration) (*Session, func()) {
	for n := 0; ; n++ {
		t := time.NewTimer(every << min(n, lookDoublings))
		select {
		case <-t.C:
		case <-s.Done():
		case <-looking.Done():
		}
		t.Stop()
		if looking.Err() != nil || s.ctx.Err() != nil {
			return nil, nil
		}
		if open, _ := d.peer.Link.contact(time.Now()); !open {
			continue
		}
		next, release, err := d.establish(looking, way{instead: s}, s.RTT())
		if err == nil {
			return next, release
		}
		d.m.cfg.Log.Debug("the link stays on TCP", "peer", d.peer.Address, "err", err)
	}
}

package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Run connects the brokers, again and again, until ctx ends; it returns nil
// then. It may be called once.
func (b *Bridge) Run(ctx context.Context) error {
	var aging sync.WaitGroup
	defer aging.Wait()
	aging.Go(func() {
		step := b.cfg.RememberFor / 16
		for sleep(ctx, step) {
			b.seen.pass(step)
		}
	})
	defer b.cond.update(func(s *Status) { s.State = Stopped })
	for failures := 0; ; {
		b.cond.update(func(s *Status) { s.State, s.Attempts = Connecting, s.Attempts+1 })
		up, err := b.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if up > b.cfg.pause(failures+1, b.rtt.get()) {
			failures = 0 // it lasted: this is a new fault
		}
		failures++
		pause := b.cfg.pause(failures, b.rtt.get())
		pause = max(pause-rand.N(max(pause/2, 1)), b.cfg.RetryMin) // so that many bridges do not come back as one
		b.cond.update(func(s *Status) { s.State, s.LastError, s.LastAt = Waiting, err.Error(), time.Now() })
		level := slog.LevelDebug
		if b.news.down(time.Now(), err) {
			level = slog.LevelWarn // once for each reason, and not at each attempt
		}
		b.log.Log(ctx, level, "bridge is down", "bridge", b.cfg.Name, "error", err, "retry_in", pause.Round(time.Millisecond))
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// once makes one link, stays with it to its end, and says how long it was up.
func (b *Bridge) once(ctx context.Context) (up time.Duration, err error) {
	if err := b.reserve(ctx); err != nil {
		return 0, err
	}
	rem, err := b.connectRemote(ctx)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			b.late++
		}
		return 0, err
	}
	b.late = 0
	if b.cfg.Share != "" && rem.version < 5 && overlapping(b.cfg.Rules) {
		_ = rem.conn.Close()
		return 0, fmt.Errorf("share: the remote speaks MQTT 3.1.1: %w", errShared)
	}
	loc, err := b.connectLocal(ctx, min(b.cfg.window(b.rtt.get()), rem.receiveMax))
	if err != nil {
		_ = rem.conn.Close()
		return 0, err
	}
	l := newLink(b, loc, rem)
	b.cond.setLink(l)
	defer b.cond.setLink(nil)
	b.cond.update(func(s *Status) {
		s.Version, s.Window, s.KeepAlive = V5, min(b.cfg.window(b.rtt.get()), rem.receiveMax), rem.keepAlive
		if rem.version < 5 {
			s.Version = V311
		}
		s.Warnings = warnings(rem)
	})
	began := time.Now()
	err = l.run(ctx)
	return time.Since(began), b.suspect(l, err)
}

// suspect adds to the error of a link what an MQTT 3.1.1 broker does not say:
// that it closes whenever it gets a message it does not want. The bridge goes
// on trying, for it cannot tell that from a bad network, and must not lose.
func (b *Bridge) suspect(l *link, err error) error {
	topic, ok := l.out.first()
	if !ok {
		b.barren = 0
		return err
	}
	if b.barren++; b.barren < 5 {
		return err
	}
	return fmt.Errorf("%w; %d connections in a row ended before the remote acknowledged anything: does it allow topic %q?", err, b.barren, topic)
}

// warnings tells what a broker keeps less of than a bridge asks for.
func warnings(c *client) []string {
	var out []string
	if c.expiry != neverExpires {
		out = append(out, fmt.Sprintf("the remote broker keeps the session for %s of disconnection alone; what waits there longer is lost", time.Duration(c.expiry)*time.Second))
	}
	if c.maxQoS < 2 {
		out = append(out, fmt.Sprintf("the remote broker takes QoS %d at most", c.maxQoS))
	}
	if !c.retain {
		out = append(out, "the remote broker takes no retained messages; they go over as ordinary ones")
	}
	return out
}

// warn adds a warning to those of the link.
func (b *Bridge) warn(text string) {
	b.cond.update(func(s *Status) {
		if len(s.Warnings) < 64 && !slices.Contains(s.Warnings, text) {
			s.Warnings = append(slices.Clip(s.Warnings), text)
		}
	})
}

// unwarn takes a warning back.
func (b *Bridge) unwarn(text string) {
	b.cond.update(func(s *Status) {
		s.Warnings = slices.DeleteFunc(slices.Clone(s.Warnings), func(w string) bool { return w == text })
	})
}

// connectRemote connects with the version the remote speaks, and with a window
// that fits its round trip.
func (b *Bridge) connectRemote(ctx context.Context) (*client, error) {
	retried := false
	for {
		c, window, err := b.tryRemote(ctx)
		auto := b.cfg.Remote.Version == Auto
		switch {
		case errors.Is(err, errVersion) && auto && !b.old:
			b.old = true
			continue
		case errors.Is(err, errHungUp) && auto && !b.old:
			b.hungUp++
			b.old = b.hungUp%3 == 0 // ask in the old version next time
			return nil, err
		case err != nil:
			if auto && ctx.Err() == nil && errors.Is(err, errHungUp) {
				b.old = false
			}
			return nil, err
		}
		b.hungUp = 0
		known := b.rtt.get() > 0
		b.rtt.add(c.rtt)
		// A broker that kept the session repeats what is open at once, and one that
		// is cut then may send it again (Mosquitto 2.0.11): that connection stays.
		if !known && !retried && !c.present && c.version == 5 && b.cfg.RetryMin == 0 && b.cfg.window(c.rtt) > 2*window {
			retried = true // the path is longer than its first hop: announce the window it takes
			hangUp(c)
			continue
		}
		return c, nil
	}
}

// tryRemote connects once. window is what it announced.
func (b *Bridge) tryRemote(ctx context.Context) (c *client, window int, err error) {
	r := b.cfg.Remote
	limit := b.cfg.step(b.late, &b.rtt)
	dialling, done := context.WithTimeout(ctx, limit)
	conn, took, err := b.dial(dialling)
	done()
	if err != nil {
		return nil, 0, fmt.Errorf("remote broker: %w", err)
	}
	rtt := max(b.rtt.get(), took)
	h := hello{
		side: remote, login: r.Login, version: 5, window: b.cfg.window(rtt),
		maxPacket: b.cfg.MaxPacket, keepAlive: max(b.cfg.KeepAlive, 3*rtt), // the broker counts from CONNECT, and our next packet takes a round trip
	}
	if b.old {
		h.version, h.mark = 4, r.Mosquitto
	}
	greeting, done := context.WithTimeout(ctx, max(limit, 8*took))
	defer done()
	if c, err = connect(greeting, conn, h); err != nil {
		return nil, 0, err
	}
	if r.MaxQoS != nil {
		c.maxQoS = min(c.maxQoS, byte(*r.MaxQoS))
	}
	c.maxPacket = min(c.maxPacket, r.MaxPacket)
	if c.version < 5 {
		if c.receiveMax = r.Inflight; c.receiveMax == 0 {
			c.receiveMax = b.cfg.window(max(rtt, c.rtt))
		}
	}
	return c, h.window, nil
}

// hangUp ends a connection that carried nothing; the session stays.
func hangUp(c *client) {
	o := newOutbox(c.version, 1, 0)
	o.close()
	_ = o.run(c.conn)
	_ = c.conn.Close()
}

// connectLocal connects to the local broker.
func (b *Bridge) connectLocal(ctx context.Context, window int) (*client, error) {
	ctx, done := context.WithTimeout(ctx, b.cfg.ConnectTimeout)
	defer done()
	conn, err := b.deps.Local(ctx)
	if err != nil {
		return nil, fmt.Errorf("local broker: %w", err)
	}
	return connect(ctx, conn, hello{
		side: local, login: b.cfg.Local, version: 5, window: window,
		maxPacket: b.cfg.MaxPacket, keepAlive: b.cfg.KeepAlive,
	})
}

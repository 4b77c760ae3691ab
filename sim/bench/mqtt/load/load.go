package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// turnWait bounds one turn of the loop, and so how late a deadline is seen.
const turnWait = 20 * time.Millisecond

// Config describes a load.
type Config struct {
	Publish     string // HOST:PORT of the broker that is published to
	Subscribe   string // HOST:PORT of the broker with the subscribers; the same if empty
	Publishers  int
	Subscribers int
	Pairs       bool // publisher i sends to subscriber i alone, otherwise to all
	QoS         byte // of publishes and subscriptions
	Size        int  // bytes of a payload, MinPayload or more
	Persistent  bool // the subscribers' sessions outlive their connections

	// Window is how many messages of one publisher may be on their way to its
	// slowest subscriber. With QoS 1 and 2 as many may be unacknowledged, unless
	// Unacked bounds these apart.
	Window  int
	Unacked int
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	check := func(name string, v, low, high int) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("%s: %d, want %d to %d", name, v, low, high))
		}
	}
	check("publishers", c.Publishers, 1, 10_000)
	check("subscribers", c.Subscribers, 1, 10_000)
	check("qos", int(c.QoS), 0, 2)
	check("size", c.Size, MinPayload, 64<<10)
	check("window", c.Window, 1, 1<<20)
	if c.QoS > 0 {
		// Ids are taken in turn, and those in use must be far from the next one.
		if c.Unacked > 0 {
			check("unacked", c.Unacked, 1, ids/2)
		} else {
			check("window", c.Window, 1, ids/2)
		}
	}
	if c.Pairs && c.Publishers != c.Subscribers {
		errs = append(errs, fmt.Errorf("pairs: %d publishers and %d subscribers, want as many", c.Publishers, c.Subscribers))
	}
	if c.Publish == "" {
		errs = append(errs, errors.New("the address of the broker: missing"))
	}
	return errors.Join(errs...)
}

// Load is connected publishers and subscribers. One goroutine uses it.
type Load struct {
	cfg   Config
	loop  *Loop
	pubs  []*publisher
	subs  []*subscriber
	batch int // least messages that are worth a write

	in, out  uint64 // messages sent and arrived
	progress time.Time
	seen     uint64 // out at progress
}

func topic(i int) string { return fmt.Sprintf("bench/%04d/values", i) }

// Open connects all. Close must follow.
func Open(ctx context.Context, c Config) (*Load, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if c.Subscribe == "" {
		c.Subscribe = c.Publish
	}
	loop, err := NewLoop()
	if err != nil {
		return nil, err
	}
	l := &Load{cfg: c, loop: loop, batch: max(1, c.Window/8)}
	if c.Unacked > 0 {
		l.batch = max(1, min(c.Window, c.Unacked)/8)
	}
	if err := l.connect(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("load: %w", err), l.Close())
	}
	return l, nil
}

func (l *Load) connect(ctx context.Context) (err error) {
	c := l.cfg
	for i := range c.Subscribers {
		filter := "bench/+/values"
		if c.Pairs || c.Publishers == 1 {
			filter = topic(i % c.Publishers)
		}
		s := &subscriber{l: l, qos: c.QoS, next: make([]uint64, c.Publishers)}
		who := Client{Name: fmt.Sprintf("bench-sub-%04d", i), Filter: filter, QoS: c.QoS, Persistent: c.Persistent}
		if s.Conn, err = l.loop.Dial(ctx, c.Subscribe, who, s); err != nil {
			return err
		}
		l.subs = append(l.subs, s)
	}
	for i := range c.Publishers {
		p := newPublisher(l, i, topic(i))
		if p.to = l.subs; c.Pairs {
			p.to = l.subs[i : i+1]
		}
		if p.Conn, err = l.loop.Dial(ctx, c.Publish, Client{Name: fmt.Sprintf("bench-pub-%04d", i)}, p); err != nil {
			return err
		}
		l.pubs = append(l.pubs, p)
	}
	return nil
}

// Close ends the connections.
func (l *Load) Close() error { return l.loop.Close() }

// Sent and Arrived count messages since Open, without probes.
func (l *Load) Sent() uint64 { return l.in }

// Arrived counts what the subscribers got, repeats among it.
func (l *Load) Arrived() uint64 { return l.out }

// turn does one turn of the loop. With publish the publishers go on.
func (l *Load) turn(publish bool) error {
	if publish {
		for _, p := range l.pubs {
			if err := p.fill(); err != nil {
				return fmt.Errorf("%s: %w", p.name(), err)
			}
		}
	}
	err := l.loop.Turn(turnWait)
	if l.out != l.seen {
		l.seen, l.progress = l.out, time.Now()
	}
	return err
}

func (p *publisher) name() string { return fmt.Sprintf("publisher %d", p.index) }

// ErrStalled says that nothing arrived for as long as the plan waits, with
// messages under way.
var ErrStalled = errors.New("the load stalled")

// drive turns until end says so. It fails with ErrStalled when nothing arrives
// for that long.
func (l *Load) drive(ctx context.Context, publish bool, stall time.Duration, end func(now time.Time) bool) error {
	l.progress = time.Now()
	for {
		if err := l.turn(publish); err != nil {
			return err
		}
		now := time.Now()
		switch {
		case end(now):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case now.Sub(l.progress) > stall:
			return ErrStalled
		}
	}
}

// Reach publishes probes until one arrives at every subscriber: a subscription
// takes its time to be known at the other end of a long link.
func (l *Load) Reach(ctx context.Context, every, limit time.Duration) error {
	payload := make([]byte, MinPayload)
	for i := range 8 {
		payload[i] = 0xFF
	}
	begin := time.Now()
	for now := begin; now.Sub(begin) < limit; now = time.Now() {
		for i, p := range l.pubs {
			// Probes take packet ids as messages do; they count as neither.
			id := uint16(1 + p.number%ids)
			if p.qos > 0 {
				if p.states[id] != free {
					continue // the last one is still under way
				}
				p.states[id] = sent
				p.acked--
			}
			if err := p.Send(AppendPublish(p.Buffer(), topic(i), p.qos, id, payload)); err != nil {
				return fmt.Errorf("%s: %w", p.name(), err)
			}
		}
		err := l.drive(ctx, false, limit, func(at time.Time) bool { return l.reached() || at.Sub(now) > every })
		if err != nil {
			return err
		}
		if l.reached() {
			return l.drive(ctx, false, limit, func(time.Time) bool { return l.quiet() })
		}
	}
	return fmt.Errorf("no probe arrived within %v", limit)
}

func (l *Load) reached() bool {
	for _, s := range l.subs {
		if !s.probed {
			return false
		}
	}
	return true
}

// quiet reports whether no publisher waits for an acknowledgement.
func (l *Load) quiet() bool {
	for _, p := range l.pubs {
		if p.qos > 0 && p.acked != p.number {
			return false
		}
	}
	return true
}

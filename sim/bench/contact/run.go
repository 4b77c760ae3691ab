package contact

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
)

// Times of a run on this machine.
const (
	firstLead = 3 * time.Second        // from the start of both processes to the contact; doubled when they need longer
	margin    = 500 * time.Millisecond // for which both wait for the contact, at least
	slack     = 3 * time.Second        // of a contact, beyond round trips
	meetings  = 3                      // contacts in which the nodes may get to know each other
)

// ErrLost is an acknowledged message that never arrived.
var ErrLost = errors.New("messages were lost")

// run is what a run has open.
type run struct {
	c     Config
	p     pair
	note  func(format string, args ...any)
	sub   *client
	wg    sync.WaitGroup // receives
	in    arrivals
	sent  uint64    // acknowledged messages; their numbers are from 1
	start time.Time // of the contact
	end   time.Time
}

// Run lets both nodes get to know each other in a first contact, and measures
// those that follow.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (r Report, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	if note == nil {
		note = func(string, ...any) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r = Report{Delay: millis(c.Delay), RateMbit: float64(c.Rate) / 1e6, Disk: proc.FileSystem(c.Dir)}
	if r.Emulated, err = c.emulated(ctx); err != nil {
		return r, fmt.Errorf("measure the emulator: %w", err)
	}
	x := &run{c: c, p: pair{c: c}, note: note, in: arrivals{at: map[uint64]time.Time{}}}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.p.open(ctx); err != nil {
		return r, err
	}
	if err := x.acquaint(ctx); err != nil {
		return r, err
	}
	for i := range c.Rounds {
		// Before the last contact, no node can save anything.
		round, err := x.round(ctx, i == c.Rounds-1)
		if err != nil {
			return r, fmt.Errorf("contact %d: %w%s", i+1, err, x.tails())
		}
		r.Rounds = append(r.Rounds, round)
		note("contact %d: first message after %.1f ms, link up after %.1f ms, %d early, %d late", i+1, round.FirstByte, round.LinkUp, round.Early, round.Late)
	}
	r.sum()
	if r.Lost, err = x.missing(ctx); err != nil {
		return r, err
	}
	x.in.mu.Lock()
	r.Repeated = x.in.repeated
	x.in.mu.Unlock()
	if r.Lost > 0 {
		err = fmt.Errorf("%w: %d of %d that %s had acknowledged did not arrive, not in one more contact either%s", ErrLost, r.Lost, x.sent, x.p.near.name, x.tails())
	}
	return r, err
}

// missing counts acknowledged messages that did not arrive. What came late for
// its contact has one more.
func (x *run) missing(ctx context.Context) (int, error) {
	lost := func() int { return int(x.sent) - len(x.in.of(1, x.sent)) }
	if lost() == 0 {
		return 0, nil
	}
	err := x.p.halt(false)
	if err == nil {
		err = x.await(ctx, 10*x.c.Delay+slack)
	}
	if err == nil {
		err = x.part(ctx)
	}
	return lost(), err
}

func (x *run) close() error {
	var err error
	if x.sub != nil {
		err = x.sub.conn.Close()
	}
	x.wg.Wait()
	return errors.Join(err, x.p.stop())
}

func (x *run) tails() string {
	return fmt.Sprintf("\n%s:\n%s\n%s:\n%s", x.p.near.name, x.p.near.Tail(), x.p.far.name, x.p.far.Tail())
}

// await starts both nodes with a contact ahead, and the subscriber, and returns
// at the start of the contact.
func (x *run) await(ctx context.Context, length time.Duration) error {
	for lead := firstLead; lead <= patience; lead *= 2 {
		x.start = time.Now().Add(lead).Truncate(time.Millisecond)
		x.end = x.start.Add(length)
		x.p.link.Cut(true) // until both are known to be ready in time
		if err := x.p.plan(x.start, length); err != nil {
			return err
		}
		if err := x.p.start(ctx); err != nil {
			return err
		}
		if err := x.subscribe(ctx); err != nil {
			return err
		}
		if left := time.Until(x.start); left > margin {
			x.p.link.Cut(false)
			if !pause(ctx, left) {
				return context.Cause(ctx)
			}
			return nil
		}
		x.note("the nodes needed more than %v to start; once again", lead)
		if err := x.p.halt(false); err != nil {
			return err
		}
	}
	return fmt.Errorf("the nodes do not start within %v", patience)
}

// subscribe connects the subscriber, whose session outlives its connections.
func (x *run) subscribe(ctx context.Context) error {
	if x.sub != nil {
		if err := x.sub.conn.Close(); err != nil {
			return err
		}
		x.wg.Wait()
	}
	known := x.sub != nil
	sub, kept, err := dial(ctx, x.p.far.mqtt, "bench-subscriber", true)
	if err != nil {
		return err
	}
	x.sub = sub
	switch {
	case known && !kept:
		return fmt.Errorf("%w: the session of the subscriber is gone", ErrLost)
	case !known:
		body, err := sub.ask(load.AppendSubscribe(nil, 1, topic, 1), load.Suback)
		if err == nil && (len(body) != 3 || body[2] != 1) {
			err = fmt.Errorf("SUBACK % x", body)
		}
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	x.wg.Go(func() { sub.receive(&x.in) })
	return nil
}

// acquaint lets the nodes get to know each other: one has a ticket then, and
// what the other wants to hear.
func (x *run) acquaint(ctx context.Context) error {
	var errs []error
	for range meetings {
		err := x.await(ctx, 24*x.c.Delay+slack)
		if err != nil {
			return err
		}
		if err = x.meet(ctx); err == nil {
			return x.part(ctx)
		}
		errs = append(errs, err)
		if err := x.p.halt(false); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return fmt.Errorf("the nodes do not get to know each other in %d contacts: %w%s", meetings, errors.Join(errs...), x.tails())
}

// meet ends when a message has arrived.
func (x *run) meet(ctx context.Context) error {
	since, err := x.p.near.turn(ctx, true, x.end)
	if err != nil {
		return err
	}
	x.note("strangers: link up %.1f ms after the start of a contact", millis(since.Sub(x.start)))
	pub, _, err := dial(ctx, x.p.near.mqtt, "bench-publisher", false)
	if err != nil {
		return err
	}
	// What nobody wants is acknowledged and gone: these count as no loss.
	const first = uint64(1) << 62
	for n := first; len(x.in.of(first, n)) == 0; n++ {
		if err := pub.publish(n, n); err != nil {
			return errors.Join(err, pub.conn.Close())
		}
		if time.Now().After(x.end) {
			return errors.Join(errors.New("no message arrives"), pub.leave())
		}
		if !pause(ctx, max(x.c.Delay, 50*time.Millisecond)) {
			return errors.Join(context.Cause(ctx), pub.conn.Close())
		}
	}
	return pub.leave()
}

// part waits for the end of the contact.
func (x *run) part(ctx context.Context) error {
	if !pause(ctx, time.Until(x.end)) {
		return context.Cause(ctx)
	}
	_, err := x.p.near.turn(ctx, false, time.Now().Add(patience))
	return err
}

// round publishes while there is no link, starts both nodes again, and measures
// the contact that follows.
func (x *run) round(ctx context.Context, kill bool) (r Round, err error) {
	pub, _, err := dial(ctx, x.p.near.mqtt, "bench-publisher", false)
	if err != nil {
		return r, err
	}
	first, last := x.sent+1, x.sent+batch
	if err := errors.Join(pub.publish(first, last), pub.leave()); err != nil {
		return r, err
	}
	x.sent = last
	if err := x.p.halt(kill); err != nil {
		return r, err
	}
	if err := x.await(ctx, 10*x.c.Delay+slack); err != nil {
		return r, err
	}
	if early := x.in.of(first, last); len(early) > 0 {
		return r, fmt.Errorf("%d messages arrived while there was no link", len(early))
	}
	up, err := x.p.near.turn(ctx, true, x.end)
	if err != nil {
		return r, err
	}
	for len(x.in.of(first, last)) < batch && time.Now().Before(x.end) {
		if !pause(ctx, 20*time.Millisecond) {
			return r, context.Cause(ctx)
		}
	}
	got := x.in.of(first, last)
	if len(got) == 0 {
		return r, fmt.Errorf("%w: none of %d messages arrived in a contact of %v", ErrLost, batch, x.end.Sub(x.start))
	}
	since := func(t time.Time) float64 { return millis(t.Sub(x.start)) }
	r = Round{
		Killed: kill, LinkUp: since(up), Late: batch - len(got),
		FirstByte: since(slices.MinFunc(got, time.Time.Compare)), LastByte: since(slices.MaxFunc(got, time.Time.Compare)),
	}
	if r.Early, err = x.p.far.early(ctx, "received"); err != nil {
		return r, err
	}
	if r.Stale, err = x.p.far.early(ctx, "stale"); err != nil {
		return r, err
	}
	return r, x.part(ctx)
}

// emulated measures what the emulator makes of the delay, with a few packets of
// 1200 bytes, in ms.
func (c Config) emulated(ctx context.Context) (_ float64, err error) {
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	link, err := emulator.Open(emulator.Config{Network: "udp", Listen: "127.0.0.1:0", To: to.LocalAddr().String(), Up: c.wire(), Down: c.wire()})
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = link.Run(ctx) }) // nothing arrives through a link that ended
	defer func() { err = errors.Join(err, link.Close()); wg.Wait() }()
	from, err := (&net.Dialer{}).DialContext(ctx, "udp", link.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	const packets, size = 5, 1200
	var sent [packets]time.Time
	buf := make([]byte, size)
	for i := range packets {
		buf[0], sent[i] = byte(i), time.Now()
		if _, err := from.Write(buf); err != nil || !pause(ctx, 10*time.Millisecond) {
			return 0, errors.Join(err, ctx.Err())
		}
	}
	if err := to.SetReadDeadline(time.Now().Add(c.Delay + patience)); err != nil {
		return 0, err
	}
	var took []float64
	for range packets {
		if _, _, err := to.ReadFrom(buf); err != nil {
			return 0, err
		}
		took = append(took, millis(time.Since(sent[int(buf[0])%packets])))
	}
	return spread(took).P50, nil
}

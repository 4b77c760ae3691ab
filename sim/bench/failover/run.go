package failover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/sim/bench/proc"
)

// Times of a run, all far beyond what they wait for.
const (
	warmUp   = 2 * time.Second        // before the first cut
	between  = 300 * time.Millisecond // at least, from a link that is back to the next cut
	spreadBy = 400 * time.Millisecond // at most added to that, so that cuts meet the probes anywhere
	steady   = 100 * time.Millisecond // in which messages came before a cut
	natsCuts = 10                     // each is noticed after seconds
	calmRate = 20_000_000             // bit/s of each wire that is to be full
	echo     = time.Second            // after a cut, in which its silence may still be noticed
)

// outage is one cut.
type outage struct{ from, to time.Time }

// Run cuts the direct wire again and again while messages flow, or fills all
// wires and cuts none.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (r Report, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	if note == nil {
		note = func(string, ...any) {}
	}
	if r, err = c.nodes(ctx, note); err != nil || c.NATS == "" {
		return r, err
	}
	note("the same with NATS, %d cuts", natsCuts)
	if r.Peer, err = c.peer(ctx); err == nil && r.Detect.P50 > 0 {
		r.Peer.Ratio = math.Round(10*r.Peer.Detect.P50/r.Detect.P50) / 10
	}
	return r, err
}

func (c Config) nodes(ctx context.Context, note func(format string, args ...any)) (r Report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &triangle{program: c.Farhop, dir: c.Dir, g: &errgroup.Group{}}
	if c.Time > 0 {
		t.rate = calmRate
	}
	defer func() { err = errors.Join(err, t.stop()); cancel(); err = errors.Join(err, t.g.Wait()) }()
	if err := t.open(ctx); err != nil {
		return r, err
	}
	pairs := [][2]*member{{t.from, t.to}}
	if c.Time > 0 {
		pairs = append(pairs, [2]*member{t.from, t.relay}, [2]*member{t.relay, t.to})
	}
	f := &flow{}
	defer func() { err = errors.Join(err, f.end()) }()
	for _, p := range pairs {
		if err := f.begin(ctx, c, p[0], p[1]); err != nil {
			return r, err
		}
	}
	if err := t.flows(ctx, f.all[0]); err != nil {
		return r, err
	}
	if c.Busy {
		idle, err := spin(ctx)
		if err != nil {
			return r, err
		}
		defer idle()
	}
	if c.Time > 0 {
		note("messages flow as fast as they can; none of the wires is cut for %v", c.Time)
		return c.calm(ctx, t, f)
	}
	note("messages flow; %d cuts follow", c.Cuts)
	return c.measure(ctx, t, f)
}

// flow is all streams of a run.
type flow struct {
	all    []*stream
	dry    []context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex // guards failed
	failed error
}

func (f *flow) begin(ctx context.Context, c Config, from, to *member) error {
	s, err := openStream(ctx, from, to, c.Time > 0)
	if err != nil {
		return err
	}
	flows, dry := context.WithCancel(ctx)
	f.all, f.dry = append(f.all, s), append(f.dry, dry)
	f.wg.Go(s.arrive)
	f.wg.Go(s.acknowledged)
	f.wg.Go(func() {
		err := s.publish(flows, c.Every)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failed = errors.Join(f.failed, err)
	})
	return nil
}

// settle publishes no more, and waits until what was published has arrived.
func (f *flow) settle(ctx context.Context) error {
	for _, dry := range f.dry {
		dry()
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && pause(ctx, 100*time.Millisecond); {
		if !slices.ContainsFunc(f.all, func(s *stream) bool { return !s.settled() }) {
			break
		}
	}
	return context.Cause(ctx)
}

func (f *flow) end() error {
	var errs []error
	for _, dry := range f.dry {
		dry()
	}
	for _, s := range f.all {
		errs = append(errs, s.close())
	}
	f.wg.Wait()
	return errors.Join(append(errs, f.failed)...)
}

// flows waits until messages arrive over the direct link.
func (t *triangle) flows(ctx context.Context, s *stream) error {
	for end := time.Now().Add(patience); s.count() == 0; {
		if time.Now().After(end) || !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("no message arrives\n%s\n%s", t.from.Tail(), t.to.Tail())
		}
	}
	if !pause(ctx, warmUp) {
		return context.Cause(ctx)
	}
	return nil
}

// measure cuts, and sums up.
func (c Config) measure(ctx context.Context, t *triangle, f *flow) (r Report, err error) {
	s, begun := f.all[0], time.Now()
	probes, err := t.from.watched(ctx, "probes")
	if err != nil {
		return r, err
	}
	rnd := rand.New(rand.NewPCG(c.Seed, 1))
	var cuts []outage
	for range c.Cuts {
		if !pause(ctx, between+time.Duration(rnd.Int64N(int64(spreadBy)))) {
			return r, context.Cause(ctx)
		}
		for end := time.Now().Add(patience); !s.flows(time.Now(), c.Every) && time.Now().Before(end); {
			if !pause(ctx, c.Every) {
				return r, context.Cause(ctx)
			}
		}
		o := outage{from: time.Now()}
		t.direct.Cut(true)
		if !pause(ctx, c.Down) {
			return r, context.Cause(ctx)
		}
		t.direct.Cut(false)
		o.to = time.Now()
		cuts = append(cuts, o)
		if err := t.healed(ctx, o); err != nil {
			return r, err
		}
	}
	took := time.Since(begun).Seconds()
	after, err := t.from.watched(ctx, "probes")
	if err != nil {
		return r, err
	}
	late, err := t.from.watched(ctx, "late-wakes")
	if err != nil {
		return r, err
	}
	r = Report{Cuts: len(cuts), Every: float64(c.Every.Microseconds()) / 1000, Busy: c.Busy, Disk: proc.FileSystem(c.Dir), Seconds: took, Probes: (after - probes) / took, LateWakes: int(late)}
	if err := f.settle(ctx); err != nil {
		return r, err
	}
	return r, r.judge(t, f, cuts)
}

// healed waits until the sending node hears the other end again, if it noticed
// that it did not.
func (t *triangle) healed(ctx context.Context, o outage) error {
	for end := time.Now().Add(patience); ; {
		all, err := t.from.silences()
		if err != nil {
			return err
		}
		silent := false
		for _, x := range all {
			if x.Peer == t.to.name {
				silent = x.Msg == fellSilent
			}
		}
		if !silent {
			return nil
		}
		if time.Now().After(end) || !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("the link cut at %v does not come back\n%s", o.from, t.from.Tail())
		}
	}
}

// judge sums up what the logs and the arrivals say of the cuts.
func (r *Report) judge(t *triangle, f *flow, cuts []outage) error {
	s := f.all[0]
	var all []silence
	for _, m := range []*member{t.from, t.relay, t.to} {
		lines, err := m.silences()
		if err != nil {
			return err
		}
		all = append(all, lines...)
	}
	var detect, switched, gaps []time.Duration
	for _, o := range cuts {
		noticed := false
		for _, x := range all {
			if x.at == t.from.name && x.Peer == t.to.name && x.Msg == fellSilent && !noticed && x.Time.After(o.from) && x.Time.Before(o.to.Add(echo)) {
				noticed = true
				detect = append(detect, x.Time.Sub(o.from))
			}
		}
		if !noticed {
			r.Unnoticed++
		}
		gaps = append(gaps, s.gap(o.from, o.to))
		if d, ok := s.through(o.from); ok {
			switched = append(switched, d)
		}
	}
	for _, x := range all {
		if x.Msg == fellSilent && !t.explained(x, cuts) {
			r.FalseAlarms++
		}
	}
	r.Detect, r.Switch, r.Gap = spread(detect), spread(switched), spread(gaps)
	for _, s := range f.all {
		r.Lost += s.lost()
		s.mu.Lock()
		r.Sent, r.Repeated = r.Sent+int(s.acked), r.Repeated+s.repeated
		s.mu.Unlock()
	}
	return nil
}

// explained reports whether a silence is that of a cut.
func (t *triangle) explained(x silence, cuts []outage) bool {
	if x.at == t.relay.name || x.Peer == t.relay.name {
		return false
	}
	for _, o := range cuts {
		if x.Time.After(o.from) && x.Time.Before(o.to.Add(echo)) {
			return true
		}
	}
	return false
}

// spin keeps every processor busy until the returned function is called.
func spin(ctx context.Context) (idle func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var all []*exec.Cmd
	idle = func() {
		cancel()
		for _, c := range all {
			_ = c.Wait() // it was killed
		}
	}
	for range runtime.NumCPU() {
		c := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			idle()
			return nil, fmt.Errorf("keep the processors busy: %w", err)
		}
		all = append(all, c)
	}
	return idle, nil
}

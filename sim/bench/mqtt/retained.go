package mqtt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

const (
	sites         = 1000 // second level of the topics
	ofNode        = 64   // what a node itself has retained, at most
	retainedAlone = "fan-out-qos0"
)

// RetainedReport is what Retained found.
type RetainedReport struct {
	Machine     Machine `json:"machine"`
	Retained    int     `json:"retained"`
	Size        int     `json:"size"`       // bytes of a payload
	SetRate     float64 `json:"set_msgs_s"` // as they were published
	BytesEach   float64 `json:"bytes_each_over_payload"`
	Restart     float64 `json:"restart_seconds"`          // after a kill, until it takes clients
	BytesAgain  float64 `json:"bytes_each_after_restart"` // over payload
	AloneRate   float64 `json:"others_alone_msgs_s"`      // of other subscribers, before
	StalledRate float64 `json:"others_stalled_msgs_s"`    // and while one, to all topics, reads nothing
	Share       float64 `json:"others_share"`             // the second of the first
	StalledHeld float64 `json:"stalled_held_mib"`         // what the node has more for the one that reads nothing
	DrainRate   float64 `json:"stalled_drain_msgs_s"`     // at which that one takes all in the end
	Missing     int     `json:"missing"`                  // of those
	Wrong       int     `json:"wrong"`                    // came twice, or nobody set them
	PointMS     float64 `json:"narrow_filter_ms"`         // until a subscription to a/+/c has its few
	Narrow      int     `json:"narrow_filter_messages"`   // which are as many
	IdleCPU     float64 `json:"idle_cpu"`                 // share of one core, with all of them
}

// Retained sets retained messages on one node and measures what they cost, and
// what becomes of others while a subscriber to all of them reads nothing. In
// the end that one gets them all. Of c it takes Retained, Size, Settle (15 s)
// and Time (3 s).
func Retained(ctx context.Context, c Config, note func(format string, args ...any)) (r RetainedReport, err error) {
	if c.Retained == 0 {
		return r, errors.New("retained: 0, want the number of messages")
	}
	c, done, err := c.begin(Config{Settle: 15 * time.Second, Time: 3 * time.Second, Warm: 500 * time.Millisecond})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if note == nil {
		note = func(string, ...any) {}
	}
	p, err := launch(ctx, keeping(roomy(node(c.Farhop), c.Retained, c.Size), c.Retained, c.Size), c.Dir)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrUnfaithful) {
			err = fmt.Errorf("%w\n%s", err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	r = RetainedReport{Machine: machine(""), Retained: c.Retained, Size: c.Size}
	x := retainedRun{queuedRun: queuedRun{Config: c, p: p, note: note}}
	for _, step := range []func(context.Context, *RetainedReport) error{x.set, x.restart, x.narrow, x.stall} {
		if err := step(ctx, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// keeping is a node with room for n retained messages.
func keeping(b broker, n, size int) broker {
	prepare := b.prepare
	b.prepare = func(ctx context.Context, dir, addr string) ([]string, error) {
		args, err := prepare(ctx, dir, addr)
		if err != nil {
			return nil, err
		}
		return args, configure(args[len(args)-1], func(c *config.Config) {
			c.Store.MaxRetained = n + sites + ofNode
			c.Store.MaxRetainedBytes = config.Size(c.Store.MaxRetained * (size + 256))
		})
	}
	return b
}

// retainedRun is the steps of Retained.
type retainedRun struct {
	queuedRun

	before float64 // MiB, without any
}

// topicOf is the topic of a retained message; those from Retained on are the
// few that a filter like a/+/c finds, one for each site.
func (x *retainedRun) topicOf(i int) string {
	if i >= x.Retained {
		return fmt.Sprintf("site/%03d/config", i-x.Retained)
	}
	return fmt.Sprintf("site/%03d/%07d/state", i%sites, i)
}

func (x *retainedRun) all() int { return x.Retained + min(sites, x.Retained) }

func (x *retainedRun) set(ctx context.Context, r *RetainedReport) (err error) {
	if x.before, err = x.settled(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := setRetained(ctx, x.p.addr, x.all(), x.Size, x.topicOf); err != nil {
		return err
	}
	r.SetRate = float64(x.all()) / time.Since(begin).Seconds()
	after, err := x.settled(ctx)
	if err != nil {
		return err
	}
	r.BytesEach = x.over(after)
	if r.IdleCPU, err = share(ctx, x.p, max(x.Time, time.Second)); err != nil {
		return err
	}
	x.note("%d retained, %.0f a second; %.1f MiB, before them %.1f: %.0f bytes each over the payload", x.all(), r.SetRate, after, x.before, r.BytesEach)
	return nil
}

// over is what one message costs beside its payload, in bytes.
func (x *retainedRun) over(now float64) float64 {
	return (now-x.before)*(1<<20)/float64(x.all()) - float64(x.Size)
}

func (x *retainedRun) restart(ctx context.Context, r *RetainedReport) error {
	if err := x.p.Kill(); err != nil {
		return err
	}
	begin := time.Now()
	if err := x.p.start(ctx); err != nil {
		return err
	}
	r.Restart = time.Since(begin).Seconds()
	again, err := x.settled(ctx)
	r.BytesAgain = x.over(again)
	x.note("killed, and started in %.2f s; %.1f MiB", r.Restart, again)
	return err
}

// narrow asks for a few among the many.
func (x *retainedRun) narrow(ctx context.Context, r *RetainedReport) error {
	s, err := newReader(ctx, x.p.addr, "narrow")
	if err != nil {
		return err
	}
	defer s.conn.Close() // it has nothing to say
	begin := time.Now()
	if err := s.subscribe("site/+/config"); err != nil {
		return err
	}
	want := x.all() - x.Retained
	seen := make([]bool, want)
	err = s.take(ctx, want, func(topic string) bool {
		var i int
		if _, err := fmt.Sscanf(topic, "site/%03d/config", &i); err != nil || i >= want || seen[i] {
			return false
		}
		seen[i] = true
		return true
	})
	r.PointMS, r.Narrow = float64(time.Since(begin))/float64(time.Millisecond), want
	x.note("%d of them by site/+/config in %.1f ms", want, r.PointMS)
	return err
}

// stall has one subscriber to all topics read nothing for as long as others
// are measured, and then everything.
func (x *retainedRun) stall(ctx context.Context, r *RetainedReport) (err error) {
	alone, err := x.others(ctx)
	if err != nil {
		return err
	}
	empty, err := x.settled(ctx)
	if err != nil {
		return err
	}
	s, err := newReader(ctx, x.p.addr, "stalled")
	if err != nil {
		return err
	}
	defer s.conn.Close() // it has nothing to say
	if err := s.subscribe("#"); err != nil {
		return err
	}
	beside, err := x.others(ctx)
	if err != nil {
		return err
	}
	r.AloneRate, r.StalledRate, r.Share = alone, beside, ratio(beside, alone)
	held, err := x.settled(ctx)
	if err != nil {
		return err
	}
	r.StalledHeld = held - empty
	x.note("others: %.0f messages/s, and %.0f while one reads nothing, which holds %.1f MiB", alone, beside, r.StalledHeld)
	seen := make([]bool, x.all())
	begin := time.Now()
	err = s.take(ctx, x.all(), func(topic string) bool {
		i, n := 0, 0
		if _, err := fmt.Sscanf(topic, "site/%03d/%07d/state", &n, &i); err != nil {
			if _, err := fmt.Sscanf(topic, "site/%03d/config", &i); err != nil {
				return false
			}
			i += x.Retained
		}
		if i >= len(seen) || seen[i] {
			return false
		}
		seen[i] = true
		return true
	})
	r.DrainRate = ratio(float64(s.right), time.Since(begin).Seconds())
	r.Missing, r.Wrong = x.all()-s.right, s.wrong
	x.note("it got %d of %d, %.0f a second", s.right, x.all(), r.DrainRate)
	if err == nil && r.Missing+r.Wrong > 0 {
		err = fmt.Errorf("%w: of %d retained messages %d are missing, %d came that should not", ErrUnfaithful, x.all(), r.Missing, r.Wrong)
	}
	return err
}

// others is the rate at which other subscribers get messages.
func (x *retainedRun) others(ctx context.Context) (float64, error) {
	c := x.Config
	c.Only = []string{retainedAlone}
	s := c.chosen()[0]
	l, err := load.Open(ctx, load.Config{
		Publish: x.p.addr, Publishers: s.publishers, Subscribers: s.subscribers, Pairs: s.pairs, QoS: s.qos, Size: x.Size, Window: s.window,
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	got, err := l.Run(ctx, load.Plan{
		Warm: x.Warm, Time: x.Time, Stall: stall, Drain: stall, CPU: func() (time.Duration, error) { return proc.CPU(x.p.PID()) },
	})
	if err != nil {
		return 0, err
	}
	round := newRound(got)
	if round.Stalled || round.Lost+round.Wrong > 0 {
		return round.Rate, fmt.Errorf("%w: the other subscribers: %s", ErrUnfaithful, round)
	}
	return round.Rate, nil
}

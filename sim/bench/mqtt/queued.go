package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

const (
	queuedUnacked = 8000 // publishes under way while the queue is filled
	sampleEvery   = 200 * time.Millisecond
)

// QueuedReport is what Queued found. Memory is that of the node which no file
// backs, in MiB.
type QueuedReport struct {
	Machine  Machine `json:"machine"`
	Queued   uint64  `json:"queued"`
	Size     int     `json:"size"` // bytes of a payload
	FillRate float64 `json:"fill_msgs_s"`

	Before  float64 `json:"rss_anon_before_mib"`  // with an empty queue
	Full    float64 `json:"rss_anon_full_mib"`    // with all waiting
	Resumed float64 `json:"rss_anon_restart_mib"` // so after a kill and a start
	Growth  float64 `json:"rss_anon_growth_mib"`  // the larger of these over before
	Peak    float64 `json:"rss_anon_peak_mib"`    // of any moment, under load too

	Restart   float64 `json:"restart_seconds"` // until it takes clients
	First     float64 `json:"first_message_seconds"`
	DrainRate float64 `json:"drain_msgs_s"`
	Missing   uint64  `json:"missing"`
	Wrong     uint64  `json:"wrong"`    // came again, or after a later one
	InOrder   bool    `json:"in_order"` // each exactly once, in the order of its publisher
}

// Queued has messages wait in the session of one client that is away, kills the
// node, starts it again, and lets the client take them. Of c it takes Queued,
// Size, Window (8,000 unacknowledged) and Settle (15 s).
func Queued(ctx context.Context, c Config, note func(format string, args ...any)) (r QueuedReport, err error) {
	if c.Queued == 0 {
		return r, errors.New("queued: 0, want the number of messages")
	}
	c, done, err := c.begin(Config{Settle: 15 * time.Second})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if note == nil {
		note = func(string, ...any) {}
	}
	b := roomy(node(c.Farhop), c.Queued, c.Size)
	p, err := launch(ctx, b, c.Dir)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrUnfaithful) {
			err = fmt.Errorf("%w\n%s", err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	r = QueuedReport{Machine: machine(""), Queued: uint64(c.Queued), Size: c.Size}
	q := queuedRun{Config: c, p: p, note: note, peak: newPeak(p), stream: load.Stream{
		Addr: p.addr, Count: uint64(c.Queued), Size: c.Size, Unacked: queuedUnacked, Stall: patience,
	}}
	if c.Window > 0 {
		q.stream.Unacked = c.Window
	}
	defer q.peak.stop()
	if err := q.fill(ctx, &r); err != nil {
		return r, err
	}
	if err := q.restart(ctx, &r); err != nil {
		return r, err
	}
	return r, q.drain(ctx, &r)
}

// roomy is a node with room for n messages in its store.
func roomy(b broker, n, size int) broker {
	prepare := b.prepare
	b.prepare = func(ctx context.Context, dir, addr string) ([]string, error) {
		args, err := prepare(ctx, dir, addr)
		if err != nil {
			return nil, err
		}
		return args, configure(args[len(args)-1], func(c *config.Config) {
			// A tenth is kept from messages of this class: see storeforward.
			c.Store.MaxMessages = max(c.Store.MaxMessages, n+n/4)
			c.Store.MaxBytes = max(c.Store.MaxBytes, config.Size(2*n*(size+256)))
		})
	}
	return b
}

// queuedRun is the steps of Queued.
type queuedRun struct {
	Config

	p      *process
	stream load.Stream
	peak   *peak
	note   func(string, ...any)
}

// settled is what the node holds when it has had its rest, in MiB.
func (q *queuedRun) settled(ctx context.Context) (float64, error) {
	if err := pause(ctx, q.Settle); err != nil {
		return 0, err
	}
	m, err := proc.MemoryOf(q.p.PID())
	return mib(m.Anonymous), err
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func (q *queuedRun) fill(ctx context.Context, r *QueuedReport) (err error) {
	if err := q.stream.Subscribe(ctx); err != nil {
		return err
	}
	if r.Before, err = q.settled(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := q.stream.Fill(ctx, q.tenths("acknowledged")); err != nil {
		return err
	}
	r.FillRate = float64(q.Queued) / time.Since(begin).Seconds()
	if r.Full, err = q.settled(ctx); err != nil {
		return err
	}
	q.note("%d messages wait, %.0f a second; %.1f MiB, before them %.1f", q.Queued, r.FillRate, r.Full, r.Before)
	return nil
}

// restart kills the node and starts it again.
func (q *queuedRun) restart(ctx context.Context, r *QueuedReport) (err error) {
	q.peak.stop()
	r.Peak = mib(q.peak.highest.Load())
	if err := q.p.Kill(); err != nil {
		return err
	}
	begin := time.Now()
	if err := q.p.start(ctx); err != nil {
		return err
	}
	r.Restart = time.Since(begin).Seconds()
	q.peak = newPeak(q.p)
	if r.Resumed, err = q.settled(ctx); err != nil {
		return err
	}
	r.Growth = max(r.Full, r.Resumed) - r.Before
	q.note("killed, and started in %.2f s; %.1f MiB", r.Restart, r.Resumed)
	return nil
}

func (q *queuedRun) drain(ctx context.Context, r *QueuedReport) error {
	t, err := q.stream.Drain(ctx, q.tenths("arrived"))
	q.peak.stop()
	r.Peak = max(r.Peak, mib(q.peak.highest.Load()))
	if err != nil {
		return err
	}
	r.First, r.DrainRate = t.First.Seconds(), ratio(float64(t.Arrived), t.Time.Seconds())
	r.Missing, r.Wrong = t.Missing, t.Wrong
	r.InOrder = t.Missing+t.Wrong == 0 && t.Arrived == uint64(q.Queued)
	q.note("%d arrived, %.0f a second, %d missing, %d repeated or out of order", t.Arrived, r.DrainRate, t.Missing, t.Wrong)
	if !r.InOrder {
		return fmt.Errorf("%w: of %d messages %d are missing, %d came again or out of order", ErrUnfaithful, q.Queued, t.Missing, t.Wrong)
	}
	return nil
}

// tenths notes each tenth of the messages.
func (q *queuedRun) tenths(what string) func(uint64) {
	step := max(uint64(q.Queued)/10, 1)
	next := step
	return func(n uint64) {
		if n < next || n == uint64(q.Queued) {
			return
		}
		next = n - n%step + step
		q.note("%d of %d messages %s", n, q.Queued, what)
	}
}

// peak watches the memory of a process until it is stopped.
type peak struct {
	highest atomic.Int64
	end     chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

func newPeak(p *process) *peak {
	k := &peak{end: make(chan struct{})}
	pid := p.PID()
	k.wg.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			if m, err := proc.MemoryOf(pid); err == nil {
				k.highest.Store(max(k.highest.Load(), m.Anonymous))
			}
			select {
			case <-tick.C:
			case <-k.end:
				return
			}
		}
	})
	return k
}

func (k *peak) stop() {
	k.once.Do(func() { close(k.end) })
	k.wg.Wait()
}

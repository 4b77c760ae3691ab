package mqtt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

const (
	// idleKeepAlive is what idle clients announce, in seconds: far longer than a
	// run, so that no pings are measured, but the broker has to keep a timer.
	idleKeepAlive = 18_000
	// spareFiles are descriptors that a process needs beside its connections.
	spareFiles = 200
	// samples of the connections get a message in the end.
	samples = 16
)

// IdleReport is what Idle found. Bytes are those that a broker has more with the
// connections than before them, after Settle.
type IdleReport struct {
	Machine     Machine `json:"machine"`
	Connections int     `json:"connections"`
	Settle      float64 `json:"settle_seconds"`
	Seconds     float64 `json:"seconds"` // over which idle_cpu is taken

	KiB     float64 `json:"kib_per_connection"`      // of resident memory
	KiBAnon float64 `json:"kib_anon_per_connection"` // of these, what no file backs
	CPU     float64 `json:"idle_cpu"`                // share of one core

	PeerKiB     float64 `json:"peer_kib_per_connection"`
	PeerKiBAnon float64 `json:"peer_kib_anon_per_connection"`
	PeerCPU     float64 `json:"peer_idle_cpu"`

	Generator float64 `json:"generator_kib_per_connection"` // of this process
}

// idled is one broker with idle connections.
type idled struct {
	kib, anon, cpu, generator float64
}

// Idle holds connections with one subscription each, which do nothing, on one
// broker after the other. Of c it takes Idle, Settle (15 s) and Time (20 s).
func Idle(ctx context.Context, c Config, note func(format string, args ...any)) (r IdleReport, err error) {
	if c.Idle == 0 {
		return r, errors.New("idle: 0, want the number of connections")
	}
	c, done, err := c.begin(Config{Settle: 15 * time.Second, Time: 20 * time.Second})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if note == nil {
		note = func(string, ...any) {}
	}
	files, err := load.AllowDescriptors()
	if err != nil {
		return r, err
	}
	if c.Idle > files-spareFiles {
		return r, fmt.Errorf("idle: %d connections need as many open files at each end, and a process may have %d here: ask for at most %d, or raise the limit (ulimit -Hn)",
			c.Idle, files, files-spareFiles)
	}
	r = IdleReport{Machine: machine(proc.MosquittoVersion(ctx, c.Peer)), Connections: c.Idle, Settle: c.Settle.Seconds(), Seconds: c.Time.Seconds()}
	x, err := c.idle(ctx, node(c.Farhop), note)
	if err != nil {
		return r, err
	}
	r.KiB, r.KiBAnon, r.CPU, r.Generator = x.kib, x.anon, x.cpu, x.generator
	if c.Peer == "" {
		return r, nil
	}
	x, err = c.idle(ctx, mosquitto(c.Peer, fair()...), note)
	r.PeerKiB, r.PeerKiBAnon, r.PeerCPU = x.kib, x.anon, x.cpu
	return r, err
}

// idle measures one broker.
func (c Config) idle(ctx context.Context, b broker, note func(string, ...any)) (x idled, err error) {
	p, err := launch(ctx, b, c.Dir)
	if err != nil {
		return x, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", b.name, err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	if err := pause(ctx, c.Settle); err != nil { // as long as after: both have had their rest
		return x, err
	}
	before, err := proc.MemoryOf(p.PID())
	if err != nil {
		return x, err
	}
	begin := time.Now()
	crowd, err := newCrowd(ctx, p.addr, c.Idle)
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, crowd.loop.Close()) }()
	note("%s: %d connections in %.1f s", b.name, c.Idle, time.Since(begin).Seconds())
	if err := pause(ctx, c.Settle); err != nil {
		return x, err
	}
	if x.cpu, err = share(ctx, p, c.Time); err != nil {
		return x, err
	}
	after, err := proc.MemoryOf(p.PID())
	if err != nil {
		return x, err
	}
	per := func(bytes int64) float64 { return float64(bytes) / 1024 / float64(c.Idle) }
	x.kib, x.anon, x.generator = per(after.Resident-before.Resident), per(after.Anonymous-before.Anonymous), per(crowd.own)
	note("%s: %.2f KiB each, %.2f of it not files, %.2f %% of a core", b.name, x.kib, x.anon, 100*x.cpu)
	return x, crowd.check(ctx, p.addr)
}

// share is the part of one core that a broker takes over a time.
func share(ctx context.Context, p *process, d time.Duration) (float64, error) {
	from, err := proc.CPU(p.PID())
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	to, err := proc.CPU(p.PID())
	return ratio((to - from).Seconds(), time.Since(begin).Seconds()), err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// crowd is connections that do nothing.
type crowd struct {
	loop    *load.Loop
	size    int
	own     int64 // bytes that this process has more for them
	arrived int
}

func idleTopic(i int) string { return fmt.Sprintf("idle/%06d/orders", i) }

// newCrowd connects them.
func newCrowd(ctx context.Context, addr string, n int) (*crowd, error) {
	before, err := ownMemory()
	if err != nil {
		return nil, err
	}
	loop, err := load.NewLoop()
	if err != nil {
		return nil, err
	}
	w := &crowd{loop: loop, size: n}
	err = loop.DialMany(ctx, addr, n, func(i int) (load.Client, load.Handler) {
		who := load.Client{Name: fmt.Sprintf("idle-%06d", i), KeepAlive: idleKeepAlive, Filter: idleTopic(i)}
		if w.sampled(i) {
			return who, w
		}
		return who, nil
	})
	if err != nil {
		return nil, errors.Join(err, loop.Close())
	}
	after, err := ownMemory()
	w.own = after - before
	return w, err
}

// sampled chooses some of the connections, the first and the last among them.
func (w *crowd) sampled(i int) bool { return i == w.size-1 || i%max(1, w.size/samples) == 0 }

// Packet implements load.Handler.
func (w *crowd) Packet(first byte, _ []byte) error {
	if first != load.Publish {
		return fmt.Errorf("packet 0x%02x came to an idle connection", first)
	}
	w.arrived++
	return nil
}

// Turned implements load.Handler.
func (*crowd) Turned() error { return nil }

// check publishes to the samples and looks for connections that have ended:
// idle ones must still be there.
func (w *crowd) check(ctx context.Context, addr string) error {
	c, err := w.loop.Dial(ctx, addr, load.Client{Name: "idle-check"}, w)
	if err != nil {
		return err
	}
	want := 0
	b := c.Buffer()
	for i := range w.size {
		if w.sampled(i) {
			b = load.AppendPublish(b, idleTopic(i), 0, 0, []byte("anybody there?"))
			want++
		}
	}
	if err := c.Send(b); err != nil {
		return err
	}
	for end := time.Now().Add(patience); w.arrived < want && time.Now().Before(end) && ctx.Err() == nil; {
		if err := w.loop.Turn(100 * time.Millisecond); err != nil {
			return err
		}
	}
	if n := w.loop.Ended(); n > 0 || w.arrived != want {
		return fmt.Errorf("%d of %d idle connections were ended, and %d of %d messages to some of them arrived", n, w.size, w.arrived, want)
	}
	return ctx.Err()
}

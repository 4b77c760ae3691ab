package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// Note hears what is going on, for the one who waits.
type Note func(format string, args ...any)

// Run measures one engine beside the floor, in rounds. It makes a folder below
// c.Dir and removes it. A nil note is silence.
func Run(ctx context.Context, c Config, note Note) (r Report, err error) {
	s, err := newSite(c, note)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	c = s.c
	r = Report{
		Engine: c.Engine, FileSystem: proc.FileSystem(s.dir), InMemory: proc.InMemory(s.dir),
		CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Size: c.Size, Producers: c.Producers, Messages: c.Messages, Rounds: c.Rounds,
	}
	s.note("%d rounds of floor, puts and cycles, at most %v each, in %s", c.Rounds, c.Limit, s.dir)
	for n := range c.Rounds {
		x, err := s.round(ctx, n%2 == 1)
		if err != nil {
			return r, err
		}
		s.note("round %d: %.0f syncs/s, floor %.0f, put %.0f, cycle %.0f", n+1, x.Syncs, x.Floor, x.Put, x.Cycle)
		r.All = append(r.All, x)
	}
	r.finish()
	return r, nil
}

// site is where a run takes place.
type site struct {
	c    Config
	l    *Load
	dir  string
	note Note
	made int // folders
}

func newSite(c Config, note Note) (*site, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &site{c: c.withDefaults(), note: note}
	if note == nil {
		s.note = func(string, ...any) {}
	}
	var err error
	if s.l, err = NewLoad(s.c.Size); err != nil {
		return nil, err
	}
	top, err := filepath.Abs(s.c.Dir)
	if err != nil {
		return nil, err
	}
	s.dir, err = os.MkdirTemp(top, "farhop-bench-")
	return s, err
}

func (s *site) remove() error { return os.RemoveAll(s.dir) }

// fresh names a new folder.
func (s *site) fresh() string {
	s.made++
	return filepath.Join(s.dir, fmt.Sprintf("%03d", s.made))
}

// round is one of each: syncs, floor, puts, cycles. The floor and the engine
// swap places in every other round.
func (s *site) round(ctx context.Context, swap bool) (x Round, err error) {
	if x.Syncs, err = syncRate(s.dir, s.c.Size, min(s.c.Limit/4, time.Second/2)); err != nil {
		return x, fmt.Errorf("fdatasync: %w", err)
	}
	floor := func() error {
		m, err := Measure(ctx, Floor, s.fresh(), s.l, s.part(false))
		x.Floor, x.FloorWA, x.FloorCPU = m.PerSecond, m.WA, m.CPU
		return err
	}
	puts := func() error { return s.puts(ctx, &x) }
	order := []func() error{floor, puts}
	if swap {
		order = []func() error{puts, floor}
	}
	for _, f := range order {
		if err := f(); err != nil {
			return x, err
		}
	}
	m, err := Measure(ctx, s.c.Engine, s.fresh(), s.l, s.part(true))
	x.Cycle, x.WA, x.CycleCPU = m.PerSecond, m.WA, m.CPU
	return x, err
}

func (s *site) part(cycle bool) Part {
	return Part{Producers: s.c.Producers, Messages: s.c.Messages, Limit: s.c.Limit, Cycle: cycle}
}

// puts fills a store, takes its memory, and opens it again.
func (s *site) puts(ctx context.Context, x *Round) error {
	dir := s.fresh()
	sink, err := Open(s.c.Engine, dir, s.l, s.c.Producers)
	if err != nil {
		return err
	}
	m, err := measure(ctx, sink, s.l, s.part(false))
	if err != nil {
		return errors.Join(err, sink.Close())
	}
	x.Put, x.PutWA, x.PutCPU, x.Queued = m.PerSecond, m.WA, m.CPU, m.Durable
	mem, err := proc.MemoryOf(os.Getpid())
	x.RSS, x.RSSAnon = megabytes(mem.Resident), megabytes(mem.Anonymous)
	if err = errors.Join(err, sink.Close()); err != nil {
		return err
	}
	if s.c.Engine != Memory { // it keeps nothing
		var took time.Duration
		if took, err = reopened(s.c.Engine, dir, m.Durable); err != nil {
			return err
		}
		x.Reopen = float64(took) / float64(time.Millisecond)
	}
	return os.RemoveAll(dir)
}

// reopened opens a store that has to hold so many bundles, and closes it.
func reopened(engine, dir string, bundles int) (time.Duration, error) {
	begin := time.Now()
	s, err := openStore(engine, dir, nil)
	if err != nil {
		return 0, fmt.Errorf("reopen: %w", err)
	}
	sum, err := s.Summary()
	took := time.Since(begin)
	have := 0
	for _, q := range sum.Queues {
		have += q.Count
	}
	if err == nil && have != bundles {
		err = fmt.Errorf("reopen: %d bundles are there, %d were acknowledged", have, bundles)
	}
	return took, errors.Join(err, s.Close())
}

// Measured is a rate with what it wrote.
type Measured struct {
	Rate
	WA  float64 // bytes written to the disk over bytes of bundles, without what Close writes
	CPU float64 // microseconds of processor time for a bundle, the producers' among it
}

// Measure opens an engine or the floor in a folder, drives it and removes the
// folder. A cycle runs a quarter of the part first, uncounted, so that the
// steady state is measured.
func Measure(ctx context.Context, name, dir string, l *Load, p Part) (m Measured, err error) {
	s, err := Open(name, dir, l, p.Producers)
	if err != nil {
		return m, err
	}
	m, err = measure(ctx, s, l, p)
	if err = errors.Join(err, s.Close(), os.RemoveAll(dir)); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return m, err
}

// MeasureSink is Measure for a sink that is open already, and stays so.
func MeasureSink(ctx context.Context, s Sink, l *Load, p Part) (Measured, error) {
	return measure(ctx, s, l, p)
}

func measure(ctx context.Context, s Sink, l *Load, p Part) (m Measured, err error) {
	debug.FreeOSMemory() // what was measured before does not count
	if p.Cycle {
		warm := p
		warm.Limit, warm.Messages = p.Limit/4, p.Messages/4
		if warm.Messages >= p.Producers || warm.Messages == 0 {
			if _, err := Drive(ctx, s, l, warm); err != nil {
				return m, err
			}
		}
	}
	before, err := proc.Written(os.Getpid())
	if err != nil {
		return m, err
	}
	cpu := proc.OwnCPU()
	if m.Rate, err = Drive(ctx, s, l, p); err != nil {
		return m, err
	}
	m.CPU = Ratio(float64(proc.OwnCPU()-cpu)/float64(time.Microsecond), float64(m.Durable))
	after, err := proc.Written(os.Getpid())
	m.WA = Ratio(float64(after-before), float64(m.Durable*l.size))
	return m, err
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// OwnAnonymous returns the memory of this process that no file backs, in MB, 0
// when the system does not say.
func OwnAnonymous() float64 {
	m, _ := proc.MemoryOf(os.Getpid())
	return megabytes(m.Anonymous)
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// Run measures. It makes a folder below c.Dir and removes it. note hears what
// is going on, for the one who waits; nil is silence.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (r Report, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	c = c.withDefaults()
	if note == nil {
		note = func(string, ...any) {}
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(c.Dir, "farhop-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r.Config = c
	r.Machine = Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), InMemory: proc.InMemory(dir)}
	servers := c.servers()
	for _, s := range servers {
		out := Server{Name: s.name, Setting: s.setting, Promise: s.promise}
		if s.name == "mosquitto" {
			out.Version = proc.MosquittoVersion(ctx, s.program)
		}
		r.Servers = append(r.Servers, out)
	}
	note("%d rounds of floor and %d servers, in %s", c.Rounds, len(servers), dir)
	if err := idle(ctx, c, dir, servers, r.Servers); err != nil {
		return r, err
	}
	for n := range c.Rounds {
		f, err := floor(ctx, c, dir)
		if err != nil {
			return r, err
		}
		note("round %d: floor: %.0f syncs/s, %.0f messages/s, served %.0f", n+1, f.SyncsPerSecond, f.Natural, f.Served)
		r.Floors = append(r.Floors, f)
		for i, s := range servers {
			if err := round(ctx, c, dir, s, &r.Servers[i]); err != nil {
				return r, fmt.Errorf("%s (%s): %w", s.name, s.setting, err)
			}
			l, k := last(r.Servers[i].Rounds), last(r.Servers[i].Kills)
			note("round %d: %s (%s): %.0f messages/s, drained %.0f/s, %d of %d left after a kill", n+1, s.name, s.setting,
				l.PerSecond, l.Drain.PerSecond, k.Arrived, k.Acked)
		}
	}
	r.finish()
	return r, nil
}

func last[T any](s []T) T { return s[len(s)-1] }

// idle reads the memory of servers without clients, as many of each as there
// are rounds, one after the other in groups of one of each.
func idle(ctx context.Context, c Config, dir string, servers []server, out []Server) error {
	sizes := make([][]int64, len(servers))
	for range c.Rounds {
		var running []*process
		err := func() error {
			for _, s := range servers {
				p, err := launch(ctx, s, dir)
				if err != nil {
					return err
				}
				running = append(running, p)
			}
			if err := pause(ctx, c.Settle); err != nil {
				return err
			}
			for i, p := range running {
				m, err := proc.MemoryOf(p.PID())
				if err != nil {
					return err
				}
				sizes[i] = append(sizes[i], m.Resident)
			}
			return nil
		}()
		for _, p := range running {
			err = errors.Join(err, p.Stop())
		}
		if err != nil {
			return fmt.Errorf("idle: %w", err)
		}
	}
	for i, s := range sizes {
		out[i].IdleMin = slices.Min(s)
		out[i].IdleMedian = int64(median(s, func(n int64) float64 { return float64(n) }))
	}
	return nil
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

// round measures one server once: under load, and under load with a kill.
func round(ctx context.Context, c Config, dir string, s server, out *Server) error {
	l, err := loaded(ctx, c, dir, s)
	if err != nil {
		return err
	}
	out.Rounds = append(out.Rounds, l)
	k, err := killed(ctx, c, dir, s)
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	out.Kills = append(out.Kills, k)
	return nil
}

// loaded publishes all to a fresh server and takes it back.
func loaded(ctx context.Context, c Config, dir string, s server) (out Load, err error) {
	p, err := launch(ctx, s, dir)
	if err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	if err := prepareSession(ctx, p.addr); err != nil {
		return out, err
	}
	pid := p.PID()
	before, err := proc.MemoryOf(pid)
	if err != nil {
		return out, err
	}
	out.Before = before.Resident
	l, err := connectLoad(ctx, c, p.addr)
	if err != nil {
		return out, err
	}
	defer l.close()
	if err := out.publish(ctx, c, pid, l); err != nil {
		return out, err
	}
	if out.Files, err = p.files(); err != nil {
		return out, err
	}
	if out.Drain, err = drain(ctx, p.addr, l); err != nil {
		return out, err
	}
	after, err := proc.MemoryOf(pid)
	out.Peak = after.Peak
	return out, err
}

// publish runs the load and takes the figures of both sides.
func (out *Load) publish(ctx context.Context, c Config, pid int, l *load) error {
	cpu, err := proc.CPU(pid)
	if err != nil {
		return err
	}
	written, err := proc.Written(pid)
	if err != nil {
		return err
	}
	own := proc.OwnCPU()
	if err := l.run(ctx, c.Limit, 0, nil); err != nil {
		return err
	}
	own = proc.OwnCPU() - own
	after, err := proc.CPU(pid)
	if err != nil {
		return err
	}
	all, err := proc.Written(pid)
	if err != nil {
		return err
	}
	out.Acked, out.Seconds = int(l.acked.Load()), l.wall.Seconds()
	n := float64(out.Acked)
	out.PerSecond = ratio(n, out.Seconds)
	spans := l.spans()
	out.P50, out.P99 = float64(percentile(spans, 0.5)), float64(percentile(spans, 0.99))
	out.ServerCPU, out.ClientCPU = perMessage(after-cpu, n), perMessage(own, n)
	out.Written = ratio(float64(all-written), n)
	return nil
}

func perMessage(d time.Duration, n float64) float64 {
	return ratio(float64(d)/float64(time.Microsecond), n)
}

// killed kills a fresh server under load, starts it again and counts.
func killed(ctx context.Context, c Config, dir string, s server) (out Drain, err error) {
	p, err := launch(ctx, s, dir)
	if err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	if err := prepareSession(ctx, p.addr); err != nil {
		return out, err
	}
	l, err := connectLoad(ctx, c, p.addr)
	if err != nil {
		return out, err
	}
	defer l.close()
	if err := l.run(ctx, c.Limit, c.KillAfter, p.Kill); err != nil {
		return out, err
	}
	if err := p.start(ctx); err != nil {
		return out, fmt.Errorf("start again: %w", err)
	}
	return drain(ctx, p.addr, l)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/farhop/farhop/sim/bench/durable"
	"github.com/farhop/farhop/sim/bench/proc"
)

// options say what the table has.
type options struct {
	dir       string
	quick     bool
	rounds    int
	limit     time.Duration
	profiles  []string
	engines   []string
	producers []int
	sizes     []int
	cycles    []int
	jsonl     string
}

// patienceOne bounds one measurement beyond its limit: opening, and a peer
// that finishes its groups slowly.
const patienceOne = 3 * time.Minute

// cell is one place of the table: engines compared under the same load.
type cell struct {
	profile   string
	mode      string
	size      int
	producers int
}

// runner runs the cells.
type runner struct {
	o     options
	self  string
	dir   string
	notes io.Writer
	all   []Sample
	made  int
}

// table measures all cells and prints them.
func table(ctx context.Context, o options, out, notes io.Writer) (err error) {
	if o.quick {
		o.rounds, o.producers, o.sizes, o.cycles = 1, []int{1, 256}, []int{1024}, []int{256}
	}
	if len(o.engines) == 0 {
		o.engines = engines()
	}
	if !slices.Contains(o.engines, durable.Floor) {
		o.engines = append([]string{durable.Floor}, o.engines...)
	}
	for _, e := range o.engines {
		if !slices.Contains(engines(), e) {
			return fmt.Errorf("engine: %q, want some of %v", e, engines())
		}
	}
	r := &runner{o: o, notes: notes}
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp(o.dir, "farhop-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	began := time.Now()
	fmt.Fprintf(out, "# Durable puts and cycles\n\n%d CPUs, %s/%s, %s, %s; medians of %d rounds, engines interleaved; began %s\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), proc.FileSystem(r.dir), o.rounds, began.UTC().Format(time.RFC3339))
	for _, name := range o.profiles {
		if err := r.profile(ctx, name, out); err != nil {
			return err
		}
	}
	fmt.Fprintf(notes, "took %v\n", time.Since(began).Round(time.Second))
	return r.lines(out)
}

// lines writes every sample as a line of JSON.
func (r *runner) lines(out io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, s := range r.all {
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	if r.o.jsonl != "" {
		return os.WriteFile(r.o.jsonl, b.Bytes(), 0o644)
	}
	_, err := fmt.Fprintf(out, "\n## Measurements\n\n```\n%s```\n", b.Bytes())
	return err
}

// profile measures and prints all cells of one profile.
func (r *runner) profile(ctx context.Context, name string, out io.Writer) (err error) {
	p, err := begin(name, r.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.cleanup()) }()
	if p.why != "" {
		_, err := fmt.Fprintf(out, "\n## %s\n\nNot measured: %s.\n", name, p.why)
		return err
	}
	for _, mode := range []string{"put", "cycle"} {
		for _, size := range r.o.sizes {
			for _, n := range r.o.producers {
				if mode == "cycle" && !slices.Contains(r.o.cycles, n) {
					continue
				}
				if err := r.cell(ctx, p, cell{name, mode, size, n}); err != nil {
					return err
				}
			}
			if err := r.print(out, name, mode, size); err != nil {
				return err
			}
		}
	}
	return nil
}

// takesPart reports whether an engine is measured in a cell.
func (c cell) takesPart(engine string) bool {
	own := engine == durable.Floor || slices.Contains(durable.Engines(), engine)
	switch {
	case c.mode == "cycle" && !cycles(engine):
		return false
	case heavy(c.profile, c.size*c.producers):
		return own
	case engine == natsStreams:
		return c.producers == 256 // what more streams bring shows in one place
	case engine == sqliteEach:
		return c.producers <= 32 // one after the other, however many wait
	}
	return true
}

// cell measures all engines of a cell, round by round.
func (r *runner) cell(ctx context.Context, p profile, c cell) error {
	var order []string
	for _, e := range r.o.engines {
		if c.takesPart(e) {
			order = append(order, e)
		}
	}
	for round := range r.o.rounds {
		for i := range order {
			e := order[(i+round)%len(order)]
			s, err := r.one(ctx, p, c, e)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // a peer that fails is a finding, not the end
				s.Failed = err.Error()
				fmt.Fprintf(r.notes, "%s: %v\n", e, err)
			}
			s.Profile, s.Engine, s.Mode, s.Size, s.Producers, s.Round = c.profile, e, c.mode, c.size, c.producers, round+1
			r.all = append(r.all, s)
		}
	}
	fmt.Fprintf(r.notes, "%s: %s, %d bytes, %d producers\n", c.profile, c.mode, c.size, c.producers)
	return nil
}

// one measures an engine once, in a process of its own.
func (r *runner) one(ctx context.Context, p profile, c cell, engine string) (s Sample, err error) {
	r.made++
	dir := filepath.Join(r.dir, itoa(r.made))
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	limit := limitOf(p.name, c.size*c.producers)
	if r.o.limit > 0 {
		limit = r.o.limit
	}
	args := slices.Concat(p.prefix, []string{r.self, "one"}, p.args, []string{
		"-engine", engine, "-dir", dir, "-mode", c.mode, "-limit", limit.String(), "-size", itoa(c.size), "-producers", itoa(c.producers),
		"-messages", itoa(max(1<<30/c.size, c.producers)),
	})
	ctx, cancel := context.WithTimeout(ctx, limit+patienceOne)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return s, fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return s, json.Unmarshal(out.Bytes(), &s)
}

// rates are the samples of one engine in one cell.
func (r *runner) rates(c cell, engine string) (out []Sample) {
	for _, s := range r.all {
		if s.Profile == c.profile && s.Mode == c.mode && s.Size == c.size && s.Producers == c.producers && s.Engine == engine && s.Failed == "" {
			out = append(out, s)
		}
	}
	return out
}

// figures are the medians of an engine in a cell. The share is taken within
// the rounds.
type figures struct{ rate, share, wa float64 }

func (r *runner) figures(c cell, engine string) (f figures, ok bool) {
	mine, floors := r.rates(c, engine), r.rates(c, durable.Floor)
	if len(mine) == 0 {
		return f, false
	}
	var shares []float64
	for _, s := range mine {
		if i := slices.IndexFunc(floors, func(x Sample) bool { return x.Round == s.Round }); i >= 0 {
			shares = append(shares, durable.Ratio(s.PerSecond, floors[i].PerSecond))
		}
	}
	f.rate = durable.Median(mine, func(s Sample) float64 { return s.PerSecond })
	f.wa = durable.Median(mine, func(s Sample) float64 { return s.WA })
	f.share = durable.Median(shares, func(v float64) float64 { return v })
	return f, true
}

// print writes the table of one size: a row for each engine.
func (r *runner) print(out io.Writer, profile, mode string, size int) error {
	producers := r.o.producers
	if mode == "cycle" {
		producers = slices.DeleteFunc(slices.Clone(producers), func(n int) bool { return !slices.Contains(r.o.cycles, n) })
	}
	if len(producers) == 0 {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "\n## %s, %ss of %d bytes\n\nBundles/s (share of the floor; bytes written per byte).\n\n| engine |", profile, mode, size)
	for _, n := range producers {
		fmt.Fprintf(&b, " %d producers |", n)
	}
	b.WriteString("\n|---|" + string(bytes.Repeat([]byte("---|"), len(producers))) + "\n")
	for _, e := range r.o.engines {
		row, some := "| "+title(e)+" |", false
		for _, n := range producers {
			f, ok := r.figures(cell{profile, mode, size, n}, e)
			some = some || ok
			if !ok {
				row += " |"
				continue
			}
			row += fmt.Sprintf(" %s (%s; %.2f) |", short(f.rate), percent(f.share), f.wa)
		}
		if some {
			b.WriteString(row + "\n")
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// title names an engine in a table; the one that loses says so.
func title(engine string) string {
	if engine == natsDefault {
		return engine + " (not durable)"
	}
	return engine
}

// short writes a rate.
func short(v float64) string {
	switch {
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	case v < 10_000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f k", v/1000)
}

// percent writes a share.
func percent(v float64) string {
	if v < 0.01 {
		return fmt.Sprintf("%.1f %%", 100*v)
	}
	return fmt.Sprintf("%.0f %%", 100*v)
}

package near

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// pair is somebody who is measured.
type pair struct {
	name, version string
	at            string          // where its clients connect
	within        []string        // a command that runs a client where that is
	parts         []*proc.Program // whose processor time counts
	skipped       string          // why it is not measured
	rounds        []Figures
}

// bench is a run.
type bench struct {
	Config
	server string // behind all pairs of loopback
	certs  string // folder
	all    []*proc.Program
	end    []func() error // after the programs
	pairs  []*pair
}

// Run measures everybody in turn, again and again.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (r Report, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	if note == nil {
		note = func(string, ...any) {}
	}
	begun := time.Now()
	b := &bench{Config: c}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.open(ctx); err != nil {
		return r, err
	}
	for round := range c.Rounds {
		for _, p := range b.pairs {
			if p.skipped != "" {
				continue
			}
			f, err := b.measure(ctx, p)
			if err != nil {
				return r, fmt.Errorf("%s: %w%s", p.name, err, p.tails())
			}
			note("round %d, %s: %.1f µs, %.0f Mbit/s, %.2f CPU s/GiB", round+1, p.name, f.RTT.P50, f.Goodput, f.CPU)
			p.rounds = append(p.rounds, f)
		}
	}
	r = c.report(b.pairs)
	r.CPUs, r.Seconds = runtime.NumCPU(), time.Since(begun).Seconds()
	return r, nil
}

// open starts everybody. Stop must follow, also after an error.
func (b *bench) open(ctx context.Context) (err error) {
	if b.certs, err = b.folder("certs"); err != nil {
		return err
	}
	if err := certify(b.certs); err != nil {
		return err
	}
	if b.server, err = proc.FreeAddr(); err != nil {
		return err
	}
	if _, err := b.start(ctx, "server", b.Part, partServer, b.server); err != nil {
		return err
	}
	b.pairs = append(b.pairs, &pair{name: nameDirect, at: b.server})
	for _, layer := range b.layers() {
		p, err := b.nodes(ctx, layer)
		if err != nil {
			return fmt.Errorf("nodes with a link of %s: %w", layer, err)
		}
		b.pairs = append(b.pairs, p)
	}
	for _, open := range []func(context.Context) (*pair, error){b.bare, b.nginx, b.nebula} {
		p, err := open(ctx)
		if err != nil {
			return err
		}
		if p != nil {
			b.pairs = append(b.pairs, p)
		}
	}
	return nil
}

func (b *bench) stop() error {
	var errs []error
	for _, p := range slices.Backward(b.all) {
		errs = append(errs, p.Stop())
	}
	for _, f := range slices.Backward(b.end) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// folder makes one that is removed at the end.
func (b *bench) folder(name string) (string, error) {
	dir, err := os.MkdirTemp(b.Dir, "near-"+name+"-")
	if err == nil {
		b.end = append(b.end, func() error { return os.RemoveAll(dir) })
	}
	return dir, err
}

// start runs a command with words added, until the run ends.
func (b *bench) start(ctx context.Context, name string, command []string, words ...string) (*proc.Program, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	p := &proc.Program{Path: command[0], Args: slices.Concat(command[1:], words), Dir: dir}
	b.all = append(b.all, p)
	return p, p.Begin(ctx)
}

// call runs a command to its end and returns what it printed.
func call(ctx context.Context, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, x.Stderr)
	}
	return strings.TrimSpace(string(text)), err
}

// client runs one measurement of a pair.
func (b *bench) client(ctx context.Context, p *pair, what string) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience+2*b.Time)
	defer cancel()
	text, err := call(ctx, slices.Concat(p.within, b.Part, []string{what, p.at, b.Time.String()})...)
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	return s, err
}

// measure is one round of a pair.
func (b *bench) measure(ctx context.Context, p *pair) (f Figures, err error) {
	s, err := b.client(ctx, p, partTrips)
	if err != nil {
		return f, err
	}
	f.RTT = s.RTT
	before, err := p.cpu()
	if err != nil {
		return f, err
	}
	if s, err = b.client(ctx, p, partBulk); err != nil {
		return f, err
	}
	after, err := p.cpu()
	if err != nil {
		return f, err
	}
	if s.Bytes <= 0 || s.Seconds <= 0 {
		return f, fmt.Errorf("%d bytes in %v s", s.Bytes, s.Seconds)
	}
	f.Goodput = float64(s.Bytes) * 8 / s.Seconds / 1e6
	f.CPU = (after - before).Seconds() / float64(s.Bytes) * math.Exp2(30)
	return f, nil
}

// cpu is the processor time of a pair so far.
func (p *pair) cpu() (sum time.Duration, err error) {
	for _, m := range p.parts {
		d, err := proc.CPU(m.PID())
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// tails are the ends of a pair's logs, for errors.
func (p *pair) tails() string {
	var b strings.Builder
	for _, m := range p.parts {
		fmt.Fprintf(&b, "\n%s: %s", filepath.Base(m.Dir), m.Tail())
	}
	return b.String()
}

// median is that of a figure over all rounds.
func (p *pair) median(f func(Figures) float64) float64 {
	var all []float64
	for _, r := range p.rounds {
		all = append(all, f(r))
	}
	return rounded(median(all))
}

// bare starts the pair of stock quic-go.
func (b *bench) bare(ctx context.Context) (*pair, error) {
	p := &pair{name: nameBare, version: module("github.com/quic-go/quic-go")}
	between, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	if p.at, err = proc.FreeAddr(); err != nil {
		return nil, err
	}
	far, err := b.start(ctx, "leave", b.Part, partLeave, between, b.server, b.certs)
	if err != nil {
		return nil, err
	}
	close, err := b.start(ctx, "enter", b.Part, partEnter, p.at, between, b.certs)
	p.parts = []*proc.Program{far, close}
	return p, err
}

// module is the version of a module in this program; "" when it does not say.
func module(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

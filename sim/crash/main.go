package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitGood  = 0
	exitFault = 1
	exitUnfit = 2 // the campaign could not be run
)

// options are the flags.
type options struct {
	program string // farhop
	rounds  int
	seed    uint64
	only    string // kinds of trouble, comma separated
	keep    string // where data directories are kept after a fault
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:forbidigo // this is main
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	f := flag.NewFlagSet("crash", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.program, "farhop", "bin/farhop", "the program to run nodes with")
	f.IntVar(&o.rounds, "rounds", 200, "how many times trouble strikes")
	f.Uint64Var(&o.seed, "seed", 1, "which plan of trouble")
	f.StringVar(&o.only, "only", "", "kinds of trouble, separated by commas, such as \"kill,sync fails\"")
	f.StringVar(&o.keep, "keep", "", "a directory for the nodes' data, kept after a fault (default: a temporary one)")
	if err := f.Parse(args); err != nil {
		return exitUnfit
	}
	if f.NArg() > 0 || o.rounds < 1 {
		fmt.Fprintln(errs, "crash: no arguments, and at least one round; see -help")
		return exitUnfit
	}
	code, err := o.play(ctx, out)
	if err != nil {
		fmt.Fprintln(errs, "crash:", err)
	}
	return code
}

// play makes the mesh, runs the campaign and judges it.
func (o options) play(ctx context.Context, out io.Writer) (code int, err error) {
	program, err := filepath.Abs(o.program)
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		return exitUnfit, fmt.Errorf("the program: %w; build it with: make build", err)
	}
	dir, err := o.directory()
	if err != nil {
		return exitUnfit, err
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &campaign{out: out, seed: o.seed, ledger: &ledger{}, counts: map[string]int{}}
	fmt.Fprintf(out, "crash: %d rounds, seed %d, nodes in %s\n", o.rounds, o.seed, dir)
	c.mesh, err = newMesh(ctx, program, dir, c.ledger, rand.New(rand.NewPCG(o.seed, 1)))
	if err == nil {
		err = c.choose(o.only)
	}
	if err == nil {
		err = c.begin(ctx)
	}
	if err == nil {
		err = c.play(ctx, o.rounds)
	}
	done := c.ledger.missing()
	cancel()
	c.clients.Wait()
	bad := err != nil || len(c.ledger.list()) > 0
	err = errors.Join(err, c.mesh.close(bad))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && len(c.ledger.list()) == 0 {
		return exitUnfit, errors.Join(errors.New("interrupted"), os.RemoveAll(dir))
	}
	c.verdict(o.rounds, done, time.Since(began))
	switch {
	case len(c.ledger.list()) > 0:
		return exitFault, fmt.Errorf("%w\ndata directories and logs are kept in %s", err, dir)
	case err != nil:
		return exitUnfit, fmt.Errorf("%w\ndata directories and logs are kept in %s", err, dir)
	}
	return exitGood, os.RemoveAll(dir)
}

func (o options) directory() (string, error) {
	if o.keep == "" {
		return os.MkdirTemp("", "farhop-crash-")
	}
	return filepath.Abs(o.keep)
}

// choose takes the kinds of trouble that were asked for and can be had here.
func (c *campaign) choose(only string) error {
	for _, k := range troubles {
		if only != "" && !slices.Contains(strings.Split(only, ","), k.name) {
			continue
		}
		if k.needs != nil {
			if err := k.needs(c); err != nil {
				fmt.Fprintf(c.out, "SKIPPED: %q: %v\n", k.name, err)
				continue
			}
		}
		c.kinds = append(c.kinds, k)
	}
	if len(c.kinds) == 0 {
		return fmt.Errorf("no kind of trouble is left of %q", only)
	}
	return nil
}

// verdict prints what came of it.
func (c *campaign) verdict(rounds int, missing []string, took time.Duration) {
	published, promised, refused, delivered := c.ledger.totals()
	fmt.Fprintf(c.out, "%d published, %d acknowledged, %d refused, %d delivered in %s\n", published, promised, refused, delivered, took.Round(time.Second))
	played := 0
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(c.counts)) {
		played += c.counts[k]
		kinds = append(kinds, fmt.Sprintf("%s %d", k, c.counts[k]))
	}
	fmt.Fprintf(c.out, "trouble: %s\n", strings.Join(kinds, ", "))
	for _, f := range c.ledger.list() {
		fmt.Fprintf(c.out, "FAULT: %s\n", f)
	}
	lost := c.ledger.count("lost")
	if c.ledger.count("stuck") > 0 {
		lost += len(missing)
	} else if len(missing) > 0 {
		fmt.Fprintf(c.out, "%d messages were still on their way\n", len(missing))
		missing = nil
	}
	const most = 30
	if len(missing) > most {
		fmt.Fprintf(c.out, "%d are missing, the first of them:\n", len(missing))
	}
	for _, m := range missing[:min(len(missing), most)] {
		fmt.Fprintf(c.out, "MISSING: %s\n", m)
	}
	if played < rounds {
		fmt.Fprintf(c.out, "ended early, after %d of %d rounds\n", played, rounds)
	}
	fmt.Fprintf(c.out, "%d rounds, %d lost, %d duplicated\n", played, lost, c.ledger.count("duplicated"))
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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
	mishaps int // instead of rounds
	seed    uint64
	asJSON  bool
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
	f.IntVar(&o.mishaps, "mishaps", 0, "instead of rounds: how many mishaps of links and nodes strike, several at once, in a triangle")
	f.BoolVar(&o.asJSON, "json", false, "print the result as JSON, and what happens to standard error")
	f.Uint64Var(&o.seed, "seed", 1, "which plan of trouble")
	f.StringVar(&o.only, "only", "", "kinds of trouble, separated by commas, such as \"kill,sync fails\"")
	f.StringVar(&o.keep, "keep", "", "a directory for the nodes' data, kept after a fault (default: a temporary one)")
	if err := f.Parse(args); err != nil {
		return exitUnfit
	}
	if f.NArg() > 0 || o.rounds < 1 || o.mishaps < 0 {
		fmt.Fprintln(errs, "crash: no arguments, and at least one round or mishap; see -help")
		return exitUnfit
	}
	story := out
	if o.asJSON {
		story = errs
	}
	code, err := o.play(ctx, story, out)
	if err != nil {
		fmt.Fprintln(errs, "crash:", err)
	}
	return code
}

// play makes the mesh, runs the campaign and judges it. The result as JSON, if
// it is wanted, is all that out gets.
func (o options) play(ctx context.Context, story, out io.Writer) (code int, err error) {
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
	c := &campaign{out: story, seed: o.seed, ledger: &ledger{}, counts: map[string]int{}}
	n, unit, kinds, wires, play := o.rounds, "rounds", troubles, line(), c.play
	if o.mishaps > 0 {
		n, unit, kinds, wires, play = o.mishaps, "mishaps", mishaps, triangle(), c.soak
	}
	fmt.Fprintf(story, "crash: %d %s, seed %d, nodes in %s\n", n, unit, o.seed, dir)
	c.mesh, err = newMesh(ctx, program, dir, c.ledger, wires, rand.New(rand.NewPCG(o.seed, 1)))
	if err == nil {
		err = c.choose(kinds, o.only)
	}
	if err == nil {
		err = c.begin(ctx)
	}
	if err == nil {
		err = play(ctx, n)
	}
	missing := c.ledger.missing()
	cancel()
	c.clients.Wait()
	bad := err != nil || len(c.ledger.list()) > 0
	err = errors.Join(err, c.mesh.close(bad))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && len(c.ledger.list()) == 0 {
		return exitUnfit, errors.Join(errors.New("interrupted"), os.RemoveAll(dir))
	}
	v := c.verdict(missing, time.Since(began))
	v.print(story, n, unit)
	if o.asJSON {
		err = errors.Join(err, json.NewEncoder(out).Encode(v))
	}
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
func (c *campaign) choose(from []trouble, only string) error {
	for _, k := range from {
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

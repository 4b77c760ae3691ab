package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitGood  = 0
	exitFault = 1
	exitUnfit = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:forbidigo // this is main
}

// options are the flags.
type options struct {
	short    bool
	list     bool
	parallel int
	only     *regexp.Regexp
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	f := flag.NewFlagSet("mutants", flag.ContinueOnError)
	f.SetOutput(errs)
	f.BoolVar(&o.short, "short", false, "only those marked as short")
	f.BoolVar(&o.list, "list", false, "list them and run nothing")
	f.IntVar(&o.parallel, "parallel", 2, "how many at a time")
	only := f.String("run", ".", "only those whose name matches this regular expression")
	if err := f.Parse(args); err != nil {
		return exitUnfit
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil || o.parallel < 1 || f.NArg() > 0 {
		fmt.Fprintf(errs, "mutants: no arguments, a valid -run and at least one at a time (%v); see -help\n", err)
		return exitUnfit
	}
	chosen := slices.DeleteFunc(table(), func(m mutant) bool {
		return o.short && !m.short || !o.only.MatchString(m.name)
	})
	if o.list {
		for _, m := range chosen {
			fmt.Fprintf(out, "%-50s %s\n", m.name, m.file)
		}
		return exitGood
	}
	code, err := o.hunt(ctx, out, chosen)
	if err != nil {
		fmt.Fprintln(errs, "mutants:", err)
	}
	return code
}

// hunt tries all mutants and reports.
func (o options) hunt(ctx context.Context, out io.Writer, chosen []mutant) (int, error) {
	w, err := newWorkshop()
	if err != nil {
		return exitUnfit, err
	}
	defer w.close()
	began := time.Now()
	if len(chosen) == 0 {
		return exitUnfit, fmt.Errorf("no mutant has a name that matches %s", o.only)
	}
	results := make(chan result)
	jobs := make(chan mutant)
	var workers sync.WaitGroup
	for range o.parallel {
		workers.Go(func() {
			for m := range jobs {
				results <- w.try(ctx, m)
			}
		})
	}
	go func() { // ends with the last result
		for _, m := range chosen {
			jobs <- m
		}
		close(jobs)
		workers.Wait()
		close(results)
	}()
	counts := map[verdict]int{}
	bad := o.rotten(w)
	counts[unfit] = len(bad)
	for r := range results {
		counts[r.verdict]++
		fmt.Fprintf(out, "%-14s %-52s %s (%.1f s)\n", r.verdict, r.mutant.name, r.how, r.took.Seconds())
		if r.verdict != killed {
			bad = append(bad, r)
		}
	}
	if ctx.Err() != nil {
		return exitUnfit, ctx.Err()
	}
	for _, r := range bad {
		fmt.Fprintf(out, "\n%s: %s\n%s\n", strings.ToUpper(r.verdict.String()), r.mutant.name, r.detail())
	}
	fmt.Fprintf(out, "%d mutants: %d killed, %d survived, %d by the wrong law, %d do not apply, %d do not build, %d without tests that pass, in %s\n",
		len(chosen), counts[killed], counts[survived], counts[wrongLaw], counts[unfit], counts[broken], counts[unready], time.Since(began).Round(time.Second))
	if len(bad) > 0 {
		return exitFault, nil
	}
	return exitGood, nil
}

// rotten looks also at the mutants that are only left out to save time: their
// lines have to be there.
func (o options) rotten(w *workshop) (bad []result) {
	for _, m := range table() {
		if !o.short || m.short || !o.only.MatchString(m.name) {
			continue
		}
		if _, err := w.read(m); err != nil {
			bad = append(bad, result{mutant: m, verdict: unfit, how: err.Error()})
		}
	}
	return bad
}

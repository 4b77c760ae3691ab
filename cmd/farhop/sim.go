package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim"
	"github.com/farhop/farhop/sim/emulator/desc"
	"github.com/farhop/farhop/sim/scenario"
)

// maxScenario bounds a file of farhop sim run, in bytes.
const maxScenario = 4 << 20

func (a *app) simCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:     "sim",
		GroupID: groupTry,
		Short:   "Virtual worlds, and an emulator of bad links",
		Long: `Two ways to see how Farhop behaves before a link is at hand: whole worlds in
virtual time, which are done in seconds and can be repeated exactly; and a real
link on this machine, made slow, lossy or intermittent, for real nodes and any
other program.`,
	}, a.simRunCmd(), a.simLinkCmd())
}

func (a *app) simRunCmd() *cobra.Command {
	var seed uint64
	var trace bool
	var links string
	names := strings.Join(sim.Builtins(), ", ")
	c := &cobra.Command{
		Use:   "run FILE.yaml|NAME",
		Short: "Play a virtual world and judge it",
		Long: `Play a world of nodes, links, devices and faults in virtual time, with the same
core as the real node. At the end every promise is checked: what was acknowledged
was delivered to every subscriber, once and in order, or is accounted for. Exit
code 6: it was not.

Equal worlds and seeds give equal runs, bit for bit; the log hash tells. A world
is a file, or one of these that are built in: ` + names + `.

With --links a file of links (docs/emulator.md), as farhop sim link and farhop
demo read it, takes the place of those of the world that join the same nodes.`,
		Example: "  farhop sim run moon --seed 7\n  farhop sim run plant.yaml --json\n  farhop sim run ship --trace | less\n  farhop sim run moon --links moon-links.yaml",
		Args:    args(1, 1, "one world: a file, or one of "+names),
	}
	asJSON := jsonFlag(c)
	c.Flags().Uint64Var(&seed, "seed", 1, "seed of everything random")
	c.Flags().StringVar(&links, "links", "", "file of links that take the place of the world's, YAML")
	c.Flags().BoolVar(&trace, "trace", false, "print every event, to standard error with --json")
	c.RunE = func(c *cobra.Command, given []string) error {
		world, err := a.world(given[0])
		if err != nil {
			return err
		}
		if err := a.relink(world, links); err != nil {
			return err
		}
		var opt sim.Option
		if trace {
			to := a.out
			if *asJSON {
				to = a.err
			}
			opt.Trace = func(at time.Duration, line string) { fmt.Fprintf(to, "%14s %s\n", at, line) }
		}
		r, err := play(c.Context(), world, seed, opt)
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(a.out, r)
		} else {
			err = printReport(a.out, r)
		}
		if bad := r.Violations(); err == nil && len(bad) > 0 {
			err = &failure{
				exitBroken, fmt.Errorf("world %s with seed %d broke the law: %s", r.Name, r.Seed, strings.Join(bad, "; ")),
				fmt.Sprintf("farhop sim run %s --seed %d --trace", given[0], seed),
			}
		}
		return err
	}
	return c
}

// world reads a file, or a built-in world.
func (a *app) world(name string) (*scenario.World, error) {
	data, ok := sim.Builtin(name)
	if ok {
		return scenario.Parse(name, data)
	}
	data, err := a.readFile(name, maxScenario)
	if err != nil && !strings.ContainsAny(name, "./") {
		return nil, failed("farhop sim run NAME with one of "+strings.Join(sim.Builtins(), ", "), "there is no world %q", name)
	}
	if err != nil {
		return nil, err
	}
	return scenario.Parse(name, data)
}

// relink puts the links of a file in a world.
func (a *app) relink(w *scenario.World, file string) error {
	if file == "" {
		return nil
	}
	links, err := a.readLinks(file)
	if err == nil {
		err = w.Relink(links)
	}
	if err != nil {
		return failed("docs/emulator.md has the keys, and what a virtual world honours of them", "%v", err)
	}
	return nil
}

// readLinks reads a file of links.
func (a *app) readLinks(file string) ([]desc.Named, error) {
	data, err := a.readFile(file, desc.MaxFile)
	if err != nil {
		return nil, err
	}
	return desc.ParseLinks(file, data, a.linkFiles(filepath.Dir(file)))
}

// play runs a world. A run cannot be stopped half way; when ctx ends, it is left
// to end with the process.
func play(ctx context.Context, w *scenario.World, seed uint64, opt sim.Option) (*sim.Report, error) {
	type result struct {
		r   *sim.Report
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := sim.Run(w, seed, opt)
		done <- result{r, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-done:
		return got.r, got.err
	}
}

func printReport(w io.Writer, r *sim.Report) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", name, fmt.Sprintf(format, args...))
	}
	virtual := time.Duration(r.VirtualSeconds * float64(time.Second))
	wall := time.Duration(r.WallSeconds * float64(time.Second))
	line("world", "%s, seed %d: %s, %s", r.Name, r.Seed, count(r.Nodes, "node", "nodes"), count(r.Links, "link", "links"))
	line("time", "%s virtual in %s, %d events", spanText(virtual), spanText(wall), r.Events)
	line("faults", "%d crashes, %d cuts", r.Crashes, r.Cuts)
	line("published", "%d, of those %d acknowledged and %d refused", r.Published, r.Acknowledged, r.RefusedPublishes)
	line("due", "%d deliveries: %d delivered, %d still stored, %d expired, %d lost", r.Expected, r.Delivered, r.Pending, r.Expired, r.Lost)
	line("repeated", "%d against the law, %d as MQTT allows", r.Duplicates, r.Redelivered)
	line("order", "%d out of order, %d held back for it, %d gaps given up", r.OutOfOrder, r.HeldBack, r.GapsGivenUp)
	line("links", "%d bundles, %s, %d copies dropped", r.Transfers, sizeText(int64(r.LinkBytes)), r.WireDuplicates)
	line("latency", "%s on average", spanText(time.Duration(r.MeanLatency*float64(time.Second))))
	line("log hash", "%s", r.LogHash)
	verdict := "every promise was kept"
	if bad := r.Violations(); len(bad) > 0 {
		verdict = "BROKEN: " + strings.Join(bad, "; ")
	}
	_, err := fmt.Fprintf(w, "%-12s%s\n", "verdict", verdict)
	return err
}

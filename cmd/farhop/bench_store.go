package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench/durable"
)

// fillCommand is the hidden command that fills a store and waits to be killed.
const fillCommand = "fill"

func (a *app) benchStoreCmd() *cobra.Command {
	var b durable.Config
	var dir string
	var json *bool
	c := &cobra.Command{
		Use:   "store",
		Short: "Bundles a second that the buffer makes durable, beside what the disk could do",
		Long: `Measure the buffer of a node without the node: producers put bundles for 100
destinations, each waits until its bundle would survive a power cut, and puts the
next. In the same run, round by round, with the same producers:

  fdatasync  one bundle appended and synced, one at a time
  floor      the same bytes appended to a plain preallocated file, each bundle with
             length and CRC, one write and one fdatasync for all that waits
  put        into a new store that keeps all
  cycle      put, delivered from memory, removed with the producer's next put
  reopen     the store of the put, with all that waits in it

Medians of the rounds are printed, and shares within the rounds: they say more
than the rates. With the defaults it takes less than a minute.

--backlog N fills one store with N bundles instead, kills its process, opens it
again, drains it, and looks at what that did to its speed, memory and disk.`,
		Example: "  farhop bench store\n  farhop bench store --producers 1 --size 256 --dir /srv --json\n  farhop bench store --backlog 10000000 --size 256 --producers 256",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder on the disk to measure (default: the system's for temporary files)")
	f.StringVar(&b.Engine, "engine", durable.DefaultEngine, "engine of the buffer: "+strings.Join(durable.Engines(), ", "))
	f.IntVar(&b.Size, "size", 1024, "bytes of a bundle, all its blocks together")
	f.IntVar(&b.Producers, "producers", 64, "producers, each with one bundle under way")
	f.IntVar(&b.Messages, "messages", 0, "most bundles of one part of a round (default: 1000000, or 1 GiB)")
	f.DurationVar(&b.Limit, "limit", time.Second, "most time of one part of a round")
	f.IntVar(&b.Rounds, "rounds", 9, "rounds, of which medians are taken")
	f.IntVar(&b.Backlog, "backlog", 0, "fill a store with so many bundles, and drain it, instead of rounds")
	json = jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if b.Dir = dir; dir == "" {
			b.Dir = os.TempDir()
		}
		if err := b.Validate(); err != nil {
			return usage(c, "%v", err)
		}
		if b.Backlog > 0 {
			return a.benchBacklog(c, b, *json)
		}
		r, err := durable.Run(c.Context(), b, a.note)
		if err != nil {
			return err
		}
		if r.InMemory {
			a.note("%s is in memory, where a sync costs nothing: name a folder on a disk with --dir", b.Dir)
		}
		if *json {
			return printJSON(a.out, r)
		}
		return printBenchStore(a.out, r)
	}
	return c
}

// benchFillCmd is what benchBacklog runs and kills.
func (a *app) benchFillCmd() *cobra.Command {
	return &cobra.Command{
		Use:    fillCommand,
		Hidden: true,
		Short:  "Fill a store and wait for the end",
		Args:   args(1, 1, "a configuration"),
		RunE: func(c *cobra.Command, words []string) error {
			return durable.FillAndWait(c.Context(), words[0], a.in, a.out)
		},
	}
}

func (a *app) benchBacklog(c *cobra.Command, b durable.Config, json bool) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	b.Filler = []string{self, "bench", fillCommand}
	r, err := durable.RunBacklog(c.Context(), b, a.note)
	if err != nil {
		return err
	}
	if json {
		return printJSON(a.out, r)
	}
	return printBenchBacklog(a.out, r)
}

// printBenchStore writes the report for people.
func printBenchStore(w io.Writer, r durable.Report) error {
	fmt.Fprintf(w, "%s: %d producers, bundles of %d bytes, median of %s; %s, %d CPUs, %s/%s\n\n",
		r.Engine, r.Producers, r.Size, count(r.Rounds, "round", "rounds"), r.FileSystem, r.CPUs, r.OS, r.Arch)
	rate := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	share := func(v float64) string { return fmt.Sprintf("%.3f", v) }
	mb := func(perSecond float64) string { return fmt.Sprintf("%.1f", perSecond*float64(r.Size)/1e6) }
	cpu := func(us float64) string { return fmt.Sprintf("%.1f µs", us) }
	t := newTable("", "BUNDLES/S", "MB/S", "OF FLOOR", "WRITTEN/BYTE", "CPU")
	t.row("fdatasync, one at a time", rate(r.Syncs), mb(r.Syncs))
	t.row("floor, all that waits", rate(r.Floor), mb(r.Floor), "", share(r.FloorWA), cpu(r.FloorCPU))
	t.row("put", rate(r.Put), mb(r.Put), share(r.Share), share(r.PutWA), cpu(r.PutCPU))
	t.row("cycle", rate(r.Cycle), mb(r.Cycle), share(r.CycleShare), share(r.WA), cpu(r.CycleCPU))
	if err := t.print(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nwith %d bundles waiting: %.0f MB resident, %.0f MB of it not files, the load among it; reopened in %.1f ms\n",
		r.Queued, r.RSS, r.RSSAnon, r.Reopen)
	return nil
}

// printBenchBacklog writes the report for people.
func printBenchBacklog(w io.Writer, r durable.BacklogReport) error {
	fmt.Fprintf(w, "%s: %d bundles of %d bytes waiting, %d producers; %s, %d CPUs\n\n",
		r.Engine, r.Queued, r.Size, r.Producers, r.FileSystem, r.CPUs)
	t := newTable("BACKLOG", "", "")
	t.row("filled", fmt.Sprintf("%.0f/s", r.Fill), fmt.Sprintf("%.2f bytes written per byte", r.WA))
	t.row("put", fmt.Sprintf("%.0f/s", r.PutFull), fmt.Sprintf("%.2f of %.0f/s into an empty store", r.FullShare, r.PutEmpty))
	t.row("memory", fmt.Sprintf("%.0f MB", r.RSSAnon), fmt.Sprintf("highest %.0f MB; with files %.0f MB; after reopening %.0f MB", r.AnonPeak, r.RSS, r.ReopenedAnon))
	t.row("reopened", fmt.Sprintf("%.0f ms", r.Reopen), fmt.Sprintf("after a kill %.0f ms, with nothing in the page cache %.0f ms", r.Killed, r.Cold))
	t.row("drained", fmt.Sprintf("%.0f/s", r.Drain), "each read back, compared and removed")
	if r.Drained < r.Queued {
		t.row("", "", fmt.Sprintf("too slow: %d were left, and the empty store is not known", r.Queued-r.Drained))
		return t.print(w)
	}
	gone := fmt.Sprintf("99 %% after %.0f ms", r.ReturnedMillis)
	if r.ReturnedMillis < 0 {
		gone = "too little in time"
	}
	t.row("disk", fmt.Sprintf("%.0f MB", r.Disk), fmt.Sprintf("%.0f MB left, %.1f %% given back: %s", r.DiskAfter, 100*r.ReturnedShare, gone))
	t.row("a commit", fmt.Sprintf("%.0f µs", r.Commit), fmt.Sprintf("%.2f of %.0f µs in a new store; %.0f bytes written, %.0f in a new store",
		r.CommitShare, r.CommitFresh, r.CommitBytes, r.CommitFreshBytes))
	return t.print(w)
}

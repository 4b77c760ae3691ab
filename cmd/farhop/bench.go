package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench"
)

func (a *app) benchCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:     "bench",
		GroupID: groupTry,
		Short:   "Measure this machine, and other servers on it",
		Long: `Measure what a node does on this machine beside what the machine could do. No
running node is touched: nodes of a bench are made for it and removed.`,
	}, a.benchMQTTCmd(), a.benchStoreCmd(), a.benchRelayCmd(), a.benchFillCmd())
}

// noMosquitto is the value of --mosquitto that leaves it out.
const noMosquitto = "none"

func (a *app) benchMQTTCmd() *cobra.Command {
	var b bench.Config
	var dir, mosquitto string
	var json *bool
	c := &cobra.Command{
		Use:   "mqtt",
		Short: "Messages a second that are on disk before they are acknowledged",
		Long: `Measure how many messages of QoS 1 a second a node accepts for a client that is
away: each must be on disk before its PUBACK. In the same run, round by round:

  floor      the same bytes appended to a file with fdatasync, alone and behind
             the least server that can do it
  farhop     a new node
  mosquitto  if there is one, with persistence: writing its database after every
             change, and by its defaults

After each load the client comes back, and what it gets is counted. Then each
server is killed (SIGKILL) under load, started again, and the messages are
counted that it had acknowledged and still has. A kill is no power cut: what a
program wrote without fdatasync survives the one and not the other.

Medians of the rounds are printed. Servers and load share the machine, so the
ratios of one run say more than its rates. With the defaults it takes about three
minutes with Mosquitto, one without.`,
		Example: "  farhop bench mqtt\n  farhop bench mqtt --clients 64 --size 1024 --messages 50000 --dir /srv --mosquitto none",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder on the disk to measure (default: the system's for temporary files)")
	f.StringVar(&mosquitto, "mosquitto", "", "program of Mosquitto, or none (default: the one in PATH or in sbin)")
	f.IntVar(&b.Clients, "clients", 16, "publishers")
	f.IntVar(&b.Window, "window", 64, "unacknowledged messages of each publisher")
	f.IntVar(&b.Size, "size", 256, "bytes of a message")
	f.IntVar(&b.Messages, "messages", 100_000, "messages of one round, of all publishers together")
	f.IntVar(&b.Rounds, "rounds", 3, "rounds, of which medians are taken")
	f.DurationVar(&b.Limit, "limit", 20*time.Second, "most time for the messages of one round; a slow server is measured by what it did until then")
	f.DurationVar(&b.Settle, "settle", 10*time.Second, "time after which the memory of an idle server is read")
	json = jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.benchPrograms(&b, dir, mosquitto); err != nil {
			return err
		}
		if err := b.Validate(); err != nil {
			return usage(c, "%v", err)
		}
		r, err := bench.Run(c.Context(), b, a.note)
		if err != nil {
			return err
		}
		if r.Machine.InMemory {
			a.note("%s is in memory, where a sync costs nothing: name a folder on a disk with --dir", b.Dir)
		}
		if *json {
			return printJSON(a.out, r)
		}
		return printBench(a.out, r)
	}
	return c
}

// benchPrograms finds what a run needs.
func (a *app) benchPrograms(b *bench.Config, dir, mosquitto string) error {
	var err error
	if b.Farhop, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if b.Dir = dir; dir == "" {
		b.Dir = os.TempDir()
	}
	switch mosquitto {
	case noMosquitto:
	case "":
		if b.Mosquitto = bench.FindMosquitto(); b.Mosquitto == "" {
			a.note("there is no Mosquitto on this machine: measuring without it")
		}
	default:
		b.Mosquitto = mosquitto
	}
	return nil
}

// printBench writes the report for people.
func printBench(w io.Writer, r bench.Report) error {
	c := r.Config
	fmt.Fprintf(w, "%d clients x %d unacknowledged, %d bytes, %d messages, median of %s; %d CPUs, %s/%s\n\n",
		c.Clients, c.Window, c.Size, c.Messages, count(c.Rounds, "round", "rounds"), r.Machine.CPUs, r.Machine.OS, r.Machine.Arch)
	fmt.Fprintf(w, "disk: fdatasync takes %.0f µs\n", r.Floor.SyncMicros)
	t := newTable("FLOOR", "MSG/S", "P50", "P99")
	rate := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	t.row("a sync per message", rate(r.Floor.SyncsPerSecond))
	t.row(fmt.Sprintf("a sync per %d messages", c.Clients), rate(r.Floor.Grouped))
	t.row("a sync for all that waits", rate(r.Floor.Natural))
	t.row("the same behind sockets", rate(r.Floor.Served), microsText(r.Floor.ServedP50), microsText(r.Floor.ServedP99))
	if err := t.print(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printServers(w, r); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, s := range r.Servers {
		lost, repeated, wrong := s.Broken()
		acked, kept := s.Kept()
		fmt.Fprintf(w, "%s: %s\n", serverText(s), s.Promise)
		fmt.Fprintf(w, "  back after the load: %d lost, %d repeated, %d out of order\n", lost, repeated, wrong)
		fmt.Fprintf(w, "  after a kill: %d of %d acknowledged messages left\n", kept, acked)
	}
	return nil
}

func printServers(w io.Writer, r bench.Report) error {
	t := newTable("SERVER", "MSG/S", "OF FLOOR", "OF SOCKETS", "P50", "P99", "CPU/MSG", "WRITTEN/MSG", "DRAIN/S")
	m := newTable("SERVER", "IDLE", "IDLE MIN", "WITH SESSION", "PEAK", "FILES")
	for _, s := range r.Servers {
		l := s.Load
		t.row(serverText(s), fmt.Sprintf("%.0f", l.PerSecond), fmt.Sprintf("%.3f", s.OfNatural), fmt.Sprintf("%.3f", s.OfServed),
			microsText(l.P50), microsText(l.P99), fmt.Sprintf("%.1f µs", l.ServerCPU), sizeText(int64(l.Written)), fmt.Sprintf("%.0f", l.Drain.PerSecond))
		m.row(serverText(s), sizeText(s.IdleMedian), sizeText(s.IdleMin), sizeText(l.Before), sizeText(l.Peak), sizeText(l.Files))
	}
	if err := t.print(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return m.print(w)
}

func serverText(s bench.Server) string {
	if s.Version == "" {
		return fmt.Sprintf("%s (%s)", s.Name, s.Setting)
	}
	return fmt.Sprintf("%s %s (%s)", s.Name, s.Version, s.Setting)
}

// microsText writes microseconds for people.
func microsText(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 100_000:
		return fmt.Sprintf("%.1f ms", us/1000)
	}
	return fmt.Sprintf("%.0f ms", us/1000)
}

package main

import (
	"fmt"
	"io"

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
	}, a.benchMQTTCmd(), a.benchStoreCmd(), a.benchRelayCmd(), a.benchLinkCmd(), a.benchFailoverCmd(), a.benchContactCmd(), a.benchNearCmd(),
		a.benchFillCmd(), a.benchNearPartCmd())
}

// figures prints what was measured, as JSON or for people.
func (a *app) figures(r fmt.Stringer, asJSON bool) error {
	if asJSON {
		return printJSON(a.out, r)
	}
	_, err := fmt.Fprintln(a.out, r)
	return err
}

// noMosquitto is the value of --mosquitto that leaves it out.
const noMosquitto = "none"

// benchDurable measures messages that are on disk before they are acknowledged.
func (a *app) benchDurable(c *cobra.Command, b bench.Config, json bool) error {
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
	if json {
		return printJSON(a.out, r)
	}
	return printBench(a.out, r)
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

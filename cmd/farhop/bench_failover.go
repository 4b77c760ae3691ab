package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench/failover"
)

func (a *app) benchFailoverCmd() *cobra.Command {
	var b failover.Config
	var dir, peer string
	c := &cobra.Command{
		Use:   "failover",
		Short: "How fast nodes go around a link that became a black hole",
		Long: `Make three nodes, each a process of its own, with an emulated wire between any
two, and publish steadily with QoS 1 from one to another. Then cut the wire between
these two again and again: it swallows everything and says nothing.

Printed are the times from a cut until the sending node finds the link silent and
until messages arrive again, by way of the third node, what was lost, and how often
a node found a link silent that was not cut.`,
		Example: "  farhop bench failover\n  farhop bench failover --busy --json\n  farhop bench failover --busy --time 1h",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder for the nodes (default: the system's for temporary files)")
	f.IntVar(&b.Cuts, "cuts", 100, "how often the wire is cut")
	f.DurationVar(&b.Down, "down", 1200*time.Millisecond, "how long each cut lasts")
	f.DurationVar(&b.Every, "every", 5*time.Millisecond, "time between two messages")
	f.BoolVar(&b.Busy, "busy", false, "keep every processor busy meanwhile")
	f.Uint64Var(&b.Seed, "seed", 1, "seed of the pauses between cuts")
	f.DurationVar(&b.Time, "time", 0, "cut nothing: fill all wires for so long, and count false alarms")
	f.StringVar(&peer, "peer", "", "nats=PATH of a nats-server, to measure beside: a leaf node with pings of 1 s")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if b.Farhop, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if b.Dir = dir; dir == "" {
			b.Dir = os.TempDir()
		}
		if b.Time != 0 && !c.Flags().Changed("cuts") {
			b.Cuts = 0
		}
		if peer != "" {
			var ok bool
			if b.NATS, ok = strings.CutPrefix(peer, "nats="); !ok || b.NATS == "" {
				return usage(c, "--peer %s: only nats=PATH is known", peer)
			}
		}
		if err := b.Validate(); err != nil {
			return usage(c, "%v", err)
		}
		r, err := failover.Run(c.Context(), b, a.note)
		if err != nil {
			return err
		}
		return a.figures(r, *asJSON)
	}
	return c
}

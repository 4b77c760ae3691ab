package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench"
)

func (a *app) benchRelayCmd() *cobra.Command {
	var b bench.RelayConfig
	var dir string
	var json *bool
	c := &cobra.Command{
		Use:   "relay",
		Short: "Bundles a second that a node passes on, and the processor time of each",
		Long: `Measure a node between two others: a sender, a relay and a receiver are made,
each a process of its own with its buffer on disk.

While the relay is down, the sender is filled over MQTT. Then the relay starts: it
takes each bundle, makes it durable, answers for it, hands it on and removes it
once the receiver has made it durable. Bundles per second are taken between the
first tenth of the arrivals and the last; the processor time is user and system
time of the relay's process, its start among it, over all bundles. Medians of the
rounds are printed. All three share the machine, so the processor time says more
than the rate.

With --volatile, QoS 0 messages that no node stores go through at the rate at
which they arrive.

With --cl tcpclv4, sender and receiver are doors of this process that keep
nothing, and bundles go through the doors of the relay: stored there, or with
--volatile cut through (docs/dtn-interop.md).`,
		Example: "  farhop bench relay\n  farhop bench relay --size 256 --messages 100000 --json\n  farhop bench relay --volatile",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder on the disk to measure (default: the system's for temporary files)")
	f.StringVar(&b.CL, "cl", bench.CLQUIC, "how the nodes speak: "+bench.CLAny)
	f.IntVar(&b.Size, "size", 1024, "bytes of the payload of a bundle")
	f.IntVar(&b.Messages, "messages", 30_000, "bundles of one round")
	f.IntVar(&b.Rounds, "rounds", 3, "rounds, of which medians are taken")
	f.BoolVar(&b.Volatile, "volatile", false, "messages that no node stores")
	f.DurationVar(&b.Limit, "limit", time.Minute, "most time of one round")
	json = jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if b.Farhop, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if b.Dir = dir; dir == "" {
			b.Dir = os.TempDir()
		}
		if err := b.Validate(); err != nil {
			return usage(c, "%v", err)
		}
		r, err := bench.RunRelay(c.Context(), b, a.note)
		if err != nil {
			return err
		}
		if *json {
			return printJSON(a.out, r)
		}
		return printBenchRelay(a.out, r)
	}
	return c
}

// printBenchRelay writes the report for people.
func printBenchRelay(w io.Writer, r bench.RelayReport) error {
	kind := "durable"
	if r.Volatile {
		kind = "volatile"
	}
	fmt.Fprintf(w, "%s bundles of %d bytes over %s, %d in each of %s; %s, %d CPUs\n\n",
		kind, r.Size, r.CL, r.Messages, count(r.Rounds, "round", "rounds"), r.FileSystem, r.CPUs)
	cpu := func(us float64) string { return fmt.Sprintf("%.1f µs", us) }
	t := newTable("BUNDLES/S", "MB/S", "CPU OF THE RELAY", "OF THE SENDER", "OF THE RECEIVER", "RELAY WRITES", "LOST")
	t.row(fmt.Sprintf("%.0f", r.PerSecond), fmt.Sprintf("%.1f", r.MB), cpu(r.CPU), cpu(r.SenderCPU), cpu(r.ReceiverCPU),
		sizeText(int64(r.Written)), fmt.Sprint(r.Lost))
	return t.print(w)
}

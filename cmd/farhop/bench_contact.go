package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench/contact"
	"github.com/farhop/farhop/sim/emulator/desc"
)

func (a *app) benchContactCmd() *cobra.Command {
	var b contact.Config
	var dir, rate string
	c := &cobra.Command{
		Use:   "contact",
		Short: "How soon a contact is of use to nodes that know each other",
		Long: `Make two nodes, each a process of its own, with an emulated link between them that
is there by schedule. While it is not there, messages are published at one for a
persistent session at the other, and both processes are stopped and started again;
before the last contact they are killed.

Printed are the times from the start of a contact until the first message is at the
subscriber, and until the link is up at the node that dials, by the clock of this
machine; how many first flights carried data; and what was lost, with which the exit
code is 1.`,
		Example: "  farhop bench contact --delay 1.28s --rate 50mbit\n  farhop bench contact --delay 3s --rounds 3 --json",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder for the nodes (default: the system's for temporary files)")
	f.DurationVar(&b.Delay, "delay", 1280*time.Millisecond, "one-way delay")
	f.StringVar(&rate, "rate", "50mbit", "rate of the link, each way")
	f.IntVar(&b.Rounds, "rounds", 5, "contacts that are measured")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if b.Farhop, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if b.Dir = dir; dir == "" {
			b.Dir = os.TempDir()
		}
		if b.Rate, err = desc.ParseRate(rate); err != nil {
			return usage(c, "--rate: %v", err)
		}
		if err := b.Validate(); err != nil {
			return usage(c, "%v", err)
		}
		r, err := contact.Run(c.Context(), b, a.note)
		if err != nil && (!errors.Is(err, contact.ErrLost) || r.Lost == 0) {
			return err
		}
		return errors.Join(err, a.figures(r, *asJSON))
	}
	return c
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/emulator"
)

// linkFlags are the flags of farhop sim link.
type linkFlags struct {
	config                      emulator.Config
	delay, jitter, run          time.Duration
	loss, rate, queue, contacts string
}

func (a *app) simLinkCmd() *cobra.Command {
	var l linkFlags
	c := &cobra.Command{
		Use:   "link --listen HOST:PORT --to HOST:PORT",
		Short: "Put a bad link between two programs",
		Long: `Listen at one address and carry UDP datagrams, TCP connections or both to
another, with the delay, losses, rate and contacts of a far or thin link, until
stopped. It needs no privileges and works between any two programs; put its
address where the other end's would be, such as peers[].address or join --via.

Both directions are alike. --delay is the light time of one way. Datagrams that
find the bottleneck's queue full, or no contact, are dropped; TCP, whose users
never see a loss, waits instead.

At the end it prints what it carried and dropped.`,
		Example: "  farhop sim link --listen 127.0.0.1:9330 --to 127.0.0.1:7330 --delay 1.28s --loss 1% --rate 50Mbit\n" +
			"  farhop sim link --listen 127.0.0.1:9330 --to 127.0.0.1:7330 --delay 300ms --contacts every=10m,for=4m",
		Args: args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&l.config.Listen, "listen", "", "HOST:PORT to listen at, port 0 for a free one")
	f.StringVar(&l.config.To, "to", "", "HOST:PORT of the real receiver")
	f.StringVar(&l.config.Network, "network", "udp", "udp, tcp or both")
	f.DurationVar(&l.delay, "delay", 0, "one-way delay, such as 1.28s")
	f.DurationVar(&l.jitter, "jitter", 0, "most that is added to the delay; never reorders")
	f.StringVar(&l.loss, "loss", "0%", "share of datagrams that is lost, such as 1% or 0.01")
	f.StringVar(&l.rate, "rate", "unlimited", "rate of the bottleneck, such as 9600bit or 50Mbit")
	f.StringVar(&l.queue, "queue", "4MiB", "room at the bottleneck, such as 64KiB")
	f.StringVar(&l.contacts, "contacts", "always", "when the link can carry: every=2h,for=40m[,start=RFC3339]; without a start it begins with a contact")
	f.Uint64Var(&l.config.Seed, "seed", 1, "seed of loss and jitter")
	f.DurationVar(&l.run, "for", 0, "end after this time (default: go on)")
	asJSON := f.Bool("json", false, "print the figures as one JSON value at the end")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := l.parse(c); err != nil {
			return err
		}
		return a.simLink(c.Context(), &l, *asJSON)
	}
	return c
}

// parse fills in the emulator's configuration.
func (l *linkFlags) parse(c *cobra.Command) error {
	if err := need(c, "listen", "to"); err != nil {
		return err
	}
	p := emulator.Profile{Delay: l.delay, Jitter: l.jitter}
	var err error
	if p.Loss, err = emulator.ParseLoss(l.loss); err != nil {
		return usage(c, "--loss: %v", err)
	}
	if p.Rate, err = emulator.ParseRate(l.rate); err != nil {
		return usage(c, "--rate: %v", err)
	}
	if p.Contacts, err = emulator.ParseSchedule(l.contacts); err != nil {
		return usage(c, "--contacts: %v", err)
	}
	var queue config.Size
	if err := queue.UnmarshalText([]byte(l.queue)); err != nil {
		return usage(c, "--queue: %v", err)
	}
	if l.run < 0 {
		return usage(c, "--for: %s is negative", l.run)
	}
	p.Queue = int(queue)
	l.config.Up, l.config.Down = p, p
	if err := l.config.Validate(); err != nil {
		return usage(c, "%v", err)
	}
	return nil
}

func (a *app) simLink(ctx context.Context, l *linkFlags, asJSON bool) error {
	link, err := emulator.Open(l.config)
	if err != nil {
		return err
	}
	if l.run > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.run)
		defer cancel()
	}
	a.note("%s at %s to %s: %s", l.config.Network, link.Addr(), l.config.To, l.config.Up)
	err = link.Run(ctx)
	s := link.Stats()
	if asJSON {
		if jsonErr := printJSON(a.out, s); err == nil {
			err = jsonErr
		}
		return err
	}
	printLink(a.out, "up", s.Up)
	printLink(a.out, "down", s.Down)
	if s.Up.Dropped.Memory+s.Down.Dropped.Memory > 0 {
		a.note("the emulator ran out of memory for packets under way: the figures are not those of such a link")
	}
	return err
}

func printLink(w io.Writer, name string, s emulator.DirStats) {
	text := fmt.Sprintf("%d of %d datagrams carried, %s", s.Packets, s.Offered, sizeText(int64(s.Bytes)))
	if s.StreamBytes > 0 {
		text += ", TCP " + sizeText(int64(s.StreamBytes))
	}
	var drops []string
	drop := func(n uint64, what string) {
		if n > 0 {
			drops = append(drops, fmt.Sprintf("%d %s", n, what))
		}
	}
	drop(s.Dropped.Loss, "lost")
	drop(s.Dropped.Queue, "found the queue full")
	drop(s.Dropped.Closed, "found no contact")
	drop(s.Dropped.Cut, "cut")
	drop(s.Dropped.Memory, "found no memory")
	drop(s.Dropped.Undelivered, "refused by the receiver")
	if len(drops) > 0 {
		text += "; " + strings.Join(drops, ", ")
	}
	fmt.Fprintf(w, "%-5s %s\n", name, text)
}

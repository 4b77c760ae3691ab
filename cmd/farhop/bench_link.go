package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/sim/bench/links"
	"github.com/farhop/farhop/sim/emulator/desc"
)

// benchLinkFlags are the flags of farhop bench link as they are typed.
type benchLinkFlags struct {
	layer, loss, rate, back, bytes string
	delay                          time.Duration
	burst                          float64
	seed                           uint64
}

func (a *app) benchLinkCmd() *cobra.Command {
	var o benchLinkFlags
	c := &cobra.Command{
		Use:   "link",
		Short: "What gets through a far, thin or lossy link",
		Long: `Move bytes between two nodes over an emulated link and measure how long it takes:
real sessions over real sockets of this machine, handshake and keys as always, but
no stores and no queues, so that it is the link that is measured.

The share of the link is what arrived, over what the rate carries in the time from
the first byte sent to the last delivered, less the delay. The rate counts IP
packets with their headers. Both nodes are told delay, rate and loss, as a link's
configuration would.`,
		Example: "  farhop bench link --delay 1.28s --loss 1% --rate 50mbit --bytes 64MiB\n" +
			"  farhop bench link --delay 1.28s --loss 1% --rate 50mbit --return 256kbit --bytes 64MiB --json\n" +
			"  farhop bench link --layer quic --bytes 1GiB\n" +
			"  farhop bench link --layer tls --bytes 1GiB",
		Args: args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&o.layer, "layer", string(link.LayerAuto), "what carries the bundles: "+layerNames())
	f.DurationVar(&o.delay, "delay", 0, "one-way delay, such as 1.28s")
	f.StringVar(&o.loss, "loss", "0%", "share of packets that is lost, such as 1% or 0.01")
	f.Float64Var(&o.burst, "burst", 0, "packets lost in a row, on average")
	f.StringVar(&o.rate, "rate", "unlimited", "rate of the link, such as 9600bit or 50Mbit")
	f.StringVar(&o.back, "return", "", "rate of the way back (default: as --rate)")
	f.StringVar(&o.bytes, "bytes", "16MiB", "how much is moved")
	f.Uint64Var(&o.seed, "seed", 1, "seed of what is lost")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		b, err := o.config()
		if err != nil {
			return usage(c, "%v", err)
		}
		r, err := links.Run(c.Context(), b, a.note)
		if err != nil {
			return err
		}
		return a.figures(r, *asJSON)
	}
	return c
}

func layerNames() string {
	var names []string
	for _, l := range link.Layers() {
		names = append(names, string(l))
	}
	return strings.Join(names, ", ")
}

// config reads the flags.
func (o *benchLinkFlags) config() (c links.Config, err error) {
	c = links.Config{Layer: link.Layer(o.layer), Delay: o.delay, Burst: o.burst, Seed: o.seed}
	if c.Loss, err = desc.ParseLoss(o.loss); err != nil {
		return c, fmt.Errorf("--loss: %w", err)
	}
	if c.Rate, err = desc.ParseRate(o.rate); err != nil {
		return c, fmt.Errorf("--rate: %w", err)
	}
	if o.back != "" {
		if c.Return, err = desc.ParseRate(o.back); err != nil {
			return c, fmt.Errorf("--return: %w", err)
		}
	}
	var size config.Size
	if err := size.UnmarshalText([]byte(o.bytes)); err != nil {
		return c, fmt.Errorf("--bytes: %w", err)
	}
	c.Bytes = int64(size)
	return c, c.Validate()
}

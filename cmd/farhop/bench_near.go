package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench/near"
)

// nearPart is the hidden command that a run starts its helping processes with.
const nearPart = "near-part"

func (a *app) benchNearCmd() *cobra.Command {
	var b near.Config
	var dir string
	var peers []string
	c := &cobra.Command{
		Use:   "near",
		Short: "What a TCP service costs between two nodes side by side",
		Long: `Make two nodes, each a process of its own, with a link between them, and carry a TCP
service through them: first 64 bytes there and back again and again, then as much as
goes through one way. Once with a link of layer tls and once with layer quic.

Printed are the round trip, the goodput and the processor time of both nodes per GiB,
and the same of others that are measured in turn with them: forwarders with stock
quic-go and nothing else, and what --peer names: a pair of nginx with mutual TLS, and
Nebula, which needs Linux and root. All figures are medians of the rounds.`,
		Example: "  farhop bench near --peer nginx=/usr/sbin/nginx\n  farhop bench near --peer nginx=/usr/sbin/nginx --peer nebula=bin/peers/nebula --json",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "folder for the nodes (default: the system's for temporary files)")
	f.DurationVar(&b.Time, "time", 3*time.Second, "how long each measurement is")
	f.IntVar(&b.Rounds, "rounds", 3, "how often everybody is measured")
	f.StringSliceVar(&b.Layers, "layer", nil, "layers of the links (default: tls and quic)")
	f.StringArrayVar(&peers, "peer", nil, "nginx=PATH, with its stream module, or nebula=PATH, beside nebula-cert")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if b.Farhop, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		b.Part = []string{b.Farhop, "bench", nearPart}
		if b.Dir = dir; dir == "" {
			b.Dir = os.TempDir()
		}
		for _, peer := range peers {
			switch name, path, _ := strings.Cut(peer, "="); {
			case name == "nginx" && path != "":
				b.Nginx = path
			case name == "nebula" && path != "":
				b.Nebula = path
			default:
				return usage(c, "--peer %s: only nginx=PATH and nebula=PATH are known", peer)
			}
		}
		if err := b.Validate(); err != nil {
			return usage(c, "%v", err)
		}
		r, err := near.Run(c.Context(), b, a.note)
		if err != nil {
			return err
		}
		return a.figures(r, *asJSON)
	}
	return c
}

// benchNearPartCmd is what bench near runs beside the nodes.
func (a *app) benchNearPartCmd() *cobra.Command {
	return &cobra.Command{
		Use:    nearPart,
		Hidden: true,
		Short:  "A helping process of bench near",
		Args:   args(1, 4, "what it is"),
		RunE:   func(c *cobra.Command, words []string) error { return near.Part(c.Context(), words, a.out) },
	}
}

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/demo"
)

func (a *app) demoCmd() *cobra.Command {
	var cfg demo.Config
	var links string
	c := &cobra.Command{
		Use:     "demo",
		GroupID: groupTry,
		Short:   "Three nodes, a link to the Moon, and trouble",
		Long: `Run three real nodes on this machine: luna, relay and earth. Between luna and
relay lie 1.28 s of light time, 1 % loss, and a contact that ends and comes back.
MQTT clients publish at luna and subscribe at earth, and back; a TCP service is
used across the Moon link. Then the relay is cut off, killed and started again,
a server goes away, and a fleet revision is pushed while luna cannot be reached.

Publishing stops at 60 % of the duration; the rest is for draining, and a few
seconds more if they are needed. --links puts links of a file in the place of
these two, for the emulator and for what the nodes are told (docs/emulator.md).

Exit code 0: every acknowledged message arrived exactly once and in the order of
its publisher, the TCP bytes are equal, and the revision is applied everywhere.
Exit code 1: not so; the report says what broke, and --keep keeps the evidence.

Nothing outside a temporary directory is touched, and only ports of loopback
are used.`,
		Example: "  farhop demo\n  farhop demo --json --duration 40s --seed 7\n  farhop demo --duration 5m --keep moon\n  farhop demo --links worse.yaml",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.DurationVar(&cfg.Duration, "duration", 40*time.Second, "how long it runs, at least "+demo.MinDuration.String())
	f.Uint64Var(&cfg.Seed, "seed", 1, "seed of losses, payloads and the pace of the publishers")
	f.StringVar(&cfg.Keep, "keep", "", "empty or new directory in which data and logs stay (default: a temporary one that is removed)")
	f.StringVar(&links, "links", "", "file of links that take the place of those built in, YAML")
	asJSON := f.Bool("json", false, "print the report as one JSON value, the log to standard error")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if cfg.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if err := cfg.Validate(); err != nil {
			return usage(c, "--%v", err)
		}
		if links != "" {
			if cfg.Links, err = a.readLinks(links); err == nil {
				err = cfg.Validate()
			}
			if err != nil {
				return failed("docs/emulator.md has the keys, and what the demo honours of them", "%v", err)
			}
		}
		cfg.Out = a.out
		if *asJSON {
			cfg.Out = a.err
		}
		cfg.Live = terminal(cfg.Out)
		report, err := demo.Run(c.Context(), cfg)
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(a.out, report)
		} else {
			err = report.Text(a.out)
		}
		if err == nil && !report.OK {
			err = failed("farhop demo --keep DIR keeps data and logs of the nodes", "%s", report.Broken[0])
		}
		return err
	}
	return c
}

// terminal reports whether somebody looks at w.
func terminal(w io.Writer) bool {
	if l, ok := w.(*lockedWriter); ok {
		w = l.w
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device too
	return err != nil || !os.SameFile(info, null)
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

// app is one call of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	dir      string // --dir as given, "" for the default; see dataDir
}

// The groups of the help text.
const (
	groupSetUp    = "setup"
	groupLook     = "look"
	groupMessages = "messages"
	groupFleet    = "fleet"
	groupTry      = "try"
)

// run is the program: it does what args say and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	stdout, stderr = &lockedWriter{w: stdout}, &lockedWriter{w: stderr}
	a := &app{in: stdin, out: stdout, err: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return a.report(ctx, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "farhop",
		Short: "Messaging for machines behind bad links",
		Long: `Farhop carries MQTT messages and TCP connections between machines whose links
are far, thin, lossy or not there most of the time. What a node acknowledged it
keeps on disk until it is delivered or has expired.

Two nodes:
  farhop init --region earth            make a mesh and its first node
  farhop run                            run it: MQTT on 127.0.0.1:1883
  farhop invite --region luna --advertise HOST:7330
  farhop join TICKET                    on the other machine, then: farhop run

Then any MQTT client can publish on one and subscribe on the other.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.PersistentFlags().StringVar(&a.dir, "dir", "", "data directory of the node (default: $FARHOP_DIR, or ~/.farhop, or /var/lib/farhop for root)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%v", err) })
	root.AddGroup(
		&cobra.Group{ID: groupSetUp, Title: "Set up and run:"},
		&cobra.Group{ID: groupLook, Title: "Look at a running node:"},
		&cobra.Group{ID: groupMessages, Title: "Messages:"},
		&cobra.Group{ID: groupFleet, Title: "All nodes at once:"},
		&cobra.Group{ID: groupTry, Title: "Try out:"},
	)
	root.AddCommand(a.commands()...)
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Run, help.RunE = nil, helpOn
	}
	return root
}

// commands are all commands, in the order of the source files' story: make a
// node, look at it, use it, try it out.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.initCmd(), a.inviteCmd(), a.joinCmd(), a.runCmd(), a.configCmd(), a.passwdCmd(),
		a.statusCmd(), a.peersCmd(), a.linksCmd(), a.nodesCmd(), a.routesCmd(), a.queueCmd(), a.whyCmd(), a.pingCmd(), a.netcheckCmd(),
		a.sessionsCmd(), a.pubCmd(), a.subCmd(), a.retainedCmd(), a.tapCmd(), a.bundleCmd(),
		a.storeCmd(),
		a.fleetCmd(),
		a.demoCmd(), a.simCmd(), a.benchCmd(),
		a.versionCmd(), exitCodesTopic(),
	}
}

// helpOn shows the help of a command, and refuses words that name none.
func helpOn(c *cobra.Command, words []string) error {
	about, rest, err := c.Root().Find(words)
	if err == nil && len(rest) > 0 {
		err = noCommand(about, rest)
	}
	if err != nil {
		return err
	}
	about.InitDefaultHelpFlag()
	return about.Help()
}

// noCommand refuses words after a command that only has subcommands.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usage(c, "there is no command %q", c.CommandPath()+" "+args[0])
	if c.SuggestionsMinimumDistance == 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		err.hint = c.CommandPath() + " " + strings.Join(near, ", or "+c.CommandPath()+" ")
	}
	return err
}

// group makes a command that only has subcommands.
func group(c *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	c.Args = noCommand
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(subs...)
	return c
}

// args checks the number of words after a command; what names them.
func args(atLeast, atMost int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		switch {
		case len(given) < atLeast:
			return usage(c, "%s needs %s", c.CommandPath(), what)
		case len(given) > atMost && atMost == 0:
			return usage(c, "%s takes no arguments, not %q", c.CommandPath(), given[0])
		case len(given) > atMost:
			return usage(c, "%s takes only %s; %q is too much", c.CommandPath(), what, given[atMost])
		}
		return nil
	}
}

// need refuses a call without one of the flags.
func need(c *cobra.Command, names ...string) error {
	var missing []string
	for _, n := range names {
		if !c.Flags().Changed(n) {
			missing = append(missing, "--"+n)
		}
	}
	if len(missing) > 0 {
		return usage(c, "%s needs %s", c.CommandPath(), strings.Join(missing, " and "))
	}
	return nil
}

// client speaks to the daemon of the data directory.
func (a *app) client() (*admin.Client, error) {
	dir, err := a.dataDir()
	if err != nil {
		return nil, err
	}
	c, err := admin.Dial(dir)
	return c, a.noNode(dir, err)
}

// note tells a person something that is not the result.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

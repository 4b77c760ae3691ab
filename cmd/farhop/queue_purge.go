package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func (a *app) queuePurgeCmd() *cobra.Command {
	var r admin.PurgeRequest
	var older time.Duration
	var origin string
	var yes bool
	c := &cobra.Command{
		Use:   "purge (QUEUE | --all)",
		Short: "End messages that wait",
		Long: `End the messages of one queue, or of all: they are not delivered and count as
purged. Without --yes nothing is changed: it says what would end, and exits with
7. All given filters have to match.

Of very long queues the front is purged at once; the rest is left until its turn
comes, and ends then. A batch is ended as a whole, by the id of its first message.
A message that is in flight may have arrived already. Exit code 5 says that
nothing matches.

--all includes the class control: revisions and other words of the mesh itself.`,
		Example: "  farhop queue purge node earth-1 --class bulk --older 24h\n  farhop queue purge --all --message luna-1.9f3a2.t57 --yes",
		Args:    args(0, 2, "a queue, such as node earth-1"),
	}
	f := c.Flags()
	f.BoolVar(&r.All, "all", false, "all queues")
	f.StringVar(&r.Class, "class", "", "only this class")
	f.DurationVar(&older, "older", 0, "only what arrived longer ago, such as 24h")
	f.StringVar(&origin, "origin", "", "only what this node made or took in")
	f.StringVar(&r.Message, "message", "", "only the message with this id")
	f.BoolVar(&yes, "yes", false, "do it")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, words []string) (err error) {
		r.Queue, r.Older, r.DryRun = queueName(words), config.Duration(older), !yes
		if r.All == (len(words) > 0) {
			return usage(c, "%s needs a queue, such as node earth-1, or --all", c.CommandPath())
		}
		if older < 0 {
			return usage(c, "--older: %v is negative", older)
		}
		if origin != "" {
			if r.Origin, err = addr.ParseNode(origin); err != nil {
				return usage(c, "--origin: %v", err)
			}
		}
		if r.Message != "" {
			if _, err := bundle.ParseID(r.Message); err != nil {
				return usage(c, "--message: %v", err)
			}
		}
		return a.purge(c, r, *asJSON)
	}
	return c
}

func (a *app) purge(c *cobra.Command, r admin.PurgeRequest, asJSON bool) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	p, err := cl.Purge(c.Context(), r)
	if err != nil {
		return err
	}
	if asJSON {
		if err := printJSON(a.out, p); err != nil {
			return err
		}
	}
	some := p.Ended > 0 || p.Left > 0
	switch {
	case !some:
		return nothing("nothing that waits matches")
	case r.DryRun:
		most := ""
		if p.AtLeast {
			most = "at least "
		}
		return &failure{exitUnconfirmed, fmt.Errorf("nothing was purged; %s%s would end: %s, %s", most,
			count(p.Ended, "bundle", "bundles"), count(p.Messages, "message", "messages"), sizeText(p.Bytes)), "the same with --yes"}
	case asJSON:
		return nil
	}
	text := count(p.Ended, "bundle", "bundles") + " ended"
	if p.Left > 0 {
		text += fmt.Sprintf("; %d stand further back: those that match end when their turn comes", p.Left)
	}
	_, err = fmt.Fprintln(a.out, text)
	return err
}

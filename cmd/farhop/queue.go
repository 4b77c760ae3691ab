package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

func (a *app) queueCmd() *cobra.Command {
	c := a.queueListCmd(&cobra.Command{
		Use:     "queue",
		GroupID: groupLook,
		Short:   "Show what waits, for whom and why",
		Long: `Show the queues that are not empty, one for each destination and class: how much
waits, since when, how much of it was sent and not yet answered, the neighbour it
goes to next, and what its first message waits for. Queues of sessions wait for a
device of this node.

The subcommands look into a queue and change it. A queue is named as it is shown
here: a kind and a name, such as node earth-1, region luna or session plc-7.`,
	})
	c.Args = noCommand
	c.AddCommand(
		a.queueListCmd(&cobra.Command{
			Use: "ls", Short: "Show what waits, for whom and why, as farhop queue does", Args: args(0, 0, ""),
		}),
		a.queuePeekCmd(), a.queueRetryCmd(), a.queuePurgeCmd(), a.queueReplayCmd(),
	)
	return c
}

// queueListCmd makes c list the queues.
func (a *app) queueListCmd(c *cobra.Command) *cobra.Command {
	var quotas bool
	asJSON := jsonFlag(c)
	c.Flags().BoolVar(&quotas, "quotas", false, "also show what is stored on account of each quota (with --json: an object with queues and quotas)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		q, err := cl.Queues(c.Context())
		switch {
		case err != nil:
			return err
		case *asJSON && quotas:
			return printJSON(a.out, q)
		case *asJSON:
			return printJSON(a.out, q.Queues)
		}
		if err := a.printWaiting(q); err != nil || !quotas {
			return err
		}
		fmt.Fprintln(a.out)
		return a.printQuotas(q.Quotas)
	}
	return c
}

func (a *app) printWaiting(q admin.Queues) error {
	t := newTable("QUEUE", "CLASS", "BUNDLES", "SIZE", "IN FLIGHT", "OLDEST", "NEXT HOP", "WAITS FOR")
	for _, w := range q.Queues {
		t.row(w.Queue, w.Class, fmt.Sprint(w.Bundles), sizeText(w.Bytes), fmt.Sprint(w.InFlight), sinceText(q.Now, w.Oldest), hopText(w), w.Waits)
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, nothingWaits)
		return err
	}
	return t.print(a.out)
}

const nothingWaits = "nothing waits: all is delivered or handed on"

func hopText(q admin.Queue) string {
	hop := q.NextHop.String()
	if hop != "" && !q.Up {
		hop += " (down)"
	}
	return hop
}

func (a *app) printQuotas(quotas []admin.QuotaUse) error {
	t := newTable("QUOTA", "SIZE", "OF", "MESSAGES", "OF")
	for _, q := range quotas {
		ofBytes, ofMessages := "", ""
		if q.MaxBytes > 0 {
			ofBytes = sizeText(q.MaxBytes)
		}
		if q.MaxMessages > 0 {
			ofMessages = fmt.Sprint(q.MaxMessages)
		}
		t.row(q.Quota, sizeText(q.Bytes), ofBytes, fmt.Sprint(q.Messages), ofMessages)
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, "nothing counts against a quota")
		return err
	}
	return t.print(a.out)
}

// queueName joins the words of a queue: node earth-1 may be given as one or two.
func queueName(words []string) string { return strings.Join(words, " ") }

// queueArgs wants the name of a queue.
func queueArgs() cobra.PositionalArgs { return args(1, 2, "a queue, such as node earth-1") }

// nothing is the error of a command that found nothing in a queue.
func nothing(format string, args ...any) *failure {
	return &failure{exitNothing, fmt.Errorf(format, args...), "farhop queue"}
}

// leftText is the span until t, "" for no time at all.
func leftText(now, t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case !t.After(now):
		return "over"
	}
	return spanText(t.Sub(now))
}

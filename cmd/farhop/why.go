package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/storeforward/bundle"
)

func (a *app) whyCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "why MESSAGE",
		GroupID: groupLook,
		Short:   "Tell where a message is and what it waits for",
		Long: `Tell where the copies of a message are at this node, and what each waits for. A
message is named by the id that farhop pub prints, such as luna-1.9f3a2.t57.

A message that shares a bundle with others is found too: what is said holds for
the whole batch. A message that is not here was delivered, handed on to the next
node or has ended; ask there. Of very long queues only the front is looked
through. Exit code 5 says that there is no copy here.`,
		Example: "  farhop why luna-1.9f3a2.t57",
		Args:    args(1, 1, "one message id"),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		id, err := bundle.ParseID(given[0])
		if err != nil {
			return usage(c, "%v", err)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		w, err := cl.Why(c.Context(), id)
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(a.out, w)
		} else {
			err = a.printWhy(w)
		}
		if err == nil && len(w.Places) == 0 {
			err = &failure{exitNothing, fmt.Errorf("%s is not in custody of %s: it was delivered, handed on or has ended, or it stands far back in a long queue", id, w.Node), "farhop queue, or ask the next node"}
		}
		return err
	}
	return c
}

func (a *app) printWhy(w admin.Why) error {
	for i, p := range w.Places {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		sent := ""
		if p.Sent > 0 {
			sent = ", " + count(p.Sent, "time", "times") + " sent"
		}
		fmt.Fprintf(a.out, "for      %s, class %s\n", clean(p.Queue, 0), clean(p.Class, 0))
		if p.Batch != "" {
			fmt.Fprintf(a.out, "batch    %s, %s in one bundle\n", clean(p.Batch, 0), count(p.Count, "message", "messages"))
		}
		fmt.Fprintf(a.out, "state    %s%s\n", clean(p.State, 0), sent)
		fmt.Fprintf(a.out, "waits    for %s\n", clean(p.Waits, 0))
		fmt.Fprintf(a.out, "arrived  %s\n", p.Arrived.UTC().Format(time.RFC3339))
		if _, err := fmt.Fprintf(a.out, "expires  %s\n", p.Expires.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return nil
}
